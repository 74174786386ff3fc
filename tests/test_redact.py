"""No secret of a known form passes the redactor; ordinary error texts stay readable."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from otel_monitoring.redact import redact, redact_error

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
        f"mongodb://app:unescaped/{CANARY}@db/orders",
        f"Authorization: Token {CANARY}",
        f"{{'Authorization': b'Custom {CANARY}'}}",
        f"Cookie: theme=dark; session={CANARY}; lang=en",
        f"Set-Cookie: sid={CANARY}; Path=/",
        f"api key: {CANARY}",
        f"secret => {CANARY}",
        f"[('user', 'x'), ('password', '{CANARY}')]",
        f"password=b'{CANARY}'",
        f"password: a,{CANARY}",
        f'{{"password": "a\\"{CANARY}"}}',
        f"{{'tokens': ['{CANARY}', 'other']}}",
        f"credentials={{'user': '{CANARY}'}}",
        f"redirect=%2F&token%3D{CANARY}",
        f"https://storage.example.net/file?sig={CANARY}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}",
        f"https://discord.com/api/webhooks/1/{CANARY}",
        f"'{CANARY}'@example.com",
        f"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY{CANARY}",
        f"AKIAIOSFODNN7EXAMPLE:password={CANARY}",
        f"Command 'mongodump --db shop --password {CANARY}' returned non-zero exit status 1",
        f"['curl', '--api-token', '{CANARY}']",
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
        "HTTP 500 on /api/v1/customers/123/orders/456/deliveries/789/attempts",
        "FileNotFoundError: /var/lib/app1/uploads/customers/2024/invoices/january-final-version",
        "sign in again: expired yesterday",
        "mongodump: --password --db: no such option",
        "ModuleNotFoundError: No module named 'deliveries_and_subscriptions_for_customers_v2'",
    ],
)
def test_ordinary_errors_stay_readable(text: str) -> None:
    assert redact(text) == text


def test_long_texts_are_cut() -> None:
    assert redact("ä" * 10_000, limit=50) == "ä" * 49 + "…"


@pytest.mark.parametrize(("limit", "kept"), [(0, ""), (1, "…"), (5, "12345")])
def test_the_limit_is_kept_to_the_letter(limit: int, kept: str) -> None:
    assert redact("12345", limit=limit) == kept


def test_a_secret_halved_by_the_read_limit_goes_as_a_whole() -> None:
    text = "password=" + "y" * 512 + " "
    text = text * 7 + "x" * (3980 - 7 * len(text)) + f" mongodb://app:{CANARY}@db"
    assert CANARY[:3] not in redact(text, limit=4000)


def test_control_characters_cannot_forge_lines() -> None:
    assert redact("first\r\n\x1b[31msecond\x00\u202e\u2028third") == "first   [31msecond   third"


def test_the_result_can_always_be_encoded() -> None:
    assert redact("half a pair \ud83d").encode() == b"half a pair  "


def test_an_exception_that_cannot_be_printed_is_named() -> None:
    class Unprintable(Exception):  # noqa: N818 - it is about its text
        def __str__(self) -> str:
            raise RuntimeError

    class NoText(BaseException):
        def __str__(self) -> str:
            return 7  # type: ignore[return-value]

    class Ends(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise SystemExit

    for error in (Unprintable(), NoText(), Ends()):
        assert redact(error) == redact_error(error) == f"unprintable {type(error).__name__}"


def test_an_error_is_its_type_and_its_text() -> None:
    assert redact_error(ValueError("password=hunter2\n")) == "ValueError: password=[REDACTED] "
    assert redact_error(TimeoutError()) == "TimeoutError"


def test_pymongos_topology_is_left_out_and_what_follows_it_stays() -> None:
    client: MongoClient[dict[str, object]] = MongoClient("127.0.0.1", 9, serverSelectionTimeoutMS=1)
    with client, pytest.raises(PyMongoError) as caught:
        client.admin.command("ping")
    assert "Topology Description" in str(caught.value)
    shown = redact(f"{caught.value} (GET /orders)")
    assert re.fullmatch(r"127\.0\.0\.1:9: [^,<>()]*, Timeout: 0\.001s \(GET /orders\)", shown)
    assert redact(f"{'x' * 200}{', Topology Description: <a, ' * 9000}") == "x" * 200


@pytest.mark.parametrize(
    "character", ["\xad", "\u061c", "\u180e", "\u2060", "\u2066", "\ufff9", "\U000e0041", "\ue000"]
)
def test_invisible_characters_do_not_pass(character: str) -> None:
    assert redact(f"a{character}b ä 😀") == "a b ä 😀"


@pytest.mark.parametrize(
    "unit",
    [
        "a@",
        "://",
        "a://b:",
        "://@",
        "password",
        "pwd=",
        "pwd ",
        "token='",
        "token=[",
        "secret\\",
        "cookie=a;",
        "bearer ",
        "eyJ",
        "eyJ.",
        "a.",
        "-",
        "_",
        "'",
        '"@',
        "1 ",
        "sk-",
        "A0/",
        "authorization: ",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_hostile_repetition_ends(unit: str) -> None:
    redact(unit * 100_000)


@given(st.text(max_size=300))
def test_never_raises_and_never_grows_past_its_limit(text: str) -> None:
    assert len(redact(text, limit=80)) <= 80
