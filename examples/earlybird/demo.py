"""`make demo`: runs the EarlyBird API under traffic and prints where to read its monitoring.

Everything runs on this machine and ends with this process: an embedded MongoDB (or the one at `MONGODB_URI`), the API
on `PORT` (8000), the traffic, a mailbox and a Slack webhook for its alerts (unless `SMTP_SERVER` and
`SLACK_WEBHOOK_URL` name yours). With `DEMO_SECONDS` it ends after so many seconds.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx

from examples.earlybird import inbox, processes, traffic
from examples.earlybird.demo_options import DemoOptions, UsageError
from examples.earlybird.embedded_database import EmbeddedDatabase
from examples.earlybird.live import LiveLine
from examples.earlybird.visitors import Report
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SUPERVISE_SECONDS = 0.25
COUNTED_SECONDS = 2.0


def main() -> int:
    treat_as_ctrl_c()
    try:
        run(DemoOptions.from_environment(os.environ))
    except KeyboardInterrupt:
        pass
    except (UsageError, ConfigurationError, processes.PartFailedError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader has gone, as in make demo | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    print("Stopped.")
    return 0


def run(options: DemoOptions) -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="earlybird-")))
        database = None
        if options.mongodb_uri is None:
            print("Starting MongoDB ...", flush=True)
            database = EmbeddedDatabase(directory)
            stack.callback(database.stop)
            uri = database.uri
            mongodb = f"{uri} (embedded nx-27017; to see alerts: kill -9 {database.pid})"
        else:
            uri = options.mongodb_uri
            if not processes.ping(uri):
                raise UsageError(f"MONGODB_URI: no MongoDB answers at {redact(uri)}")
            mongodb = f"{redact(uri)} (MONGODB_URI)"
        print("Starting the API ...", flush=True)
        environment = options.api_environment(uri, directory)
        if options.settings.smtp_server is None:
            environment |= stack.enter_context(inbox.mailbox())
        if options.settings.slack_webhook_url is None:
            environment |= stack.enter_context(inbox.slack())
        api = stack.enter_context(processes.running(processes.api(options.port, directory, environment)))
        processes.api_ready(api, f"{options.monitoring_url}/health/ready")
        inbox.say(options.introduction(mongodb, directory))
        try:
            asyncio.run(show_traffic(options, api, database))
        finally:
            treat_as_ctrl_c()


async def show_traffic(options: DemoOptions, api: processes.Part, database: EmbeddedDatabase | None) -> None:
    """Send traffic and show the live line until a signal, `DEMO_SECONDS`, or the end of the API."""
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    report = Report()
    live = LiveLine(options.monitoring_url, options.admin_token)
    sending = asyncio.ensure_future(traffic.run(options.api_url, staff_token=options.staff_token, report=report))
    showing = asyncio.ensure_future(live.run())
    try:
        await supervise(stop, options.seconds, api, database, (sending, showing))
    finally:
        await cancel(showing)
        inbox.say("\nStopping ...")
        await cancel(sending)
    with suppress(httpx.HTTPError):
        requests, errors = await live.counted(report.requests, COUNTED_SECONDS)
        inbox.say(f"  sent {report.requests} requests, {report.errors} failed")
        inbox.say(f"  monitoring counted {requests} requests, {errors} errors")


async def supervise(
    stop: asyncio.Event,
    seconds: float | None,
    api: processes.Part,
    database: EmbeddedDatabase | None,
    tasks: Sequence["asyncio.Future[Any]"],
) -> None:
    now = asyncio.get_running_loop().time
    end = now() + (seconds or float("inf"))
    while not stop.is_set() and now() < end:
        api.check()
        if database is not None and (news := await asyncio.to_thread(database.check, now())):
            inbox.say(f"  {news}")
        for task in tasks:
            if task.done():
                task.result()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), SUPERVISE_SECONDS)


async def cancel(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def treat_as_ctrl_c() -> None:
    """Have each stop signal raise KeyboardInterrupt, so that everything is stopped on the way out."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
