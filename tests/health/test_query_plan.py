"""What the servers' answers to `explain` say, and what is explained at all."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from pymongo import MongoClient

from otel_monitoring.health.database_probe import target_of
from otel_monitoring.health.query_plan import Explainer, explained_find, plan_of
from otel_monitoring.instrumentation.database_work.metrics import WorkMetrics
from otel_monitoring.instrumentation.database_work.recorder import Asked, WorkRecorder
from otel_monitoring.instrumentation.database_work.shape import source_of
from otel_monitoring.metrics.database_work import DatabaseWork
from tests.integration import servers

pytestmark = pytest.mark.anyio

CANARY = "canary"


def stage(name: str, **more: Any) -> dict[str, Any]:
    return {"queryPlanner": {"parsedQuery": {"a": CANARY}, "winningPlan": {"stage": name, **more}}}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (stage("COLLSCAN", filter={"a": CANARY}), "collection scan"),
        (stage("FETCH", inputStage={"stage": "IXSCAN", "indexName": "a_1"}), "index a_1"),
        (stage("IDHACK"), "index _id_"),
        (stage("EXPRESS_IXSCAN", indexName="_id_"), "index _id_"),
        (stage("EXPRESS_CLUSTERED_IXSCAN"), "index _id_"),
        (stage("EOF"), "no scan"),
        (stage("OR", inputStages=[{"stage": "IXSCAN", "indexName": "a_1"}, {"stage": "COLLSCAN"}]), "collection scan"),
        (
            stage("OR", inputStages=[{"stage": "IXSCAN", "indexName": name} for name in ("a_1", "b_1", "a_1")]),
            "index a_1, b_1",
        ),
        ({"queryPlanner": {"winningPlan": {"queryPlan": {"stage": "COLLSCAN"}}}}, "collection scan"),
        (
            {"queryPlanner": {"winningPlan": {"shards": [{"winningPlan": {"stage": "IXSCAN", "indexName": "a_1"}}]}}},
            "index a_1",
        ),
        (
            {"queryPlanner": {"winningPlan": {"stage": "IDHACK"}, "rejectedPlans": [{"stage": "COLLSCAN"}]}},
            "index _id_",
        ),
        ({"queryPlanner": {"Plan": {"Node Type": "Seq Scan", "Filter": CANARY}}}, "collection scan"),
        ({"queryPlanner": {"Plan": {"Node Type": "Index Scan", "Index Name": "a_idx"}}}, "index a_idx"),
        ({"queryPlanner": {"Plan": ["id=2 parent=0 notused=0 detail=SCAN orders_3"]}}, "collection scan"),
        ({"queryPlanner": {"winningPlan": [{"detail": "SEARCH orders USING INDEX idx_a (a=?)"}]}}, "index idx_a"),
        ({"ok": 1}, "not explained: the answer names no plan"),
        ({"queryPlanner": CANARY}, "not explained: the answer names no plan"),
    ],
)
def test_plans(answer: Mapping[str, Any], text: str) -> None:
    assert plan_of(answer, 1.0).text == text


def asked(operation: str, source: Mapping[str, Any], address: tuple[str, int | None] | None = None) -> Asked:
    return Asked(("shop", operation, "orders", "a shape"), source, address)


@pytest.mark.parametrize(
    ("operation", "source", "find"),
    [
        ("find", {"filter": {"a": 1}, "sort": {"b": 1}, "limit": 7}, {"filter": {"a": 1}, "sort": {"b": 1}}),
        ("count", {"query": {"a": 1}}, {"filter": {"a": 1}}),
        ("update", {"filter": {"a": 1}}, {"filter": {"a": 1}}),
        ("findAndModify", {"filter": None, "sort": None}, {"filter": {}}),
        ("count", {"query": {}}, None),
        ("find", {"filter": {}, "limit": 1, "singleBatch": True}, None),
        ("find", {"filter": {}, "limit": 20, "sort": {"a": 1}}, {"filter": {}, "sort": {"a": 1}}),
        ("find", {"filter": {}}, {"filter": {}}),
        (
            "aggregate",
            {"pipeline": [{"$match": {"a": 1}}, {"$sort": {"b": 1}}, {"$out": "copy"}], "hint": "a_1"},
            {"filter": {"a": 1}, "sort": {"b": 1}, "hint": "a_1"},
        ),
        ("aggregate", {"pipeline": [{"$group": {"_id": 1}}, {"$merge": "copy"}]}, {"filter": {}}),
        ("aggregate", {"pipeline": [{"$geoNear": {}}]}, None),
        ("aggregate", {"pipeline": []}, None),
    ],
)
def test_only_a_find_is_explained(operation: str, source: dict[str, Any], find: dict[str, Any] | None) -> None:
    expected = None if find is None else {"find": "orders", **find}
    assert explained_find(asked(operation, source)) == expected


@pytest.mark.parametrize(
    "command",
    [
        {"update": "orders", "updates": [{"q": {"a": 1}, "u": {"$set": {"b": CANARY}}, "hint": "a_1", "multi": True}]},
        {"delete": "orders", "deletes": [{"q": {"a": 1}, "hint": "a_1", "limit": 1}]},
        {"findAndModify": "orders", "query": {"a": 1}, "update": {"b": CANARY}, "hint": "a_1"},
        {"find": "orders", "filter": {"a": 1}, "hint": "a_1"},
        {"count": "orders", "query": {"a": 1}, "hint": "a_1"},
        {"distinct": "orders", "key": "b", "query": {"a": 1}, "hint": "a_1"},
        {"aggregate": "orders", "pipeline": [{"$match": {"a": 1}}], "hint": "a_1"},
    ],
)
def test_what_the_choice_of_a_plan_depends_on_is_explained_too(command: dict[str, Any]) -> None:
    """With another collation the server could not use the index, and without `let` a filter may name nothing."""
    operation, let = next(iter(command)), {"least": 5}
    (statement,) = command.get("updates") or command.get("deletes") or [command]
    statement["collation"] = {"locale": "de", "strength": 1}
    source = source_of(operation, {**command, "let": let})
    assert source is not None
    assert explained_find(asked(operation, source)) == {
        "find": "orders",
        "filter": {"a": 1},
        "collation": {"locale": "de", "strength": 1},
        "hint": "a_1",
        "let": let,
    }


@pytest.mark.parametrize("paths", [7, CANARY, [], [7], [{"$match": 7}], [{"$match": {"a": 1}}], {"a": 1}, None])
def test_whatever_a_filter_is_its_plan_is_asked_for_once(paths: Any) -> None:
    recorder = WorkRecorder(WorkMetrics(NoOpMeterProvider()), explain=True)
    for operation, field in (("find", "filter"), ("count", "query"), ("aggregate", "pipeline")):
        kind = operation, "shop", "orders", None
        has_plan = bool(paths) or operation != "count"
        assert [recorder.wants(kind, {field: paths}) for _ in range(2)] == [has_plan, False]


def test_the_same_keys_to_look_for_and_to_sort_by_have_a_plan_each() -> None:
    recorder = WorkRecorder(WorkMetrics(NoOpMeterProvider()), explain=True)
    sources = [{"filter": {"a": 1, "b": 1}}, {"filter": {"a": 1}, "sort": {"b": 1}}, {"sort": {"a": 1, "b": 1}}]
    assert all(recorder.wants(("find", "shop", "orders", None), source) for source in sources)


def test_what_has_no_plan_hides_none() -> None:
    recorder = WorkRecorder(WorkMetrics(NoOpMeterProvider()), explain=True)
    sources: list[dict[str, Any]] = [{"filter": {}, "limit": 5}, {"filter": {}}, {"filter": {}}]
    asked = [recorder.wants(("find", "shop", "orders", None), source) for source in sources]
    assert asked == [False, True, False]


@pytest.fixture(params=["nx27017", "ferretdb"])
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    with getattr(servers, request.param)() as running:
        yield running


@pytest.mark.integration
async def test_servers_explain_and_keep_the_documents(server: servers.Server) -> None:
    recorder = WorkRecorder(WorkMetrics(NoOpMeterProvider()), explain=True)
    explainer = Explainer(recorder)
    with closing(MongoClient[dict[str, Any]](server.uri)) as client:
        client.shop.orders.insert_many([{"a": CANARY, "n": number} for number in range(50)])
        recorder.ask_again()
        for operation, source in (("find", {"filter": {"a": CANARY}}), ("delete", {"filter": {"a": CANARY}})):
            recorder._ask(Asked(("shop", operation, "orders", "{a: ?}"), source, server.address))
        recorder._ask(Asked(("shop", "find", "other", "{a: ?}"), {}, ("elsewhere", 1)))
        await explainer.explain(target_of(client.shop), 0.0)
        for _ in range(3):
            await explainer.explain(target_of(client.shop), 1.0)
        found = recorder.take()
        assert client.shop.orders.count_documents({}) == 50
    plans = {shape.operation: shape.plan.text for shape in found.shapes.items.values() if shape.plan is not None}
    assert plans == {"find": "collection scan", "delete": "collection scan"}
    assert CANARY not in json.dumps(found.as_record())
    assert DatabaseWork.of_record(json.loads(json.dumps(found.as_record()))) == found
