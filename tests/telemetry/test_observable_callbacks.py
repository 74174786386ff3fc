"""Callbacks that take long, hang or raise, run by the SDK's own collection."""

import threading
from collections.abc import Generator, Iterable, Iterator

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_monitoring.guard import fail_open
from otel_monitoring.semconv import SCOPE
from otel_monitoring.telemetry.meter_providers import GuardedMeterProvider
from otel_monitoring.telemetry.observable_callbacks import PatientCallback
from tests.telemetry.test_meter_providers import values


class Hanging:
    """A callback that returns when it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.returned = threading.Event()
        self.calls = 0

    def __call__(self, _: CallbackOptions) -> Iterator[Observation]:
        self.calls += 1
        self.released.wait(30)
        yield Observation(self.calls)
        self.returned.set()


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    yield reader
    reader.shutdown()


def settled(callback: PatientCallback) -> list[Observation]:
    """What it answers once the thread of its callback has handed over what it observed."""
    running = callback._running
    assert running is not None
    running.result(30)
    return callback(CallbackOptions())


def test_one_that_hangs_ends_no_other_and_is_asked_again_when_it_has_returned(
    reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fail_open, "_logged_at", {})
    hanging = Hanging()
    callback = PatientCallback(hanging, patience=0.01)
    provider = GuardedMeterProvider((reader,), shutdown_on_exit=False)
    provider.get_meter("application").create_observable_gauge("hanging", [callback])
    provider.get_meter(SCOPE).create_observable_gauge("good", [lambda _: [Observation(7)]])
    for _ in range(3):
        assert values(reader) == {"good": [7]}
    assert hanging.calls == 1, "it runs once"
    assert caplog.text.count("Hanging has not returned within 0.01 s") == 1
    hanging.released.set()
    assert hanging.returned.wait(30)
    assert settled(callback) == [Observation(1)], "what it observed is not lost"
    assert hanging.calls == 1


def test_the_applications_callbacks_are_guarded_whoever_makes_them(
    reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientCallback.__init__, "__defaults__", (0.01,))
    hanging = Hanging()

    def generator() -> Generator[Iterable[Observation], CallbackOptions, None]:
        yield ()
        yield from map(list, [hanging(CallbackOptions())])

    provider = GuardedMeterProvider((reader,), shutdown_on_exit=False)
    provider.get_meter("application").create_observable_counter("hanging", [hanging])
    provider.get_meter("library").create_observable_up_down_counter("generator", callbacks=[generator()])
    provider.get_meter(SCOPE).create_observable_gauge("good", [lambda _: [Observation(7)]])
    assert values(reader) == {"good": [7]}
    hanging.released.set()
    provider.shutdown()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), ValueError("x")])
def test_whatever_a_generator_raises_the_others_are_collected(
    reader: InMemoryMetricReader, error: BaseException
) -> None:
    def failing() -> Generator[Iterable[Observation], CallbackOptions, None]:
        yield ()
        raise error

    provider = GuardedMeterProvider((reader,), shutdown_on_exit=False)
    meter = provider.get_meter("application")
    meter.create_observable_gauge("failing", [failing()])
    meter.create_observable_gauge("good", [lambda _: [Observation(7)]])
    for _ in range(2):
        assert values(reader) == {"good": [7]}
    provider.shutdown()


def test_where_no_thread_can_be_had_it_runs_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert PatientCallback(lambda _: [Observation(3)])(CallbackOptions()) == [Observation(3)]
