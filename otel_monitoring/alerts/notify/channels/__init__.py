"""The protocols of notification channels."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from otel_monitoring.alerts.model import AlertEvent, Notification
from otel_monitoring.alerts.store.notes import Notes


class Channel(Protocol):
    """A way to notify people or systems. It is used from one event loop at a time, and connects when it sends.

    A channel may have an attribute `latest_only = True`: it then gets `Notification.latest`, without events that later
    ones of the same incident replace.

    Attributes:
        name: A unique name, which the history and the diagnostics use.
    """

    name: str

    async def send(self, notification: Notification) -> None:
        """Send `notification` as one message. It is cancelled when it takes too long.

        Raises:
            DeliveryError: The notification was not delivered; the error says whether and when to retry.
        """


@runtime_checkable
class Immediate(Channel, Protocol):
    """A channel that writes an event at once where it happens, past the outbox."""

    def write(self, event: AlertEvent) -> None:
        """Write `event`. Called from any thread; must not raise."""


@runtime_checkable
class Remembering(Channel, Protocol):
    """A channel that remembers something for all workers, such as where its messages are.

    Attributes:
        remembered: Returns the notes; set by the alert manager before the first message.
    """

    remembered: Callable[[], Notes]


@runtime_checkable
class Repeating(Channel, Protocol):
    """A channel whose receiver expires an alert that is not repeated.

    Attributes:
        interval: Seconds between repetitions.
    """

    interval: float

    async def repeat(self, notification: Notification) -> None:
        """Repeat all firing alerts. A failure needs no retry: the next repetition contains all of them.

        Raises:
            DeliveryError: The repetition was not delivered.
        """
