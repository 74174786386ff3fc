"""Matchers: which series an expression counts, here and as PromQL label matchers."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from otel_monitoring.errors import ConfigurationError
from otel_monitoring.metrics.outcome import DISCONNECTED, OutcomeClassifier, RequestOutcome
from otel_monitoring.metrics.snapshot import AttributeValue, Series
from otel_monitoring.semconv import HTTP_RESPONSE_STATUS_CODE, prometheus_label


class Matcher(Protocol):
    """Chooses series by their attributes; hashable, because what it chose is remembered with the window."""

    def __call__(self, series: Series) -> bool:
        """Whether `series` is chosen."""

    def promql(self) -> str:
        """The same as PromQL label matchers."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """Series whose attribute `key` has one of `values`.

    Args:
        key: The attribute's key, e.g. `http.response.status_code`.
        values: Several values, or a single text.

    Raises:
        ConfigurationError: There is no value.
    """

    key: str
    values: Collection[AttributeValue]

    def __post_init__(self) -> None:
        """Take a list or a single text for what it means."""
        values = (self.values,) if isinstance(self.values, str) else tuple(dict.fromkeys(self.values))
        if not values:
            raise ConfigurationError(f"values: {self.key}: there is none, so nothing would ever be chosen")
        object.__setattr__(self, "values", values)

    def __call__(self, series: Series) -> bool:
        """Whether `series` has one of the values."""
        return series.get(self.key) in self.values

    def promql(self) -> str:
        """`key="a"`, or `key=~"a|b"` for several values."""
        label, texts = prometheus_label(self.key), [attribute_text(value) for value in self.values]
        if len(texts) == 1:
            return f"{label}={_quoted(texts[0])}"
        return f"{label}=~{_quoted('|'.join(re.escape(text) for text in texts))}"


@dataclass(frozen=True, slots=True)
class Failed:
    """Requests that count as errors of the service: see `OutcomeClassifier`."""

    outcome_of: OutcomeClassifier = field(default_factory=OutcomeClassifier)

    def __call__(self, series: Series) -> bool:
        """Whether the requests in `series` were errors."""
        return self.outcome_of(series) is RequestOutcome.ERROR

    def promql(self) -> str:
        """Status codes of errors where they are chosen by hand; otherwise every `error.type` but a client that left.

        By hand chosen ones miss exceptions after the answer has begun: one set of matchers cannot say "or".
        """
        if self.outcome_of.statuses is None:
            return f'error_type!~"|{DISCONNECTED}"'
        return Attribute(HTTP_RESPONSE_STATUS_CODE, tuple(sorted(self.outcome_of.statuses))).promql()


def attribute_text(value: AttributeValue) -> str:
    """An attribute's value as the text that Prometheus keeps of it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, separators=(",", ":")) if isinstance(value, tuple) else str(value)


def _quoted(text: str) -> str:
    """A PromQL string: it knows every escape that JSON does."""
    return json.dumps(text, ensure_ascii=False)
