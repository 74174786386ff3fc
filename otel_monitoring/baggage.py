"""`BaggageKeys`: the baggage entries that become attributes of spans and log records.

Baggage arrives with requests, so anybody may send it: only listed keys are used, each value up to a maximum length.
"""

from collections.abc import Iterable
from typing import Final

from opentelemetry import baggage
from opentelemetry.context import Context

MAX_KEYS: Final = 16
MAX_VALUE_LENGTH: Final = 128
"""Characters of one value."""


class BaggageKeys:
    """The listed baggage keys.

    Args:
        keys: The first `MAX_KEYS` are used, further ones are ignored.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = tuple(keys)[:MAX_KEYS]

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def entries(self, context: Context | None = None) -> dict[str, str]:
        """The listed entries of `context` (None: the current context), by key; each value made safe by `bounded`."""
        if not self._keys:
            return {}
        entries = baggage.get_all(context)
        if not entries:
            return {}
        return {key: bounded(entries[key]) for key in self._keys if key in entries}

    def only(self, context: Context | None = None) -> Context:
        """A new context whose baggage is the listed entries of `context`, and which holds nothing else."""
        return with_entries(self.entries(context), Context())


def bounded(value: object) -> str:
    """A baggage value as one printable line of at most `MAX_VALUE_LENGTH` characters."""
    text = str(value)[:MAX_VALUE_LENGTH] if isinstance(value, (str, int, float)) else type(value).__name__
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def with_entries(entries: dict[str, str], context: Context) -> Context:
    """A copy of `context` with `entries` added to its baggage."""
    for key, value in entries.items():
        context = baggage.set_baggage(key, value, context)
    return context
