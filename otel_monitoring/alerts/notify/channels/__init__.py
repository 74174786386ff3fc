"""Ways an alert leaves: each channel has a name and one method."""

from typing import Protocol, runtime_checkable

from otel_monitoring.alerts.model import AlertEvent, Notification


class Channel(Protocol):
    """A way to notify people or systems. Used from one event loop at a time; makes its connections where it is used."""

    name: str

    async def send(self, notification: Notification) -> None:
        """Deliver `notification` in one message. May be cancelled when it takes too long.

        Raises:
            DeliveryError: It was not delivered; says whether trying again can help, and when.
        """


@runtime_checkable
class Immediate(Channel, Protocol):
    """A channel that has an alert where it happens, at once: nothing waits for it in the outbox."""

    def write(self, event: AlertEvent) -> None:
        """Take `event`; never fails. Called from several threads."""


@runtime_checkable
class Repeating(Channel, Protocol):
    """A channel whose receiver forgets an alert that is not repeated.

    Attributes:
        interval: Seconds between repetitions.
    """

    interval: float

    async def repeat(self, notification: Notification) -> None:
        """Say again what fires now. A failure is no loss: the next repetition says it all.

        Raises:
            DeliveryError: It was not delivered.
        """
