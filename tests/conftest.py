"""Fixtures every test may use."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest
from pymongo import monitoring as pymongo_monitoring

from otel_monitoring.alerts import set_alert_manager
from otel_monitoring.environment import opt_in_to_stable_conventions, warned
from otel_monitoring.guard import fail_open
from otel_monitoring.metrics import aggregator
from otel_monitoring.runtime import process_exit, start_log
from otel_monitoring.runtime.current_service import set_monitoring
from otel_monitoring.seams import all_seams
from tests.shares import dealt

_SEAMS = all_seams()
_THEIRS = ("OTEL_", "MONGODB_", "SMTP_", "ALERT_", "SLACK_", "ALERTMANAGER_", "APPRISE_")

# No variable of who runs the tests, a demo beside them say, decides anything in them.
for name in [name for name in os.environ if name.startswith(_THEIRS) and not name.startswith("OTEL_MONITORING_TEST_")]:
    del os.environ[name]

# Contrib's instrumentations read this once in a process: before any test makes one.
opt_in_to_stable_conventions()

# An answer may be up to a second old; in the process of a test it always has what the test did last.
_REUSE_FACTOR = aggregator.REUSE_FACTOR
aggregator.REUSE_FACTOR = 0

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("suite"), max_examples=40)
hypothesis.settings.load_profile("suite")

# No test leaves anything in the user's state directory; those of the stores name one of their own.
os.environ["OTEL_MONITORING_STORE"] = "memory"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        items[:] = dealt(items, workers)


def pytest_collection_finish() -> None:
    _keep()


@pytest.fixture(autouse=True, scope="module")
def _each_file_leaves_no_garbage() -> Iterator[None]:
    yield
    _keep()


def _keep() -> None:
    """Collect garbage, and look through what stays no more: caches and what is imported.

    Many tests collect garbage, and all that other files of tests left would be most of what they cost.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def unavailable(reason: str) -> NoReturn:
    """Skip because a real part is missing on this machine; where CI runs, that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _own_process() -> Iterator[None]:
    """What is kept per process is each test's own; one fixture for all of it, since every test pays for each.

    No failure is counted and no variable warned of, a start shows no announcements, the test's first service is the
    process's, and PyMongo's global listeners are those of before. A service that no lifespan has stopped runs on
    without its loop: it ends here.
    """
    warned.clear()
    fail_open.failures.clear()
    for seam in _SEAMS:
        seam.error = None
    fail_open._logged_at.clear()
    start_log._on_stderr = False
    listeners = [list(kind) for kind in pymongo_monitoring._LISTENERS]
    yield
    for worker in tuple(process_exit._process.idle):
        worker.stop()
    set_monitoring(None)
    set_alert_manager(None)
    for kind, before in zip(pymongo_monitoring._LISTENERS, listeners, strict=True):
        kind[:] = before


@pytest.fixture
def answers_are_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a time, as in every other process."""
    monkeypatch.setattr(aggregator, "REUSE_FACTOR", _REUSE_FACTOR)


@pytest.fixture
def direct_connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, password file or certificate of this machine that the library `requests` would heed."""
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (*proxies, *map(str.upper, proxies), "NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
