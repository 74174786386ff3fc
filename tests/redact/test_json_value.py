"""Whatever an application hands over becomes bounded JSON without secrets; ordinary values stay as they are."""

import enum
import json
import uuid
from collections import OrderedDict, UserString, deque, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from otel_monitoring.redact.json_text import json_text
from otel_monitoring.redact.json_value import LENGTH, jsonable

CANARY = "hunter2Canary"


class Unprintable:
    """Nothing can be asked of it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error or RuntimeError("no text")

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


class NoText:
    def __str__(self) -> str:
        return 7  # type: ignore[return-value] # what applications do


class HostileMapping(Mapping[str, object]):
    """It gives one entry, then raises what no application catches."""

    def __getitem__(self, key: str) -> object:
        return "value"

    def __iter__(self) -> Iterator[str]:
        yield "first"
        raise KeyboardInterrupt

    def __len__(self) -> int:
        raise SystemExit


class HostileDict(dict[str, object]):
    def items(self) -> Any:
        raise SystemExit

    keys = __iter__ = items


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Login:
    user: str
    password: str
    hidden: str = field(default=CANARY, repr=False)


class Request(BaseModel):
    user: str
    api_key: str
    secret: SecretStr
    hidden: str = Field(repr=False)


Pair = namedtuple("Pair", "user token")


class Classless:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise SystemExit


class Scalar:
    """What numpy's numbers have in common."""

    shape = ()

    def tolist(self) -> float:
        return 1.5


def chained() -> Exception:
    error = ValueError({"order": 7, "auth": {"deep": {}, "user": CANARY}})
    error.__cause__ = KeyError(f"password={CANARY}")
    return error


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [1, 2.5, True, None, "text"]}, {"a": [1, 2.5, True, None, "text"]}),
        (ObjectId("65f1c0ffee65f1c0ffee65f1"), "65f1c0ffee65f1c0ffee65f1"),
        (uuid.UUID("e94bce13-beb1-437c-a784-e4b4ebda11e6"), "e94bce13-beb1-437c-a784-e4b4ebda11e6"),
        (date(2026, 5, 28), "2026-05-28"),
        (datetime(2026, 5, 28, 20, tzinfo=timezone.utc), "2026-05-28T20:00:00+00:00"),
        (Decimal("12.50"), "12.50"),
        (b"bytes", "bytes"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ({1}, [1]),
        (frozenset(), []),
        (deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        (Colour.RED, "red"),
        ([Level.HIGH], [3]),
        (Scalar(), 1.5),
        (float("nan"), "NaN"),
        ([float("inf"), -float("inf")], ["Infinity", "-Infinity"]),
        ([10**5000], ["a number of 16610 bits"]),
        ([2**80], ["1208925819614629174706176"]),
        (2**63, 2**63),
        ("half \ud800 and \x1b[31m\r\nred", "half   and  [31m  red"),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (Unprintable(), "unprintable Unprintable"),
        (Unprintable(SystemExit()), "unprintable Unprintable"),
        (Unprintable(KeyboardInterrupt()), "unprintable Unprintable"),
        (NoText(), "unprintable NoText"),
        ([1, Unprintable(), 2], [1, "unprintable Unprintable", 2]),
        (HostileMapping(), {"first": "value", "…": "the rest cannot be read"}),
        (HostileDict(a=1), {"a": 1}),
        (Login, f"<class '{__name__}.Login'>"),
        (UserString("one text, no list of texts"), "one text, no list of texts"),
        ({"a": 1, "b": Classless(), "c": 3}, {"a": 1, "b": "unprintable Classless", "c": 3}),
        ({"a": 1, Classless(): 2, "c": 3}, {"a": 1, "unprintable Classless": 2, "c": 3}),
        ([1, Classless(), 3], [1, "unprintable Classless", 3]),
        (KeyError({"password": "hunter2"}), 'KeyError: {"password": "[REDACTED]"}'),
    ],
)
def test_every_value_has_a_form(value: object, told: object) -> None:
    assert jsonable(value) == told


def test_keys_are_texts_and_stay_apart() -> None:
    keys: dict[object, int] = {("a", 1): 1, None: 2, date(2026, 5, 28): 3, 1: 4, "1": 5, b"k": 6, 1.5: 7, Colour.RED: 8}
    assert jsonable({**keys, float("nan"): 9, Unprintable(): 10, "key\n": 11}) == {
        "('a', 1)": 1,
        "null": 2,
        "2026-05-28": 3,
        "1": 4,
        "1 (2)": 5,
        "k": 6,
        "1.5": 7,
        "red": 8,
        "NaN": 9,
        "unprintable Unprintable": 10,
        "key ": 11,
    }


def test_iterators_are_not_consumed() -> None:
    numbers = iter([1, 2])
    jsonable({"numbers": numbers, "generated": (n for n in numbers)})
    assert list(numbers) == [1, 2]


def test_what_is_too_deep_too_wide_or_circular_is_left_out_where_it_stands() -> None:
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"a": deep}
    circle: dict[str, Any] = {"here": 1}
    circle["again"] = [circle]
    told = jsonable({"deep": deep, "wide": range(1_000_000), "circle": circle, "last": "seen"})
    assert json.dumps(told["deep"]) == '{"a": ' * 7 + '"\\u2026"' + "}" * 7
    assert told["wide"] == [*range(50), "… 999950 more"]
    assert told["circle"] == {"here": 1, "again": ["circular reference"]}
    assert told["last"] == "seen"
    many = jsonable({number: number for number in range(1000)})
    assert (len(many), many["…"]) == (51, "950 more")


def test_a_large_value_leaves_room_for_what_stands_beside_it() -> None:
    told = jsonable(
        {"body": ["x" * 900] * 50, "endpoints": {f"/{n}": {"count": n} for n in range(50)}, "error": "timeout"}
    )
    assert told["error"] == "timeout"
    assert len(told["endpoints"]) > 20
    assert len(json.dumps(told)) <= LENGTH


@pytest.mark.parametrize(
    "value",
    [
        {"request": {"body": [{"password": CANARY}]}},
        {"Authorization": f"Custom {CANARY}"},
        {"api-key": [CANARY, CANARY]},
        {"apiKey": {"any": {"thing": CANARY}}},
        {"cookies": {"theme": CANARY}},
        {"client_secret": 7_305_441_921, "x": CANARY[:0]},
        {"auth": ("user", CANARY)},
        {"headers": [(b"authorization", CANARY.encode()), ("Cookie", CANARY)]},
        {f"mongodb://app:{CANARY}@db": 1},
        {("password", CANARY): CANARY},
        {"rows": [f"token={CANARY}", f"https://user:{CANARY}@host"]},
        {"errors": [{"type": "string_too_short", "loc": ("body", "password"), "input": CANARY}]},
        {"parameters": [{"name": "access_token", "value": CANARY}]},
        Login("ana", CANARY),
        Request(user="ana", api_key=CANARY, secret=SecretStr(CANARY), hidden=CANARY),
        Pair("ana", CANARY),
        ValueError(f"password={CANARY}"),
        ValueError("refused", {"token": {"a": {}, "b": CANARY}}),
        KeyError({"secret": {"a": {}, "b": CANARY}}),
        chained(),
        [b"password=" + CANARY.encode()],
        memoryview(b"token: " + CANARY.encode()),
        {"card": 4111111111111111},
        {"card": "4111 1111 1111 1111"},
        Decimal(4111111111111111),
    ],
)
def test_no_secret_comes_out(value: object) -> None:
    told = json.dumps(jsonable({"given": value}))
    assert CANARY not in told
    assert "4111" not in told
    assert "7305441921" not in told
    assert CANARY not in json.dumps(jsonable(value))


def test_what_only_sounds_secret_stays() -> None:
    plain = {"author": "ana", "spinner": "on", "password": None, "token_valid": False, "at_ms": 1_780_000_000_123}
    assert jsonable(plain) == plain


def test_an_exception_says_what_caused_it() -> None:
    error = ValueError("no answer")
    error.__context__ = ConnectionResetError("by peer")
    assert jsonable(error) == "ValueError: no answer; caused by ConnectionResetError: by peer"
    error.__suppress_context__ = True
    assert jsonable(error) == "ValueError: no answer"
    error = ValueError("circle")
    error.__cause__ = error
    assert jsonable(error) == "ValueError: circle"
    assert jsonable(chained()) == (
        'ValueError: {"order": 7, "auth": "[REDACTED]"}; caused by KeyError: \'password=[REDACTED]\''
    )


NAMES = st.sampled_from(["password", "Token", "x-api-key", "set_cookie", "authorization", "clientSecret"])
SECRETS = st.just(CANARY) | st.just(CANARY.encode()) | st.lists(st.just(CANARY), min_size=1)
# Hypothesis takes constants of the tests for examples.
TEXT = st.text(max_size=2000).filter(lambda text: CANARY not in text)
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.characters(categories=["Cs", "Cc", "Cf"])
    | st.binary(max_size=50)
    | st.dates()
    | st.decimals()
    | st.uuids()
    | st.complex_numbers()
    | st.builds(Unprintable)
    | st.builds(ValueError, TEXT)
    | st.dictionaries(NAMES, SECRETS, min_size=1)
    | st.builds(lambda name, secret: [(name, secret)], NAMES, SECRETS)
    | st.builds(lambda name: f"{name}={CANARY}", st.sampled_from(["password", "access_token"]))
    | st.builds(lambda name, secret: RuntimeError({name: secret}), NAMES, SECRETS)
)
KEYS = TEXT | st.integers() | st.none() | st.floats() | st.dates() | st.tuples(TEXT) | st.builds(Unprintable)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(KEYS, inner)
        | st.tuples(inner, inner)
        | st.builds(HostileDict, st.dictionaries(TEXT, inner))
        | st.builds(Login, inner, inner)
    ),
    max_leaves=40,
)


@settings(max_examples=60)
@given(VALUES, st.integers(500, 10_000))
def test_anything_becomes_bounded_json_without_secrets(value: object, limit: int) -> None:
    told = json.dumps(jsonable(value, limit=limit), allow_nan=False)
    assert len(told) <= limit
    assert CANARY not in told
    told.encode()


@settings(max_examples=30)
@given(VALUES)
def test_the_result_is_its_own_form(value: object) -> None:
    """Made readable twice, as what another worker reported is, it says the same."""
    assert json.loads(json.dumps(jsonable(value))) == jsonable(value)


def test_an_answer_is_json_whatever_slipped_in() -> None:
    answer = {"rate": float("nan"), "all": [float("inf"), 1.5, None], 3: {4}, "who": Unprintable(), "n": 10**5000}
    assert json.loads(json_text(answer), parse_constant=pytest.fail) == {
        "rate": None,
        "all": [None, 1.5, None],
        "3": [4],
        "who": "unprintable Unprintable",
        "n": "unprintable int",
    }
    assert json_text({"a": 1.5}) == '{"a": 1.5}'


def test_how_many_tokens_a_language_model_took_is_no_secret() -> None:
    used = {"prompt_tokens": 512, "totalTokens": 640, "tokens": [CANARY], "token": 4711}
    assert jsonable(used) == {"prompt_tokens": 512, "totalTokens": 640, "tokens": "[REDACTED]", "token": "[REDACTED]"}
