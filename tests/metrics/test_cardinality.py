from otel_monitoring.metrics.cardinality import BoundedNames


def test_names_beyond_the_limit_are_one() -> None:
    names = BoundedNames(2)

    assert [names(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", "_OTHER", "a", "_OTHER"]
