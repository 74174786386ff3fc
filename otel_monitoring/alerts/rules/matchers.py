"""Matchers select series: here by their attributes, and in Prometheus as label matchers."""

import json
import re
from collections.abc import Collection
from dataclasses import field
from typing import NamedTuple, Protocol

from otel_monitoring.errors import ConfigurationError
from otel_monitoring.metrics.outcome import DISCONNECTED, OutcomeClassifier, RequestOutcome
from otel_monitoring.metrics.snapshot import AttributeValue, Series
from otel_monitoring.semconv import HTTP_RESPONSE_STATUS_CODE, prometheus_label
from otel_monitoring.value import Value


class Matcher(Protocol):
    """Selects series by their attributes; hashable, so that a window can cache the result."""

    def __call__(self, series: Series) -> bool:
        """Whether `series` matches."""

    def promql(self) -> str:
        """The matcher as PromQL label matchers."""


class Attribute(Value):
    """Matches series whose attribute `key` has one of `values`.

    Args:
        key: The attribute's key, e.g. `http.response.status_code`.
        values: Several values, or a single text.

    Raises:
        ConfigurationError: `values` is empty.
    """

    key: str
    values: Collection[AttributeValue]

    def __post_init__(self) -> None:
        """Make a tuple of `values`, so that it is hashable."""
        values = (self.values,) if isinstance(self.values, str) else tuple(dict.fromkeys(self.values))
        if not values:
            raise ConfigurationError(f"values: {self.key}: it is empty, so no series would match")
        object.__setattr__(self, "values", values)

    def __call__(self, series: Series) -> bool:
        """Whether `series` has one of the values."""
        return series.get(self.key) in self.values

    def promql(self) -> str:
        """`key="a"`, or `key=~"a|b"` for several values."""
        label, texts = prometheus_label(self.key), [attribute_text(value) for value in self.values]
        if len(texts) == 1:
            return f"{label}={quoted(texts[0])}"
        return f"{label}=~{quoted('|'.join(re.escape(text) for text in texts))}"


class Excluded(NamedTuple):
    """Matches series whose attribute `key` has none of `values`.

    Args:
        key: The attribute's key, e.g. `http.route`.
        values: At least one value.
    """

    key: str
    values: tuple[AttributeValue, ...]

    def __call__(self, series: Series) -> bool:
        """Whether `series` has none of the values."""
        return series.get(self.key) not in self.values

    def promql(self) -> str:
        """`key!~"a|b"`."""
        texts = "|".join(re.escape(attribute_text(value)) for value in self.values)
        return f"{prometheus_label(self.key)}!~{quoted(texts)}"


class Both(NamedTuple):
    """Matches series that both matchers match."""

    first: Matcher
    second: Matcher

    def __call__(self, series: Series) -> bool:
        """Whether both match `series`."""
        return self.first(series) and self.second(series)

    def promql(self) -> str:
        """Both, separated by a comma."""
        return f"{self.first.promql()},{self.second.promql()}"


class Failed(Value):
    """Matches requests that count as errors of the service: see `OutcomeClassifier`."""

    outcome_of: OutcomeClassifier = field(default_factory=OutcomeClassifier)

    def __call__(self, series: Series) -> bool:
        """Whether the requests of `series` were errors."""
        return self.outcome_of(series) is RequestOutcome.ERROR

    def promql(self) -> str:
        """The configured error statuses; without them every `error.type` except that of a client that disconnected.

        With configured statuses, exceptions after the start of the response are missed: label matchers have no "or".
        """
        if self.outcome_of.statuses is None:
            return f'error_type!~"|{DISCONNECTED}"'
        return Attribute(HTTP_RESPONSE_STATUS_CODE, tuple(sorted(self.outcome_of.statuses))).promql()


def attribute_text(value: AttributeValue) -> str:
    """The value of an attribute as a Prometheus label value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, separators=(",", ":")) if isinstance(value, tuple) else str(value)


def quoted(text: str) -> str:
    """`text` as a PromQL string, which has every escape of JSON."""
    return json.dumps(text, ensure_ascii=False)
