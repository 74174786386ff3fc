"""`DemoOptions`: the demo's environment variables, and what is derived from them."""

import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from otel_monitoring.config import Settings
from otel_monitoring.redact import redact


class UsageError(Exception):
    """The demo cannot run with the environment it was given."""


@dataclass(frozen=True)
class DemoOptions:
    port: int
    seconds: float | None
    mongodb_uri: str | None
    settings: Settings
    admin_token: str
    staff_token: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "DemoOptions":
        settings = Settings.load()
        token = settings.admin_token.get_secret_value() if settings.admin_token else secrets.token_urlsafe(24)
        return cls(
            port=free_port(environ.get("PORT") or "8000"),
            seconds=_seconds("DEMO_SECONDS", environ.get("DEMO_SECONDS")),
            mongodb_uri=environ.get("MONGODB_URI") or None,
            settings=settings,
            admin_token=token,
            staff_token=environ.get("EARLYBIRD_STAFF_TOKEN") or secrets.token_urlsafe(24),
        )

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def monitoring_url(self) -> str:
        return self.api_url + self.settings.prefix

    def api_environment(self, mongodb_uri: str, directory: Path) -> dict[str, str]:
        return {
            "OTEL_MONITORING_STATE_DIR": str(self.settings.state_dir or directory / "state"),
            "MONGODB_URI": mongodb_uri,
            "EARLYBIRD_STAFF_TOKEN": self.staff_token,
            "OTEL_MONITORING_ADMIN_TOKEN": self.admin_token,
        }

    def introduction(self, mongodb: str, logs: Path) -> str:
        """The text that says where everything is, with command lines to copy."""
        signals = [signal for signal in ("traces", "metrics", "logs") if self.settings.exports(signal)]
        otlp = "off; to export: OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 make demo"
        if signals:
            endpoint = self.settings.otlp_endpoint
            otlp = f"{', '.join(signals)} to {redact(endpoint) if endpoint else 'OTEL_EXPORTER_OTLP_*_ENDPOINT'}"
        header = f"-H 'Authorization: Bearer {self.admin_token}' " if self.settings.access == "admin" else ""
        asked = f" (it asks for the token {self.admin_token})" if self.settings.access == "admin" else ""
        url = f"localhost:{self.port}{self.settings.prefix}"
        private = ("health/detailed", "health/metrics", "health/diagnostics", "alerts/summary", "alerts/firing")
        return "\n".join(
            [
                "",
                f"  API      {self.api_url}/docs",
                *([f"  Status   {self.monitoring_url}/status{asked}"] if self.settings.page else []),
                f"  MongoDB  {mongodb}",
                f"  OTLP     {otlp}",
                f"  Logs     {logs}",
                "",
                "  Look at it:",
                "",
                f"    curl {url}/health",
                *(f"    curl {header}{url}/{path}" for path in private),
                "",
                "  Ctrl-C stops everything.",
                "",
            ]
        )


def free_port(text: str) -> int:
    """The port in `text` once it is known to be free; `0` stands for any free port."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", int(text)))
            port: int = probe.getsockname()[1]
            return port
    except (ValueError, OverflowError):
        raise UsageError(f"PORT: {text!r} is not a port; use a number from 1 to 65535") from None
    except OSError as error:
        raise UsageError(f"PORT: {text} cannot be used ({error.strerror}); another: PORT=9000 make demo") from None


def _seconds(name: str, text: str | None) -> float | None:
    if not text:
        return None
    with suppress(ValueError):
        if float(text) > 0:
            return float(text)
    raise UsageError(f"{name}: {text!r} is not a number of seconds")
