"""`python -m tests.dashboards`, which `make dashboards` runs: writes the dashboards that the package ships.

They are built with grafana-foundation-sdk, which users do not need: what depends on a service is left blank and
filled in by `otel_monitoring.export.grafana_dashboards`.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import otel_monitoring.export

FOLDER = Path(otel_monitoring.export.__file__).parent / "dashboards"
"""Where the package keeps them."""


def built() -> Mapping[str, str]:
    """The JSON of each file, by its name."""
    with warnings.catch_warnings():
        # The SDK prefers schema v2; files of v1 are what every Grafana in use provisions.
        warnings.simplefilter("ignore", DeprecationWarning)
        from tests.dashboards.health import health_dashboard
        from tests.dashboards.service import service_dashboard

        return {
            "service-native.json": _text(service_dashboard(native=True)),
            "service-classic.json": _text(service_dashboard(native=False)),
            "health.json": _text(health_dashboard()),
        }


def _text(made: Any) -> str:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    content: dict[str, Any] = json.loads(JSONEncoder().encode(made.build()))
    for number, panel in enumerate(content["panels"], start=1):
        panel["id"] = number
    return f"{json.dumps(content, indent=2, ensure_ascii=False)}\n"
