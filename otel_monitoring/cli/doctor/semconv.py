"""Check: telemetry follows the stable semantic conventions."""

from collections.abc import Iterator

from otel_monitoring.cli.doctor.findings import Examination, Finding, Level
from otel_monitoring.environment import semconv_opt_in

_NAME = "semantic conventions"


def semantic_conventions(_: Examination) -> Iterator[Finding]:
    """Whether `OTEL_SEMCONV_STABILITY_OPT_IN` keeps the stable conventions for HTTP and databases."""
    chosen = semconv_opt_in()
    kinds = {name.partition("/")[0] for name in chosen}
    if not chosen:
        yield Finding(
            _NAME, Level.OK, "the stable ones: OTEL_SEMCONV_STABILITY_OPT_IN is set to http,database at start"
        )
    elif {"http", "database"} <= kinds:
        yield Finding(_NAME, Level.OK, f"OTEL_SEMCONV_STABILITY_OPT_IN={','.join(sorted(chosen))}")
    else:
        missing = ", ".join(sorted({"http", "database"} - kinds))
        yield Finding(
            _NAME,
            Level.WARNING,
            f"OTEL_SEMCONV_STABILITY_OPT_IN is set without {missing}: their telemetry has the old names and units, "
            "which dashboards and rules do not look for",
            "unset it, or add http,database",
        )
