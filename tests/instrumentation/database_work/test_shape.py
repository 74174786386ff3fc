"""A shape has the key paths and operators of a command, and no value."""

from collections.abc import Mapping
from typing import Any

import pytest

from otel_monitoring.instrumentation.database_work.shape import shape_of, source_of

CANARY = "canary"


def shape(operation: str, command: Mapping[str, Any]) -> str | None:
    source = source_of(operation, command)
    return None if source is None else shape_of(operation, source)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "{}"),
        ({"status": CANARY, "customer.id": 7}, '{"customer.id": ?, status: ?}'),
        ({"customer": {"id": CANARY}}, "{customer: ?}"),
        ({"tags": [{"a": CANARY}]}, "{tags: ?}"),
        ({"total": {"$lt": 5, "$gt": CANARY}}, "{total: {$gt: ?, $lt: ?}}"),
        ({"_id": {"$in": [CANARY] * 5000}}, "{_id: {$in: ?}}"),
        ({"$or": [{"b": CANARY}, {"a": 1}, {"b": 2}]}, "{$or: [{a: ?}, {b: ?}]}"),
        ({"a": {"$not": {"$gt": CANARY}}}, "{a: {$not: {$gt: ?}}}"),
        ({"a": {"$elemMatch": {"b": {"$gte": CANARY}, "c": 1}}}, "{a: {$elemMatch: {b: {$gte: ?}, c: ?}}}"),
        ({"$expr": {"$eq": ["$a", CANARY]}, "$comment": CANARY}, "{$comment: ?, $expr: {$eq: ?}}"),
        ({"$where": f"this.a == '{CANARY}'"}, "{$where: ?}"),
        ({"by.65f0c0ffee0123456789abcd": 1, "a.0.b": 1}, '{"a.?.b": ?, "by.?": ?}'),
        ({"$and": CANARY, "$or": 7}, "{$and: [?], $or: []}"),
        ({"naïve": 1, 5: CANARY}, "{?: ?, naïve: ?}"),
    ],
)
def test_filters(query: dict[Any, Any], expected: str) -> None:
    assert shape("find", {"find": "orders", "filter": query}) == expected


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (f"by.{CANARY}@example.com", '"by.?"'),
        (f"by.first.{CANARY}@mail.example.com.count", '"by.?"'),
        (f"{CANARY}@example.com", '"?.?"'),
        (f"by.9@{CANARY}", '"by.?"'),
        (f"pages.https://www.{CANARY}.com/a.html", '"pages.?"'),
        (f"users.Dr. {CANARY}. Smith", '"users.?"'),
        (f"{CANARY} Smith.orders", '"?.?"'),
        (f"by./srv/{CANARY}.d/{CANARY}.conf", '"by.?"'),
        (f"a..{CANARY}", '"a.?"'),
        ("sessions.V1StGXR8_Z5jdHi6B-myT.seen", '"sessions.?.seen"'),
        ("by.q3k9zxbvw2mnlkjhg.seen", '"by.?.seen"'),
        ("by.192.168.10.4", '"by.?.?.?.?"'),
        ("items.$.price", '"items.?.price"'),
        ("items.$[].price", '"items.?.price"'),
        ("items.$[one].price", '"items.?.price"'),
        ("address.line2", '"address.line2"'),
        ("sha256OfTheDocument", "sha256OfTheDocument"),
        (f"${CANARY}@example.com", '"$?"'),
        (f"$where.{CANARY}", '"$?"'),
    ],
)
def test_keys_that_are_values_are_not_shown_nor_their_parts(key: str, shown: str) -> None:
    assert shape("find", {"find": "orders", "filter": {key: CANARY}}) == f"{{{shown}: ?}}"


def test_a_shape_is_bounded() -> None:
    deep: dict[str, Any] = {"a": CANARY}
    for _ in range(100):
        deep = {"$and": [deep]}
    many = {f"key{chr(97 + number // 26)}{chr(97 + number % 26)}": CANARY for number in range(500)}
    for query in (deep, many, {"x" * 10_000: 1}, {".".join("abcdefghijklmnop"): 1}):
        found = shape("find", {"find": "orders", "filter": query})
        assert found is not None
        assert len(found) <= 200
        assert CANARY not in found


@pytest.mark.parametrize(
    ("operation", "command", "expected"),
    [
        ("find", {"filter": {"a": 1}, "sort": {"b": -1, "a": 1}}, "{a: ?}, sort {a: ?, b: ?}"),
        ("count", {"query": {"a": CANARY}}, "{a: ?}"),
        ("distinct", {"key": CANARY, "query": {"a": CANARY}}, "{a: ?}"),
        ("findAndModify", {"query": {"a": CANARY}, "update": {"$set": {"b": CANARY}}}, "{a: ?}"),
        ("update", {"updates": [{"q": {"a": CANARY}, "u": {"$set": {"b": CANARY}}}]}, "{a: ?}"),
        ("update", {"updates": [{"q": {"a": 1}}, {"q": {"b": 2}}]}, "{a: ?}"),
        ("delete", {"deletes": []}, "{}"),
        ("delete", {"deletes": CANARY}, "{}"),
        ("delete", {"deletes": [{"q": {"a": CANARY}, "limit": 1}]}, "{a: ?}"),
        ("insert", {"documents": [{"a": CANARY}]}, ""),
        ("insert", {"documents": [{"a": 1}, {"a": 2}]}, ""),
        ("bulkWrite", {"ops": [{"insert": 0, "document": {CANARY: CANARY}}]}, ""),
        ("listIndexes", {"listIndexes": CANARY}, ""),
        ("getMore", {"getMore": 7, "collection": "orders"}, None),
        ("killCursors", {"killCursors": CANARY}, None),
        ("commitTransaction", {"commitTransaction": 1}, None),
        (
            "aggregate",
            {
                "pipeline": [
                    {"$match": {"b": CANARY, "a": {"$gt": 1}}},
                    {"$group": {"_id": f"${CANARY}", "n": {"$sum": 1}}},
                    {"$lookup": {"from": CANARY, "localField": CANARY, "foreignField": "_id", "as": CANARY}},
                    {"$unwind": f"${CANARY}"},
                ]
            },
            "[{$match: {a: {$gt: ?}, b: ?}}, {$group: {_id: ?, n: ?}}, "
            "{$lookup: {as: ?, foreignField: ?, from: ?, localField: ?}}, {$unwind: ?}]",
        ),
        ("aggregate", {"pipeline": {"$match": {"a": CANARY}}}, "[]"),
    ],
)
def test_commands(operation: str, command: dict[str, Any], expected: str | None) -> None:
    assert shape(operation, command) == expected
