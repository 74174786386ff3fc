"""What has become of the exports of a signal."""

import time

from otel_monitoring.telemetry.export_state import ExportState, without_credentials
from otel_monitoring.telemetry.log_filter import being_exported


def test_an_endpoint_is_shown_without_secrets() -> None:
    assert without_credentials("https://me:sesame@c:4318/v1/traces?key=sesame#x") == "https://c:4318/v1/traces"
    assert without_credentials("c:4317") == "c:4317"


def test_the_numbers_of_a_signal() -> None:
    state = ExportState("traces", "http://c/v1/traces", "http/protobuf")
    idle = state.block(0.0)
    assert idle["last_success"] is idle["last_success_age_seconds"] is idle["last_error"] is idle["queue"] is None
    with state.exporting():
        assert being_exported()
        state.explain("the reason, password=sesame")
        state.explain("given up")
    assert not being_exported()
    state.failed(7)
    state.drop(2)
    state.succeeded(5)
    state.queue = lambda: 3
    block = state.block(time.monotonic() + 60)
    assert (block["exported"], block["failures"], block["dropped"], block["queue"]) == (5, 1, 9, 3)
    assert block["last_error"] == "the reason, password=[REDACTED]"
    assert 60 <= block["last_success_age_seconds"] < 90


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_loss_lasts_from_its_first_item_until_exports_succeed_and_all_is_calm() -> None:
    clock = Clock()
    state = ExportState("traces", "http://c/v1/traces", "http/protobuf", clock)
    assert state.losing_for(clock.now) == 0
    for _ in range(6):
        state.failed(1)
        clock.now += 60
    assert state.losing_for(clock.now) == 360
    state.succeeded(1)
    assert state.losing_for(clock.now) == 360, "the next export may fail again"
    clock.now += 100
    assert state.losing_for(clock.now) == 0
    state.drop(1)
    clock.now += 10
    assert state.losing_for(clock.now) == 10, "another loss"


def test_without_any_export_a_loss_ends_after_a_quarter_of_an_hour() -> None:
    clock = Clock()
    state = ExportState("traces", "http://c/v1/traces", "http/protobuf", clock)
    state.failed(3)
    clock.now += 899
    assert state.losing_for(clock.now) == 899
    clock.now += 1
    assert state.losing_for(clock.now) == 0


def test_nothing_is_lost_with_nothing() -> None:
    clock = Clock()
    state = ExportState("traces", "http://c/v1/traces", "http/protobuf", clock)
    state.drop(0)
    state.failed(0)
    clock.now += 10
    assert state.losing_for(clock.now) == 0
