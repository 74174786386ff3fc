"""Silences in Debian's Alertmanager, whatever the service is called."""

import time
from pathlib import Path

import pytest

from otel_monitoring.alerts.mute import Mute
from otel_monitoring.alerts.selection import Selection
from otel_monitoring.config.settings import Settings
from otel_monitoring.prometheus.client import Server
from otel_monitoring.prometheus.silences import Silences, Wanted
from tests.integration.test_channels_alertmanager import alertmanager

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

NAMES = ["Überfahrt", "日本 🎉", 'a"b', "a\\b", "a\\nb", "a\nb", "a\tb", "a{b},c=~d", " orders", "'"]


async def test_a_service_finds_its_silences_by_any_name(tmp_path: Path) -> None:
    now = float(int(time.time()))
    with alertmanager(tmp_path / "alertmanager") as url:
        server = Server.of_prometheus(Settings.load(prometheus_url=url, prometheus_timeout=30))
        for name in NAMES:
            mute = Mute(Selection.of("api_timeout", labels={"endpoint": name}), now + 600, name.strip(), "")
            silences = Silences(name, f"of {name}")
            await silences.write([server], Wanted(mute, now), ())
            (found,) = await silences.read([server])
            assert (found.mute.selection, found.mute.until) == (mute.selection, mute.until)
            await silences.end([server], [found])
            assert await silences.read([server]) == []
