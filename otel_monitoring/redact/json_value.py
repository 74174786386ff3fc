"""`jsonable`: a value of any type as JSON of bounded size without secrets."""

import json
import math
from collections import UserString
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from itertools import islice
from typing import Any, Final

from otel_monitoring.redact.json_text import LARGEST
from otel_monitoring.redact.text import REPLACED, is_secret, kind_of, redact, text_of

LENGTH: Final = 8192
"""The most characters of a value as JSON, unless a caller asks for another limit."""

_DEPTH: Final = 8
_ITEMS: Final = 50
_KEY_LENGTH: Final = 100
_TEXT_LENGTH: Final = 1000
_READ_LENGTH: Final = 20_000
"""The most characters of text that are redacted in one value: redaction costs time."""

_CARD_DIGITS: Final = 10**13
_CAUSES: Final = 5
_MORE: Final = "…"
_TEXTS: Final = (str, bytes, bytearray, memoryview, UserString, BaseException)
"""Types that become one text, though some of them have items."""
# Validation errors and header lists name a value beside it: {"loc": ["body", "password"], "input": …}.
_NAME_KEYS: Final = ("field", "header", "key", "loc", "name")
_VALUE_KEYS: Final = ("input", "input_value", "value")


def jsonable(value: object, *, limit: int = LENGTH) -> Any:
    """`value` in the types of JSON: mappings, lists, texts, finite numbers, true, false and null; never raises.

    Texts and keys are redacted as by `redact`; the value of a telltale key (`password`, `token`, `Authorization`, …) is
    replaced as a whole. Dates become RFC 3339 text; exceptions include their causes; dataclasses and models of pydantic
    and attrs become their fields; NaN and infinity become text; iterators are named, never consumed; every other value
    becomes its text. Where levels, items or characters are too many, the rest is left out and `…` stands in its place.

    Args:
        value: Any value.
        limit: The most characters of the result as JSON, 500 or more.
    """
    try:
        return _Converter(limit).convert(value, 0)
    except BaseException:  # noqa: BLE001 - the last resort; what an application hands over may raise anything
        return f"unprintable {kind_of(value)}"


class _Converter:
    """Converts one value.

    Attributes:
        room: Characters of JSON that may still be written.
        unread: Characters of text that may still be redacted.
        ancestors: Identities of the containers around the current value, to find circles.
    """

    def __init__(self, limit: int) -> None:
        self.room = limit - 40 * (_DEPTH + 1)  # each level may end with a note about what was left out
        self.unread = _READ_LENGTH
        self.ancestors: set[int] = set()

    def convert(self, value: object, depth: int) -> Any:
        """`value` in the types of JSON, at `depth` levels below the outermost."""
        try:
            if value is None or isinstance(value, bool):
                return self._spent(value)
            if isinstance(value, int | float) and not isinstance(value, Enum):
                return self._number(value)
            return self._compound(value, depth)
        except BaseException:  # noqa: BLE001 - one value that cannot be read must not hide the others
            return self._text(f"unprintable {kind_of(value)}")

    def _compound(self, value: object, depth: int) -> Any:
        if isinstance(value, _TEXTS) and not isinstance(value, Enum):
            return self._text(_error_text(value) if isinstance(value, BaseException) else value)
        simpler = _simpler(value)
        if simpler is not value:
            return self.convert(simpler, depth)
        members = _members(value)
        if members is None and not isinstance(value, Collection):
            return self._text(value)
        if id(value) in self.ancestors:
            return self._text("circular reference")
        if depth == _DEPTH:
            return self._text(_MORE)
        self.ancestors.add(id(value))
        # A nested value gets half of the room, so that room is left for the values beside it.
        kept = self.room // 2 if depth else 0
        self.room -= kept
        try:
            return self._list(value, depth) if members is None else self._mapping(value, members, depth)
        finally:
            self.room += kept
            self.ancestors.discard(id(value))

    def _mapping(self, value: object, members: Iterable[tuple[object, object]], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        self.room -= 2

        def add(member: tuple[object, object]) -> None:
            key, item = member
            name = self._key(key, result)
            result[name] = self._spent(REPLACED) if _is_hidden(name, item) else self.convert(item, depth + 1)

        if left := self._each(value, members, add):
            result[_MORE] = left
        if any(is_secret(json.dumps(result[name])) for name in _NAME_KEYS if name in result):
            result.update({name: self._spent(REPLACED) for name in _VALUE_KEYS if name in result})
        return result

    def _list(self, value: Any, depth: int) -> list[Any]:
        result: list[Any] = []
        self.room -= 2
        if left := self._each(value, value, lambda item: result.append(self.convert(item, depth + 1))):
            result.append(f"{_MORE} {left}")
        if len(result) == 2 and isinstance(result[0], str) and _is_hidden(result[0], result[1]):
            result[1] = self._spent(REPLACED)
        return result

    def _each(self, value: object, items: Iterable[Any], add: Callable[[Any], None]) -> str:
        """`add` each item while there is room; returns a note about the rest, empty where there is none."""
        done = 0
        try:
            for item in islice(items, _ITEMS):
                if self.room <= 0:
                    break
                self.room -= 2
                add(item)
                done += 1
            more = len(value) - done if isinstance(value, Collection) else 0
        except BaseException:  # noqa: BLE001 - an iterator of the application's
            return "the rest cannot be read"
        return f"{more} more" if more > 0 else ""

    def _key(self, key: object, taken: Collection[str]) -> str:
        """The text of a key, numbered where another key has the same text already."""
        try:
            name = self._name(key)
        except BaseException:  # noqa: BLE001 - a key that cannot be read must not hide the others
            name = f"unprintable {kind_of(key)}"
        number, free = 2, name
        while free in taken:
            number, free = number + 1, f"{name} ({number})"
        self.room -= 8
        return free

    def _name(self, key: object) -> str:
        if key is None or isinstance(key, bool | int | float):
            return text_of(self._number(key)) if not isinstance(key, bool | None) else json.dumps(key)
        return self._text(key.value if isinstance(key, Enum) else key, _KEY_LENGTH)

    def _number(self, value: int | float) -> Any:
        if isinstance(value, float):
            exact = float.__add__(value, 0.0)
            return self._spent(exact) if math.isfinite(exact) else self._spent(_not_finite(exact))
        whole = int.__add__(value, 0)
        if not -LARGEST < whole < LARGEST:
            return self._text(str(whole) if whole.bit_length() < 512 else f"a number of {whole.bit_length()} bits")
        hidden = abs(whole) >= _CARD_DIGITS and redact(whole) != str(whole)  # smaller ones are times in milliseconds
        return self._spent(REPLACED if hidden else whole)

    def _text(self, value: object, length: int = _TEXT_LENGTH) -> str:
        if self.room <= 0 or self.unread <= 0:
            return _MORE
        text = text_of(value)
        self.unread -= min(len(text), 4000)
        result = redact(text, limit=length)
        if len(json.dumps(result)) > self.room:
            result = result[: max(0, self.room // 12)] + _MORE
        return self._spent(result)  # type: ignore[no-any-return]

    def _spent(self, result: Any) -> Any:
        """`result`, its length taken from the room."""
        self.room -= len(json.dumps(result))
        return result


def _is_hidden(name: str, value: object) -> bool:
    """Whether the value of this key is replaced as a whole; None and booleans reveal nothing."""
    if value is None or type(value) is bool or not is_secret(name):  # no isinstance: __class__ can lie
        return False
    return not (type(value) is int and name.lower().endswith("tokens"))  # tokens that a language model counts


def _simpler(value: object) -> object:
    """An enum member's value, a date's text, the number in a zero-dimensional array; every other value as it is."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, date | time):
        return value.isoformat()
    if hasattr(type(value), "tolist") and getattr(value, "shape", None) == ():
        number = value.tolist()  # type: ignore[attr-defined] # numpy's and its like
        return number if isinstance(number, bool | int | float | str) else text_of(number)
    return value


def _members(value: object) -> Iterable[tuple[object, object]] | None:
    """Keys and values of mappings, named tuples, dataclasses and models; None for every other value."""
    if isinstance(value, dict):
        return dict.items(value)
    if isinstance(value, Mapping):
        return value.items()
    kind = type(value)
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return zip(kind._fields, value, strict=False)
    if is_dataclass(value) and not isinstance(value, type):
        return _attributes(value, (field.name for field in fields(value) if field.repr))
    if hasattr(kind, "model_fields"):  # pydantic
        hidden = {name for name, field in kind.model_fields.items() if getattr(field, "repr", True) is False}
        return [(name, item) for name, item in vars(value).items() if name not in hidden]
    if hasattr(kind, "__attrs_attrs__"):
        return _attributes(value, (field.name for field in kind.__attrs_attrs__ if field.repr))
    return None


def _attributes(value: object, names: Iterable[str]) -> Iterator[tuple[str, object]]:
    return ((name, getattr(value, name, None)) for name in names)


def _error_text(error: BaseException) -> str:
    """`ValueError: its message`, then its causes and the members of an exception group, five in all."""
    texts: list[str] = []
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting and len(texts) < _CAUSES:
        here = waiting.pop(0)
        if id(here) in seen:
            continue
        seen.add(id(here))
        message = _message(here)
        texts.append(f"{kind_of(here)}: {message}" if message else kind_of(here))
        cause = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
        waiting += [cause] if cause is not None else []
        waiting += [part for part in getattr(here, "exceptions", ()) if isinstance(part, BaseException)][:_CAUSES]
    return "; caused by ".join(texts)


def _message(error: BaseException) -> str:
    """An exception's redacted message; arguments that are containers are converted, so that their keys are seen."""
    plain = type(error).__str__ in (BaseException.__str__, KeyError.__str__)
    if plain and any(isinstance(given, Collection) and not isinstance(given, str | bytes) for given in error.args):
        given = error.args[0] if len(error.args) == 1 else error.args
        return json.dumps(jsonable(given), ensure_ascii=False)
    return redact(error, limit=_TEXT_LENGTH)


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
