"""Arguments and options that several commands share."""

import functools
from collections.abc import Callable
from typing import Any

import click

from otel_monitoring.cli.client import ServiceClient

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def service(command: Callable[..., int]) -> Callable[..., int]:
    """Add the argument URL, `--token`, `--prefix` and `--timeout`; the command gets a `ServiceClient`."""

    @functools.wraps(command)
    def with_service(url: str, token: str | None, prefix: str | None, timeout: float, **others: Any) -> int:
        try:
            client = ServiceClient(url, token=token, prefix=prefix, timeout=timeout)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="URL") from None
        return command(service=client, **others)

    url = click.argument("url", metavar="URL")
    token = click.option(
        "--token",
        envvar="OTEL_MONITORING_ADMIN_TOKEN",
        help="The admin token. Better set OTEL_MONITORING_ADMIN_TOKEN, which no process list shows.",
    )
    prefix = click.option(
        "--prefix",
        envvar="OTEL_MONITORING_PREFIX",
        help="The prefix of its endpoints, if that is neither /api nor in URL; as OTEL_MONITORING_PREFIX.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="How long an answer may take.",
    )
    return url(token(prefix(timeout(with_service))))
