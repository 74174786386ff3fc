"""`otel-monitoring check`: one request to a health endpoint, for probes and scripts."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from otel_monitoring.cli import exit_codes, options
from otel_monitoring.cli.client import Answer, DeniedError, ServiceClient, UnreachableError
from otel_monitoring.cli.terminal import console, one_line, rounded_duration, safe_text, style_of

_GOOD_STATUSES = ("healthy", "alive", "ready")
_PATHS = {"health": "/health", "ready": "/health/ready", "live": "/health/live"}
_PAUSE_SECONDS = 0.5

_EPILOG = """\b
Examples:
  otel-monitoring check http://localhost:8000
  otel-monitoring check --wait 60 --strict https://orders.example.com
  HEALTHCHECK CMD ["otel-monitoring", "check", "--probe", "ready", "http://localhost:8000"]

\b
Exit codes:
  0  healthy, or degraded without --strict
  1  unhealthy, or degraded with --strict
  2  no answer
  3  the admin token is wrong
"""


@click.command(epilog=_EPILOG)
@options.service
@click.option("--probe", type=click.Choice(list(_PATHS)), default="health", show_default=True, help="What to ask for.")
@click.option("--strict", is_flag=True, help="Degraded is a failure too.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Ask again for so long until the answer is good.",
)
@options.as_json
def check(service: ServiceClient, probe: str, strict: bool, wait: float, as_json: bool) -> int:
    """Ask the service at URL for its health.

    URL is where the service is, http://localhost:8000, with the path below which it is, http://localhost/shop. With an
    admin token the answer says why the service is not healthy.
    """
    result = _until_good(lambda: _ask(service, probe, strict), time.monotonic() + wait)
    click.echo(json.dumps(result)) if as_json else _print(result)
    if not as_json and service.moved:
        click.echo(service.moved, err=True)
    code: int = result["exit_code"]
    return code


def _until_good(ask: Callable[[], dict[str, Any]], deadline: float) -> dict[str, Any]:
    while True:
        result = ask()
        if result["exit_code"] in (exit_codes.OK, exit_codes.DENIED) or time.monotonic() + _PAUSE_SECONDS >= deadline:
            return result
        time.sleep(_PAUSE_SECONDS)


def _ask(service: ServiceClient, probe: str, strict: bool) -> dict[str, Any]:
    path = _PATHS[probe]
    result: dict[str, Any] = {"url": service.url + path, "status": None, "exit_code": exit_codes.UNREACHABLE}
    try:
        answer = service.get(path)
        status = _status(answer)
        if answer is None or status is None:
            return {**result, "error": _missing(service, probe)}
        result["url"] = service.url + path
        detailed = service.get("/health/detailed") if service.has_token and probe == "health" else None
    except UnreachableError as error:
        return {**result, "error": str(error)}
    except DeniedError as error:
        return {**result, "exit_code": exit_codes.DENIED, "error": str(error)}
    good = status in _GOOD_STATUSES or (status == "degraded" and not strict)
    return {
        **result,
        "status": status,
        "exit_code": exit_codes.OK if good else exit_codes.FAILED,
        "response_time_ms": round(answer.seconds * 1000, 1),
        **{key: answer.body[key] for key in ("uptime_seconds",) if key in answer.body},
        **({"reasons": detailed.body.get("reasons", [])} if detailed is not None else {}),
    }


def _missing(service: ServiceClient, probe: str) -> str:
    """The error text where no monitoring endpoint has answered."""
    if probe == "health" and service.get(_PATHS["live"]) is not None:
        return "this path is the application's own; ask for --probe ready or --probe live, which are ours"
    return service.nothing_found(_PATHS[probe])


def _status(answer: Answer | None) -> str | None:
    if answer is None or not isinstance(answer.body, dict):
        return None
    status = answer.body.get("status")
    return status if isinstance(status, str) else None


def _print(result: dict[str, Any]) -> None:
    if not sys.stdout.isatty():  # a probe or a script: nothing is in colour, and what colours takes long to load
        click.echo("\n".join(one_line("".join(text for text, _ in line)) for line in _lines(result)))
        return
    out = console()
    for line in _lines(result):
        shown = safe_text("")
        for text, style in line:
            shown.append_text(safe_text(text, style))
        out.print(shown)


def _lines(result: dict[str, Any]) -> Iterator[list[tuple[str, str]]]:
    """Each line as its parts, with the style of each."""
    if result["status"] is None:
        yield [(f"{result['url']}: {result['error']}", "red")]
        return
    up = f"  up {rounded_duration(result['uptime_seconds'])}" if "uptime_seconds" in result else ""
    yield [
        (f"{result['status']:9s}", style_of(result["status"])),
        (f"  {result['url']}  {result['response_time_ms']:.0f} ms{up}", "default"),
    ]
    for reason in result.get("reasons", ()):
        yield [(f"  {reason}", "default")]
