"""A section of settings: immutable, compared by value, masked; every mistake is one line that names the setting."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from otel_monitoring.config.channels import ChannelSettings
from otel_monitoring.config.otlp import OtlpSettings
from otel_monitoring.config.settings import Settings, Thresholds
from otel_monitoring.errors import ConfigurationError


def test_settings_never_change() -> None:
    settings = Settings(check_interval=7.0)
    with pytest.raises(AttributeError, match="check_interval: settings never change"):
        settings.check_interval = 8.0  # type: ignore[misc] # what is tried
    with pytest.raises(AttributeError, match="settings never change"):
        del settings.check_interval
    assert settings.check_interval == 7.0


def test_they_are_equal_by_their_values() -> None:
    assert Settings(window=600.0) == Settings(window=600.0)
    assert Settings(window=600.0) != Settings()
    assert OtlpSettings() != ChannelSettings()
    assert Thresholds() == Thresholds(cpu_percent=80.0)


def test_copies_are_equal() -> None:
    settings = Settings(admin_token=SecretStr("let-me-in-please"), thresholds=Thresholds(cpu_percent=7.0))
    assert copy.deepcopy(settings) == copy.copy(settings) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


def test_type_checkers_know_the_keywords() -> None:
    """mypy reports an ignored error that is none."""
    with pytest.raises(ConfigurationError, match=r"^chek_interval: no such setting; did you mean check_interval\?$"):
        Settings(chek_interval=7.0)  # type: ignore[call-arg] # what is tried
    with pytest.raises(ConfigurationError, match=r"^OTEL_MONITORING_CHECK_INTERVAL: it must be a number$"):
        Settings(check_interval=[])  # type: ignore[arg-type] # what is tried


def test_every_mistake_is_in_one_line() -> None:
    wrong = {"access": "public", "smtp_port": 0, "otlp_headers": "canary", "thresholds": {"cpu_percent": "80%"}}
    with pytest.raises(ConfigurationError) as caught:
        Settings(**wrong)  # type: ignore[arg-type] # what is tried
    assert set(str(caught.value).split("; ")) == {
        "SMTP_PORT: it must be greater than or equal to 1",
        "OTEL_EXPORTER_OTLP_HEADERS: it must be name=value pairs separated by commas",
        "OTEL_MONITORING_ACCESS: it must be 'admin' or 'open'",
        "OTEL_MONITORING_THRESHOLDS: OTEL_MONITORING_THRESHOLD_CPU_PERCENT: it must be a number",
        "did you mean 80?",
    }


def test_what_is_no_value_leaves_the_default() -> None:
    given = {"check_interval": None, "environment": "  ", "alert_email_password": " "}
    settings = Settings(**given)  # type: ignore[arg-type] # None is for `load` alone
    assert (settings.check_interval, settings.environment) == (30.0, None)
    assert settings.alert_email_password == SecretStr(" "), "a password is taken as it is"


def test_what_was_given_is_known() -> None:
    assert Thresholds(cpu_percent=80.0).given() == {"cpu_percent": 80.0}
    assert Thresholds().given() == {}


def test_nothing_that_looks_like_a_secret_is_shown() -> None:
    settings = Settings(
        otlp_endpoint="http://ana:canary@collector:4318",
        otlp_headers=SecretStr("authorization=canary"),
        public_url="https://ana:canary@orders.example.com",
        excluded_urls=("https://ana:canary@orders.example.com",),
        alertmanager_url=(SecretStr("http://canary"),),
    )
    assert "collector:4318" in repr(settings)
    assert "canary" not in repr(settings)


_COUNT = """
import gc
import difflib, email.utils, importlib.util, json
import otel_monitoring.baggage, otel_monitoring.errors, otel_monitoring.redact
from pydantic import SecretStr
gc.collect()
gc.disable()
before = len(gc.get_objects())
from otel_monitoring.config import Settings
Settings.load(check_interval=7)
gc.collect()
print(len(gc.get_objects()) - before)
"""


@pytest.mark.slow
def test_they_leave_few_objects(tmp_path: Path) -> None:
    """Each object that stays is looked at by every full garbage collection; pydantic's models left 4,000."""
    done = subprocess.run([sys.executable, "-c", _COUNT], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert 0 < json.loads(done.stdout) < 1000
