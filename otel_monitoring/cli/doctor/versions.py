"""Check: the installed versions against those with known problems."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from packaging.specifiers import SpecifierSet

from otel_monitoring.cli.doctor.findings import Examination, Finding, Level


@dataclass(frozen=True, slots=True)
class KnownProblem:
    """A problem of some versions of a distribution.

    Attributes:
        distribution: The distribution's name.
        versions: The versions, as a version specifier.
        level: How serious the problem is.
        problem: What happens with these versions.
        advice: What to do.
    """

    distribution: str
    versions: str
    level: Level
    problem: str
    advice: str


KNOWN_PROBLEMS: Final = (
    KnownProblem(
        "fastapi",
        "<0.142",
        Level.WARNING,
        "it does not measure requests itself: opentelemetry-instrumentation-fastapi does, at a higher cost",
        "update FastAPI to 0.142 or newer",
    ),
    KnownProblem(
        "opentelemetry-instrumentation-fastapi",
        "<0.64b1",
        Level.FAILED,
        "with FastAPI 0.137 and newer it does not find the routes of included routers (contrib #4699)",
        "update it to 0.66b1 or newer",
    ),
    KnownProblem(
        "opentelemetry-instrumentation",
        "==0.66b2",
        Level.FAILED,
        "its train is not complete: the instrumentations beside it are of 0.66b1",
        "install 0.66b1",
    ),
    KnownProblem(
        "pymongo",
        "<4.9",
        Level.FAILED,
        "it is older than what this package works with",
        "update PyMongo to 4.9 or newer",
    ),
    KnownProblem(
        "pymongo",
        ">=4.9,<4.13",
        Level.WARNING,
        "its AsyncMongoClient blocks the event loop while a server does not answer",
        "update PyMongo to 4.13 or newer if you use AsyncMongoClient",
    ),
)
"""Each was found by reading the library or by testing this package with it."""


def versions(_: Examination) -> Iterator[Finding]:
    """Each installed version with a known problem; without any, the versions of the main libraries."""
    bad = [(known, found) for known in KNOWN_PROBLEMS if (found := _installed(known)) is not None]
    for known, found in bad:
        yield Finding("versions", known.level, f"{known.distribution} {found}: {known.problem}", known.advice)
    if not bad:
        names = ("otel-monitoring", "fastapi", "pymongo", "opentelemetry-sdk")
        shown = [f"{name} {found}" for name in names if (found := _version(name)) is not None]
        yield Finding("versions", Level.OK, ", ".join([*shown, f"Python {sys.version.split()[0]}"]))


def _installed(known: KnownProblem) -> str | None:
    """The installed version where it has the problem."""
    found = _version(known.distribution)
    return found if found is not None and SpecifierSet(known.versions).contains(found, prereleases=True) else None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
