"""Building Go programs into the cache, with a `go` that only pretends: what is run, and what is said when it fails."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration import builds
from tests.integration.builds import COLLECTOR, NODE, PROGRAMS, BuildError, Module, Packages, Program

GO = """#!/bin/sh
echo "$@" >> "{log}"
[ -n "$BROKEN" ] && echo "module is not available" >&2 && exit 1
mkdir -p bin && echo "#!/bin/sh" > bin/tool && chmod +x bin/tool
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the pretended `go` notes its arguments."""
    log = tmp_path / "calls"
    go = tmp_path / "path" / "go"
    go.parent.mkdir()
    go.write_text(GO.format(log=log))
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return log


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "go.mod").write_text("require tool v1.2.3\n")
    return Program("tool", tmp_path, ("go.mod",), r"tool v(\S+)", ("tool",), ("build", "{version}"), "no time")


def test_it_is_built_once(calls: Path, program: Program, capfd: pytest.CaptureFixture[str]) -> None:
    path = program.build()
    assert path.name == "tool"
    assert path.parent.name.startswith("tool-1.2.3-")
    assert "otel_monitoring" in str(path.parent.parent)
    assert program.build() == path
    assert calls.read_text() == "build 1.2.3\n"
    told = capfd.readouterr()
    assert "Building tool 1.2.3" in told.err
    assert told.out == ""
    assert [entry.name for entry in path.parent.iterdir() if entry.is_dir()] == [], "nothing else is left"


def test_those_who_ask_at_once_wait_for_one_build(calls: Path, program: Program) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: program.build(), range(4)))) == 1
    assert calls.read_text() == "build 1.2.3\n"


def test_another_source_is_another_build(calls: Path, program: Program) -> None:
    before = program.build()
    (program.folder / "go.mod").write_text("require tool v1.2.3\nrequire other v1\n")
    assert program.build() != before


def test_a_failure_says_why_and_leaves_nothing(calls: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(BuildError, match=r"tool could not be built.*module is not available"):
        program.build()
    assert not program.path.exists()
    monkeypatch.delenv("BROKEN")
    assert program.build().exists()


def test_without_go_it_says_what_to_install(calls: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildError, match=r"install Go 1\.26 or newer"):
        program.build()


@pytest.mark.parametrize(("ci", "asked", "code"), [("true", "all", 1), ("", "all", 0), ("", "tool", 1)])
def test_a_part_that_cannot_be_had_fails_where_it_matters(
    calls: Path, program: Program, monkeypatch: pytest.MonkeyPatch, ci: str, asked: str, code: int
) -> None:
    monkeypatch.setenv("BROKEN", "1")
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(builds, "PROGRAMS", {"tool": program})
    monkeypatch.setattr(builds, "MODULES", ())
    monkeypatch.setattr(builds, "NODE", Packages({}))
    assert builds.main([asked]) == code


def test_a_module_is_where_go_says_it_is(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = calls.parent / "path" / "go"
    go.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\necho \'{{"Dir": "/modules/tool"}}\'\n')
    assert Module("example.com/tool", "v1.2.3").fetch() == Path("/modules/tool")
    assert calls.read_text() == "mod download -json example.com/tool@v1.2.3\n"
    go.write_text('#!/bin/sh\necho \'{"Error": "not available"}\'\nexit 1\n')
    with pytest.raises(BuildError, match=r"example\.com/tool@v1\.2\.3 cannot be had: not available"):
        Module("example.com/tool", "v1.2.3").fetch()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildError, match="install Go"):
        Module("example.com/tool", "v1.2.3").fetch()


def test_packages_are_installed_once(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = calls.parent / "path"
    for name, does in (("node", ""), ("npm", f'echo "$1 $7" >> "{calls}"; [ -z "$BROKEN" ]')):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(BuildError, match=r"npm cannot install axe@1: "):
        Packages({"axe": "1"}).install()
    monkeypatch.delenv("BROKEN")
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: Packages({"axe": "1"}).install(), range(4)))) == 1
    assert calls.read_text() == "install axe@1\n" * 2
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildError, match="node and npm are missing"):
        Packages({"axe": "1"}).install()


def test_all_of_it_is_made_before_the_tests(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that began with an installation took a minute longer, and so did those that waited for the same."""
    made: list[Path] = []
    monkeypatch.setattr(builds, "PROGRAMS", {})
    monkeypatch.setattr(builds, "MODULES", ())
    monkeypatch.setattr(Packages, "install", lambda self: made.append(Path("node_modules")))
    assert builds.main(["all"]) == 0
    assert len(made) == 1
    assert set(NODE.versions) == {"axe-core", "typescript", "uplot"}


def test_the_last_line_is_the_path(
    calls: Path, program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(builds, "PROGRAMS", {"tool": program})
    assert builds.main(["tool"]) == 0
    assert capsys.readouterr().out == f"{program.path}\n"


def test_the_collector_is_of_the_version_its_manifest_names() -> None:
    assert COLLECTOR.path.parent.name.startswith("collector-0.158.0-")
    assert replace(COLLECTOR, name="x").path.name == "otelcol"
    assert set(PROGRAMS) == {"collector", "prometheus", "ferretdb", "victoriametrics", "kafka"}
