"""`SelfMetrics`: how many spans and log records are made, and for how long telemetry has been lost.

What the SDK's processors, exporters and readers do, they measure themselves: see `sdk_components_measured`.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_monitoring import semconv as c
from otel_monitoring.config.otlp import Signal
from otel_monitoring.telemetry.export_state import ExportState

if TYPE_CHECKING:
    from otel_monitoring.telemetry.span_pipeline import SpanSwitch

_SAMPLED = {c.OTEL_SPAN_SAMPLING_RESULT: "RECORD_AND_SAMPLE"}


class Counted(Protocol):
    """Something that counts the log records that go through it."""

    created: int


class SelfMetrics:
    """Observable instruments over what is counted anyway: a counter of the SDK's costs microseconds for each span.

    Args:
        meter: Makes the instruments.
        states: Returns the counters of the exports by signal.
    """

    def __init__(self, meter: Meter, states: Callable[[], Mapping[Signal, ExportState]]) -> None:
        self._meter = meter
        self._states = states
        meter.create_observable_gauge(
            c.TELEMETRY_LOSS,
            [self._loss],
            "s",
            "For how long the exports of a signal have been failing, or its full queue has been dropping.",
        )

    def count_spans(self, switch: "SpanSwitch") -> None:
        """Observe the sampled spans that go through `switch`."""

        def started(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(switch.started, _SAMPLED)]

        def live(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(max(0, switch.started - switch.ended), _SAMPLED)]

        self._meter.create_observable_counter(
            c.OTEL_SDK_SPAN_STARTED, [started], "{span}", "The number of created spans."
        )
        self._meter.create_observable_up_down_counter(
            c.OTEL_SDK_SPAN_LIVE,
            [live],
            "{span}",
            "The number of created spans with `recording=true` for which the end operation has not been called yet.",
        )

    def count_records(self, switch: Counted) -> None:
        """Observe the log records that go through `switch`."""

        def created(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(switch.created)]

        self._meter.create_observable_counter(
            c.OTEL_SDK_LOG_CREATED, [created], "{log_record}", "The number of logs submitted to enabled SDK Loggers."
        )

    def _loss(self, _: CallbackOptions) -> Iterable[Observation]:
        now = time.monotonic()
        return [
            Observation(state.losing_for(now), {c.TELEMETRY_SIGNAL: signal})
            for signal, state in self._states().items()
            if state.endpoint is not None
        ]
