"""One service on two hosts, whose clocks differ by minutes and whose state is in its MongoDB database.

With OTEL_MONITORING_TEST_HOSTS_SECONDS=600 the story goes on for ten minutes, and each outage lasts a minute.
"""

import os
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.integration.answers import answers_are_the_services, python_and_command_line_say_the_same
from tests.integration.hosts import DATABASES, WORKERS, Hosts, two_hosts
from tests.integration.receivers import Loop

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

SKEW = 10.0
"""Far less than what the clocks of the hosts differ by."""
ASKED_ONCE = {"nx-27017": (), "FerretDB": ("the leader is killed", "the database hangs", "a host is killed")}
"""What is asked of the other database alone, unless there is time."""
SECONDS = float(os.environ.get("OTEL_MONITORING_TEST_HOSTS_SECONDS", "0"))


@pytest.mark.long
@pytest.mark.parametrize("database", DATABASES)
def test_whatever_fails_totals_equal_what_was_sent_and_each_incident_is_told_once(
    database: str, loop: Loop, tmp_path: Path
) -> None:
    began = time.time()
    with two_hosts(tmp_path, database, loop, quick=not SECONDS) as hosts:
        hosts.load.grows(60)
        hosts.counts()
        one, two = hosts.hosts
        with hosts.load.paused():
            for host in hosts.hosts:
                answers_are_the_services(
                    host.get, processes=2 * WORKERS, hosts={one.name, two.name}, sent=hosts.load.answered
                )
            python_and_command_line_say_the_same(two.get, two.service.url, hosts.load.total)
            _clocks_agree(hosts, began)
        hosts.story(SECONDS, without=() if SECONDS else ASKED_ONCE[database])


def _clocks_agree(hosts: Hosts, began: float) -> None:
    """The times in all answers are those of the database's clock, which is this process's."""
    for host in hosts.hosts * 4:
        answer = host.get("/api/health/diagnostics")
        starts = [one["started_at"] for one in answer["instances"]]
        times = [answer["timestamp"], answer["since"], answer["performance"]["last_error_time"]]
        for text in (*times, answer["database"]["timestamp"], *starts):
            assert began - SKEW < datetime.fromisoformat(text).timestamp() < time.time() + SKEW, (host.name, answer)
