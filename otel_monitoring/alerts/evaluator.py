"""`Evaluator`: one worker's part in alerting. Every worker reports its metrics; the leader evaluates the rules.

Every worker calls `beat` about once a second and `tick` after each sample, each in a thread of its own: both wait for
the store, and a `tick` that takes long must not keep `beat` from renewing the leases. The worker that holds the leader
lease evaluates all rules over the reports of all workers; when it dies, or its evaluation hangs, another worker leads
once the lease has expired. The leader also delivers through its channels; a channel that only another worker has is
delivered by that worker.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from os import getpid
from socket import gethostname
from typing import Any, TypeVar

from otel_monitoring.alerts.evaluation.escalation import escalate
from otel_monitoring.alerts.evaluation.incident import Incident, labels_by_rule, saved_incidents
from otel_monitoring.alerts.evaluation.transitions import Transitions
from otel_monitoring.alerts.evaluation.worker_report import (
    REPORT_INTERVALS,
    WorkerReport,
    counts_for,
    merge_reports,
    part_of,
)
from otel_monitoring.alerts.evidence.alert import Alert
from otel_monitoring.alerts.evidence.collector import EvidenceCollector
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.model import AlertType, Notification
from otel_monitoring.alerts.notify.channels import Repeating
from otel_monitoring.alerts.overview import results
from otel_monitoring.alerts.route import doubts
from otel_monitoring.alerts.rules.rule import Rule
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.leases import (
    LEADER,
    LeaderLease,
    channels_of_workers,
    lease_of,
    repeating_channels,
    repeating_lease_of,
)
from otel_monitoring.alerts.store.outbox import UNREADABLE
from otel_monitoring.forks import renewed
from otel_monitoring.guard import fail_open, logger
from otel_monitoring.metrics.event_sums import EventSums
from otel_monitoring.metrics.window import Window
from otel_monitoring.runtime.threads import in_thread

_reading_report = fail_open("reading another worker's report")
_reading_metrics = fail_open("reading the metrics of a rule", theirs=True)

BEAT_SECONDS = 1.0
"""Seconds between two beats."""
LEASE_SECONDS = 8.0
"""Seconds that a lease lasts; the first beat in its second half renews it.

So at least three seconds of it are left: longer than a call of a database that hangs, during which there is no beat.
"""
STUCK_SECONDS = 60.0
"""Seconds after which an evaluation that has not ended is no reason any more to keep the lease of the leader."""

T = TypeVar("T")


class _EvidenceWanted(Exception):  # noqa: N818 - no error: the transaction is to have no effect
    """An alert begins whose evidence was not collected yet."""


class Evaluator:
    """Evaluates, reports and delivers for one worker; each process makes its own.

    Args:
        manager: The alert manager, with its rules, store and channels.
        worker: This worker's `service.instance.id`.
        report: Makes this worker's report.
        interval: Seconds between ticks.
        measured: Returns the sum of all workers' histograms and counters; None: the reports have them.
        event_sums: Returns the sums over the slices of the past, None where they are not known.
        elsewhere: Returns whether another engine evaluates the rules about the whole service.
        evidence: Collects the evidence of alerts; None: they have none.
        in_loop: Calls a function in the event loop that delivers, soon; called in any thread.
        evaluate_soon: Has somebody call `tick` soon; called in any thread. None: `beat` evaluates where that is due.
        elapsed: Returns monotonic time in seconds.
    """

    def __init__(
        self,
        manager: AlertManager,
        worker: str,
        report: Callable[[], WorkerReport],
        interval: float,
        measured: Callable[[], Window] | None = None,
        event_sums: Callable[[], EventSums | None] = lambda: None,
        elsewhere: Callable[[], bool] = lambda: False,
        evidence: EvidenceCollector | None = None,
        in_loop: Callable[[Callable[[], object]], object] = lambda work: work(),
        evaluate_soon: Callable[[], object] | None = None,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._in_loop = in_loop
        self._evaluate_soon = evaluate_soon
        self._elapsed = elapsed
        self._leasing = renewed(self, "_leasing", threading.Lock)
        self._left = False
        self._evaluating_since: float | None = None
        self._elsewhere = elsewhere
        self._evidence = evidence
        self._manager = manager
        self._worker = worker
        self._report = report
        self._interval = interval
        self._measured = measured
        self._event_sums = event_sums
        # Known once: to ask a protocol takes 20 µs on Python 3.11, and a beat comes every second.
        self._repeating = [channel for channel in manager.channels if isinstance(channel, Repeating)]
        self._channel_leases = {name: lease_of(name) for name in manager.policy.channels}
        repeating = sorted(repeating_lease_of(name) for name in manager.policy.holding)
        wanted = (LEADER, *self._channel_leases.values(), *repeating)
        self._lease = LeaderLease(manager.store.leases, worker, manager.clock, LEASE_SECONDS, wanted)
        self._delivers: frozenset[str] = frozenset()
        self._evaluated_at = 0.0
        self._repeated_at: dict[str, float] = {}
        self._states: dict[str, tuple[bytes, Mapping[str, Any]]] = {}
        types = {*(kind.value for kind in AlertType), *(rule.type.value for rule in manager.rules)}
        for doubt in doubts(manager.policy.routes, types, {rule.name for rule in manager.rules}):
            logger.warning(doubt)

    @property
    def leads(self) -> bool:
        """Whether this worker is the leader."""
        return self._lease.holds(LEADER)

    def tick(self, *, urgent: bool = False) -> None:
        """Evaluate as the leader, and publish a report: for the leader, and for the answers of the others.

        Args:
            urgent: Whether the leader evaluates the report with its next beat.
        """
        manager = self._manager
        self._evaluating_since = self._elapsed()
        try:
            leads = self._hold_leases()
            if leads:
                self._evaluate()
                self._note_missing_channels()
                if self._evidence is not None:
                    self._evidence.note(manager.clock())
            else:
                manager.evaluation.clear()
                manager.signals.maintenance(0)
            self._pump()
            self._publish(leads, urgent)
        finally:
            self._evaluating_since = None

    def _publish(self, leads: bool, urgent: bool) -> None:
        manager = self._manager
        report = self._report()._replace(results=results(manager.rules, manager.evaluation) if leads else {})
        metrics, gauges = self._reported() if not leads else ((), ())  # it evaluates its own without a report
        data = report.encode(metrics, gauges)
        if not self._left:
            manager.store.reports.publish(self._worker, data, manager.clock(), urgent=urgent)

    def _reported(self) -> tuple[set[str], set[str]]:
        """The metrics of which the leader needs all series of this worker, and those of which it needs the gauges."""
        metrics: set[str] = set()
        gauges: set[str] = set()
        for rule in self._rules():
            with _reading_metrics:
                of_all = self._measured is not None and rule.scope == "service"
                (gauges if of_all else metrics).update(rule.expression.metrics)
        return metrics, gauges

    def _rules(self) -> tuple[Rule, ...]:
        """The rules that are evaluated here."""
        rules = self._manager.rules
        return tuple(rule for rule in rules if rule.scope == "instance") if self._elsewhere() else rules

    def others(self) -> tuple[Mapping[str, Mapping[str, Any]], str | None]:
        """What the other workers say about themselves, by worker, and which worker leads. May run in any thread.

        The report of a worker that has ended, which is too old to count, is deleted.
        """
        store, now = self._manager.store, self._manager.clock()
        known, self._states = self._states, {}
        for worker, (at, data) in store.reports.published(now).items():
            if worker != self._worker:
                before = known.get(worker)
                if before is None or before[0] != data:
                    with _reading_report:
                        before = data, part_of(data, "state")
                if now - at > counts_for(before[1] if before is not None else {}, self._interval):
                    store.reports.delete(worker)
                elif before is not None:
                    self._states[worker] = before
        return {worker: state for worker, (_, state) in self._states.items()}, store.leases.holders(now).get(LEADER)

    def beat(self) -> None:
        """Renew or acquire the leases and deliver the outbox; a new leader evaluates, and so does an urgent report."""
        led_before = self.leads
        if self._renew_leases() and (not led_before or self._manager.store.reports.urgent_since(self._evaluated_at)):
            (self._evaluate_soon or self._evaluate)()
        self._repeat()
        self._pump()
        self._send_heartbeat()

    def _send_heartbeat(self) -> None:
        """Send the heartbeat while this worker evaluates the rules, and not all of them fail."""
        manager = self._manager
        recently = 0 <= manager.clock() - self._evaluated_at < REPORT_INTERVALS * self._interval
        works = len(manager.evaluation.errors) < len(manager.rules)
        heartbeat = manager.heartbeat
        if heartbeat is not None and heartbeat.due and self.leads and recently and works:
            about = manager.origin.message("heartbeat", ())
            self._in_loop(partial(heartbeat.beat, manager.store.conditions.save, about, self._evaluated_at))

    def deliver(self) -> None:
        """Deliver the outbox without evaluating, while the worker drains."""
        self._renew_leases()
        self._pump()

    async def stop(self, timeout: float) -> None:
        """Deliver what can be delivered in time, leave the rest in the outbox, and give the leases back.

        A store that hangs is waited for no longer than that: its thread goes on.

        Args:
            timeout: Seconds to wait for the store and for deliveries.
        """
        manager, until = self._manager, time.monotonic() + timeout
        with fail_open("stopping the alerts"):
            waiting = await _in_time(self._last_waiting, until)
            manager.delivery.pump(manager.store, waiting or (), self._delivers_by, paced=False)
            await manager.delivery.flush(max(0.0, until - time.monotonic()))
            if manager.heartbeat is not None:
                manager.heartbeat.stop()
        with fail_open("stopping the alerts"):
            await _in_time(self._leave, until)

    def _last_waiting(self) -> frozenset[str]:
        self._renew_leases()
        return self._manager.store.outbox.waiting()

    def _leave(self) -> None:
        """Give back what the worker has in the store."""
        manager = self._manager
        with self._leasing:
            self._left = True
            self._lease.give_back()
        manager.signals.maintenance(0)
        manager.store.reports.delete(self._worker)
        manager.store.close()

    def _pump(self) -> None:
        """Have the loop deliver what waits."""
        store = self._manager.store
        waiting = store.outbox.waiting()
        if waiting:
            self._in_loop(partial(self._manager.delivery.pump, store, waiting, self._delivers_by))

    def _renew_leases(self) -> bool:
        """Renew or acquire the leases, and take over channels; returns whether this worker is the leader."""
        self._hold_leases()
        delivers = frozenset(name for name in self._channel_leases if self._delivers_by(name))
        for name in delivers - self._delivers:
            self._manager.delivery.take_over(self._manager.store, name)
        self._delivers = delivers
        return self.leads

    def _hold_leases(self) -> bool:
        """Renew or acquire the leases; returns whether this worker is the leader."""
        since = self._evaluating_since
        is_stuck = since is not None and self._elapsed() - since > STUCK_SECONDS
        with self._leasing:
            if not self._left:
                self._lease.hold(without=(LEADER,) if is_stuck else ())
        return self.leads

    def _delivers_by(self, channel: str) -> bool:
        """Whether this worker delivers by a channel now. The leader does it for channels without a lease."""
        return self._lease.holds(self._channel_leases.get(channel, LEADER))

    def _note_missing_channels(self) -> None:
        """Tell the delivery which channels alerts wait for and no worker has, as after a deploy that removed one."""
        manager = self._manager
        own = [channel.name for channel in manager.channels]
        known = channels_of_workers(manager.store.leases, manager.clock()).union(own)
        waiting = (name for name in manager.store.outbox.waiting() if not name.endswith(UNREADABLE))
        leader = f"host {gethostname()}, pid {getpid()}"
        problem = f"no running worker has this channel; the one that leads ({leader}) has: {', '.join(own)}"
        manager.delivery.set_missing_channels([name for name in waiting if name not in known], problem)

    def _evaluate(self) -> None:
        manager, now = self._manager, self._manager.clock()
        reports = self._reports(manager.store, now)
        measured = self._measured() if self._measured is not None else None
        event_sums = self._event_sums()
        rules = self._rules()
        elsewhere = {rule.name for rule in manager.rules}.difference(rule.name for rule in rules)
        firing_elsewhere = self._firing_elsewhere() if elsewhere else ()

        wanted: dict[str, Alert] = {}
        gathered: dict[str, Mapping[str, Any]] | None = None if self._evidence is not None else {}

        def evidence(rule: Rule, incident: Incident) -> Mapping[str, Any]:
            if gathered is None:
                wanted[incident.key] = Alert(rule, incident.labels, incident.state.since, incident.value)
            return (gathered or {}).get(incident.key, {})

        def evaluate(store: Store) -> Transitions:
            wanted.clear()
            leases = store.leases
            policy = manager.policy.with_channels(channels_of_workers(leases, now), repeating_channels(leases, now))
            transitions = Transitions(store, policy, now, elsewhere, firing_elsewhere, evidence)
            if leases.holders(now).get(LEADER) == self._worker:  # the lease may have expired meanwhile
                known = {incident.key: incident for incident in saved_incidents(store.incidents)}
                results = manager.evaluation.evaluate(
                    rules, reports, labels_by_rule(known.values()), measured, event_sums
                )
                transitions.apply(results, known, reports, rules)
                transitions.notified += escalate(store, policy, now)
            if wanted:
                raise _EvidenceWanted
            return transitions

        try:
            transitions = manager.store.run(evaluate)
        except _EvidenceWanted:
            # It is collected outside of the transaction, which keeps other workers waiting; then once more with it.
            gathered = self._gathered(wanted, merge_reports(reports, measured, event_sums), reports, now)
            transitions = manager.store.run(evaluate)
        self._evaluated_at = now
        manager.signals.maintenance(transitions.windows)
        for event in transitions.events:
            manager.signals.raised(event)
        for event in transitions.notified:
            manager.write(event)

    def _firing_elsewhere(self) -> Collection[str]:
        """The incidents that fire in the engine that evaluates in place of this service."""
        engine = self._manager.engine
        rules = {rule.name: rule for rule in self._manager.rules}
        return [one.id for one in engine.incidents(rules) if one.firing] if engine is not None else ()

    def _gathered(
        self, wanted: Mapping[str, Alert], recent: Window, reports: Mapping[str, WorkerReport], now: float
    ) -> dict[str, Mapping[str, Any]]:
        if self._evidence is None:
            return {}
        return dict(zip(wanted, self._evidence.collect(list(wanted.values()), reports, recent, now), strict=True))

    def _reports(self, store: Store, now: float) -> dict[str, WorkerReport]:
        reports = {self._worker: self._report()}
        for worker, (at, data) in store.reports.published(now).items():
            if worker != self._worker:
                with _reading_report:
                    report = WorkerReport.decode(data)
                    counts = now - at <= counts_for(report.state, self._interval)
                    if counts and not report.results:  # one that led until now reports its metrics with its next tick
                        reports[worker] = report
        return reports

    def _repeat(self) -> None:
        """Repeat the firing alerts on channels whose receiver expires alerts, as the Alertmanager does."""
        now = self._manager.clock()
        for channel in self._repeating:
            if channel.name in self._delivers and self._is_due(channel, now):
                self._in_loop(partial(self._repeat_on, channel, now))

    def _repeat_on(self, channel: Repeating, now: float) -> None:
        if self._manager.delivery.repeat(channel, partial(self._firing_on, channel.name, now)):
            self._repeated_at[channel.name] = now

    def _firing_on(self, channel: str, now: float) -> Notification | None:
        """The firing alerts that the channel was notified of, even if muted since, and those of its routes."""
        origin = self._manager.origin
        rules = {rule.name: rule for rule in self._manager.rules}
        events = tuple(
            incident.event(rules[incident.rule], now, {"value": incident.value})
            for incident in saved_incidents(self._manager.store.incidents)
            if incident.firing
            and incident.rule in rules
            and (
                incident.was_notified_on(channel)
                or (incident.is_notified and channel in self._manager.policy.due(incident))
            )
        )
        return origin.message(f"repeat-{now:.3f}", events) if events else None

    def _is_due(self, channel: Repeating, now: float) -> bool:
        return not 0 <= now - self._repeated_at.get(channel.name, float("-inf")) < channel.interval


async def _in_time(work: Callable[[], T], until: float) -> T | None:
    """Do `work` in a thread; returns its result, or None where it takes longer than `until`, in monotonic seconds."""
    task = asyncio.ensure_future(in_thread(work, name="otel-monitoring-alert"))
    await asyncio.wait({task}, timeout=max(0.0, until - time.monotonic()))
    if task.done():
        return task.result()
    task.cancel()  # the thread goes on
    return None
