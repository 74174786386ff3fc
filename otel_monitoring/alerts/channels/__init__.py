"""Ways an alert leaves: each channel has a name and one method."""

from typing import Protocol

from otel_monitoring.events import AlertEvent


class Channel(Protocol):
    """A way to notify people or systems."""

    name: str

    async def send(self, event: AlertEvent) -> None:
        """Deliver `event`.

        Raises:
            DeliveryError: It was not delivered; says whether trying again can help.
        """
