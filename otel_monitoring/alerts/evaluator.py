"""`Evaluator`: one worker's part in alerting: it reports what it knows, and one of all evaluates and delivers.

Runs in the watch thread. Every worker calls `beat` about once a second and `tick` after each sample; the one that holds
the lease evaluates all rules over everybody's reports. When it dies, another one does within the lease's time. It sends
by its channels too; by a channel that it does not have sends a worker that has it.
"""

from collections.abc import Callable
from functools import partial
from os import getpid
from socket import gethostname

from otel_monitoring.alerts.evaluation.incident import labels_by_rule, saved_incidents
from otel_monitoring.alerts.evaluation.transitions import Incidents
from otel_monitoring.alerts.evaluation.worker_report import WorkerReport
from otel_monitoring.alerts.manager import AlertManager
from otel_monitoring.alerts.model import Notification
from otel_monitoring.alerts.notify.channels import Repeating
from otel_monitoring.alerts.store import Store
from otel_monitoring.alerts.store.leader_lease import LeaderLease, channels_of_workers
from otel_monitoring.alerts.store.protocol import LEADER, UNREADABLE, lease_of
from otel_monitoring.guard import fail_open

_asking = fail_open("asking a rule for its metrics", theirs=True)

_REPORT_INTERVALS = 2.5
_LONGEST_LEASE = 5.0
_SHORTEST_LEASE = 1.0


def lease_seconds(interval: float) -> float:
    """How long a lease lasts where rules are evaluated every `interval` seconds: another takes over within one."""
    return min(_LONGEST_LEASE, max(_SHORTEST_LEASE, interval / 2))


def beat_seconds(interval: float) -> float:
    """How often to beat, so that a lease is renewed well before it expires."""
    return min(1.0, lease_seconds(interval) / 3)


class Evaluator:
    """Evaluates, reports and delivers for one worker; made anew in each process.

    Args:
        manager: Whose rules, store and channels.
        worker: This worker's `service.instance.id`.
        report: What this worker knows now.
        interval: Seconds between ticks.
    """

    def __init__(self, manager: AlertManager, worker: str, report: Callable[[], WorkerReport], interval: float) -> None:
        self._manager = manager
        self._worker = worker
        self._report = report
        self._interval = interval
        self._channels = {name: lease_of(name) for name in manager.policy.channels}
        wanted = (LEADER, *self._channels.values())
        self._lease = LeaderLease(manager.store, worker, manager.clock, lease_seconds(interval), wanted)
        self._sends_by: frozenset[str] = frozenset()
        self._evaluated_at = 0.0
        self._repeated_at: dict[str, float] = {}

    @property
    def leads(self) -> bool:
        """Whether this worker evaluates."""
        return self._lease.holds(LEADER)

    def tick(self, *, urgent: bool = False) -> None:
        """Evaluate, or report to the worker that does.

        Args:
            urgent: Have that worker evaluate with its next beat.
        """
        manager = self._manager
        if self._leads_now():
            self._evaluate()
            self._look_for_missing()
            self._pump()
            return
        self._pump()
        metrics: set[str] = set()
        for rule in manager.rules:
            with _asking:
                metrics.update(rule.expression.metrics)
        manager.store.publish(self._worker, self._report().encode(metrics), manager.clock(), urgent=urgent)

    def beat(self) -> None:
        """Renew the lease or try to get it; deliver what waits; evaluate where a worker says that it is urgent."""
        led = self.leads
        if self._leads_now() and (not led or self._manager.store.urgent_since(self._evaluated_at)):
            self._evaluate()
        self._repeat()
        self._pump()

    def deliver(self) -> None:
        """Deliver what waits, evaluating nothing: while draining. The lease then lapses, and another worker leads."""
        self._leads_now()
        self._pump()

    async def stop(self, timeout: float) -> None:
        """Deliver what can be delivered in time, leave the rest in the outbox, and let another worker lead.

        Args:
            timeout: Seconds.
        """
        manager = self._manager
        with fail_open("stopping the alerts"):
            self._leads_now()
            self._pump(paced=False)
            await manager.delivery.flush(timeout)
            self._lease.give_back()
            manager.store.close()

    def _pump(self, *, paced: bool = True) -> None:
        self._manager.delivery.pump(self._manager.store, self._delivers_by, paced=paced)

    def _leads_now(self) -> bool:
        """Renew the leases, or try to get them; whether this worker evaluates."""
        self._lease.hold()
        sends_by = frozenset(name for name in self._channels if self._delivers_by(name))
        for name in sends_by - self._sends_by:
            self._manager.delivery.begin(self._manager.store, name)
        self._sends_by = sends_by
        return self.leads

    def _delivers_by(self, channel: str) -> bool:
        """Whether this worker sends by a channel now: what has no lease of its own, the one that leads looks after."""
        return self._lease.holds(self._channels.get(channel, LEADER))

    def _look_for_missing(self) -> None:
        """Complain about what waits for a channel that no worker has, as after a deploy that took it away."""
        manager = self._manager
        own = [channel.name for channel in manager.channels]
        known = channels_of_workers(manager.store, manager.clock()).union(own)
        waiting = (name for name in manager.store.backlog() if not name.endswith(UNREADABLE))
        leader = f"host {gethostname()}, pid {getpid()}"
        problem = f"no running worker has this channel; the one that leads ({leader}) has: {', '.join(own)}"
        manager.delivery.stand_in([name for name in waiting if name not in known], problem)

    def _evaluate(self) -> None:
        manager, now = self._manager, self._manager.clock()
        reports = self._reports(manager.store, now)
        rules = manager.rules

        def work(store: Store) -> Incidents:
            incidents = Incidents(store, manager.policy.joined(channels_of_workers(store, now)), now)
            if store.leaders(now).get(LEADER) == self._worker:  # else it lasted too long: another one leads
                known = {incident.key: incident for incident in saved_incidents(store)}
                looks = manager.evaluation.evaluate(rules, reports, labels_by_rule(known.values()))
                incidents.apply(looks, known, reports, rules)
            return incidents

        incidents = manager.store.run(work)
        self._evaluated_at = now
        for event in incidents.events:
            manager.signals.raised(event)
        for event in incidents.told:
            manager.write(event)

    def _reports(self, store: Store, now: float) -> dict[str, WorkerReport]:
        reports = {self._worker: self._report()}
        for worker, data in store.reports(now - _REPORT_INTERVALS * self._interval, now).items():
            if worker != self._worker:
                with fail_open("reading another worker's report"):
                    reports[worker] = WorkerReport.decode(data)
        return reports

    def _repeat(self) -> None:
        """Tell channels whose receiver forgets, what fires now."""
        now = self._manager.clock()
        for channel in self._manager.channels:
            if isinstance(channel, Repeating) and channel.name in self._sends_by and self._is_due(channel, now):
                held = partial(self._held_by, channel.name, now)
                if self._manager.delivery.repeat(channel, held):
                    self._repeated_at[channel.name] = now

    def _held_by(self, channel: str, now: float) -> Notification | None:
        """What the receiver holds, muted meanwhile or not; and what it should, as others were told."""
        sender = self._manager.sender
        rules = {rule.name: rule for rule in self._manager.rules}
        events = tuple(
            incident.event(rules[incident.rule], now, {"value": incident.value})
            for incident in saved_incidents(self._manager.store)
            if incident.firing and incident.rule in rules and (incident.is_told or incident.was_told_on(channel))
        )
        return sender.message(f"repeat-{now:.3f}", events) if events else None

    def _is_due(self, channel: Repeating, now: float) -> bool:
        return not 0 <= now - self._repeated_at.get(channel.name, float("-inf")) < channel.interval
