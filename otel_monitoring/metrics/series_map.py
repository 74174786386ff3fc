"""`SeriesMap`: an immutable mapping from series to values that shares all unchanged parts with its predecessor.

The history makes a new one for every snapshot, while readers in other threads keep older ones. Copying all series of a
service for the few that changed would be the largest cost of a collection.
"""

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping
from itertools import chain
from typing import Generic, TypeVar

from otel_monitoring.metrics.snapshot import AttributeValue, Series
from otel_monitoring.runtime.give_way import giving_way

T = TypeVar("T")
V = TypeVar("V")
Change = Callable[[Series, T | None, V], T | None]
"""Computes the new value of a series from its present value (None: new series) and the given one; None removes it."""

_FULL = 64
"""Average number of series in a shard above which the number of shards is doubled."""


class MetricSeries(Generic[T]):
    """The series of one metric with their values, in shards, so that a change copies only the shards that it touches.

    Args:
        shards: A power of two of dictionaries; the hash of a series selects its shard. None: made from `items` when
            first needed.
        size: The number of series.
        items: Every series with its value; None: made from `shards` when first needed.
    """

    __slots__ = ("_grouped", "_items", "_shards", "size")

    def __init__(
        self, shards: list[dict[Series, T]] | None, size: int, items: list[tuple[Series, T]] | None = None
    ) -> None:
        self._shards = shards
        self.size = size
        self._items = items
        self._grouped: dict[str, dict[AttributeValue | None, list[tuple[Series, T]]]] = {}

    def get(self, series: Series) -> T | None:
        """The value of a series; None if it is absent."""
        shards = self.shards()
        return shards[series.hash & (len(shards) - 1)].get(series)

    def items(self) -> list[tuple[Series, T]]:
        """Every series with its value; computed once."""
        if self._items is None:
            self._items = list(chain.from_iterable(map(dict.items, self.shards())))
        return self._items

    def grouped(self, key: str) -> dict[AttributeValue | None, list[tuple[Series, T]]]:
        """The series grouped by the value of attribute `key`, None for series without it; computed once per key."""
        known = self._grouped.get(key)
        if known is None:
            known = {}
            for item in self.items():
                known.setdefault(item[0].get(key), []).append(item)
            self._grouped[key] = known
        return known

    def changed(self, values: Iterable[tuple[Series, V]], change: Change[T, V]) -> "MetricSeries[T]":
        """A copy with `change` applied to each of `values`."""
        shards, size = self.shards().copy(), self.size
        mask, copied = len(shards) - 1, set()
        for series, value in giving_way(values):
            index = series.hash & mask
            if index not in copied:
                copied.add(index)
                shards[index] = shards[index].copy()
            shard = shards[index]
            known = shard.get(series)
            new = change(series, known, value)
            if new is None:
                size -= shard.pop(series, None) is not None
            else:
                shard[series] = new
                if known is None:
                    size += 1
        if size > _FULL * len(shards):
            shards = _spread(chain.from_iterable(map(dict.items, shards)), 2 * size // _FULL)
        return MetricSeries(shards, size)

    def shards(self) -> list[dict[Series, T]]:
        """The dictionaries, which nobody changes."""
        if self._shards is None:
            self._shards = _spread(self._items or (), self.size // _FULL)
        return self._shards


def _spread(items: Iterable[tuple[Series, T]], least: int) -> list[dict[Series, T]]:
    count = 1
    while count < least:
        count *= 2
    shards: list[dict[Series, T]] = [{} for _ in range(count)]
    for series, value in items:
        shards[series.hash & (count - 1)][series] = value
    return shards


class SeriesMap(Mapping[Series, T]):
    """Values by series, also accessible by metric name.

    Args:
        groups: The series of each metric, by its name; none is empty.
    """

    __slots__ = ("_groups",)

    def __init__(self, groups: dict[str, MetricSeries[T]]) -> None:
        self._groups = groups

    @classmethod
    def of(cls, values: Mapping[Series, T]) -> "SeriesMap[T]":
        """`values` as a `SeriesMap`; a `SeriesMap` is returned as it is. `values` must not change afterwards."""
        if isinstance(values, SeriesMap):
            return values
        return cls({name: MetricSeries(None, len(items), items) for name, items in _by_name(values).items()})

    def __getitem__(self, series: Series) -> T:
        found = self.find(series)
        if found is None:
            raise KeyError(series)
        return found

    def __iter__(self) -> Iterator[Series]:
        return (series for series, _ in self.items())

    def __len__(self) -> int:
        return sum(group.size for group in self._groups.values())

    def items(self) -> ItemsView[Series, T]:
        """Every series with its value."""
        return _Items(self)

    def group(self, name: str) -> MetricSeries[T] | None:
        """The series of metric `name`; None if there are none."""
        return self._groups.get(name)

    @property
    def by_metric(self) -> Mapping[str, MetricSeries[T]]:
        """The series of each metric, by its name."""
        return self._groups

    def find(self, series: Series) -> T | None:
        """The value of a series; None if it is absent."""
        group = self._groups.get(series.name)
        return group.get(series) if group is not None else None

    def changed(self, values: Mapping[Series, V], change: Change[T, V]) -> "SeriesMap[T]":
        """A copy with `change` applied to each of `values`."""
        if not values:
            return self
        groups = self._groups.copy()
        for name, news in SeriesMap.of(values).by_metric.items():
            group = (groups.get(name) or MetricSeries(None, 0)).changed(news.items(), change)
            if group.size:
                groups[name] = group
            else:
                groups.pop(name, None)
        return SeriesMap(groups)


class _Items(ItemsView[Series, T]):
    """Iterates over the items without a look-up for each series."""

    _mapping: SeriesMap[T]

    def __iter__(self) -> Iterator[tuple[Series, T]]:
        return (item for group in self._mapping.by_metric.values() for item in group.items())


def _by_name(values: Mapping[Series, V]) -> dict[str, list[tuple[Series, V]]]:
    by_name: dict[str, list[tuple[Series, V]]] = {}
    for item in values.items():
        by_name.setdefault(item[0].name, []).append(item)
    return by_name
