"""What the package emits is defined once."""

import ast

from otel_monitoring import semconv
from tests.source import nodes, trees


def test_every_histogram_is_defined_in_one_place() -> None:
    makers = {
        name for name, tree in trees().items() for node in nodes(tree, ast.Attribute) if node.attr == "create_histogram"
    }
    # `per_service_providers` hands on what it is asked for; `reader` tries the SDK.
    assert {name.removeprefix("otel_monitoring.") for name in makers} == {
        "semconv",
        "telemetry.per_service_providers",
        "metrics.reader",
    }


def test_every_histogram_has_rising_buckets_below_and_above_a_second() -> None:
    definitions = [value for value in vars(semconv).values() if isinstance(value, semconv.Durations)]
    assert len({definition.name for definition in definitions}) == len(definitions) > 1
    for definition in definitions:
        assert list(definition.bounds) == sorted(set(definition.bounds))
        assert definition.unit != "s" or definition.bounds[0] < 1 <= definition.bounds[-1]
        assert definition.description
