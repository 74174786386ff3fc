"""Values: made, compared, shown and replaced as frozen dataclasses are."""

import copy
import inspect
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Any

import pytest

from otel_monitoring.value import Value


class Order(Value):
    """As our values are."""

    name: str
    size: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    secret: str = field(default="", repr=False)
    note: str = field(default="", compare=False)
    total: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size")
        object.__setattr__(self, "total", self.size * 2)


@dataclass(frozen=True)
class Model:
    """The same as a dataclass."""

    name: str
    size: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    secret: str = field(default="", repr=False)
    note: str = field(default="", compare=False)
    total: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.size * 2)


class Sized(Value):
    """Without a mapping, so that it has a hash."""

    name: str
    size: int = 1


@pytest.mark.parametrize(
    ("values", "named"),
    [(("a",), {}), (("a", 2), {}), (("a",), {"size": 3}), ((), {"name": "a", "secret": "s", "labels": {"k": "v"}})],
)
def test_a_value_is_made_and_shown_as_a_dataclass(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    own, model = Order(*values, **named), Model(*values, **named)
    assert asdict(own) == asdict(model)
    assert repr(own) == repr(model).replace("Model", "Order")
    assert [one.name for one in fields(Order)] == [one.name for one in fields(Model)]


def test_the_signature_is_that_of_the_fields() -> None:
    own, model = inspect.signature(Order), inspect.signature(Model)
    assert [(one.name, one.kind, one.annotation) for one in own.parameters.values()] == [
        (one.name, one.kind, one.annotation) for one in model.parameters.values()
    ]
    assert own.parameters["size"].default == 1
    assert own.parameters["labels"].default is dict
    assert own.parameters["name"].default is inspect.Parameter.empty


def test_a_default_is_made_for_each_value() -> None:
    assert Order("a").labels is not Order("a").labels


@pytest.mark.parametrize(
    ("values", "named", "said"),
    [
        ((), {}, "misses a value: name"),
        (("a", 1, {}, "", "", 5), {}, "takes 5 values, not 6"),
        (("a",), {"colour": 1}, "colour"),
        (("a",), {"name": "b"}, "name"),
        (("a",), {"total": 1}, "total"),
    ],
)
def test_what_cannot_be_taken_is_named(values: tuple[Any, ...], named: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Order(*values, **named)


def test_values_are_equal_by_their_fields() -> None:
    assert Sized("a", 2) == Sized("a", 2)
    assert hash(Sized("a", 2)) == hash(Sized("a", 2))
    assert Sized("a") != Sized("b")
    assert Order("a", note="x") == Order("a", note="y")
    assert Order("a") != Model("a")


def test_a_value_never_changes() -> None:
    order = Order("a")
    for name in ("name", "colour"):
        with pytest.raises(FrozenInstanceError):
            setattr(order, name, "b")
    with pytest.raises(FrozenInstanceError):
        del order.name
    assert order.name == "a"


def test_a_replaced_value_is_checked_again() -> None:
    changed = replace(Order("a"), size=4)
    assert (changed.name, changed.size, changed.total) == ("a", 4, 8)
    with pytest.raises(ValueError, match="size"):
        replace(changed, size=-1)


def test_a_value_is_copied_and_pickled() -> None:
    order = Order("a", labels={"k": "v"})
    pickled = pickle.loads(pickle.dumps(order))  # noqa: S301 - our own
    assert copy.deepcopy(order) == copy.copy(order) == pickled == order
    assert pickled.total == order.total
