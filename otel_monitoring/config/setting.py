"""`Setting` and `Section`: one setting, and the immutable object whose attributes are settings.

Pydantic is not used for them: to make its models of as many fields takes 16 ms and 4,000 objects at every start of a
service, which then sets a handful of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from typing_extensions import dataclass_transform

from otel_monitoring.config.hints import did_you_mean
from otel_monitoring.config.values import Step
from otel_monitoring.errors import ConfigurationError
from otel_monitoring.redact import redact, redact_name

PREFIX: Final = "OTEL_MONITORING_"

Beside = Callable[[Any, Mapping[str, Any]], Any]
"""A step that also gets the settings before this one, without those that are wrong."""


class Setting:
    """One setting of a `Section`.

    Args:
        default: Its value where nobody sets it, which is valid.
        steps: They make its value of what is given, one after the other.
        beside: The last step, which also gets the settings above this one. The default takes it, too.
        variables: Its environment variables. Empty: the one that its section names.
        verbatim: Blanks around a text belong to it, as to a password.

    Attributes:
        default: As above.
        variables: Its environment variables; the first that is set counts.
    """

    __slots__ = ("_beside", "_steps", "_verbatim", "default", "variables")

    def __init__(
        self,
        default: Any,
        *steps: Step,
        beside: Beside | None = None,
        variables: tuple[str, ...] = (),
        verbatim: bool = False,
    ) -> None:
        self.default = default
        self.variables = variables
        self._steps = steps
        self._beside = beside
        self._verbatim = verbatim

    def read(self, given: object, others: Mapping[str, Any]) -> Any:
        """The value of what was given.

        Args:
            given: A text, or an object that has the form of the value already. None, or a text of blanks: the default.
            others: The settings before this one, without those that are wrong.

        Raises:
            ValueError: It cannot be used; the message says what it must be.
        """
        value = given if self._verbatim else _stripped(given)
        if value is None:
            value = self.default
        else:
            for step in self._steps:
                value = step(value)
        return value if self._beside is None or value is None else self._beside(value, others)


def _stripped(given: object) -> object:
    """A text without blanks around it; None for one of blanks alone, but not for one that is empty."""
    return given and (given.strip() or None) if isinstance(given, str) else given


def setting(default: Any, *steps: Step, **options: Any) -> Any:
    """A `Setting`, which a class has where its objects have the value: type checkers take it for the default."""
    return Setting(default, *steps, **options)


class Reading(NamedTuple):
    """What came of the values that were given for a section.

    Attributes:
        values: Each setting that could be read, by its name.
        wrong: What each of the others must be.
    """

    values: dict[str, Any]
    wrong: dict[str, str]


def _variable_of_ours(name: str) -> str:
    return PREFIX + name.upper()


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Section:
    """Settings that belong together: made of keyword arguments, they never change, and are equal by their values.

    Raises:
        ConfigurationError: A keyword is no setting, or a value cannot be used. The message is one line that names each.
    """

    fields: ClassVar[Mapping[str, Setting]] = {}
    """Every setting by its name, those of the base classes first."""
    _given = frozenset[str]()

    def __init_subclass__(cls, variable: Callable[[str], str] = _variable_of_ours) -> None:
        """Name the variables of the settings of `cls` that name none themselves.

        Args:
            variable: The variable of a setting by its name.
        """
        for name, one in vars(cls).items():
            if isinstance(one, Setting):
                one.variables = one.variables or (variable(name),)
        bases = reversed(cls.__mro__)
        cls.fields = {name: own for base in bases for name, own in vars(base).items() if isinstance(own, Setting)}

    def __init__(self, **given: Any) -> None:
        check_names(given, self.fields)
        values, wrong = self.read(given)
        if wrong:
            raise ConfigurationError(
                "; ".join(f"{self.fields[name].variables[0]}: {why}" for name, why in wrong.items())
            )
        vars(self).update(values, _given=frozenset(given))

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Reading:
        """The settings of what is given by their names; what is none of them is passed over."""
        found = Reading({}, {})
        for name, one in cls.fields.items():
            try:
                found.values[name] = one.read(given.get(name), found.values)
            except ValueError as error:
                found.wrong[name] = str(error)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Every setting by its name."""
        return {name: getattr(self, name) for name in self.fields}

    def given(self) -> dict[str, Any]:
        """The settings that were passed to the constructor, by their names; the others have their defaults."""
        return {name: getattr(self, name) for name in self.fields if name in self._given}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: settings never change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name}: settings never change")

    def __eq__(self, other: Any) -> bool:
        return self.as_dict() == other.as_dict() if type(self) is type(other) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # some values have none

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_masked(value)!r}" for name, value in self.as_dict().items())
        return f"{type(self).__name__}({shown})"


def _masked(value: object) -> object:
    """A text without what looks like a secret, as the password of a URL; other values as they are."""
    if isinstance(value, tuple):
        return tuple(_masked(each) for each in value)
    return redact(value) if isinstance(value, str | Path) else value


def check_names(given: Collection[str], known: Collection[str]) -> None:
    """Check that every name is that of a setting.

    Raises:
        ConfigurationError: Some are not; the message names each, and the setting that was probably meant.
    """
    unknown = sorted(name for name in given if name not in known)
    if unknown:
        lines = (f"{redact_name(name)}: no such setting{did_you_mean(name, known)}" for name in unknown)
        raise ConfigurationError("; ".join(lines))
