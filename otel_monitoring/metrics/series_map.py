"""`SeriesMap`: an immutable mapping of series, by metric, that shares with its predecessor whatever did not change.

A history makes a new one for every snapshot while readers in other threads keep the old ones; copying all the series of
a service for the few that changed would cost more than anything else in it.
"""

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping
from itertools import chain
from typing import Generic, TypeVar

from otel_monitoring.metrics.snapshot import AttributeValue, Series

T = TypeVar("T")
Change = Callable[[Series, T | None, T], T | None]
"""The new value of a series, from the one it has and the one given; None: it is gone."""

_FULL = 64
"""How many series a shard holds on average, before there are twice as many shards."""


class MetricSeries(Generic[T]):
    """The series of one metric with their values, in shards: a change copies those that it touches.

    Args:
        shards: A power of two of them, each series in the one of its hash; None: made of `items` when they are needed.
        size: How many series there are.
        items: Every series with its value; None: worked out when they are asked for.
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
        """The value of a series; None where it is not here."""
        shards = self._sharded()
        return shards[hash(series) & (len(shards) - 1)].get(series)

    def items(self) -> list[tuple[Series, T]]:
        """Every series with its value; worked out once."""
        if self._items is None:
            self._items = list(chain.from_iterable(map(dict.items, self._sharded())))
        return self._items

    def grouped(self, key: str) -> dict[AttributeValue | None, list[tuple[Series, T]]]:
        """The series by the value of attribute `key`; None collects those without it. Worked out once."""
        known = self._grouped.get(key)
        if known is None:
            known = {}
            for item in self.items():
                known.setdefault(item[0].get(key), []).append(item)
            self._grouped[key] = known
        return known

    def changed(self, values: Iterable[tuple[Series, T]], change: Change[T]) -> "MetricSeries[T]":
        """The group with `change` made for each of `values`."""
        shards, size = self._sharded().copy(), self.size
        mask, copied = len(shards) - 1, set()
        for series, value in values:
            index = hash(series) & mask
            if index not in copied:
                copied.add(index)
                shards[index] = shards[index].copy()
            shard = shards[index]
            known = shard.get(series)
            new = change(series, known, value)
            if new is not None:
                shard[series] = new
            elif known is not None:
                del shard[series]
            size += (new is not None) - (known is not None)
        return MetricSeries(_spread(shards, size) if size > _FULL * len(shards) else shards, size)

    def _sharded(self) -> list[dict[Series, T]]:
        if self._shards is None:
            self._shards = [dict(self._items or ())]
        return self._shards


def _spread(shards: list[dict[Series, T]], size: int) -> list[dict[Series, T]]:
    count = len(shards)
    while size > _FULL * count // 2:
        count *= 2
    wider: list[dict[Series, T]] = [{} for _ in range(count)]
    for shard in shards:
        for series, value in shard.items():
            wider[hash(series) & (count - 1)][series] = value
    return wider


class SeriesMap(Mapping[Series, T]):
    """Values by series, found by the metric's name too.

    Args:
        groups: The group of each metric; none is empty.
    """

    __slots__ = ("_groups",)

    def __init__(self, groups: dict[str, MetricSeries[T]]) -> None:
        self._groups = groups

    @classmethod
    def of(cls, values: Mapping[Series, T]) -> "SeriesMap[T]":
        """The same values; `values` itself where it is one of these. It must not change any more."""
        if isinstance(values, SeriesMap):
            return values
        return cls({name: MetricSeries(None, len(items), items) for name, items in _by_name(values).items()})

    def __getitem__(self, series: Series) -> T:
        group = self._groups.get(series.name)
        found = group.get(series) if group is not None else None
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
        """The series of metric `name`; None where there are none."""
        return self._groups.get(name)

    def groups(self) -> Iterable[MetricSeries[T]]:
        """The group of each metric."""
        return self._groups.values()

    def changed(self, values: Mapping[Series, T], change: Change[T]) -> "SeriesMap[T]":
        """These with `change` made for each of `values`."""
        if not values:
            return self
        groups = self._groups.copy()
        for name, items in _by_name(values).items():
            group = (groups.get(name) or MetricSeries(None, 0)).changed(items, change)
            if group.size:
                groups[name] = group
            else:
                groups.pop(name, None)
        return SeriesMap(groups)


class _Items(ItemsView[Series, T]):
    """Items without looking each series up."""

    _mapping: SeriesMap[T]

    def __iter__(self) -> Iterator[tuple[Series, T]]:
        return (item for group in self._mapping.groups() for item in group.items())


def _by_name(values: Mapping[Series, T]) -> dict[str, list[tuple[Series, T]]]:
    by_name: dict[str, list[tuple[Series, T]]] = {}
    for item in values.items():
        by_name.setdefault(item[0].name, []).append(item)
    return by_name
