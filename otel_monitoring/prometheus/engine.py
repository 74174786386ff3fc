"""`PrometheusEngine`: what a Prometheus says about the service, kept for a while; and whether it answers."""

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from otel_monitoring.alerts.evaluation.acknowledgement import acknowledged
from otel_monitoring.alerts.evaluation.incident import Incident
from otel_monitoring.alerts.model import Acknowledgement
from otel_monitoring.alerts.mute import Mute, in_force
from otel_monitoring.alerts.notify.origin import Origin
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.alerts.store import Store
from otel_monitoring.config.settings import Settings
from otel_monitoring.errors import MonitoringError, PrometheusError
from otel_monitoring.guard import fail_open, logger
from otel_monitoring.health.instances import Instances
from otel_monitoring.health.series_query import Grid, SeriesQuery
from otel_monitoring.metrics.error_groups import ErrorGroup, ErrorKey
from otel_monitoring.metrics.outcome import OutcomeClassifier
from otel_monitoring.metrics.service_history import ErrorSeen
from otel_monitoring.metrics.slices.model import Slice
from otel_monitoring.metrics.window import History
from otel_monitoring.prometheus.client import Connection, Server
from otel_monitoring.prometheus.evaluations import LatestEvaluations, latest_of, results_of
from otel_monitoring.prometheus.incident_history import IncidentHistory
from otel_monitoring.prometheus.past_slices import is_known, read_slices
from otel_monitoring.prometheus.questions import Questions, Service
from otel_monitoring.prometheus.silences import Silence, Silences, Wanted
from otel_monitoring.prometheus.view import Application, ServiceView, next_moment, read_view
from otel_monitoring.redact import redact, redact_error
from otel_monitoring.runtime.threads import in_thread
from otel_monitoring.runtime.worker import Worker

T = TypeVar("T")

_LONGEST_SILENCE = 60.0
"""Seconds without an answer after which the processes evaluate for themselves: a restart of Prometheus takes less."""
_LONGEST_WITHOUT_RULES = 300.0
"""Seconds without any recorded rule: the first values come after an export and an evaluation."""
_FRESH_INTERVALS = 3.0
_REUSE_FACTOR = 4.0
"""An answer is kept for so many times the seconds that it took."""
_MARGIN = 0.5
"""Seconds that an answer waits beyond the time limit of the questions."""
_SEEN_INTERVALS = 3.0
"""After so many sample intervals every process has seen a silence; until then the store keeps its mute, too."""
_ALERTMANAGERS_SECONDS = 60.0
_ACKNOWLEDGED_SECONDS = 3600.0
"""How long an acknowledged alert is silenced, again and again while it fires: nobody may be there to end it."""
_asking = fail_open("asking Prometheus")
_recording = fail_open("recording what Prometheus fires")


class PrometheusEngine:
    """Asks in the background thread; everything else may be called from any thread, and waits for nothing.

    It is the service's measurements (`metrics.service_measurements`) and the engine of its alerts (`alerts.engine`).

    Args:
        settings: URL, headers, certificates and time limit; intervals, thresholds and the window.
        worker: Its background thread asks.
        resource: Returns the attributes of the service's resource.
        origin: Returns the service's name and environment, as alerts have them.
        store: Returns the store, whose mutes, open windows and acknowledgements become silences.
        rules: Returns the rules by name.
        own: Returns what this process measured, with the application's own metrics.
        units: Returns the units of the application's metrics, by name.
        errors: Returns the groups of failed requests of this process.
        last_error: Returns the last error of this process.
        leader: Returns the `service.instance.id` of this process where it leads the workers that share its store.
        classify: Which requests are errors.
        wall_clock: Returns Unix time in seconds, as the store has it.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        worker: Worker,
        resource: Callable[[], Mapping[str, Any]],
        origin: Callable[[], Origin],
        store: Callable[[], Store],
        rules: Callable[[], Mapping[str, Rule]],
        own: Callable[[], History],
        units: Callable[[], Mapping[str, str]],
        errors: Callable[[], Mapping[ErrorKey, ErrorGroup]],
        last_error: Callable[[], ErrorSeen | None],
        leader: Callable[[], str | None],
        classify: OutcomeClassifier,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._resource = resource
        self._origin = origin
        self._store = store
        self._rules = rules
        self._own = own
        self._units = units
        self._errors = errors
        self._last_error = last_error
        self._leader = leader
        self._classify = classify
        self._wall_clock = wall_clock
        self._clock = clock
        self._server = Server.of_prometheus(settings)
        self._alertmanagers: tuple[float, Sequence[Server]] | None = None
        self.instances = Instances(max(settings.sample_interval, settings.metric_export_interval / 1000))
        self.begin()

    def begin(self) -> None:
        """Begin as a new process: nothing was asked yet."""
        self._native: bool | None = None
        self._view: ServiceView | None = None
        self._viewed_at = self._fresh_until = self._took = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._reading_rules: asyncio.Task[None] | None = None
        self._results_at = float("-inf")
        self._results: Mapping[str, Mapping[str, Any]] = {}
        self._latest: LatestEvaluations | None = None
        self._history = IncidentHistory()
        self._silences: Sequence[Silence] = ()
        self._unlisted: Sequence[Wanted] = ()
        """Silences that Alertmanager has taken and not listed since: they are not made again with every interval."""
        self._exchanging_mutes = asyncio.Lock()
        self._acknowledged: Sequence[Wanted] = ()
        self._marks: frozenset[str] = frozenset()
        """The marks of silences for windows and acknowledgements that the store had."""
        self._wanted = False
        self._latest_failure: str | None = None
        self._view_failure: str | None = None
        self._silent_since: float | None = self._clock()
        self._without_rules_since: float | None = self._clock()
        self._mute_failure: str | None = None

    # The measurements of the service

    @property
    def history(self) -> History:
        """The totals of the service, and its recent window; those of this process where nothing is known."""
        return self._view.history if self._view is not None else self._own()

    @property
    def since(self) -> float:
        """From when the totals count, in Unix seconds."""
        return self._view.since if self._view is not None else 0.0

    @property
    def joined(self) -> bool:
        """Whether it answers for the service; otherwise the process answers for itself, and `problem` says why."""
        return self.problem is None

    @property
    def problem(self) -> str | None:
        """Why the process answers for itself; None: it does not."""
        if self._failure is not None:
            return self._failure
        if self._view is None:
            return "Prometheus: it was not asked yet"
        age = self._clock() - self._viewed_at
        return f"Prometheus: its last answer is {age:.0f} s old" if age > self._kept(_FRESH_INTERVALS) else None

    @property
    def knows_errors(self) -> bool:
        """Never: Prometheus has no texts."""
        return False

    @property
    def errors(self) -> Mapping[ErrorKey, ErrorGroup]:
        """The groups of failed requests of this process."""
        return self._errors()

    @property
    def last_error(self) -> ErrorSeen | None:
        """The last error of this process."""
        return self._last_error()

    @property
    def metrics(self) -> frozenset[str]:
        """The names of the application's own metrics in this process."""
        return frozenset(self._units())

    def want(self) -> None:
        """Have the background thread ask for the next answer: this one is made of what is known."""
        self._wanted = True

    async def refresh(self) -> None:
        """Ask for an answer, unless what is known is fresh; callable on any loop, never raises.

        Waits no longer than the time limit, and not at all while Prometheus does not answer: the background asks then.
        """
        self._wanted = True
        if self._is_fresh or self._failure is not None or not self._worker.running:
            return
        with _asking, suppress(TimeoutError):
            await self._worker.call(self._read, self._settings.prometheus_timeout + _MARGIN)

    async def ask(self) -> None:
        """Ask what fires, and for the silences; and for a whole view where an answer wanted one. A background job."""
        await self._ask_latest()
        if self._latest_failure is None and self._wanted and not self._is_fresh:
            await self._read()
        leads = self._leader() is not None
        if leads and self.evaluates and self._latest_failure is None:
            with _recording:
                rules = self._rules()
                found = self._store(), self.incidents(rules), rules, self._wall_clock()
                await _of_store(partial(self._history.record, *found))
        await self._exchange_mutes(leads)

    @property
    def _failure(self) -> str | None:
        return self._latest_failure or self._view_failure

    def _kept(self, intervals: float = 1.0) -> float:
        """Seconds for which a view is fresh: whole sample intervals, so that those of all processes end together."""
        interval = self._settings.sample_interval
        return max(intervals, math.ceil(_REUSE_FACTOR * self._took / interval)) * interval

    @property
    def _is_fresh(self) -> bool:
        return self._view is not None and self._clock() < self._fresh_until

    async def _read(self) -> None:
        """Ask for a view, once at a time."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._ask_view())
        await asyncio.shield(self._reading)

    async def _ask_view(self) -> None:
        self._wanted = False
        began = self._clock()
        view, failure = await self._answer(self._view_of)
        if view is not None:
            self._took, self._viewed_at, self._view = self._clock() - began, self._clock(), view
            self._fresh_until = began + next_moment(view.asked, self._kept()) - view.asked
            self.instances.learn(view.states, self._leader(), began - (view.asked - view.at), view.ages)
        self._note(self._latest_failure, failure)

    async def _view_of(self, connection: Connection) -> ServiceView:
        questions = await self._questions_in_form(connection)
        application = Application.of(self._own(), self._units())
        settings = self._settings
        view = await read_view(
            connection,
            questions,
            application,
            settings.thresholds,
            span=settings.prometheus_range,
            interval=self._kept(),
        )
        if not view.states:  # before the first export; another tenant or another name; a Collector that is away
            where = f"{{{questions.service.selector}}}"
            raise PrometheusError(f"Prometheus has no process of this service, {where}: does it get what is exported?")
        return view

    async def _questions_in_form(self, connection: Connection) -> Questions:
        """The questions, in the form of the histograms that Prometheus has."""
        if self._native is None:
            self._native = await self._is_native(connection)
        return self._questions(native=self._native is not False)

    async def _is_native(self, connection: Connection) -> bool | None:
        """Whether the histograms are native; None: there is none yet."""
        found = {sample["metric"].get("__name__", "") for sample in await connection.query(self._questions().formats())}
        return not all(name.endswith("_bucket") for name in found) if found else None

    async def _answer(
        self, questions: Callable[[Connection], Awaitable[T]], server: Server | None = None
    ) -> tuple[T | None, str | None]:
        """The answer, or why there is none."""
        try:
            return await (server or self._server).ask(questions), None
        except MonitoringError as error:
            return None, redact(str(error))
        except Exception as error:  # noqa: BLE001 - an answer in another form
            fail_open.note("asking Prometheus", error)
            return None, f"Prometheus: {redact_error(error)}"

    def _note(self, latest: str | None, view: str | None) -> None:
        """Keep why there is no answer; one line is logged when that begins, and one when it ends."""
        before = self._failure
        self._latest_failure, self._view_failure = latest, view
        if before is None and self._failure is not None:
            logger.warning("%s; this process answers for itself", self._failure)
        elif before is not None and self._failure is None:
            logger.info("Prometheus answers again, for the whole service")

    def _questions(self, *, native: bool = True) -> Questions:
        resource = self._resource()
        name, namespace = (str(resource.get(key) or "") for key in ("service.name", "service.namespace"))
        job = f"{namespace}/{name}" if namespace else name
        service = Service(job, str(resource.get("deployment.environment.name") or ""))
        return Questions(service, self._settings.window, native)

    def past(self, query: SeriesQuery, grid: Grid) -> Mapping[int, Slice]:
        """The past of the whole service, by steps. It waits; never call it in an event loop.

        Raises:
            PrometheusError: There is no usable answer, or it does not have a metric.
        """
        if self._latest_failure is not None:
            raise PrometheusError(self._latest_failure)
        self._wanted = True  # the view has the names of all endpoints
        application = Application.of(self._own(), self._units())
        missing = next((name for name in query.metrics if not is_known(name, application)), None)
        if missing is not None:
            raise PrometheusError(f"Prometheus is not asked for {missing}")
        answers: list[tuple[Mapping[int, Slice] | None, str | None]] = []

        async def slices(connection: Connection) -> Mapping[int, Slice]:
            questions = await self._questions_in_form(connection)
            return await read_slices(connection, questions, application, query, grid, self._classify)

        async def read() -> None:
            answers.append(await self._answer(slices))

        self._await(read)
        steps, failure = answers[0] if answers else (None, None)
        if steps is None:
            raise PrometheusError(failure or "Prometheus: no answer in time")
        return steps

    # The engine of the alerts

    @property
    def evaluates(self) -> bool:
        """Whether Prometheus evaluates the rules about the service; after a minute without it, the processes do."""
        now = self._clock()
        limits = ((self._silent_since, _LONGEST_SILENCE), (self._without_rules_since, _LONGEST_WITHOUT_RULES))
        return all(since is None or now - since < seconds for since, seconds in limits)

    async def _ask_latest(self) -> None:
        latest, failure = await self._answer(self._latest_of)
        now = self._clock()
        self._note(failure, self._view_failure)
        if latest is None:
            self._silent_since = now if self._silent_since is None else self._silent_since
            return
        self._latest, self._silent_since = latest, None
        if latest.recorded:
            self._without_rules_since = None
        elif self._without_rules_since is None:
            self._without_rules_since = now

    async def _latest_of(self, connection: Connection) -> LatestEvaluations:
        return latest_of(await connection.query(self._questions().latest()))

    async def refresh_rules(self, rules: Sequence[Rule]) -> None:
        """Ask what fires and, for these rules, for their values; callable on any loop, never raises."""
        if self._latest_failure is None and self._worker.running:
            with _asking, suppress(TimeoutError):
                await self._worker.call(lambda: self._read_rules(rules), self._settings.prometheus_timeout + _MARGIN)

    async def _read_rules(self, rules: Sequence[Rule]) -> None:
        """As `refresh_rules`, once at a time."""
        if self._reading_rules is None or self._reading_rules.done():
            self._reading_rules = asyncio.ensure_future(self._ask_rules(rules))
        await asyncio.shield(self._reading_rules)

    async def _ask_rules(self, rules: Sequence[Rule]) -> None:
        await self._ask_latest()
        ours = [rule for rule in rules if rule.scope == "service"]
        if not ours or self._latest_failure is not None or self._clock() - self._results_at < self._kept():
            return

        async def values(connection: Connection) -> Mapping[str, Mapping[str, Any]]:
            return await results_of(connection, await self._questions_in_form(connection), ours)

        results, failure = await self._answer(values)
        if results is not None:
            self._results, self._results_at = results, self._clock()
        self._note(self._latest_failure, failure or self._view_failure)

    def incidents(self, rules: Mapping[str, Rule]) -> Sequence[Incident]:
        """The pending and firing alerts of the rules about the whole service; none while Prometheus does not answer."""
        if self._latest is None or self._latest_failure is not None:
            return ()
        of_service = {name: rule for name, rule in rules.items() if rule.scope == "service"}
        return self._latest.incidents(of_service, in_force(self.mutes(), self._wall_clock()))

    def results(self, rules: Sequence[Rule]) -> Mapping[str, Mapping[str, Any]]:
        """The latest values of these rules; none while Prometheus does not answer."""
        if self._failure is not None:
            return {}
        return {rule.name: self._results[rule.name] for rule in rules if rule.name in self._results}

    def state(self) -> dict[str, Any]:
        """Whether it answers and evaluates, why it does not, and why a mute is no silence."""
        without = self._without_rules_since
        no_rules = "it has no value of this service's rules: load what `otel-monitoring export prometheus` writes"
        missing = without is not None and self._latest is not None and self._latest_failure is None
        return {
            "evaluates": self.evaluates,
            "problem": self._failure or (no_rules if missing else None),
            "mutes_problem": self._mute_failure,
        }

    # Mutes

    def mutes(self) -> Sequence[Mute]:
        """The mutes that Alertmanager keeps as silences, and its openings of planned windows."""
        now = self._wall_clock()
        return [one.mute for one in self._silences if one.acknowledges is None and one.mute.until > now]

    def acknowledged(self) -> Mapping[str, Acknowledgement]:
        """The alerts that are silenced because somebody takes care of them, by incident."""
        found = ((one.acknowledges, one) for one in self._silences)
        return {
            incident: Acknowledgement(one.start, one.mute.author, one.mute.reason)
            for incident, one in found
            if incident is not None
        }

    def take_mutes(self) -> None:
        """Bring the silences in line with the store; where no event loop runs, wait until they are."""
        self._await(lambda: self._exchange_mutes(True))

    def unmute(self, name: str) -> bool:
        """End the silence of the mute with this id, or those of this type or rule; returns whether there was one.

        All are read first: another process may have made it just now.
        """
        ended = _named(self._silences, name)
        self._silences = [silence for silence in self._silences if silence not in ended]

        async def end() -> None:
            ended.extend(await self._end(name))

        self._await(end)
        return bool(ended)

    def _await(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` in the background, and wait for it unless the caller's thread runs an event loop."""
        done = threading.Event()

        async def run() -> None:
            try:
                await work()
            finally:
                done.set()

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            if self._worker.submit(run):
                done.wait(self._settings.prometheus_timeout + _MARGIN)
        else:
            self._worker.submit(run)

    def _writer(self) -> Silences:
        origin = self._origin()
        return Silences(origin.service, origin.environment)

    async def _exchange_mutes(self, writes: bool) -> None:
        """Make silences of the mutes in the store, and read all silences.

        Args:
            writes: Whether this process, of those that share the store, keeps windows and acknowledgements as silences.
        """
        try:
            async with self._exchanging_mutes:
                await self._bring_in_line(writes)
            self._mute_failure = None
        except MonitoringError as error:
            self._keep_mute_failure(error)

    async def _bring_in_line(self, writes: bool) -> None:
        servers, writer, now = await self._servers(), self._writer(), self._wall_clock()
        known, store = await writer.read(servers), self._store()
        mutes = await _of_store(lambda: store.mutes.all(now))
        waiting = [Wanted(mute, now) for mute in mutes if mute.schedule is None]
        unlisted = [one for one in self._unlisted if not any(silence.is_for(one) for silence in known)]
        taken = [Silence.taken(one) for one in unlisted]
        there = (*known, *taken)
        # What was a silence, and is none any more, was ended there.
        new = [one for one in waiting if not any(silence.is_exactly(one) for silence in (*there, *self._silences))]
        by = await _of_store(lambda: acknowledged(store.acknowledgements))
        wanted = self._wanted_silences(mutes, by, now)
        missing = [one for one in wanted if not any(silence.serves(one, now) for silence in there)]
        for one in [*new, *(missing if writes else ())]:
            await writer.write(servers, one, known)
            unlisted = [*(other for other in unlisted if not Silence.taken(other).is_for(one)), one]
        self._unlisted = [one for one in unlisted if one.mute.until > now]
        marks = {one.mark for one in wanted}
        over = [one for one in known if one.mark in self._marks - marks]
        if writes:
            await writer.end(servers, over)
        # A process that leads later ends what was wanted here, and still is there.
        self._marks = frozenset(marks.union(one.mark for one in over if not writes))
        self._silences = await writer.read(servers) if new or (writes and (missing or over)) else known
        seen_since = now - _SEEN_INTERVALS * self._settings.sample_interval
        for one in waiting:
            unseen = any(silence.is_exactly(one) and silence.start > seen_since for silence in known)
            if one not in new and not unseen and not any(silence.is_exactly(one) for silence in taken):
                await _of_store(partial(store.mutes.remove, one.mute))
        if taken:
            raise PrometheusError("Alertmanager does not list a silence that it has taken")

    def _wanted_silences(self, mutes: Sequence[Mute], by: Mapping[str, Acknowledgement], now: float) -> list[Wanted]:
        """The silences of planned windows, and of acknowledged alerts that fire."""
        windows = (Wanted.of_window(mute, now) for mute in mutes if mute.schedule is not None)
        if self._latest is not None and self._latest_failure is None:  # else nobody knows what fires
            until = now + _ACKNOWLEDGED_SECONDS
            self._acknowledged = [
                Wanted.of_acknowledged(one.id, _mute_of(one, by[one.id], until), by[one.id].at)
                for one in self.incidents(self._rules())
                if one.firing and one.id in by
            ]
        return [*(one for one in windows if one is not None), *self._acknowledged]

    async def _end(self, name: str) -> Sequence[Silence]:
        ended: Sequence[Silence] = ()
        try:
            async with self._exchanging_mutes:
                servers, writer = await self._servers(), self._writer()
                ended = _named(await writer.read(servers), name)
                await writer.end(servers, ended)
                self._silences = await writer.read(servers)
        except MonitoringError as error:
            self._keep_mute_failure(error)
        return ended

    def _keep_mute_failure(self, error: MonitoringError) -> None:
        if self._mute_failure is None:
            logger.warning("%s; mutes hold in the processes that share their store", redact(str(error)))
        self._mute_failure = redact(str(error))

    async def _servers(self) -> Sequence[Server]:
        """The Alertmanagers: those of `ALERTMANAGER_URL`, else those that Prometheus notifies.

        Raises:
            PrometheusError: There is none, or Prometheus does not say.
        """
        known = self._alertmanagers
        if known is not None and self._clock() - known[0] < _ALERTMANAGERS_SECONDS:
            return known[1]
        urls = [url.get_secret_value() for url in self._settings.alertmanager_url] or await self._notified()
        if not urls:
            raise PrometheusError("Prometheus notifies no Alertmanager, and ALERTMANAGER_URL is not set")
        servers = [self._server.beside("Alertmanager", url) for url in urls]
        self._alertmanagers = self._clock(), servers
        return servers

    async def _notified(self) -> list[str]:
        try:
            answer = await self._server.ask(lambda connection: connection.ask("GET", "api/v1/alertmanagers"))
            found = [str(one["url"]) for one in answer["data"]["activeAlertmanagers"]]
        except (PrometheusError, LookupError, TypeError) as error:
            if self._latest_failure is not None:
                raise PrometheusError(self._latest_failure) from error
            # It answers otherwise: Mimir, Thanos and VictoriaMetrics do not have this question.
            raise PrometheusError(
                "Prometheus: it does not say which Alertmanagers it notifies: set ALERTMANAGER_URL"
            ) from error
        return [url.rpartition("/api/v")[0] for url in found]


async def _of_store(work: Callable[[], T]) -> T:
    """Do `work` with the store in a thread: it may wait for a disk or a database."""
    return await in_thread(work, name="otel-monitoring-prometheus")


def _named(silences: Sequence[Silence], name: str) -> list[Silence]:
    """Those of the mute with this id, or of this type or rule."""
    return [one for one in silences if not one.mark and one.mute.is_named(name)]


def _mute_of(incident: Incident, by: Acknowledgement, until: float) -> Mute:
    """What an acknowledgement silences: the alert of this incident, by its rule and its labels."""
    return Mute(Selection.of(rules=[incident.rule], labels=incident.labels), until, by.author, by.reason)
