"""`redact`: text from outside as one printable line without secrets."""

from functools import lru_cache

from otel_monitoring.redact.lazy_pattern import LazyPattern
from otel_monitoring.redact.secret_forms import hide
from otel_monitoring.redact.secret_names import REPLACED as REPLACED
from otel_monitoring.redact.secret_names import is_secret as is_secret

_READ_LIMIT = 4000
_LONGEST_SECRET = 512
_NAME_LENGTH = 300
_LONGEST_CHARACTER = 4  # bytes, in UTF-8
_CAUSES = 5
_NOT_ASCII = LazyPattern(r"[^ -~]")
# Unicode's Default_Ignorable_Code_Point as far as Python calls them printable: fillers, joiners, selectors.
_INVISIBLE = LazyPattern("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
# PyMongo's messages end with a description of the topology, which repeats each server's error, and with its timeouts.
_TIMEOUTS = LazyPattern(r" \(configured timeouts: [^()]{0,200}\)")
_TOPOLOGY = ", Topology Description: <"


def redact(text: object, *, limit: int = 500) -> str:
    """`text` as one printable line without credentials, tokens, keys, e-mail addresses and card numbers; never raises.

    Recognised by form: credentials in URIs, `Authorization` and cookies, `Bearer …`, JSON web tokens, private keys,
    `password=…` and the like (also as JSON or Python repr), webhook URLs, well-known key prefixes, long random-looking
    runs, card numbers by the Luhn sum. In doubt, text is hidden. A password that is an ordinary word in a sentence has
    no form and stays. PyMongo's description of the topology is left out.

    Args:
        text: Any value, of any length; `str` is taken of it. Only the first 4000 characters are read.
        limit: The most characters of the result, 0 or more.
    """
    result = hide(printable(_cut(_without_topology(text_of(text)))))
    return result if len(result) <= limit else result[: max(0, limit - 1)] + "…" * (limit > 0)


@lru_cache(maxsize=4096)
def redact_name(name: str) -> str:
    """`redact` of a name that comes again and again, as a route does; at most 300 characters."""
    return redact(name, limit=_NAME_LENGTH)


def redact_error(error: BaseException) -> str:
    """`redact` of `ValueError: its message`; never raises, even where the exception cannot be printed."""
    return redact(error_text(error))


def error_text(error: BaseException) -> str:
    """`ValueError: its message`, at most 4001 characters; never raises. It may hold secrets."""
    kind, message = kind_of(error), text_of(error)
    text = f"{kind}: {message}" if message and message != _unprintable(error) else message or kind
    return text[: _READ_LIMIT + 1]


def redacted_exception(error: BaseException, causes: int = _CAUSES) -> Exception:
    """A stand-in for `error` with its type name, traceback and causes, whose messages are single lines without secrets.

    Log handlers, exporters and error trackers that format it never see the original. Notes are left out.

    Args:
        error: Any exception, also one that cannot be printed.
        causes: The most causes in the chain.
    """
    message, kind = redact(error), type(error)
    members = {"__str__": lambda _: message, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    stand_in: Exception = type(kind_of(error), (Exception,), members)().with_traceback(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and causes > 0:
        stand_in.__cause__ = redacted_exception(cause, causes - 1)
    return stand_in


def redact_lines(text: str, *, limit: int = 32_768) -> str:
    """`redact` of each line of a text with several, such as a stack trace.

    Args:
        text: Of any length.
        limit: The most characters that are read; the rest is left out.
    """
    whole = text if len(text) <= limit else text[:limit].rpartition("\n")[0] or text[:limit]
    lines = "\n".join(_redacted_line(line) for line in whole.split("\n"))
    return lines if whole is text else f"{lines}\n…"


@lru_cache(maxsize=1024)
def _redacted_line(line: str) -> str:
    """Cached, because stack traces repeat most of their lines."""
    return redact(line, limit=_READ_LIMIT)


def printable(text: str) -> str:
    """`text` with a blank for each line break and each control, invisible, bidirectional or surrogate character."""
    if not text.isascii():
        text = _INVISIBLE.sub(" ", text)
    return text if text.isprintable() else _NOT_ASCII.sub(lambda c: c[0] if c[0].isprintable() else " ", text)


def text_of(value: object) -> str:
    """The text of any value: bytes decoded as UTF-8, everything else by `str`; never raises. It may hold secrets."""
    try:
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value[: _READ_LIMIT * _LONGEST_CHARACTER + 1]).decode(errors="backslashreplace")
        return str(value)
    except BaseException:  # noqa: BLE001 - an application's own __str__ may raise anything
        return _unprintable(value)


def kind_of(value: object) -> str:
    """The name of a value's type; never raises."""
    name = type.__dict__["__name__"].__get__(type(value))
    return str.__str__(name)


def _unprintable(value: object) -> str:
    return f"unprintable {kind_of(value)}"


def _cut(text: str) -> str:
    """The part that is read, cut before the last word: half a secret would not be recognised."""
    if len(text) <= _READ_LIMIT:
        return text
    last_word = max(text.rfind(end, 0, _READ_LIMIT) for end in " \t\n\"'<>")
    return text[: last_word if last_word >= 0 else _READ_LIMIT - _LONGEST_SECRET]


def _without_topology(text: str) -> str:
    start = text.find(_TOPOLOGY)
    if start >= 0:
        end = text.rfind(">", start)
        text = text[:start] + (text[end + 1 :] if end >= 0 else "")
    return _TIMEOUTS.sub("", text) if " (configured timeouts: " in text else text
