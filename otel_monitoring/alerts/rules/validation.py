"""Checks of a rule's fields. Each raises a `ConfigurationError` whose message begins with the field's name."""

import math
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NoReturn, TypeVar

from otel_monitoring.alerts.model import AlertType
from otel_monitoring.config import template
from otel_monitoring.errors import ConfigurationError

E = TypeVar("E", bound=Enum)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_DOTTED_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.-]*")
_MESSAGE_FIELDS = frozenset({"rule", "value", "threshold"})


def refuse(setting: str, rule: str, why: str) -> NoReturn:
    """Raise the error of an invalid field.

    Args:
        setting: The field's name.
        rule: The rule's name.
        why: What is wrong with it.

    Raises:
        ConfigurationError: Always.
    """
    raise ConfigurationError(f"{setting}: {rule}: {why}") from None


def check_name(given: object) -> None:
    """Check a rule's name."""
    if not _NAME.fullmatch(str(given)):
        raise ConfigurationError(f"name: {given!r} must be lower case letters, digits and underscores")


def member(setting: str, rule: str, kind: type[E], given: object) -> E:
    """The member of `kind` that `given` is, or is the value of."""
    try:
        return kind(given)
    except ValueError:
        own = ", and no name of a type of your own" if issubclass(kind, AlertType) else ""
        refuse(setting, rule, f"{given!r} is none of {', '.join(str(choice.value) for choice in kind)}{own}")


def check_choice(setting: str, rule: str, given: str, choices: Iterable[str]) -> None:
    """Check that `given` is one of `choices`."""
    if given not in choices:
        refuse(setting, rule, f"{given!r} is none of {', '.join(choices)}")


def check_number(setting: str, rule: str, given: object, *, least: float = -math.inf) -> None:
    """Check that `given` is a finite number and at least `least`."""
    if not isinstance(given, int | float) or not math.isfinite(given):
        refuse(setting, rule, f"{given!r} is not a finite number")
    if given < least:
        refuse(setting, rule, f"{given!r} is less than {least:g}")


def check_label(rule: str, given: str) -> None:
    """Check the name of the label for the group."""
    if not _LABEL.fullmatch(given) or given in _MESSAGE_FIELDS or given == "instance":
        refuse("label", rule, f"{given!r} cannot be the name of a label")


def check_labels(rule: str, given: Mapping[str, object], *, taken: frozenset[str]) -> None:
    """Check the names and values of further labels; names in `taken` are refused, names with dots are accepted."""
    for key, value in given.items():
        if not _DOTTED_LABEL.fullmatch(key) or key in _MESSAGE_FIELDS | taken:
            refuse("labels", rule, f"{key!r} cannot be the name of a label")
        if not isinstance(value, str):
            refuse("labels", rule, f"{key}: {value!r} is not a string")


def check_template(setting: str, rule: str, text: str, known: Mapping[str, object]) -> None:
    """Check that a template can be filled in with `known`, the values of an alert by field."""
    try:
        template.check(text, known)
    except ValueError as error:
        refuse(setting, rule, str(error))


def check_link(setting: str, rule: str, given: str) -> None:
    """Check that a link is empty or begins with http:// or https://."""
    if given and not given.startswith(("https://", "http://")):
        refuse(setting, rule, f"{given!r} is no http or https link")
