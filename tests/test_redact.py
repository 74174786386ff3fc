"""No secret of a known form passes the redactor; ordinary error texts stay readable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_monitoring.redact import redact

CANARY = "hunter2Canary"


@pytest.mark.parametrize(
    "text",
    [
        f"mongodb://app:{CANARY}@db.internal:27017/orders failed",
        f"mongodb+srv://app:{CANARY}@cluster0.example.net/?retryWrites=true",
        f"redis://:{CANARY}@cache",
        f"mongodb://app:p@{CANARY}@db",
        f"Authorization: Bearer {CANARY}.abc",
        f"Authorization: Basic {CANARY}==",
        f"eyJhbGciOiJIUzI1NiJ9.{CANARY}.c2lnbmF0dXJl",
        f"login failed: password={CANARY}",
        f"login failed: password: '{CANARY} with blanks'",
        f'{{"user": "x", "api_key": "{CANARY}"}}',
        f"{{'smtp_password': '{CANARY}'}}",
        f"DB_SECRET_KEY = {CANARY}",
        f"token={CANARY}&next=/",
        f"no user {CANARY}@example.com",
        f"https://hooks.slack.com/services/T000/B000/{CANARY}",
        f"sk-{CANARY}0123456789",
        f"ghp_{CANARY}0123456789",
    ],
)
def test_secrets_do_not_pass(text: str) -> None:
    assert CANARY not in redact(text)


@pytest.mark.parametrize(
    "text", ["card 4111 1111 1111 1111 declined", "card 4111-1111-1111-1111", "5500000000000004 was refused"]
)
def test_card_numbers_do_not_pass(text: str) -> None:
    assert not any(part in redact(text) for part in ("1111 1111", "1111-1111", "5500000000000004"))


@pytest.mark.parametrize(
    "text",
    [
        "Connection refused: 127.0.0.1:27017",
        "E11000 duplicate key error collection: shop.orders index: number_1 dup key: { number: 1234567890123 }",
        "KeyError: 'customer'",
        'No replica set members match selector "Primary()", Timeout: 5.0s',
        "/api/orders/65f1c0ffee65f1c0ffee65f1 took 2345.67ms",
    ],
)
def test_ordinary_errors_stay_readable(text: str) -> None:
    assert redact(text) == text


def test_long_texts_are_cut() -> None:
    assert redact("ä" * 10_000, limit=50) == "ä" * 49 + "…"


def test_control_characters_cannot_forge_lines() -> None:
    assert redact("first\r\x1b[31msecond\x00") == "first  [31msecond "


@pytest.mark.parametrize(
    "unit", ["a@", "://", "password", "1 ", "eyJ.", "a.", "-", "'", "token='", "://@", "sk-", "A0/"]
)
def test_hostile_repetition_ends(unit: str) -> None:
    redact(unit * 100_000)


@given(st.text(max_size=300))
def test_never_raises_and_never_grows_past_its_limit(text: str) -> None:
    assert len(redact(text, limit=80)) <= 80
