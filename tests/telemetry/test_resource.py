"""Detectors that the user names: real entry points of an installed distribution, in processes of their own."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

DETECTORS = """
import os, threading
from opentelemetry.sdk.resources import Resource, ResourceDetector

asked = []

class Cloud(ResourceDetector):
    def detect(self):
        asked.append("cloud")
        return Resource({
            "cloud.provider": "nimbus", "host.id": "i-1", "service.name": "theirs", "service.version": "theirs",
            "service.instance.id": "vm", "asked.in": os.getpid(),
        })

class Later(Cloud):
    def detect(self):
        return Resource({"cloud.provider": "later"})

class OfProcess(Cloud):
    def is_process_dependent(self):
        return True

    def detect(self):
        return Resource({"of.process": os.getpid()})

class Hangs(ResourceDetector):
    def detect(self):
        threading.Event().wait()

class Exits(ResourceDetector):
    def detect(self):
        raise SystemExit("password=sesame-street-1234")
"""
ENTRY_POINTS = """
[opentelemetry_resource_detector]
cloud = nimbus_detectors:Cloud
later = nimbus_detectors:Later
of_process = nimbus_detectors:OfProcess
hangs = nimbus_detectors:Hangs
exits = nimbus_detectors:Exits
broken = nimbus_detectors:Missing
"""
pytestmark = pytest.mark.slow


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    (tmp_path / "nimbus_detectors.py").write_text(DETECTORS)
    metadata = tmp_path / "nimbus_detectors-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nimbus-detectors\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    return tmp_path


def resource_of(installed: Path, detectors: str, body: str = "", **variables: str) -> dict[str, Any]:
    """The resource of a service in a process of its own; `body` may fill `result`."""
    script = f"""
import json, os, sys, time
from otel_monitoring.config import Settings
from otel_monitoring.telemetry import resource
from otel_monitoring.telemetry.providers import Telemetry

def make():
    return Telemetry(Settings.load(), service_name="orders", service_version="1")

result = {{}}
def start(question, start=resource._Question.start):
    start(question)
    if question._name != "hangs":
        question._thread.join()

resource._Question.start = start  # so that patience runs out for the one that hangs alone
resource._PATIENCE_SECONDS = 0.2
{textwrap.dedent(body)}
result.setdefault("resource", dict(make().resource.attributes))
print(json.dumps(result))
"""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    path = os.pathsep.join((str(installed), inherited.get("PYTHONPATH", "")))
    environment = {"PYTHONPATH": path, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": detectors, **variables}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**inherited, **environment}, check=True
    )
    return {**json.loads(done.stdout), "stderr": done.stderr}


def test_what_a_detector_finds_wins_over_what_we_see_and_loses_to_what_the_user_says(installed: Path) -> None:
    found = resource_of(installed, "cloud", OTEL_RESOURCE_ATTRIBUTES="cloud.provider=mine,host.arch=mine")
    attributes = found["resource"]
    assert attributes["host.id"] == "i-1"
    assert (attributes["cloud.provider"], attributes["host.arch"]) == ("mine", "mine")
    assert (attributes["service.name"], attributes["service.version"]) == ("orders", "1")
    assert len(attributes["service.instance.id"]) == 36, "a detector's would be the same for every worker"
    assert found["stderr"] == ""


def test_later_detectors_win_and_the_sdks_own_names_are_known(installed: Path) -> None:
    found = resource_of(installed, "otel, cloud,service_instance,later,process")
    assert found["resource"]["cloud.provider"] == "later"
    assert found["resource"]["asked.in"]
    assert found["resource"]["process.command"]
    assert found["stderr"] == ""


def test_a_detector_that_hangs_does_not_hold_the_start(installed: Path) -> None:
    found = resource_of(installed, "hangs,cloud")
    assert found["resource"]["cloud.provider"] == "nimbus"
    assert "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS: hangs: no answer within 0.2 s; it is ignored" in found["stderr"]


def test_the_import_of_the_sdks_log_records_asks_no_detector(installed: Path) -> None:
    """It would wait for one that hangs without an end."""
    body = """
        Telemetry(Settings.load(otlp_endpoint="http://127.0.0.1:9"), service_name="orders", service_version="1")
        import nimbus_detectors
        result["asked"] = nimbus_detectors.asked
    """
    found = resource_of(installed, "not_installed,cloud", body)
    assert found["asked"] == ["cloud"]
    assert "Failed to load" not in found["stderr"]


@pytest.mark.parametrize("name", ["exits", "broken", "not_installed"])
def test_a_detector_that_fails_is_left_out_with_one_warning(name: str, installed: Path) -> None:
    found = resource_of(installed, f"{name},cloud", "make()")
    assert found["resource"]["cloud.provider"] == "nimbus"
    assert found["stderr"].count(f"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS: {name}: ") == 1
    assert "sesame" not in found["stderr"]


def test_all_that_are_installed(installed: Path) -> None:
    found = resource_of(installed, "later,*")
    assert found["resource"]["cloud.provider"] == "nimbus"
    assert found["resource"]["of.process"]
    for name in ("hangs", "exits", "broken"):
        assert f": {name}: " in found["stderr"]


def test_a_forked_worker_asks_only_for_what_is_its_own(installed: Path) -> None:
    found = resource_of(
        installed,
        "cloud,of_process",
        """
        make()
        read, write = os.pipe()
        if os.fork() == 0:
            attributes = make().resource.attributes
            os.write(write, json.dumps({**attributes, "child": os.getpid()}).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            result["resource"] = {**json.load(pipe), "parent": os.getpid()}
        """,
    )["resource"]
    assert found["asked.in"] == found["parent"], "clouds are asked once"
    assert found["of.process"] == found["process.pid"] == found["child"]
