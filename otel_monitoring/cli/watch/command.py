"""The command: the live view, one picture (`--once`), or one line of JSON for each refresh (`--json`)."""

import json
import time
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import click
from rich.console import Console

from otel_monitoring.cli import exit_codes, options
from otel_monitoring.cli.client import ServiceClient
from otel_monitoring.cli.terminal import console
from otel_monitoring.cli.watch.live import LiveView
from otel_monitoring.cli.watch.poll import Refresh, RefreshHistory, ask, busiest
from otel_monitoring.cli.watch.screen import draw

_JSON_ENDPOINTS = 20

_EPILOG = """\b
Examples:
  otel-monitoring watch http://localhost:8000
  otel-monitoring watch --once http://localhost:8000
  otel-monitoring watch --json --interval 10 http://localhost:8000 >> orders.jsonl

\b
Keys: q ends it, the arrows select an alert type, m mutes it, u unmutes it.

\b
Exit codes:
  0    ended by q; with --once: the service answered
  2    with --once: no answer
  3    with --once: the admin token is missing or wrong
  130  ended by Ctrl-C
"""


@click.command(epilog=_EPILOG)
@options.service
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to ask.",
)
@click.option(
    "--mute-for",
    type=click.FloatRange(min=1, max=366 * 86_400),
    metavar="SECONDS",
    help="How long the key m mutes; an hour if not given.",
)
@click.option("--once", is_flag=True, help="Ask once and end.")
@options.as_json
def watch(service: ServiceClient, interval: float, mute_for: float | None, once: bool, as_json: bool) -> int:
    """Watch the service at URL: status, rates, percentiles, endpoints by load, gauges and firing alerts.

    The figures are those of the service, whichever of its workers answers; loop lag and database are as that worker
    sees them. A line says when a worker has ended. "now" has the latest figures, "last 5 min" those of the service's
    window, and the endpoints have theirs since its totals count. The service may stop and start again meanwhile. With
    --json a line is printed for each refresh.
    """
    history = RefreshHistory()
    if as_json:
        return _print_lines(service, history, interval, once)
    if once:
        refresh = ask(service)
        history.add(refresh)
        out = console()
        out.print(draw(history, service.url, selected=None, height=1000, width=out.width))
        if service.moved:
            click.echo(service.moved, err=True)
        return _code(refresh)
    out = Console(markup=False, emoji=False, highlight=False)
    if not out.is_terminal or out.is_dumb_terminal:
        raise click.UsageError("the live view needs a terminal that can be drawn on: use --json or --once")
    return LiveView(service, interval=interval, mute_for=mute_for, out=out).run()


def _code(refresh: Refresh) -> int:
    if refresh.diagnostics is not None:
        return exit_codes.OK
    return exit_codes.DENIED if refresh.denied else exit_codes.UNREACHABLE


def _print_lines(service: ServiceClient, history: RefreshHistory, interval: float, once: bool) -> int:
    while True:
        started = time.monotonic()
        refresh = ask(service)
        click.echo(json.dumps(line(history, refresh, service.url)))
        if once:
            return _code(refresh)
        time.sleep(max(0.0, interval - (time.monotonic() - started)))


def line(history: RefreshHistory, refresh: Refresh, url: str) -> dict[str, Any]:
    """The object that `--json` prints for one refresh."""
    figures = history.add(refresh)
    diagnostics = refresh.diagnostics or {}
    return {
        "time": datetime.fromtimestamp(refresh.at, timezone.utc).isoformat(timespec="milliseconds"),
        "url": url,
        "status": diagnostics.get("status"),
        "error": refresh.error,
        "uptime_seconds": diagnostics.get("uptime_seconds"),
        "reasons": diagnostics.get("reasons", []),
        "worker": diagnostics.get("worker", {}).get("instance_id"),
        "workers_gone": [gone.pid for gone in history.gone],
        **asdict(figures),
        "endpoints": [
            {"route": route, "load_percent": round(share, 2), **values}
            for route, values, share in busiest(diagnostics)[:_JSON_ENDPOINTS]
        ],
        "firing": refresh.firing,
        "muted": refresh.muted,
    }
