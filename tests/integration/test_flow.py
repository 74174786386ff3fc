"""`make flow` as a person runs it: what it prints, and what arrived where it passed everything on to."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.servers import nx27017
from tests.otlp_sink import HttpSink, Received

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 100.0
ORDERS, DELIVERY, BILLING, NOTIFIER = (f"earlybird-{name}" for name in ("orders", "delivery", "billing", "notifier"))


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    ours = ("OTEL_", "MONGODB_URI")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    if find_spec("nx_27017") is not None:
        yield inherited
    else:
        with nx27017() as server:
            yield {**inherited, "MONGODB_URI": server.uri}


@dataclass
class Flow:
    """One run: what it printed, and what its receiver passed on."""

    out: str
    order_id: str
    requests: list[Received]

    def items(self, signal: str, groups: str, scopes: str, items: str) -> list[tuple[str, Any]]:
        """Every span or record with the name of its service."""
        return [
            (attributes(group.resource)["service.name"], item)
            for received in self.requests
            if received.signal == signal
            for group in getattr(received.message, groups)
            for scope in getattr(group, scopes)
            for item in getattr(scope, items)
        ]

    @property
    def spans(self) -> list[tuple[str, Any]]:
        return self.items("traces", "resource_spans", "scope_spans", "spans")

    @property
    def records(self) -> list[tuple[str, Any]]:
        return self.items("logs", "resource_logs", "scope_logs", "log_records")

    @property
    def about(self) -> dict[bytes, tuple[str, Any]]:
        """The spans that say they are about the order, by their ids."""
        return {
            span.span_id: (service, span)
            for service, span in self.spans
            if attributes(span).get("order.id") == self.order_id
        }


def attributes(item: Any) -> dict[str, str]:
    return {a.key: a.value.string_value for a in item.attributes}


def follow(environment: dict[str, str], temporary: Path) -> Flow:
    """Run it, with a receiver of ours as the endpoint."""
    with HttpSink() as sink:
        done = subprocess.run(
            [sys.executable, "-m", "examples.earlybird.flow"],
            env={**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "TMPDIR": str(temporary)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert list(temporary.iterdir()) == []
    found = re.search(r"Order ([0-9a-f]{32}): (\d+) spans and 4 log lines in 3 traces from 4 services", done.stdout)
    assert found is not None, done.stdout
    run = Flow(done.stdout, found[1], sink.requests)
    assert len(run.about) == int(found[2])
    return run


def the(flow: Flow, service: str, name: str) -> Any:
    (span,) = (span for of, span in flow.about.values() if (of, span.name) == (service, name))
    return span


def all_four_processes_tell_of_the_order(flow: Flow) -> None:
    names = {service: sorted(s.name for of, s in flow.about.values() if of == service) for service, _ in flow.spans}
    assert names == {
        ORDERS: ["POST", "POST /api/orders/", "delivery.plan", "find users", "insert orders"],
        DELIVERY: ["POST /deliveries/", "insert deliveries", "insert events"],
        BILLING: [
            "billing.charge",
            "billing.run",
            "find orders",
            "insert billing_records",
            "insert events",
            "update events",
            "update orders",
        ],
        NOTIFIER: ["find orders", "find users", "notification.send", "update events"],
    }


def parents_and_links_connect_them_all(flow: Flow) -> None:
    edges = {}
    for service, span in flow.about.values():
        above = [span.parent_span_id] if span.parent_span_id else [link.span_id for link in span.links]
        if span is not the(flow, ORDERS, "POST /api/orders/"):
            (parent,) = above
            edges[service, span.name] = (flow.about[parent][0], flow.about[parent][1].name)
    assert edges == {
        (ORDERS, "find users"): (ORDERS, "POST /api/orders/"),
        (ORDERS, "insert orders"): (ORDERS, "POST /api/orders/"),
        (ORDERS, "delivery.plan"): (ORDERS, "POST /api/orders/"),
        (ORDERS, "POST"): (ORDERS, "delivery.plan"),
        (DELIVERY, "POST /deliveries/"): (ORDERS, "POST"),
        (DELIVERY, "insert deliveries"): (DELIVERY, "POST /deliveries/"),
        (DELIVERY, "insert events"): (DELIVERY, "POST /deliveries/"),
        (BILLING, "billing.run"): (DELIVERY, "POST /deliveries/"),
        (BILLING, "find orders"): (BILLING, "billing.run"),
        (BILLING, "billing.charge"): (BILLING, "billing.run"),
        (BILLING, "insert billing_records"): (BILLING, "billing.charge"),
        (BILLING, "update orders"): (BILLING, "billing.charge"),
        (BILLING, "insert events"): (BILLING, "billing.run"),
        (BILLING, "update events"): (BILLING, "billing.run"),
        (NOTIFIER, "notification.send"): (BILLING, "billing.run"),
        (NOTIFIER, "find orders"): (NOTIFIER, "notification.send"),
        (NOTIFIER, "find users"): (NOTIFIER, "notification.send"),
        (NOTIFIER, "update events"): (NOTIFIER, "notification.send"),
    }
    linked = [(service, span.name) for service, span in flow.about.values() if span.links]
    assert sorted(linked) == [(BILLING, "billing.run"), (NOTIFIER, "notification.send")]


def no_span_of_its_traces_says_nothing_of_it(flow: Flow) -> None:
    traces = {span.trace_id for _, span in flow.about.values()}
    assert len(traces) == 3
    silent = [(service, span.name) for service, span in flow.spans if span.trace_id in traces]
    assert len(silent) == len(flow.about)


def every_log_line_carries_the_order_and_its_span(flow: Flow) -> None:
    traces = {span.trace_id for _, span in flow.about.values()}
    lines = [(service, record) for service, record in flow.records if record.trace_id in traces]
    assert sorted((service, record.body.string_value.split()[0]) for service, record in lines) == [
        (BILLING, "order"),
        (DELIVERY, "delivery"),
        (NOTIFIER, "customer"),
        (ORDERS, "order"),
    ]
    for _, record in lines:
        assert attributes(record)["order.id"] == flow.order_id
        assert record.span_id in flow.about


def times_follow_the_order(flow: Flow) -> None:
    for _, span in flow.about.values():
        assert span.start_time_unix_nano < span.end_time_unix_nano
        if span.parent_span_id:
            parent = flow.about[span.parent_span_id][1]
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            if span.kind != span.SPAN_KIND_SERVER:  # another process: an answer may be there before its span ends
                assert span.end_time_unix_nano <= parent.end_time_unix_nano
        for link in span.links:
            assert flow.about[link.span_id][1].start_time_unix_nano < span.start_time_unix_nano


def the_printed_tree_is_what_was_exported(flow: Flow) -> None:
    row = re.compile(r"^(earlybird-\w+) +([ │├└─┄▷]*)(\S.*?) +([+-][\d.]+) ms +([\d.]+) ms( +linked)?$", re.MULTILINE)
    rows = row.findall(flow.out)
    assert sorted((service, name) for service, _, name, *_ in rows) == sorted(
        (service, span.name) for service, span in flow.about.values()
    )
    assert [(service, name) for service, _, name, *_, linked in rows if linked] == [
        (BILLING, "billing.run"),
        (NOTIFIER, "notification.send"),
    ]
    assert rows[0][:3] == (ORDERS, "", "POST /api/orders/")
    root = the(flow, ORDERS, "POST /api/orders/")
    for service, _, name, began, took, _ in rows:
        span = the(flow, service, name)
        assert float(began) == pytest.approx((span.start_time_unix_nano - root.start_time_unix_nano) / 1e6, abs=0.06)
        assert float(took) == pytest.approx((span.end_time_unix_nano - span.start_time_unix_nano) / 1e6, abs=0.06)


def what_the_business_counts_arrives_too(flow: Flow) -> None:
    metrics = {
        (service, metric.name)
        for service, metric in flow.items("metrics", "resource_metrics", "scope_metrics", "metrics")
    }
    assert {
        (ORDERS, "orders.placed"),
        (DELIVERY, "deliveries.planned"),
        (BILLING, "orders.billed"),
        (NOTIFIER, "notifications.sent"),
        (BILLING, "otel_monitoring.operation.duration"),
        (ORDERS, "http.client.request.duration"),
    } <= metrics


def test_one_order_tells_its_story(environment: dict[str, str], tmp_path: Path) -> None:
    """One test, because one run is dear: each statement about it is a function above."""
    flow = follow(environment, tmp_path)
    all_four_processes_tell_of_the_order(flow)
    parents_and_links_connect_them_all(flow)
    no_span_of_its_traces_says_nothing_of_it(flow)
    every_log_line_carries_the_order_and_its_span(flow)
    times_follow_the_order(flow)
    the_printed_tree_is_what_was_exported(flow)
    what_the_business_counts_arrives_too(flow)


def test_it_can_be_stopped_and_leaves_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "examples.earlybird.flow"],
        env={**environment, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("Starting order API"):
                break
        parts = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGTERM)
        rest = running.stdout.read()
        assert running.wait(PATIENCE) == 1
    assert rest.endswith("Stopped.\n")
    assert not any(part.is_running() and part.status() != psutil.STATUS_ZOMBIE for part in parts)
    assert list(tmp_path.iterdir()) == []
