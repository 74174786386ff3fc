"""The registry is what Weaver would read, defines each name of the package once, and is what the page shows."""

import re
from typing import Any

import pytest
import yaml

from otel_monitoring import semconv
from otel_monitoring.alerts.model import AlertSeverity, Outcome, Status
from tests.registry import MANIFEST, PAGE, SOURCE, attributes, conventions, events, groups, metrics, page

# https://github.com/open-telemetry/weaver/blob/main/schemas/semconv-syntax.md: the fields of a group by its type, those
# that must and those that may be there; optional ones that this registry does not use are left out.
GROUP = {"id", "type", "brief", "stability"}
FIELDS = {
    "attribute_group": (GROUP - {"stability"} | {"attributes"}, {"stability", "display_name", "note"}),
    "metric": (GROUP | {"metric_name", "instrument", "unit"}, {"attributes", "note"}),
    "event": (GROUP | {"name"}, {"attributes", "note"}),
}
DEFINITION = ({"id", "type", "stability", "brief"}, {"examples", "note"})
REFERENCE = ({"ref"}, {"requirement_level", "brief", "note", "examples"})
MEMBER = ({"id", "value", "stability"}, {"brief", "note"})
STABILITY = {"stable", "development", "alpha", "beta", "release_candidate"}
INSTRUMENTS = {"counter", "gauge", "histogram", "updowncounter"}
SIMPLE = "string|int|double|boolean"
TYPE = re.compile(rf"(?:{SIMPLE})(?:\[\])?|any|template\[(?:{SIMPLE})(?:\[\])?\]")
LEVELS = {"required", "recommended", "opt_in"}


def wrong(written: dict[str, Any], fields: tuple[set[str], set[str]]) -> list[str]:
    """What an entry lacks, and what it may not have."""
    required, optional = fields
    return sorted((required - written.keys()) | (written.keys() - required - optional))


@pytest.mark.parametrize("group", groups(), ids=lambda group: str(group["id"]))
def test_a_group_is_as_the_syntax_says(group: dict[str, Any]) -> None:
    assert wrong(group, FIELDS[group["type"]]) == []
    assert group.get("stability", "stable") in STABILITY
    if group["type"] == "metric":
        assert group["id"] == f"metric.{group['metric_name']}"
        assert group["instrument"] in INSTRUMENTS
        assert isinstance(group["unit"], str)
    if group["type"] == "event":
        assert group["id"] == f"event.{group['name']}"
    for attribute in group.get("attributes", ()):
        check_reference(attribute) if "ref" in attribute else check_definition(attribute)


def check_definition(attribute: dict[str, Any]) -> None:
    assert wrong(attribute, DEFINITION) == []
    assert attribute["stability"] in STABILITY
    if isinstance(attribute["type"], dict):
        assert attribute["type"].keys() == {"members"}
        for member in attribute["type"]["members"]:
            assert wrong(member, MEMBER) == []
            assert member["stability"] in STABILITY
    else:
        assert TYPE.fullmatch(attribute["type"])
        assert attribute.get("examples") or "string" not in attribute["type"]  # required of texts


def check_reference(attribute: dict[str, Any]) -> None:
    assert wrong(attribute, REFERENCE) == []
    level = attribute.get("requirement_level", "recommended")
    assert level in LEVELS if isinstance(level, str) else level.keys() == {"conditionally_required"}
    name = attribute["ref"]
    assert name in attributes() or conventions.names_attribute(name)


def test_ids_are_unique_and_the_file_is_all_groups() -> None:
    assert yaml.safe_load(SOURCE.read_text()).keys() == {"groups"}
    ids = [group["id"] for group in groups()]
    assert len(ids) == len(set(ids))
    defined = [one["id"] for group in groups() for one in group.get("attributes", ()) if "id" in one]
    assert len(defined) == len(set(defined))


def test_the_manifest_names_the_conventions_that_are_depended_on() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text())
    assert manifest.keys() == {"name", "description", "semconv_version", "schema_base_url", "dependencies"}
    (dependency,) = manifest["dependencies"]
    assert dependency.keys() == {"name", "registry_path"}
    assert f"v{semconv.SCHEMA_URL.rpartition('/')[2]}.zip[model]" in dependency["registry_path"]
    assert semconv.SCHEMA_URL.startswith(manifest["schema_base_url"])


def test_every_name_in_the_code_is_in_the_registry_or_the_conventions_and_no_other_is_in_the_registry() -> None:
    named = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
    named -= {semconv.SCOPE, semconv.SCHEMA_URL, semconv.UNMATCHED_ROUTE, semconv.OTHER}
    registered = {*attributes(), *metrics(), *events()}
    ours = {name for name in registered if not name.startswith("fastapi.")}  # FastAPI's, which emits them itself
    known = conventions.metrics()
    assert {name for name in named if not conventions.names_attribute(name) and name not in known} == ours


def test_nothing_is_defined_that_the_conventions_have() -> None:
    assert not [name for name in attributes() if conventions.names_attribute(name)]
    assert not metrics().keys() & conventions.metrics().keys()


def test_the_histograms_units_are_those_of_the_code() -> None:
    durations = [one for one in vars(semconv).values() if isinstance(one, semconv.Durations)]
    for definition in durations:
        kind, unit = conventions.metrics().get(definition.name) or (
            metrics()[definition.name].kind,
            metrics()[definition.name].unit,
        )
        assert (kind, unit) == ("histogram", definition.unit)


@pytest.mark.parametrize(
    ("name", "values"),
    [(semconv.ALERT_SEVERITY, AlertSeverity), (semconv.ALERT_STATUS, Status), (semconv.ALERT_OUTCOME, Outcome)],
)
def test_members_are_those_of_the_code(name: str, values: Any) -> None:
    assert attributes()[name].values == tuple(f"`{one.value}`" for one in values)


def test_the_page_shows_the_registry_as_it_is() -> None:
    assert PAGE.read_text() == page(), "run: make registry"


def test_a_table_that_is_out_of_date_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    stale = tmp_path / "metrics.md"
    stale.write_text(PAGE.read_text().replace("round trip of the last ping", "something else"))
    monkeypatch.setattr("tests.registry.PAGE", stale)
    assert stale.read_text() != page()
