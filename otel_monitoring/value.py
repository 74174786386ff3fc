"""`Value`: an immutable object that is equal by its fields: a frozen dataclass whose class is cheap to make.

`dataclass(frozen=True)` writes and compiles six methods for each class: 1.4 ms and 10 KiB at every start of a service.
Here every class has the same methods, and the module `dataclasses` knows its fields: `fields`, `replace` and `asdict`
work. To make an object takes a few microseconds: what is made for each request or series is a named tuple.
"""

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from inspect import Parameter, Signature
from operator import attrgetter
from typing import Any, ClassVar

from typing_extensions import dataclass_transform

_set = object.__setattr__


class _SignatureOfFields:
    """What `inspect.signature` and `help` say of a class: made when somebody asks."""

    def __get__(self, instance: object, owner: "type[Value]") -> Signature:
        kind = Parameter.POSITIONAL_OR_KEYWORD
        return Signature(
            [Parameter(one.name, kind, default=_shown_default(one), annotation=one.type) for one in owner._taken],  # noqa: SLF001
            return_annotation=None,
        )


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
class Value:
    """An immutable object with the fields that its class annotates, as those of a dataclass.

    Raises:
        TypeError: A field without a default is not given, or something is given that is no field.
        FrozenInstanceError: A field is set or deleted.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    __signature__ = _SignatureOfFields()
    _compared: "ClassVar[attrgetter[Any]]"
    """Returns the fields that make two objects equal."""
    _taken: ClassVar[tuple[Field[Any], ...]]
    """The fields that are given to the constructor."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclass(init=False, repr=False, eq=False)(cls)
        cls._taken = tuple(one for one in fields(cls) if one.init)
        cls._compared = attrgetter(*(one.name for one in fields(cls) if one.compare))

    def __init__(self, *values: Any, **named: Any) -> None:
        taken = self._taken
        if len(values) > len(taken):
            raise TypeError(f"{type(self).__name__}() takes {len(taken)} values, not {len(values)}")
        for one, value in zip(taken, values, strict=False):
            _set(self, one.name, value)
        for one in taken[len(values) :]:
            _set(self, one.name, named.pop(one.name) if one.name in named else _default(self, one))
        if named:
            raise TypeError(f"{type(self).__name__}() does not take, or has already: {', '.join(named)}")
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the fields, or set others with `object.__setattr__`."""

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        values = self._compared
        return bool(values(self) == values(other))

    def __hash__(self) -> int:
        return hash(self._compared(self))

    def __repr__(self) -> str:
        shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
        return f"{type(self).__qualname__}({shown})"


def _default(of: Value, one: Field[Any]) -> Any:
    if one.default_factory is not MISSING:
        return one.default_factory()
    if one.default is MISSING:
        raise TypeError(f"{type(of).__name__}() misses a value: {one.name}")
    return one.default


def _shown_default(one: Field[Any]) -> Any:
    if one.default_factory is not MISSING:
        return one.default_factory
    return Parameter.empty if one.default is MISSING else one.default
