from pathlib import Path

from otel_monitoring.alerts.rules.defaults import default_rules
from otel_monitoring.config.settings import Thresholds
from otel_monitoring.export import ExportOptions, render, stale, write

COMMITTED = Path(__file__).parents[2] / "collector-config"
RULES = default_rules(Thresholds())


def test_committed_files_are_up_to_date() -> None:
    files = render("all", RULES, ExportOptions())
    assert stale(files, COMMITTED) == [], "run: otel-monitoring export all --out collector-config"
    monitors = {f"datadog/{path.name}" for path in (COMMITTED / "datadog").iterdir()}
    assert monitors == {path for path in files if path.startswith("datadog/")}, "monitors of rules that are gone"


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    files = {"a/b.yaml": "one\n", "c.json": "two\n"}
    assert write(files, tmp_path) == [tmp_path / "a/b.yaml", tmp_path / "c.json"]
    (tmp_path / "c.json").write_text("edited\n")
    assert stale(files, tmp_path) == ["c.json"]
    assert write(files, tmp_path) == [tmp_path / "c.json"]
    assert (tmp_path / "c.json").read_text() == "two\n"
    assert write(files, tmp_path) == []


def test_targets_have_files_of_their_own() -> None:
    assert list(render("prometheus", RULES, ExportOptions())) == ["prometheus/rules.yaml"]
    assert list(render("kubernetes", RULES, ExportOptions())) == ["kubernetes/prometheus-rule.yaml"]
    assert list(render("datadog", RULES[:1], ExportOptions())) == ["datadog/database_down.json"]
