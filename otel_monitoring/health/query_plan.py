"""`Explainer`: asks the database which plan it would choose for a shape; `plan_of`: what its answer says.

Servers answer `explain` in several ways: MongoDB by a tree of stages, FerretDB and others by the plan of the database
below them (PostgreSQL, SQLite).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from otel_monitoring.guard import original
from otel_monitoring.health.database_probe import Explanation, LoopTarget, ThreadTarget
from otel_monitoring.health.time_limit import NoAnswer
from otel_monitoring.instrumentation.database_work.recorder import Asked, WorkRecorder
from otel_monitoring.instrumentation.database_work.shape import CHOOSING, filter_of, reads_few
from otel_monitoring.metrics.database_work import Plan
from otel_monitoring.redact import redact
from otel_monitoring.runtime.threads import NotStarted

_AGAIN_SECONDS: Final = 3600.0
_TIMEOUT: Final = 1.0
_AT_ONCE: Final = 5
_MAX_DEPTH: Final = 30
_MAX_NAME: Final = 120
# Fields of an explanation that have values, or plans that were not chosen.
_NOT_THE_PLAN: Final = frozenset(("parsedQuery", "rejectedPlans", "command", "serverInfo", "filter", "indexBounds"))
_CANNOT_EXPLAIN: Final = frozenset((13, 59))
"""Codes of the server: not authorized, and no such command."""
_SQLITE: Final = re.compile(
    r"(?:^|detail=)(SCAN|SEARCH) (\S+)(?: USING (?:COVERING )?(?:INDEX (\S+)|(.*PRIMARY KEY)))?"
)
_LEADING: Final = frozenset(("$match", "$sort", "$limit", "$skip", "$group", "$project", "$set", "$addFields"))
_FURTHER: Final = frozenset(("$unwind", "$lookup", "$unset", "$replaceRoot", "$count", "$facet", "$sortByCount"))


class Explainer:
    """Explains what the recorder wants explained, a few shapes for each call.

    Args:
        recorder: Knows which plans are wanted, and gets them.
    """

    def __init__(self, recorder: WorkRecorder) -> None:
        self._recorder = recorder
        self._began: float | None = None
        self._given_up = False

    async def explain(self, target: ThreadTarget | LoopTarget | None, now: float) -> None:
        """Explain some of the shapes whose plans are wanted; the background thread calls it once a second.

        Args:
            target: The service's database; None: there is none.
            now: Seconds of the monotonic clock.
        """
        if self._began is None or now - self._began >= _AGAIN_SECONDS:
            self._began, self._given_up = now, False
            self._recorder.ask_again()
        for _ in range(_AT_ONCE):
            asked = self._recorder.asked()
            if asked is None or target is None or self._given_up:
                return
            find = explained_find(asked)
            if find is not None and asked.address in target.client.nodes:
                plan = await self._plan(target, asked, find)
                if plan is None:
                    self._recorder.ask_later(asked.key)
                    return
                self._recorder.explained(asked.key, plan)

    async def _plan(self, target: ThreadTarget | LoopTarget, asked: Asked, find: Mapping[str, Any]) -> Plan | None:
        """The plan; None: the database did not answer in time."""
        at, explanation = self._recorder.clock(), Explanation(asked.key[0], find, _TIMEOUT)
        try:
            await target.explain(explanation, _TIMEOUT)
        except (NoAnswer, NotStarted):
            return None
        except Exception as error:  # noqa: BLE001 - a driver may raise anything
            # Messages of the server quote values.
            cause = original(error)
            self._given_up = getattr(cause, "code", None) in _CANNOT_EXPLAIN
            details = getattr(cause, "details", None)
            name = details.get("codeName") if isinstance(details, Mapping) else None
            return Plan(at, error=redact(name or type(cause).__name__))
        return plan_of(explanation.answer or {}, at)


def explained_find(asked: Asked) -> dict[str, Any] | None:
    """The `find` by which the server would look for the documents of a command; None: there is none.

    Of a pipeline it is the beginning. Nothing that writes is ever explained, nor what `reads_few`.
    """
    (_, operation, collection, _), source = asked.key, asked.source
    if not collection or reads_few(operation, source):
        return None
    find: dict[str, Any] = {"find": collection}
    if operation == "aggregate":
        pipeline = source.get("pipeline")
        stages = [stage for stage in pipeline if isinstance(stage, Mapping)] if isinstance(pipeline, Sequence) else []
        names = [next(iter(stage), "") for stage in stages]
        if not names or names[0] not in _LEADING | _FURTHER:
            return None
        find["filter"] = stages[0]["$match"] if names[0] == "$match" else {}
        rest = names[1:] if names[0] == "$match" else names
        if rest and rest[0] == "$sort":
            find["sort"] = stages[len(names) - len(rest)]["$sort"]
    else:
        find["filter"] = filter_of(source)
        if source.get("sort"):
            find["sort"] = source["sort"]
    find.update({name: source[name] for name in CHOOSING if source.get(name)})
    return find


def plan_of(answer: Mapping[str, Any], at: float) -> Plan:
    """What the answer to `explain` says, without values.

    Args:
        answer: The server's answer.
        at: When it was given, in Unix seconds.
    """
    indexes: dict[str, None] = {}
    scan = known = False
    for index, is_scan in _steps(answer, 0):
        known = True
        scan = scan or is_scan
        if index:
            indexes[redact(index, limit=_MAX_NAME)] = None
    return Plan(at, ", ".join(indexes), scan) if known else Plan(at, error="the answer names no plan")


def _steps(value: Any, depth: int) -> Iterator[tuple[str, bool]]:
    """The index of each step that reads documents, and whether the step reads all of them."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, str):
        yield from _sqlite(value)
    elif isinstance(value, Mapping):
        yield from _step(value)
        for key, inner in value.items():
            if key not in _NOT_THE_PLAN and (isinstance(inner, Mapping | list) or key == "detail"):
                yield from _steps(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _steps(inner, depth + 1)


def _step(stage: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    name = stage.get("stage") or stage.get("Node Type")
    index = stage.get("indexName") or stage.get("Index Name")
    if index is not None:
        yield str(index), False
    elif name in ("IDHACK", "EXPRESS_IXSCAN", "CLUSTERED_IXSCAN", "EXPRESS_CLUSTERED_IXSCAN"):
        yield "_id_", False
    elif name in ("COLLSCAN", "Seq Scan"):
        yield "", True
    elif name in ("EOF", "RECORD_STORE_FAST_COUNT"):
        yield "", False


def _sqlite(detail: str) -> Iterator[tuple[str, bool]]:
    found = None if "VIRTUAL TABLE" in detail else _SQLITE.search(detail)
    if found is not None:
        index = found[3] or ("_id_" if found[4] else "")
        yield index, not index
