"""Whose CPU and memory it is: a busy neighbour on the host is no pressure of this service."""

import pytest

from otel_monitoring.config.settings import Thresholds
from otel_monitoring.health.status import ServiceFacts, status
from otel_monitoring.instrumentation.system.cpu import CpuUse
from otel_monitoring.instrumentation.system.sample import SystemSample


def sample(cpu: CpuUse, *, rss: float | None = 100.0, used: float = 950.0, container: bool = False) -> SystemSample:
    return SystemSample(0.0, cpu, rss, used, 1000.0, 1, 3, 0.0, 0.0, None, container)


@pytest.mark.parametrize(
    ("cores", "container", "pressure", "scope"),
    [
        (0.02, False, 0.0, "host"),
        (0.25, False, 95.0, "host"),
        (3.8, False, 95.0, "host"),
        (0.02, True, 95.0, "container"),
        (None, False, 95.0, "host"),
    ],
)
def test_whose_cpu(cores: float | None, container: bool, pressure: float, scope: str) -> None:
    taken = sample(CpuUse(percent=95.0, process_cores=cores, limit=4, seconds=10.0, container=container))
    assert (taken.cpu_pressure, taken.cpu_scope, taken.cpu_percent) == (pressure, scope, 95.0)
    assert sample(CpuUse(process_cores=cores, container=container)).cpu_pressure is None


@pytest.mark.parametrize(
    ("rss", "container", "pressure", "scope"),
    [
        (49.0, False, 0.0, "host"),
        (50.0, False, 95.0, "host"),
        (1.0, True, 95.0, "container"),
        (None, False, 95.0, "host"),
    ],
)
def test_whose_memory(rss: float | None, container: bool, pressure: float, scope: str) -> None:
    taken = sample(CpuUse(), rss=rss, container=container)
    assert (taken.memory_pressure, taken.memory_scope, taken.memory_percent) == (pressure, scope, 95.0)


def test_a_busy_neighbour_alone_does_not_degrade() -> None:
    def said(cores: float) -> tuple[str, list[str]]:
        taken = [sample(CpuUse(percent=95.0, process_cores=cores, limit=4, seconds=10.0), rss=10.0)] * 3
        facts = ServiceFacts(
            cpu_percent=[one.cpu_pressure or 0.0 for one in taken],
            memory_percent=[one.memory_pressure or 0.0 for one in taken],
            cpu_scope=taken[-1].cpu_scope,
            memory_scope=taken[-1].memory_scope,
        )
        return status(facts, Thresholds())

    assert said(0.01) == ("healthy", [])
    assert said(1.0) == ("degraded", ["CPU of the host above 80%"])
