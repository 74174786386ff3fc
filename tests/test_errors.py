"""A configuration error that nobody catches ends the process in one line; one that is caught is as any other."""

import subprocess
import sys
from pathlib import Path

import pytest

from otel_monitoring import ConfigurationError, MonitoringError, MonitoringService

pytestmark = pytest.mark.slow

LINE = "OTEL_MONITORING_CHECK_INTERVAL: it must be a number, in seconds; did you mean 300?"


def ended(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_nobody_catches_it() -> None:
    end = ended('from otel_monitoring import *\nMonitoringService(None, "5m")')
    assert (end.returncode, end.stdout, end.stderr) == (3, "", f"otel_monitoring: {LINE}\n")


def test_the_line_says_where_the_application_called(tmp_path: object) -> None:
    end = ended(
        "source = 'from otel_monitoring import *\\n\\nMonitoringService(None, \"5m\")'\n"
        "exec(compile(source, '/srv/shop/main.py', 'exec'))"
    )
    assert end.stderr == f"otel_monitoring: {LINE} (/srv/shop/main.py:3)\n"


@pytest.mark.parametrize("closed", ["sys.stderr.close()", "sys.stderr = None"])
def test_there_is_no_stderr(closed: str) -> None:
    end = ended(f'import sys\nfrom otel_monitoring import *\n{closed}\nMonitoringService(None, "5m")')
    assert (end.returncode, end.stderr) == (3, "")


LATER = """
import asyncio, sys
from otel_monitoring import *

async def job():
    MonitoringService(None, "5m")

async def serve():
    for work in (job(), asyncio.to_thread(MonitoringService, None, "5m")):
        (failed,) = await asyncio.gather(asyncio.create_task(work), return_exceptions=True)
        print(type(failed).__name__, isinstance(failed, SystemExit))
    asyncio.get_running_loop().call_soon(MonitoringService, None, "5m")
    await asyncio.sleep(0)
    print("goes on")
{import_inside}

{run}
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_once_a_loop_runs_it_ends_no_loop(loop: str) -> None:
    end = ended(LATER.format(import_inside="", run=f"import {loop}; {loop}.run(serve())"))
    assert (end.returncode, end.stdout.splitlines()) == (0, ["ConfigurationError False"] * 2 + ["goes on"])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_module_that_is_imported_inside_of_a_loop_ends_the_process(loop: str, tmp_path: Path) -> None:
    """As uvicorn imports an application."""
    (tmp_path / "shop.py").write_text('from otel_monitoring import *\nMonitoringService(None, "5m")\n')
    inside = f"    sys.path.insert(0, {str(tmp_path)!r}); import shop"
    end = ended(LATER.format(import_inside=inside, run=f"import {loop}; {loop}.run(serve())"))
    assert end.returncode == 3
    assert end.stderr.splitlines()[-1] == f"otel_monitoring: {LINE} ({tmp_path}/shop.py:2)"


def test_it_is_caught_as_it_was_before(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (ConfigurationError, MonitoringError, ValueError, Exception):
        with pytest.raises(kind) as caught:
            MonitoringService(None, "5m")  # type: ignore[arg-type]
        assert str(caught.value) == LINE
    assert capsys.readouterr() == ("", "")


def test_whoever_ends_the_process_says_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigurationError("OTEL_MONITORING_PREFIX: it\nmust be a path")
    assert isinstance(error, SystemExit)
    assert (error.code, error.code) == (3, 3)
    assert capsys.readouterr().err.count("OTEL_MONITORING_PREFIX: it must be a path") == 1
