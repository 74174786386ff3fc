"""What a snapshot's bytes say is what was measured; bytes of another kind are refused, whatever they are."""

import random
import struct
import zlib
from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_monitoring.metrics import serialization
from otel_monitoring.metrics.serialization import UNREADABLE, PackedSnapshot, SnapshotCodec, extremes
from otel_monitoring.metrics.snapshot import AttributeValue, Histogram, Series, Snapshot, merged
from otel_monitoring.metrics.window import Window
from tests.measured import Meter, recorded_in

durations = st.lists(st.floats(min_value=0, max_value=1e4), max_size=300)
HEAD = struct.Struct("<IIIII")
NAMES = ("a", 'quo"te', "new\nline", "é", "\ud800")


def measured(*values: float, route: str = "/a") -> Snapshot:
    meter = Meter()
    for value in values:
        meter.request(route, seconds=value)
    return meter.window(10).snapshot


def again(*snapshots: Snapshot) -> Snapshot:
    """The snapshots after their travel, added up."""
    reader = SnapshotCodec()
    return reader.total([reader.decode(SnapshotCodec().encode(one, {})) for one in snapshots], 0.0, 10.0)


@given(durations)
def test_a_snapshot_comes_back_as_it_was(values: list[float]) -> None:
    snapshot = measured(*values)
    assert dict(again(snapshot).histograms) == dict(snapshot.histograms)


histograms = st.builds(
    lambda values, copies: merged([one for one in measured(*values).histograms.values() for _ in range(copies)]),
    st.lists(st.floats(min_value=0, max_value=1e4), max_size=20),
    st.sampled_from((1, 300, 70_000)),  # counts of one, two and four bytes
)


@given(st.lists(histograms, max_size=5), st.lists(st.floats(0, 1e9), max_size=3))
def test_histograms_of_any_width_come_back_beside_counters(several: list[Histogram], increases: list[float]) -> None:
    snapshot = Snapshot(
        0.0,
        10.0,
        {Series("h", (("number", number),)): one for number, one in enumerate(several)},
        {Series("c", (("number", number),)): value for number, value in enumerate(increases)},
    )
    travelled = again(snapshot)
    assert (dict(travelled.histograms), dict(travelled.sums)) == (snapshot.histograms, snapshot.sums)
    packed = PackedSnapshot.of(snapshot)
    assert packed.histograms() == snapshot.histograms
    for series, one in snapshot.histograms.items():
        assert extremes([packed, packed], series) == (one.min, one.max)


@given(st.lists(durations, min_size=1, max_size=5))
def test_the_total_of_several_is_that_of_all_values(batches: list[list[float]]) -> None:
    snapshots = [measured(*values) for values in batches]
    total = recorded_in(Window(again(*snapshots)), "http.server.request.duration")
    apart: Sequence[Histogram] = [h for one in snapshots for h in one.histograms.values()]
    whole = merged(apart)
    assert (total.count, total.min, total.max, total.at_zero) == (whole.count, whole.min, whole.max, whole.at_zero)
    assert total.sum == pytest.approx(whole.sum)
    assert [total.quantile(q) for q in (0.1, 0.5, 0.95)] == [whole.quantile(q) for q in (0.1, 0.5, 0.95)]


@pytest.mark.parametrize("values", [(1, True), (True, 1), (0, 0.0), (False, 0.0)])
def test_attributes_that_are_equal_are_one_series(values: tuple[AttributeValue, AttributeValue]) -> None:
    [histogram] = measured(0.5).histograms.values()
    one, other = (Snapshot(0, 10, {Series("h", (("a", value),)): histogram}, {}) for value in values)
    reader = SnapshotCodec()
    read = reader.decode(SnapshotCodec().encode(other, {}))
    assert [histogram.count for histogram in again(one, other).histograms.values()] == [2]
    assert [histogram.count for histogram in reader.total([read], 0, 10, one).histograms.values()] == [2]


def test_many_values_of_many_workers_keep_every_count() -> None:
    draw = random.Random(3)
    values = [[draw.lognormvariate(-3, 1) for _ in range(400)] for _ in range(8)]
    total = recorded_in(Window(again(*(measured(*batch) for batch in values))), "http.server.request.duration")
    assert total.count == 3200
    assert sum(total.buckets.counts()) == 3200


@pytest.mark.parametrize("name", NAMES)
def test_counters_and_attributes_of_any_text_come_back(name: str) -> None:
    series = Series(name, ((name, name), ("number", 7), ("yes", True), ("several", (1, 2))))
    snapshot = Snapshot(0, 10, sums={series: 2.5, Series("b"): 3})
    assert dict(again(snapshot, snapshot).sums) == {series: 5.0, Series("b"): 6}


def test_what_is_noted_comes_back_with_the_length() -> None:
    content = SnapshotCodec().encode(Snapshot(5, 15), {"error": ["boom", 1.5]})
    read = SnapshotCodec().decode(content)
    assert (read.seconds, read.note) == (10, {"error": ["boom", 1.5]})


def blocks(content: bytes) -> list[bytes]:
    """The head of a content, and its four parts, decompressed: names, note, doubles and integers."""
    _, *sizes, _ = HEAD.unpack_from(content)
    ends = accumulate((HEAD.size, *sizes, len(content) - sum(sizes)))
    names, note, doubles, integers = (content[begin:end] for begin, end in pairwise(ends))
    return [content[: HEAD.size], *map(zlib.decompress, (names, note)), doubles, zlib.decompress(integers)]


def joined(head: bytes, *parts: bytes) -> bytes:
    """The content of which `blocks` are these."""
    names, note, integers = (zlib.compress(parts[which]) for which in (0, 1, 3))
    form, *_, size = HEAD.unpack(head)
    head = HEAD.pack(form, len(names), len(note), len(parts[2]), size)
    return b"".join((head, names, note, parts[2], integers))


def test_every_cut_is_refused() -> None:
    content = SnapshotCodec().encode(measured(0.1, 0.2), {})
    plain = blocks(content)
    assert SnapshotCodec().decode(joined(*plain)).series
    for end in range(len(content)):
        with pytest.raises(UNREADABLE):
            SnapshotCodec().decode(content[:end])
    for which in (1, 2, 3, 4):
        for end in range(len(plain[which])):
            parts = [*plain[:which], plain[which][:end], *plain[which + 1 :]]
            with pytest.raises(UNREADABLE):
                SnapshotCodec().decode(joined(*parts))


def test_what_another_version_wrote_is_refused() -> None:
    """Also that of the first one, whose content began with the bytes of its names."""
    content = SnapshotCodec().encode(measured(0.1, 0.2), {})
    form, *rest = HEAD.unpack_from(content)
    for head in (HEAD.pack(form + 1, *rest), struct.pack("<IIII", *rest)):
        with pytest.raises(UNREADABLE):
            SnapshotCodec().decode(head + content[HEAD.size :])


@given(st.data())
def test_damage_is_refused_or_is_a_number_that_adds_up(data: st.DataObject) -> None:
    """Nothing but `UNREADABLE` is ever raised, by `decode` or afterwards by `total`."""
    plain = [bytearray(part) for part in blocks(SnapshotCodec().encode(measured(0.1, 0.2), {}))]
    for _ in range(data.draw(st.integers(1, 4))):
        part = data.draw(st.sampled_from(plain))
        part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    reader = SnapshotCodec()
    try:
        read = reader.decode(joined(*map(bytes, plain)))
    except UNREADABLE:
        return
    reader.total([read, read], 0, 1)


def test_what_unpacks_to_more_than_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "_LARGEST", 1_000_000)  # to pack more than the real one takes a second
    head, *parts = blocks(SnapshotCodec().encode(measured(0.1, 0.2), {}))
    for which in (0, 1, 3):  # the doubles are not compressed
        bomb = joined(head, *parts[:which], bytes(2_000_000), *parts[which + 1 :])
        assert len(bomb) < 20_000
        with pytest.raises(UNREADABLE):
            SnapshotCodec().decode(bomb)


def test_names_that_come_again_are_read_once() -> None:
    writer, reader = SnapshotCodec(), SnapshotCodec()
    one, other = (reader.decode(writer.encode(measured(value), {})) for value in (0.1, 0.2))
    assert one.series is other.series


def test_processes_that_name_the_same_series_in_other_orders_share_its_text() -> None:
    reader, meter = SnapshotCodec(), Meter()
    for route in ("/a", "/b", "/c"):
        meter.request(route)
    snapshot = meter.window(10).snapshot
    turned = snapshot._replace(histograms=dict(list(snapshot.histograms.items())[::-1]))
    one, other = (reader.decode(SnapshotCodec().encode(each, {})).series for each in (snapshot, turned))
    assert one != other
    assert sorted(map(id, one)) == sorted(map(id, other))
