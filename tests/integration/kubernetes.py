"""The manifests of collector-config/kubernetes/, and the schemas of the APIs they are for.

`python -m tests.integration.kubernetes` writes the ConfigMap that holds the Collector's files: a pod mounts no folder
of a repository.
"""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.integration.builds import CLIENT_GO, PROMETHEUS_OPERATOR
from tests.integration.collector import CONFIG

FOLDER = CONFIG / "kubernetes"
CONFIG_MAP = FOLDER / "otelcol-config.yaml"
_HEAD = "# Made from the files of collector-config/ by `python -m tests.integration.kubernetes`: change those.\n"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def mounted() -> list[str]:
    """The files that pods read, in the order of their names."""
    found = {part for container in containers() for part in container.get("args", []) if part.endswith(".yaml")}
    return sorted(path.rpartition("/")[2] for path in found)


def config_map() -> str:
    """The manifest with the content of each mounted file."""
    content = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "otelcol-config", "labels": {"app.kubernetes.io/name": "otelcol"}},
        "data": {name: (CONFIG / name).read_text() for name in mounted()},
    }
    return _HEAD + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def objects() -> Iterator[dict[str, Any]]:
    """Every object of every manifest."""
    for path in sorted(FOLDER.glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


def containers() -> Iterator[dict[str, Any]]:
    for item in objects():
        yield from item["spec"].get("template", {}).get("spec", {}).get("containers", []) if "spec" in item else []


def schema(item: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of an object's kind, and the document that its references point into.

    Raises:
        BuildError: The module with the schemas is out of reach.
        LookupError: No schema is known for it.
    """
    group, _, version = item["apiVersion"].rpartition("/")
    if group == "monitoring.coreos.com":
        name = f"{group}_{item['kind'].lower()}s.yaml"
        text = (PROMETHEUS_OPERATOR.fetch() / "example/prometheus-operator-crd" / name).read_text()
        found = next(each for each in yaml.safe_load(text)["spec"]["versions"] if each["name"] == version)
        return found["schema"]["openAPIV3Schema"], {}
    name = f"apis__{group}__{version}" if group else f"api__{version}"
    path = CLIENT_GO.fetch() / "openapi/openapitest/testdata" / f"{name}_openapi.json"
    document: dict[str, Any] = json.loads(path.read_text())
    for content in document["components"]["schemas"].values():
        for known in content.get("x-kubernetes-group-version-kind", []):
            if known == {"group": group, "version": version, "kind": item["kind"]}:
                return content, document
    raise LookupError(item["kind"])


_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}


def faults(value: Any, wanted: dict[str, Any], document: dict[str, Any], path: str = "") -> Iterator[str]:
    """Where a value is not as its OpenAPI schema wants it; unknown fields are faults, as for `kubectl apply`."""
    if "$ref" in wanted:
        wanted = {**document["components"]["schemas"][wanted["$ref"].rpartition("/")[2]]}
    for part in wanted.get("allOf", []):
        yield from faults(value, part, document, path)
    choices = wanted.get("oneOf") or wanted.get("anyOf") or []
    if choices and all(any(faults(value, choice, document, path)) for choice in choices):
        yield f"{path}: none of the choices"
    kind = wanted.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{path}: {type(value).__name__} is no {kind}"
    elif isinstance(value, dict):
        yield from _field_faults(value, wanted, document, path)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from faults(item, wanted.get("items", {}), document, f"{path}[{number}]")


def _field_faults(value: dict[str, Any], wanted: dict[str, Any], document: dict[str, Any], path: str) -> Iterator[str]:
    fields, others = wanted.get("properties", {}), wanted.get("additionalProperties")
    yield from (f"{path}.{name}: missing" for name in wanted.get("required", []) if name not in value)
    for name, content in value.items():
        if name in fields or others:
            yield from faults(content, fields.get(name, others), document, f"{path}.{name}")
        elif fields:
            yield f"{path}.{name}: unknown"


if __name__ == "__main__":
    CONFIG_MAP.write_text(config_map())
