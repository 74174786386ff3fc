"""`Origin`: the service that notifications come from."""

import hashlib
import socket
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from otel_monitoring.alerts.model import AlertEvent, Notification
from otel_monitoring.alerts.store.outbox import Queued
from otel_monitoring.config.settings import Settings
from otel_monitoring.redact import printable, redact, text_of


class Origin(NamedTuple):
    """The service that notifications come from.

    Attributes:
        service: `service.name`.
        environment: `deployment.environment.name`, or empty.
        version: `service.version`, or empty.
        host: The name of this host, or empty.
        url: The public URL of the service, or empty.
        title: The template of the first line of messages for people; empty: each channel has its own.
    """

    service: str
    environment: str = ""
    version: str = ""
    host: str = ""
    url: str = ""
    title: str = ""

    @classmethod
    def here(cls, settings: Settings, resource: Mapping[str, object]) -> "Origin":
        """The origin that the attributes of a resource describe; this host and the settings fill in what is missing."""
        service, environment = (
            redact(resource.get(name, "")) for name in ("service.name", "deployment.environment.name")
        )
        # Not redacted: versions and host names often look like secrets.
        version = printable(text_of(resource.get("service.version") or settings.service_version or ""))
        host = printable(text_of(resource.get("host.name") or socket.gethostname()))
        return cls(service, environment, version, host, settings.public_url or "", settings.alert_title or "")

    def notification(self, queued: Sequence[Queued]) -> Notification:
        """A notification of these events; its id depends on them alone, so that receivers can drop repetitions."""
        names = ",".join(f"{entry.event.incident}/{entry.event.time:.6f}/{entry.id}" for entry in queued)
        digest = hashlib.sha256(f"{self.service}/{self.environment}/{names}".encode()).hexdigest()
        return self.message(digest[:32], tuple(entry.event for entry in queued))

    def message(self, identifier: str, events: Sequence[AlertEvent]) -> Notification:
        """A notification of these events with a given id."""
        where = {"version": self.version, "host": self.host, "url": self.url, "title": self.title}
        return Notification(identifier, tuple(events), self.service, self.environment, **where)
