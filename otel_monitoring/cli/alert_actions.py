"""`otel-monitoring mute`, `ack` and `maintenance`: what a person does about the alerts of a running service."""

import getpass
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from otel_monitoring.cli import exit_codes, options
from otel_monitoring.cli.client import Answer, DeniedError, ServiceClient, UnreachableError
from otel_monitoring.cli.terminal import one_line
from otel_monitoring.timestamps import seconds_of

_CODES = """\b
Exit codes:
  0   done
  1   refused, or there is none; the line says why
  2   no answer
  3   the admin token is missing or wrong
"""


def user() -> str:
    """Who types, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user id has no name, as in containers
        return "otel-monitoring"


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """The seconds of a text as `90`, `30m`, `2h` or `1d`."""
    if value is None:
        return None
    seconds = seconds_of(value)
    if seconds is None:
        raise click.BadParameter(f"{value!r} is no duration as 90, 30m, 2h or 1d")
    return seconds


def _labels(_ctx: click.Context, _param: click.Parameter, values: Iterable[str]) -> dict[str, str]:
    """Labels of texts as `endpoint=/api/orders/`."""
    pairs = [value.partition("=") for value in values]
    for name, separator, _ in pairs:
        if not name or not separator:
            raise click.BadParameter(f"{name!r} is no NAME=VALUE")
    return {name: text for name, _, text in pairs}


def _which(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that select alerts."""
    kind = click.option("--type", "kind", metavar="TYPE", help="Alerts of this type.")
    rule = click.option("--rule", metavar="NAME", help="Alerts of this rule.")
    labels = click.option(
        "--label", "labels", callback=_labels, multiple=True, metavar="NAME=VALUE", help="Alerts with it."
    )
    return kind(rule(labels(command)))


def _signed(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say who and why."""
    author = click.option("--author", default=user, metavar="NAME", help="Who does it; by default the user.")
    return author(click.option("--reason", default="", metavar="TEXT", help="Why.")(command))


def _selected(kind: str | None, rule: str | None, labels: dict[str, str]) -> dict[str, Any]:
    given = {"type": kind, "rule": rule, "labels": labels}
    return {name: value for name, value in given.items() if value}


@click.command(
    epilog=f"""\b
Examples:
  otel-monitoring mute http://localhost:8000
  otel-monitoring mute --type api_timeout --label endpoint=/api/orders/ --for 2h http://localhost:8000
  otel-monitoring mute --rule backlog --reason 'the import runs' http://localhost:8000
  otel-monitoring mute --end api_timeout http://localhost:8000

{_CODES}"""
)
@options.service
@_which
@click.option("--for", "seconds", callback=_seconds, metavar="DURATION", help="As 30m or 2h; an hour if not given.")
@click.option("--end", metavar="NAME", help="End mutes instead: an id, a type or a rule.")
@_signed
@options.as_json
def mute(
    service: ServiceClient,
    kind: str | None,
    rule: str | None,
    labels: dict[str, str],
    seconds: float | None,
    end: str | None,
    author: str,
    reason: str,
    as_json: bool,
) -> int:
    """Mute alerts of the service at URL, or list the mutes.

    The alerts that fit all of type, rule and labels are recorded and not notified. With none of them, the mutes are
    listed.
    """
    selected = _selected(kind, rule, labels)
    if end is not None:
        return _do(service, lambda: service.delete(f"/alerts/mutes/{end}"), as_json, f"{end} is not muted", _ended(end))
    if not selected:
        _not_for_a_list(
            "say which alerts: --type, --rule or --label", {"--for": seconds is not None, "--reason": reason}
        )
        return _do(service, lambda: service.get("/alerts/mutes"), as_json, "it has no such endpoint", _mutes)
    lasting = {"duration_seconds": seconds} if seconds is not None else {}
    body = {**selected, "author": author, "reason": reason, **lasting}
    return _do(service, lambda: service.post("/alerts/mutes", body), as_json, "it has no such endpoint", _mute_line)


def _not_for_a_list(missing: str, given: Mapping[str, object]) -> None:
    """Refuse options of a change where nothing says what to change: without them the command prints a list.

    Raises:
        UsageError: One of them is given.
    """
    options_given = [name for name, value in given.items() if value]
    if options_given:
        raise click.UsageError(f"{', '.join(options_given)}: {missing}")


def _do(
    service: ServiceClient,
    ask: Callable[[], Answer | None],
    as_json: bool,
    missing: str,
    shown: Callable[[Any], str],
) -> int:
    """Ask, print the answer or the error, and return the exit code."""
    try:
        service.get("/health/live")  # finds the prefix of the endpoints
        answer = ask()
    except UnreachableError as error:
        return _failed(str(error), exit_codes.UNREACHABLE)
    except DeniedError as error:
        return _failed(str(error), exit_codes.DENIED)
    if answer is None:
        return _failed(missing, exit_codes.FAILED)
    if answer.status >= 400:
        return _failed(_refusal(answer.body), exit_codes.FAILED)
    click.echo(json.dumps(answer.body) if as_json else "\n".join(map(one_line, shown(answer.body).splitlines())))
    return exit_codes.OK


def _failed(why: str, code: int) -> int:
    click.echo(one_line(why), err=True)
    return code


def _refusal(body: Any) -> str:
    """What FastAPI's `detail` says is wrong."""
    detail = body.get("detail") if isinstance(body, dict) else None
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, one.get('loc', ())[1:]))}: {one.get('msg')}" for one in detail)
    return str(detail or "it was refused")


def _ended(name: str) -> Callable[[Any], str]:
    return lambda _: f"{name} is no longer muted"


def _mutes(found: list[dict[str, Any]]) -> str:
    return "\n".join(map(_mute_line, found)) or "nothing is muted"


def _mute_line(found: dict[str, Any]) -> str:
    return f"{found['id']}  {_what(found)} until {found['until']}{_why(found)}"


def _what(found: dict[str, Any]) -> str:
    labels = (f"{name}={value}" for name, value in found["labels"].items())
    named = (f"rule {found['rule']}" if found["rule"] else "", *labels)
    return " ".join(filter(None, (found["type"] or "", *named))) or "everything"


def _why(found: dict[str, Any]) -> str:
    reason = f": {found['reason']}" if found["reason"] else ""
    return f" by {found['author'] or 'nobody'}{reason}"


@click.command(
    epilog=f"""\b
Examples:
  otel-monitoring ack http://localhost:8000
  otel-monitoring ack --reason 'failing over' http://localhost:8000 74c3d9986b094dc5
  otel-monitoring ack --undo http://localhost:8000 74c3d9986b094dc5

{_CODES}"""
)
@options.service
@click.argument("incident", required=False)
@click.option("--undo", is_flag=True, help="Take it back: the alert is repeated again.")
@_signed
@options.as_json
def ack(service: ServiceClient, incident: str | None, undo: bool, author: str, reason: str, as_json: bool) -> int:
    """Acknowledge an alert of the service at URL, or list what fires.

    It is not repeated any more, and its channels are told who takes care of it. INCIDENT is the alert's, as in the
    list, in a notification of a machine or in the history.
    """
    if incident is None:
        _not_for_a_list("say which INCIDENT", {"--undo": undo, "--reason": reason})
        return _do(service, lambda: service.get("/alerts/firing"), as_json, "it has no such endpoint", _firing)
    path, missing = f"/alerts/{incident}/acknowledge", f"nothing of the incident {incident} fires"
    if undo:
        missing = f"{incident} is not acknowledged"
        return _do(service, lambda: service.delete(path), as_json, missing, lambda _: f"{incident} is repeated again")
    body = {"author": author, "reason": reason}
    return _do(service, lambda: service.post(path, body), as_json, missing, _acknowledged)


def _acknowledged(found: dict[str, Any]) -> str:
    return f"{found['incident']}  acknowledged{_why(found)}"


def _firing(found: list[dict[str, Any]]) -> str:
    lines = (
        f"{one['incident']}  {one['severity']} {one['rule']} since {one['since']}: {one['message']}"
        f"{f', acknowledged{_why(known)}' if (known := one.get('acknowledged')) else ''}"
        for one in found
    )
    return "\n".join(lines) or "nothing fires"


@click.command(
    epilog=f"""\b
Examples:
  otel-monitoring maintenance http://localhost:8000
  otel-monitoring maintenance --from 2026-12-24T22:00Z --to 2026-12-25T02:00Z --reason 'new disks' http://localhost:8000
  otel-monitoring maintenance --days sun --from 02:00 --to 04:00 --timezone Europe/Berlin http://localhost:8000
  otel-monitoring maintenance --end window-5f0c2d1e8a91 http://localhost:8000

{_CODES}"""
)
@options.service
@click.option("--from", "start", metavar="TIME", help="When it opens: RFC 3339, or with --days a time of day.")
@click.option("--to", "end", metavar="TIME", help="When it closes.")
@click.option("--days", metavar="DAYS", help="The days on which it opens every week, as sun or mon-fri.")
@click.option("--timezone", metavar="ZONE", help="The time zone of local times, as Europe/Berlin; UTC if not given.")
@_which
@click.option("--end", "ended", metavar="ID", help="Remove this window instead.")
@_signed
@options.as_json
def maintenance(
    service: ServiceClient,
    start: str | None,
    end: str | None,
    days: str | None,
    timezone: str | None,
    kind: str | None,
    rule: str | None,
    labels: dict[str, str],
    ended: str | None,
    author: str,
    reason: str,
    as_json: bool,
) -> int:
    """Plan a window in which the service at URL notifies nobody, or list the windows.

    Without type, rule and labels all alerts are recorded and not notified while it is open.
    """
    path = "/alerts/maintenance"
    if ended is not None:
        missing, done = f"{ended} is not planned", f"{ended} is removed"
        return _do(service, lambda: service.delete(f"{path}/{ended}"), as_json, missing, lambda _: done)
    if start is None and end is None and days is None:
        given = {"--type": kind, "--rule": rule, "--label": labels, "--timezone": timezone, "--reason": reason}
        _not_for_a_list("say when: --from and --to", given)
        return _do(service, lambda: service.get(path), as_json, "it has no such endpoint", _windows)
    times = {name: text for name, text in (("from", start), ("to", end)) if text is not None}
    when = {"weekly": {"days": [days], **times}} if days is not None else times
    body = {**when, **_selected(kind, rule, labels), "author": author, "reason": reason}
    body |= {"timezone": timezone} if timezone is not None else {}
    return _do(service, lambda: service.post(path, body), as_json, "it has no such endpoint", _window)


def _windows(found: list[dict[str, Any]]) -> str:
    return "\n".join(map(_window, found)) or "nothing is planned"


def _window(found: dict[str, Any]) -> str:
    weekly = found.get("weekly")
    every = f" every {', '.join(weekly['days'])}" if weekly else ""
    state = "open" if found["open"] else "planned"
    return f"{found['id']}  {_what(found)}{every} {state} {found['opens']} to {found['closes']}{_why(found)}"
