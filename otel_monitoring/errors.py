"""The exceptions this package raises.

```
MonitoringError
├── ConfigurationError    a setting is wrong; the message begins with its name
├── InstrumentationError  instrument() was called too late, twice, or on something it cannot instrument
├── TooManyMutesError     no further mute before one ends
├── DeliveryError         a notification channel could not deliver; says whether trying again can help
└── StoreError            a place that keeps alert state cannot do its work
```
"""


class MonitoringError(Exception):
    """Base class of every exception raised by this package."""


class ConfigurationError(MonitoringError, ValueError):
    """A setting has a value that cannot work."""


class InstrumentationError(MonitoringError, RuntimeError):
    """The application cannot be instrumented the way it was asked for."""


class TooManyMutesError(MonitoringError, ValueError):
    """As many mutes are in force as there may be."""


class DeliveryError(MonitoringError):
    """A channel failed to deliver a notification.

    Attributes:
        retryable: Whether the same notification may succeed later.
        retry_after: Seconds the receiver asked us to wait, or None.
    """

    def __init__(self, message: str, *, retryable: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after


class StoreError(MonitoringError):
    """A store could not read or write; the message says which one and why, without its contents."""
