"""`make flow`: sends one order through four processes and prints its story from the spans that they exported.

A customer signs up and orders. The order API asks the delivery service over HTTP. The delivery service stores an event
for the billing worker, and the billing worker one for the notifier. Each process exports to a small receiver in this
process, which passes everything on to `OTEL_EXPORTER_OTLP_ENDPOINT` where that is set.

Everything runs on this machine and ends with this process: an embedded MongoDB (or the one at `MONGODB_URI`) and the
four services. The exit code is 1 where the story has a gap.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.util.re import parse_env_headers

from examples.earlybird import processes
from examples.earlybird.demo import treat_as_ctrl_c
from examples.earlybird.demo_options import UsageError, free_port
from examples.earlybird.receiver import Destination, Receiver
from examples.earlybird.story import Span, Story
from otel_monitoring.config import Settings
from otel_monitoring.config.otlp import SIGNALS
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact

STORY_SECONDS = 30.0
LAST_SPAN = "notification.send"


def main() -> int:
    treat_as_ctrl_c()
    try:
        return run(os.environ)
    except KeyboardInterrupt:
        print("Stopped.")
        return 1
    except (UsageError, ConfigurationError, processes.PartFailedError, LookupError) as error:
        print(error, file=sys.stderr)
        return 1


def run(environ: Mapping[str, str]) -> int:
    destinations = pass_on(Settings.load())
    with closing(Receiver(destinations)) as receiver:
        order_id = place_and_follow(receiver, environ.get("MONGODB_URI") or None)
        story = Story(order_id, map(Span.of, receiver.spans))
    complaints = story.complaints(receiver.records)
    traces = {span.trace_id for span in story.spans}
    lines = sum(record.item.trace_id in traces for record in receiver.records)
    print(
        f"\nOrder {order_id}: {len(story.spans)} spans and {lines} log lines in {len(traces)} traces"
        f" from {len(story.services)} services, {story.seconds:.2f} s\n"
    )
    print("\n".join(story.lines()), end="\n\n")
    for complaint in complaints:
        print(f"A gap: {complaint}")
    for complaint in sorted(receiver.complaints):
        print(complaint, file=sys.stderr)
    if destinations and not receiver.complaints:
        print("The same went to " + ", ".join(sorted({redact(to.url) for to in destinations.values()})))
    return 1 if complaints else 0


def pass_on(settings: Settings) -> dict[str, Destination]:
    """The destinations of the signals that the environment configures."""
    destinations: dict[str, Destination] = {}
    for signal in SIGNALS:
        url = settings.endpoint(signal)
        if url is None:
            continue
        if settings.protocol(signal) != "http/protobuf":
            raise UsageError("OTEL_EXPORTER_OTLP_PROTOCOL: make flow passes on http/protobuf only (port 4318)")
        destinations[signal] = Destination(url, parse_env_headers(settings.headers(signal), liberal=True))
    return destinations


def place_and_follow(receiver: Receiver, mongodb_uri: str | None) -> str:
    """Start everything, place an order, wait for its last span, and stop everything; returns the order's id."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="earlybird-")))
        parts = []
        if mongodb_uri is None:
            print("Starting MongoDB ...", flush=True)
            parts.append(stack.enter_context(processes.running(processes.embedded_mongodb(directory))))
            mongodb_uri = processes.mongodb_uri(parts[0])
        elif not processes.ping(mongodb_uri):
            raise UsageError(f"MONGODB_URI: no MongoDB answers at {redact(mongodb_uri)}")
        print("Starting order API, delivery service, billing worker and notifier ...", flush=True)
        ports = free_port("0"), free_port("0")
        env = environment(receiver.endpoint, mongodb_uri, f"http://127.0.0.1:{ports[1]}")
        orders_env = {**env, "OTEL_SERVICE_NAME": "earlybird-orders"}
        parts += [
            stack.enter_context(processes.running(part))
            for part in (
                processes.api(ports[0], directory, orders_env),
                processes.delivery_service(ports[1], directory, env),
                processes.worker("billing_worker", directory, env),
                processes.worker("notifier", directory, env),
            )
        ]
        for part, port in zip(parts[-4:-2], ports, strict=True):
            processes.api_ready(part, f"http://127.0.0.1:{port}/api/health/ready")
        print("Placing an order ...", flush=True)
        order_id = place_order(f"http://127.0.0.1:{ports[0]}/api")
        wait_for_the_end(receiver, parts)
    return order_id


def environment(endpoint: str, mongodb_uri: str, delivery_url: str) -> dict[str, str | None]:
    """The environment of the processes; variables of OpenTelemetry from outside are removed (None)."""
    return {
        **{name: None for name in os.environ if name.startswith("OTEL_")},
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_BLRP_SCHEDULE_DELAY": "200",
        "MONGODB_URI": mongodb_uri,
        "DELIVERY_URL": delivery_url,
        "EARLYBIRD_OUTAGES": "off",
        "OTEL_MONITORING_STORE": "memory",
    }


def place_order(api: str) -> str:
    """Sign up and place an order; returns its id."""
    robin = {"email": f"robin-{time.time_ns()}@example.com", "name": "Robin Lark", "address": "1 Dawn Road"}
    tomorrow = datetime.now(timezone.utc).date() + timedelta(days=1)
    order = {"items": [{"product": "bread", "quantity": 2}], "deliver_on": tomorrow.isoformat()}
    with httpx.Client(base_url=api, timeout=30, trust_env=False) as client:
        token = client.post("/users/", json=robin).raise_for_status().json()["token"]
        headers = {"Authorization": f"Bearer {token}"}
        answer: dict[str, Any] = client.post("/orders/", json=order, headers=headers).raise_for_status().json()
    return str(answer["id"])


def wait_for_the_end(receiver: Receiver, parts: list[processes.Part]) -> None:
    deadline = time.monotonic() + STORY_SECONDS
    while not receiver.wait(lambda got: any(span.item.name == LAST_SPAN for span in got.spans), 0.25):
        for part in parts:
            part.check()
        if time.monotonic() > deadline:
            raise processes.PartFailedError(f"no {LAST_SPAN} after {STORY_SECONDS:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
