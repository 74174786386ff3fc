"""What the files for contributors name exists, and CI and pre-commit run what the Makefile runs."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.matrix import PYTHONS, ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
FILES = ("CONTRIBUTING.md", "SECURITY.md", ".github/pull_request_template.md")
ELSEWHERE = re.compile(r"https?://|#|~|/health")
"""Links and paths that are not in the repository."""


def parsed(path: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())
    return found


def recipe(target: str) -> str:
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found, f"there is no make {target}"
    return found[1]


@pytest.mark.parametrize("file", FILES)
def test_every_path_and_link_exists(file: str) -> None:
    text = (ROOT / file).read_text()
    linked = re.findall(r"\]\(([^)]+)\)", text)
    named = re.findall(r"`([^`\s]*/[^`\s*]*|[\w-]+\.(?:md|toml|txt|py))`", text)
    inside = [path for path in (*linked, *named) if not ELSEWHERE.match(path)]
    assert [path for path in inside if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("file", FILES)
def test_every_make_target_exists(file: str) -> None:
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / file).read_text(), re.MULTILINE):
        assert recipe(target)


def test_ci_runs_what_ci_run_runs_on_every_supported_python() -> None:
    (job,) = parsed(".github/workflows/ci.yml")["jobs"].values()
    assert tuple(job["strategy"]["matrix"]["python"]) == PYTHONS
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert Path(ROOT / ".ci/run").stat().st_mode & 0o111


def test_pre_commit_runs_what_make_lint_runs() -> None:
    (repository,) = parsed(".pre-commit-config.yaml")["repos"]
    commands = [hook["entry"].replace(" --force-exclude", "") for hook in repository["hooks"]]
    lint = recipe("lint").replace("$(BIN)", ".venv/bin").replace(" .\n", "\n").replace("\t@", "")
    assert commands == lint.splitlines()
