"""Alerts of real services, end to end: real databases, mail servers and workers, killed for real."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.authority import Authority
from tests.integration.processes import Service, serving
from tests.integration.receivers import HttpReceiver, Loop, Mailbox, Request, http, smtp
from tests.integration.servers import Server, ferretdb, nx27017
from tests.otlp_sink import HttpSink, Sink
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

SOURCE = """
import asyncio, logging, os, time
from dataclasses import replace
from fastapi import FastAPI, HTTPException
from pymongo import AsyncMongoClient
from otel_monitoring import MonitoringService
from otel_monitoring.alerts import Gauge, Rule, get_alert_manager

logging.basicConfig(level=logging.INFO)
app = FastAPI(title="orders")
uri = os.environ.get("MONGODB_URI")
db = AsyncMongoClient(uri, serverSelectionTimeoutMS=500)["shop"] if uri else None
monitoring = MonitoringService(db, check_interval=1, sample_interval=1, check_timeout=2).instrument(app)
[down] = [rule for rule in monitoring.alert_manager.rules if rule.name == "database_down"]
monitoring.add_rule(replace(down, keep_firing_for=1))  # a test need not wait ten seconds for each end

@app.get("/order")
async def order():
    await db.orders.insert_one({"number": 1})
    return {"pid": os.getpid()}

@app.get("/bill")
async def bill():
    return await monitoring.add_alert("billing_failure", "Billing is down", "critical", {"pid": os.getpid()})

@app.get("/pid")
async def pid():
    return os.getpid()

def compute_invoice(done):
    until = time.monotonic() + 30
    while not os.path.exists(done) and time.monotonic() < until:
        time.sleep(0.05)

@app.get("/block")
async def block(done: str):
    compute_invoice(done)
"""


@pytest.fixture
def database() -> Iterator[Server]:
    with nx27017() as server:
        yield server


@pytest.fixture
def mailbox(loop: Loop, tmp_path: Path) -> Iterator[Mailbox]:
    authority = Authority(tmp_path)
    with loop.serve(smtp(Mailbox(), starttls=authority.server("localhost"), login=True)) as box:
        yield box


def mail_settings(mailbox: Mailbox, tmp_path: Path) -> dict[str, str]:
    return {
        "SMTP_SERVER": "localhost",
        "SMTP_PORT": str(mailbox.port),
        "ALERT_EMAIL_FROM": "orders@example.com",
        "ALERT_EMAIL_PASSWORD": "a-password",
        "ALERT_EMAIL_TO": "ops@example.com",
        "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
    }


def subjects(mailbox: Mailbox) -> list[str]:
    return [str(mail["Subject"]) for mail in mailbox.mails]


def firing(service: Service) -> list[str]:
    return [alert["type"] for alert in service.get("/api/alerts/firing").raise_for_status().json()]


def history(service: Service) -> list[tuple[str, str, str]]:
    """Type, status and outcome, oldest first."""
    events = service.get("/api/alerts/history?limit=1000").raise_for_status().json()
    return [(event["type"], event["status"], event["outcome"]) for event in reversed(events)]


def became(service: Service, alert_type: str, channel: str) -> dict[str, Any]:
    """What became of the newest alert of a type on a channel."""
    newest = service.get(f"/api/alerts/history?alert_type={alert_type}").raise_for_status().json()[0]
    found: dict[str, Any] = newest["channels"][channel]
    return found


def messages(hook: HttpReceiver) -> list[Request]:
    """What a webhook was told. Whoever delivers may lose its lease meanwhile: then another repeats it by its id."""
    return list({request.headers["webhook-id"]: request for request in hook.requests}.values())


def test_a_killed_database_is_one_mail_and_one_message_and_its_return_another(
    tmp_path: Path, database: Server, mailbox: Mailbox, loop: Loop
) -> None:
    with loop.serve(http()) as slack:
        env: dict[str, Any] = {
            **mail_settings(mailbox, tmp_path),
            "SLACK_WEBHOOK_URL": f"http://127.0.0.1:{slack.port}/services/T/B/x",
            "MONGODB_URI": database.uri,
        }
        with serving(tmp_path, SOURCE, **env) as service:
            assert service.get("/order").status_code == 200
            database.kill()
            _fail_many(service)  # the errors that follow from it: many, and all of one cause
            eventually(lambda: mailbox.mails and slack.requests, "the mail and the message about the database")
            eventually(lambda: "high_error_rate" in firing(service), "the errors are seen")
            assert ("high_error_rate", "firing", "inhibited") in history(service)
            database.start()
            eventually(lambda: len(mailbox.mails) > 1 and len(slack.requests) > 1, "the end is told")
            told = [event for event in history(service) if event[2] == "notified"]
            assert told == [("database_down", "firing", "notified"), ("database_down", "resolved", "notified")]
            output = service.stop()
    assert len(mailbox.mails) == len(slack.requests) == 2, subjects(mailbox)
    down, up = mailbox.mails
    assert (down["Subject"], up["Subject"]) == (
        "[orders] CRITICAL DATABASE_DOWN firing",
        "[orders] CRITICAL DATABASE_DOWN resolved",
    )
    assert (down["References"], up["References"]) == (None, down["Message-ID"]), "one conversation"
    assert "Database connection lost" in slack.requests[0].body.decode()
    assert output.count("otel_monitoring.alerts:DATABASE_DOWN: Database connection lost") == 1
    assert output.count("otel_monitoring.alerts:DATABASE_DOWN resolved") == 1
    assert "a-password" not in output


def _fail_many(service: Service) -> None:
    """At once: each waits half a second for the database."""
    with ThreadPoolExecutor(25) as pool:
        for answer in pool.map(service.get, ["/order"] * 25):
            assert answer.status_code == 500


HANGING = """
import threading
from opentelemetry.metrics import Observation
released = threading.Event()

def waiting(_):
    released.wait(300)
    return [Observation(1)]

@app.get("/hang")
async def hang():
    monitoring.meter.create_observable_gauge("orders.waiting", [waiting])

@app.get("/release")
async def release():
    released.set()
"""


def test_a_callback_of_the_application_that_hangs_keeps_no_alert_and_no_ping(
    tmp_path: Path, database: Server, loop: Loop
) -> None:
    """As one that counts documents while the database does not answer."""
    with loop.serve(http()) as slack:
        env: dict[str, Any] = {
            "SLACK_WEBHOOK_URL": f"http://127.0.0.1:{slack.port}/services/T/B/x",
            "MONGODB_URI": database.uri,
        }
        with serving(tmp_path, SOURCE + HANGING, **env) as service:
            service.get("/hang")
            database.kill()
            eventually(lambda: slack.requests, "the database is down, which is told")
            eventually(lambda: service.get("/api/health").status_code == 503, "the status says so")
            database.start()
            eventually(lambda: len(slack.requests) > 1, "its end is told")
            eventually(lambda: service.get("/api/health").json()["status"] == "healthy", "the status says so")
            service.get("/release")
            service.stop()


# Two outages, and on a busy machine a connection that fails between them, are not the subject there.
NEVER_FLAPPING = """
from otel_monitoring.alerts.evaluation import lifecycle
lifecycle.FLAPS = 1000
"""


@pytest.mark.long
def test_four_workers_tell_it_once_share_mutes_and_replace_their_leader(
    tmp_path: Path, database: Server, loop: Loop
) -> None:
    with loop.serve(http()) as hook:
        env: dict[str, Any] = {
            "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/alerts",
            "ALERT_WEBHOOK_ALLOW_PRIVATE": "true",
            "MONGODB_URI": database.uri,
        }
        with serving(tmp_path, SOURCE + NEVER_FLAPPING, runner=("uvicorn", "--workers", "4"), **env) as service:
            _all_workers(service, 4)
            database.kill()
            eventually(lambda: hook.requests, "somebody tells")
            for _ in range(12):  # any worker answers for all
                assert firing(service) == ["database_down"]
            database.start()
            eventually(lambda: len(messages(hook)) == 2, "its end is told")

            answered = service.client.post("/api/alerts/mutes", json={"type": "billing_failure", "reason": "known"})
            assert answered.status_code == 201
            assert {service.get("/bill").json() for _ in range(12)} == {False}, "a mute holds in every worker"
            assert service.client.delete("/api/alerts/mutes/billing_failure").status_code == 204
            assert [service.get("/bill").json() for _ in range(12)].count(True) == 1, "one of all workers tells"
            eventually(lambda: len(messages(hook)) == 3, "billing is told")

            _kill_leader(service)
            database.kill()
            eventually(lambda: len(messages(hook)) == 4, "another worker leads, and tells")
            database.start()
            eventually(lambda: len(messages(hook)) == 5, "and that it is over")
    told = [[(a["type"], a["status"]) for a in request.json()["data"]["alerts"]] for request in messages(hook)]
    assert told == [
        [("database_down", "firing")],
        [("database_down", "resolved")],
        [("billing_failure", "firing")],
        [("database_down", "firing")],
        [("database_down", "resolved")],
    ]


def _all_workers(service: Service, count: int) -> None:
    pids: set[int] = set()

    def seen() -> bool:
        pids.add(service.get("/pid").json())
        return len(pids) >= count

    eventually(seen, f"{count} workers answer")


def _kill_leader(service: Service) -> None:
    """End the worker that leads, as a crash would; uvicorn starts another one in its place."""

    def leader() -> int | None:
        answer = service.diagnostics()
        return answer["worker"]["pid"] if answer["worker"]["instance_id"] == answer["alerting"]["leader"] else None

    os.kill(eventually(leader, "the leader answers"), signal.SIGKILL)


CRASHES = """
import os, signal
from pathlib import Path
from otel_monitoring.alerts.evaluation import transitions
from otel_monitoring.alerts.notify import channel_queue
from otel_monitoring.alerts.notify.channels import webhook

def die():
    marker = Path(os.environ["CRASHED"])
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name):
    original = getattr(owner, name)
    def wrapped(*args, **kwargs):
        die()
        return original(*args, **kwargs)
    setattr(owner, name, wrapped)

def after(owner, name, awaited=False):
    original = getattr(owner, name)
    async def wrapped_async(*args, **kwargs):
        result = await original(*args, **kwargs)
        die()
        return result
    def wrapped(*args, **kwargs):
        result = original(*args, **kwargs)
        die()
        return result
    setattr(owner, name, wrapped_async if awaited else wrapped)

def after_attempt_by(channel):
    original = channel_queue.ChannelQueue.deliver_next
    async def wrapped(self, *args, **kwargs):
        delivered = await original(self, *args, **kwargs)
        if delivered and self.channel.name == channel:
            die()
        return delivered
    channel_queue.ChannelQueue.deliver_next = wrapped

{crash}
"""
HOT = """
from opentelemetry.metrics import Observation
from otel_monitoring.alerts import Gauge, Rule
monitoring.add_rule(Rule("hot", Gauge("heat"), ">", 10, "It is hot"))
monitoring.meter.create_observable_gauge("heat", [lambda _: [Observation(11)]])
"""
STEPS = {
    "decided, not yet saved": 'after(transitions.Transitions, "apply")',
    "saved, not yet tried": 'before(channel_queue.ChannelQueue, "_due")',
    "tried, not yet sent": 'before(webhook.WebhookChannel, "send")',
    "acknowledged, not yet noted": 'after(webhook.WebhookChannel, "send", awaited=True)',
    "noted, not yet committed": 'after(channel_queue.ChannelQueue, "_note_delivery")',
    "noted": 'after_attempt_by("webhook")',
}


@pytest.mark.parametrize("step", STEPS)
def test_whenever_the_process_is_killed_the_alert_is_sent(tmp_path: Path, loop: Loop, step: str) -> None:
    with loop.serve(http()) as hook:
        env: dict[str, Any] = {
            "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/alerts",
            "ALERT_WEBHOOK_ALLOW_PRIVATE": "true",
            "CRASHED": str(tmp_path / "crashed"),
        }
        source = CRASHES.format(crash=STEPS[step]) + SOURCE + HOT
        with serving(tmp_path, source, ready="", **env) as service:
            assert service.process.wait(60) == -signal.SIGKILL, service.output
        with serving(tmp_path, source, **env) as service:
            eventually(lambda: hook.requests, "it is sent after the restart")
            eventually(lambda: not _pending(service), "nothing waits any more")
            eventually(lambda: _evaluated_again(service), "it goes on")
            assert history(service).count(("custom", "firing", "notified")) == 1, "one alert, however often it died"
            assert became(service, "custom", "webhook")["state"] == "delivered"
    ids = [request.headers["webhook-id"] for request in hook.requests]
    assert len(set(ids)) == 1, "a repetition can be recognised"
    if step != "noted, not yet committed":  # by whichever channel came first
        assert len(ids) == (2 if step == "acknowledged, not yet noted" else 1)


def _pending(service: Service) -> int:
    return sum(channel["pending"] for channel in service.diagnostics()["alerting"]["channels"].values())


def _evaluated_again(service: Service) -> bool:
    rules = {rule["name"]: rule for rule in service.get("/api/alerts/rules").json()}
    return bool(rules["hot"]["values"]) and rules["hot"]["state"] == "firing"


def test_a_mail_server_that_is_down_gets_the_alert_when_it_is_back(tmp_path: Path, loop: Loop) -> None:
    port = free_port()
    env: dict[str, Any] = {
        "SMTP_SERVER": "localhost",
        "SMTP_PORT": str(port),
        "SMTP_SECURITY": "none",
        "ALERT_EMAIL_FROM": "orders@example.com",
        "ALERT_EMAIL_TO": "ops@example.com",
    }
    with serving(tmp_path, SOURCE, **env) as service:
        service.get("/bill")
        eventually(lambda: became(service, "billing_failure", "email").get("attempts"), "the first attempt")
        told = became(service, "billing_failure", "email")
        assert (told["state"], told["error"].partition(":")[0]) == ("retrying", "e-mail"), told
        assert told["next_attempt"] > told.get("at", "")
        with loop.serve(smtp(Mailbox(), port=port)) as box:
            eventually(lambda: box.mails, "the mail")
            eventually(lambda: not _pending(service), "it was noted")
            assert service.diagnostics()["alerting"]["channels"]["email"]["state"] == "ok"
            told = became(service, "billing_failure", "email")
            assert (told["state"], set(told)) == ("delivered", {"state", "at", "attempts"})
            assert told["attempts"] > 1
            assert len(box.mails) == 1


def test_every_worker_says_the_same_of_a_mail_server_that_is_down(tmp_path: Path) -> None:
    env: dict[str, Any] = {**PLAIN_MAIL, "SMTP_PORT": str(free_port())}
    with serving(tmp_path, SOURCE, runner=("uvicorn", "--workers", "3"), **env) as service:
        _all_workers(service, 3)
        service.get("/bill")
        for _ in range(2):
            eventually(lambda: _said_of_mail(service)[1]["failures"] > 1, "attempts fail")
            said = _said_by_all(service, 3)
            assert {mail["state"] for mail in said} <= {"retrying", "open"}
            assert {mail["pending"] for mail in said} == {1}
            _kill_leader(service)
            _all_workers(service, 3)


def _said_of_mail(service: Service) -> tuple[int, dict[str, Any]]:
    """Which worker answers, and what it says of e-mail."""
    answer = service.diagnostics()
    return answer["worker"]["pid"], answer["alerting"]["channels"]["email"]


def _said_by_all(service: Service, count: int) -> list[dict[str, Any]]:
    seen: dict[int, dict[str, Any]] = {}

    def asked() -> bool:
        seen.update([_said_of_mail(service)])
        return len(seen) == count

    eventually(asked, "every worker answers")
    return list(seen.values())


HOT_LATER = HOT.replace("Observation(11)", "Observation(11 if os.path.exists(os.environ['HEATED']) else 1)")


@pytest.mark.long
def test_of_services_of_one_name_who_has_a_channel_sends_by_it(tmp_path: Path, loop: Loop) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    heated = tmp_path / "heated"
    shared: dict[str, Any] = {"OTEL_MONITORING_STATE_DIR": str(tmp_path / "state"), "HEATED": str(heated)}
    with loop.serve(http()) as hook, loop.serve(smtp(Mailbox())) as box:
        with_hook: dict[str, Any] = {
            "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/",
            "ALERT_WEBHOOK_ALLOW_PRIVATE": "true",
        }
        with_mail: dict[str, Any] = {**PLAIN_MAIL, "SMTP_PORT": str(box.port)}
        with serving(folders[0], SOURCE + HOT_LATER, **shared) as first:
            eventually(lambda: _leads(first), "the first leads, and has no channel but the log")
            with (
                serving(folders[1], SOURCE, **shared, **with_hook) as second,
                serving(folders[2], SOURCE, **shared, **with_mail) as third,
            ):
                workers = [service.diagnostics()["worker"]["instance_id"] for service in (second, third)]
                expected = dict(zip(("webhook", "email"), workers, strict=True))
                eventually(lambda: _senders(first) == _senders(second) == _senders(third) == expected, "leases")
                third.get("/bill")
                eventually(lambda: hook.requests and box.mails, "both have what the application raised")
                heated.touch()
                eventually(lambda: len(messages(hook)) > 1 and len(box.mails) > 1, "and what the leader's rule saw")
                eventually(lambda: not _pending(first), "it was noted")
                for event in first.get("/api/alerts/history").json():
                    assert {told["state"] for told in event["channels"].values()} == {"delivered"}
                    assert event["channels"].keys() == {"log", *expected}
                first.stop()
                eventually(lambda: len(messages(hook)) > 2 and len(box.mails) > 2, "the rule is gone: that is told")
    assert subjects(box) == [
        "[orders] CRITICAL BILLING_FAILURE firing",
        "[orders] WARNING hot firing",
        "[orders] WARNING hot resolved",
    ]
    told = [[(a["message"], a["status"]) for a in request.json()["data"]["alerts"]] for request in messages(hook)]
    assert told == [
        [("Billing is down", "firing")],
        [("It is hot", "firing")],
        [("It is hot (its rule was removed)", "resolved")],
    ]


def _leads(service: Service) -> bool:
    answer = service.diagnostics()
    return bool(answer["worker"]["instance_id"] == answer["alerting"]["leader"])


def _senders(service: Service) -> dict[str, str]:
    channels = service.diagnostics()["alerting"]["channels"]
    return {name: channel["worker"] for name, channel in channels.items() if "worker" in channel}


def test_what_cannot_be_delivered_before_the_stop_is_delivered_after_the_next_start(tmp_path: Path, loop: Loop) -> None:
    port = free_port()
    env: dict[str, Any] = {"ALERT_WEBHOOK_URL": f"http://127.0.0.1:{port}/", "ALERT_WEBHOOK_ALLOW_PRIVATE": "true"}
    with serving(tmp_path, SOURCE, **env) as service:
        service.get("/bill")
        service.stop()
    with loop.serve(http(port=port)) as hook, serving(tmp_path, SOURCE, **env):
        eventually(lambda: hook.requests, "the alert of the former process")
    assert [alert["type"] for alert in hook.requests[0].json()["data"]["alerts"]] == ["billing_failure"]


def test_a_blocked_event_loop_is_told_with_the_stack_that_blocks_while_it_blocks(tmp_path: Path, loop: Loop) -> None:
    with loop.serve(http()) as hook:
        env: dict[str, Any] = {
            "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/",
            "ALERT_WEBHOOK_ALLOW_PRIVATE": "true",
            "OTEL_MONITORING_THRESHOLD_EVENT_LOOP_LAG_MS": "1000",
        }
        with serving(tmp_path, SOURCE, **env) as service:
            done = tmp_path / "done"
            blocking = threading.Thread(target=service.get, args=("/block",), kwargs={"params": {"done": str(done)}})
            blocking.start()
            eventually(lambda: hook.requests, "the alert, while the loop is blocked")
            done.touch()
            blocking.join(PATIENCE)
    (alert,) = hook.requests[0].json()["data"]["alerts"]
    assert alert["type"] == "event_loop_blocked"
    assert alert["details"]["stack"][-1].endswith("in compute_invoice")


@pytest.mark.parametrize("where", ["otel_monitoring-", "this process keeps it in memory"])
def test_a_state_directory_that_cannot_be_used_loses_no_alert_and_is_told(
    tmp_path: Path, loop: Loop, where: str
) -> None:
    """A private directory among the temporary files takes its place, and memory where there is none either."""
    (tmp_path / "state").write_text("a file, not a directory")
    temporary = tmp_path / "temporary"
    temporary.mkdir(mode=0o700)
    if "memory" in where:
        (temporary / f"otel_monitoring-{os.geteuid()}").write_text("a file, not a directory")
    with loop.serve(http()) as hook:
        env: dict[str, Any] = {
            "ALERT_WEBHOOK_URL": f"http://127.0.0.1:{hook.port}/",
            "ALERT_WEBHOOK_ALLOW_PRIVATE": "true",
            "TMPDIR": str(temporary),
        }
        with serving(tmp_path, SOURCE, **env) as service:
            assert service.get("/bill").json() is True
            eventually(lambda: hook.requests, "the alert")
            warnings = [line for line in service.output.splitlines() if "alert store" in line]
    assert len(warnings) == 1
    assert where in warnings[0]


def test_an_alert_is_one_log_event_in_the_trace_of_its_request_and_counts(tmp_path: Path) -> None:
    with HttpSink() as sink:
        env: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "300"}
        with serving(tmp_path, SOURCE, **env) as service:
            service.get("/bill")
            eventually(lambda: _sum(sink, "otel_monitoring.notifications.sent"), "the log channel's delivery counts")
            assert _sum(sink, "otel_monitoring.alerts") == 1
            service.stop()
        (event,) = [record for record in sink.records() if "Billing is down" in record.body.string_value]
        assert (event.event_name, event.severity_text) == ("otel_monitoring.alert", "FATAL")
        (request,) = [span for span in sink.spans() if span.name == "GET /bill"]
        assert event.trace_id == request.trace_id
    assert service.output.count("BILLING_FAILURE: Billing is down") == 1


def _sum(sink: Sink, name: str) -> int:
    found = [metric for metric in sink.metrics() if metric.name == name]
    return sum(int(point.as_int) for point in found[-1].sum.data_points) if found else 0


PLAIN_MAIL = {
    "SMTP_SERVER": "localhost",
    "SMTP_SECURITY": "none",
    "ALERT_EMAIL_FROM": "orders@example.com",
    "ALERT_EMAIL_TO": "ops@example.com",
}


@contextmanager
def receivers(loop: Loop) -> Iterator[tuple[Mailbox, HttpReceiver, dict[str, Any]]]:
    """A mailbox, a Slack channel, and the settings that name them."""
    with loop.serve(smtp(Mailbox())) as box, loop.serve(http()) as slack:
        url = f"http://127.0.0.1:{slack.port}/services/T/B/x"
        yield box, slack, {**PLAIN_MAIL, "SMTP_PORT": str(box.port), "SLACK_WEBHOOK_URL": url}


def body(mailbox: Mailbox, number: int) -> str:
    part = mailbox.mails[number].get_body(("plain",))
    assert part is not None
    text: str = part.get_content()
    return text.replace("\r\n", "\n")


FLAPPING = """
from otel_monitoring.alerts.evaluation import lifecycle
# No outage ends before the next one begins, however slow the machine is; nor does the test wait five minutes for calm.
[patient] = [rule for rule in monitoring.alert_manager.rules if rule.name == "database_down"]
object.__setattr__(patient, "keep_firing_for", 200.0)

@app.get("/calm")
async def calm():
    object.__setattr__(patient, "keep_firing_for", 1.0)
    lifecycle.CALM_SECONDS = 1.0
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", [nx27017, ferretdb])
def test_a_database_that_flaps_is_told_once_as_flapping_and_once_when_it_is_over(
    tmp_path: Path, loop: Loop, kind: Callable[[], AbstractContextManager[Server]]
) -> None:
    with (
        receivers(loop) as (box, slack, env),
        kind() as database,
        serving(tmp_path, SOURCE + FLAPPING, MONGODB_URI=database.uri, **env) as service,
    ):
        assert service.get("/order").status_code == 200
        for _ in range(5):
            database.kill()
            eventually(lambda: _value(service) == 0, "it is seen to be down")
            database.start()
            eventually(lambda: _value(service) == 1, "it is seen to be back")
        eventually(lambda: len(box.mails) > 1 and len(slack.requests) > 1, "that it flaps is told")
        service.get("/calm")
        eventually(lambda: len(box.mails) > 2 and len(slack.requests) > 2, "the end is told")
        service.stop()
    states = ("firing", "firing, flapping", "resolved")
    assert subjects(box) == [f"[orders] CRITICAL DATABASE_DOWN {state}" for state in states]
    said = [request.json()["text"].partition(" DATABASE_DOWN ")[2] for request in slack.requests]
    assert said == [
        "firing: Database connection lost",
        "firing: Database connection lost (flapping: 3 times so far)",
        "resolved: Database connection lost (was flapping: 5 times)",
    ]
    assert [mail["In-Reply-To"] for mail in box.mails] == [None, *[box.mails[0]["Message-ID"]] * 2]


def _value(service: Service) -> float | None:
    """What the database's rule saw last, while it fires."""
    alerts = service.get("/api/alerts/firing").raise_for_status().json()
    return next((alert["value"] for alert in alerts if alert["type"] == "database_down"), None)


MANY = """
from opentelemetry.metrics import Observation
long = range(0)

def lengths(_):
    return [Observation(11 if name in long else 1, {"queue.name": str(name)}) for name in range(120)]

monitoring.add_rule(
    Rule("queue_long", Gauge("queue", group_by="queue.name"), ">", 10, "Queue {queue}: {value:.0f}", label="queue")
)
monitoring.meter.create_observable_gauge("queue", [lengths])

@app.get("/queues")
async def queues(first: int, last: int):
    global long
    long = range(first, last)
"""


def test_what_fires_and_ends_together_is_one_message_that_says_how_much_more_there_is(
    tmp_path: Path, loop: Loop
) -> None:
    with receivers(loop) as (box, slack, env), serving(tmp_path, SOURCE + MANY, **env) as service:
        service.get("/queues", params={"first": 0, "last": 119})
        eventually(lambda: box.mails and slack.requests, "they are told")
        service.get("/queues", params={"first": 118, "last": 120})
        eventually(lambda: len(box.mails) > 1 and len(slack.requests) > 1, "what is over, and what is new")
        service.stop()
    assert subjects(box) == [
        "[orders] WARNING 119 firing: queue_long",
        "[orders] WARNING 1 firing, 118 resolved: queue_long",
    ]
    assert [request.json()["text"] for request in slack.requests] == subjects(box)
    assert body(box, 0).count("\n  queue: ") == 1
    assert "queue_long firing: 119 alerts\n" in body(box, 0)
    assert "… and 111 more" in body(box, 0)
    assert "… and 111 more" in json.dumps(slack.requests[0].json(), ensure_ascii=False)
    assert "WARNING queue_long firing: Queue 119: 11" in body(box, 1), "what fires is not among what is left out"


@pytest.mark.long
def test_an_alert_whose_rule_a_deploy_removes_is_over_once_for_mail_and_slack(tmp_path: Path, loop: Loop) -> None:
    with receivers(loop) as (box, slack, env):
        with serving(tmp_path, SOURCE + HOT, **env) as service:
            eventually(lambda: box.mails and slack.requests, "it is told")
            eventually(lambda: not _pending(service), "it was noted")
            os.killpg(service.process.pid, signal.SIGKILL)
        with serving(tmp_path, SOURCE, **env) as service:
            eventually(lambda: len(box.mails) > 1 and len(slack.requests) > 1, "its end is told")
            eventually(lambda: not _pending(service), "it was noted")
            assert history(service) == [("custom", "firing", "notified"), ("custom", "resolved", "notified")]
            service.stop()
        with serving(tmp_path, SOURCE, **env) as service:
            eventually(lambda: service.diagnostics()["alerting"]["leader"], "somebody leads")
            assert firing(service) == []
            service.stop()
    assert subjects(box) == ["[orders] WARNING hot firing", "[orders] WARNING hot resolved"]
    assert "It is hot (its rule was removed)" in body(box, 1)
    assert "It is hot (its rule was removed)" in slack.requests[1].json()["text"]
    assert len(slack.requests) == 2


LATER = """
get_alert_manager().clock = lambda: time.time() + float(os.environ["AHEAD"])
"""


@pytest.mark.long
def test_after_an_outage_and_a_long_stop_a_start_in_health_tells_its_end_alone(
    tmp_path: Path, database: Server, loop: Loop
) -> None:
    with receivers(loop) as (box, slack, env):
        env = {**env, "MONGODB_URI": database.uri}
        with serving(tmp_path, SOURCE + LATER, AHEAD="0", **env) as service:
            assert service.get("/order").status_code == 200
            database.kill()
            _fail_many(service)
            eventually(lambda: "high_error_rate" in firing(service), "the errors are seen")
            eventually(lambda: box.mails and slack.requests, "the outage is told")
            service.stop()
        database.start()
        with serving(tmp_path, SOURCE + LATER, AHEAD="900", OTEL_MONITORING_WINDOW="3", **env) as service:
            eventually(lambda: len(box.mails) > 1 and len(slack.requests) > 1, "its end is told")
            eventually(lambda: firing(service) == [], "nothing fires")
            service.stop()
    told = [f"[orders] CRITICAL DATABASE_DOWN {state}" for state in ("firing", "resolved")]
    assert (subjects(box), len(slack.requests)) == (told, 2)
