"""No secret of a known form passes the redactor; ordinary error texts stay readable."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from otel_monitoring.redact import REPLACED, is_secret, printable, redact, redact_error, redact_lines, secret_names
from otel_monitoring.redact.secret_forms import hide

CANARY = "hunter2Canary"


CORPUS = Path(__file__).parents[1] / "corpus"


def lines(name: str) -> list[str]:
    """The texts of a file of the corpus."""
    texts = (CORPUS / name).read_text("utf-8").splitlines()
    return [text for text in texts if not text.startswith("# ")]


SECRETS = [tuple(re.split("[⟦⟧]", line)) for line in lines("secrets.txt")]
"""What stands before a secret, the secret, and what stands behind it."""


def test_secrets_do_not_pass() -> None:
    told = {text: redact("".join(text)) for text in SECRETS}
    assert [text for text in SECRETS if text[1] in told[text] or REPLACED not in told[text]] == []


def test_secrets_do_not_pass_in_the_middle_of_other_text() -> None:
    def inside(text: tuple[str, ...]) -> str:
        return f"order 17: {''.join(text)} (attempt 3 of 10)\nValueError: no such customer"

    assert [text for text in SECRETS if text[1] in redact(inside(text))] == []


def test_ordinary_texts_stay_as_they_are() -> None:
    told = {line: redact(line) for line in lines("ordinary.txt")}
    assert {line: text for line, text in told.items() if text != line} == {}


@pytest.mark.parametrize("value", ["Bearer abc", "Basic dXNlcjpwYXNz", "b'Bearer abc'"])
def test_a_header_of_authorization_goes_as_a_whole(value: str) -> None:
    assert redact(f"Authorization: {value}").replace("'", "") in (
        f"Authorization: {REPLACED}",
        f"Authorization: b{REPLACED}",
    )


def test_the_corpus_is_large() -> None:
    assert min(len(set(SECRETS)), len(set(lines("ordinary.txt")))) >= 200
    assert {len(text) for text in SECRETS} == {3}


FRAGMENTS: list[str] = [json.loads(line) for line in (CORPUS / "costly.jsonl").read_text("utf-8").splitlines()]
"""What a pattern begins with, or repeats: a text of nothing else is the worst for it."""


EVERYTHING = "".join(FRAGMENTS) * 20


def cost(text: str) -> float:
    """The CPU time of redacting a text, in seconds."""
    started = time.thread_time()
    hide(printable(text))
    return time.thread_time() - started


def least(text: str) -> float:
    return min(cost(text) for _ in range(5))


def within(text: str, limit: float) -> bool:
    """Whether the least of some attempts is below the limit; the first that is ends them."""
    return any(cost(text) < limit for _ in range(10))


@pytest.fixture(scope="module")
def usual() -> float:
    """What a text of that length costs that is a little of everything."""
    return least(EVERYTHING[:4000])


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_no_text_costs_much_more_than_another(fragment: str, usual: float) -> None:
    def repeated(length: int) -> str:
        return (fragment * (length // len(fragment) + 1))[:length]

    long = repeated(16_000)
    if cost(long) < 8 * usual:
        return  # four times the length of the usual text, and at most twice its cost for a character
    short = least(repeated(4000))
    assert short < 20 * usual, "the factor is small"
    assert within(long, 10 * max(short, 0.0005)), "4 times is linear, 16 times squared"


def test_long_texts_are_cut() -> None:
    assert redact("ä" * 10_000, limit=50) == "ä" * 49 + "…"


@pytest.mark.parametrize(("limit", "kept"), [(0, ""), (1, "…"), (5, "12345")])
def test_the_limit_is_kept_to_the_letter(limit: int, kept: str) -> None:
    assert redact("12345", limit=limit) == kept


def test_a_secret_halved_by_the_read_limit_goes_as_a_whole() -> None:
    text = "password=" + "y" * 512 + " "
    text = text * 7 + "x" * (3980 - 7 * len(text)) + f" mongodb://app:{CANARY}@db"
    assert CANARY[:3] not in redact(text, limit=4000)


@pytest.mark.parametrize(
    "whole", [f'{{"uri":"mongodb://app:{CANARY}@db"}}', f"<mongodb://app:{CANARY}@db>", f"mongodb://app:{CANARY}@db"]
)
@pytest.mark.parametrize("kind", [str, str.encode])
def test_a_secret_halved_in_a_text_without_blanks_goes_as_a_whole(kind: Callable[[str], object], whole: str) -> None:
    for filling in range(3940, 4001):
        assert CANARY[:3] not in redact(kind("x" * filling + whole + "y" * 100), limit=4000)


def test_of_one_long_line_the_beginning_is_told() -> None:
    told = redact_lines("refused: " + "password=x " * 100_000)
    assert told.startswith("refused: password=[REDACTED] password=[REDACTED] ")
    assert told.endswith("\n…")


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
    "character",
    ["\xad", "\u061c", "\u180e", "\u2060", "\u2066", "\ufff9", "\U000e0041", "\ue000", "\u034f", "\u3164", "\ufe0f"],
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


SECRET_NAMES = """
    password user_password userPassword pwd passwd pass db_pass dbPass token accessToken x-auth-token Authorization
    cookie
    Set-Cookie client_secret apiKey x-api-key private_key PrivateKey sshKey tls_key credentials sessionId sid jwt bearer
    otp otp_code mfa_code security_code cvv card_cvc cardNumber iban pin user_pin csrf xsrf signature sig auth basicAuth
    passphrase connectionString SENTRY_DSN AccountKey secret_id hmac stripe_signature passwordHash master_key
"""
OTHER_NAMES = """
    order_id customer keyboard monkey author authority passenger bypass compass passed spinner pinned opinion side
    inside
    token_type tokenCount password_length password_policy passwordless secretary tokenizer key primary_key public_key
    key_id idempotency_key cache_key signal signup design cookie_consent auth_method authenticated passport path insider
    scope pins
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_names_of_secrets_are_known_alone_and_in_longer_names(name: str) -> None:
    assert all(is_secret(spelt) for spelt in (name, f"db.{name}", f"x_{name}", f'["body", "{name}"]'))


@given(st.from_regex(secret_names._SECRET_NAME.compiled))
def test_no_name_of_a_secret_is_left_unsearched(name: str) -> None:
    found = secret_names._SECRET_NAME.search(name)
    assert is_secret(name) or found is None or secret_names._ABOUT.search(name) is not None


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_names_that_only_look_like_those_of_secrets_are_none(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.slow
def test_a_process_compiles_no_pattern_that_its_texts_do_not_need() -> None:
    code = """
import gc
from otel_monitoring import MonitoringService
from otel_monitoring.redact import redact
from otel_monitoring.redact.lazy_pattern import LazyPattern
patterns = [one for one in gc.get_objects() if isinstance(one, LazyPattern)]
compiled = lambda: sum("compiled" in vars(pattern) for pattern in patterns)
MonitoringService()
assert len(patterns) > 20 and compiled() == 0, (len(patterns), compiled())
redact("no answer")
assert 0 < compiled() < len(patterns) / 2, compiled()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_of_the_names_that_were_asked_for_only_some_short_ones_are_kept() -> None:
    """A caller of the service may choose them: names of JSON fields, of headers."""

    class Peculiar(str):
        def __hash__(self) -> int:
            raise AssertionError("asked")

    kept = secret_names._known.cache_info
    assert [is_secret(f"password_{number}") for number in range(2000)] == [True] * 2000
    assert kept().currsize == kept().maxsize
    before = kept()
    assert is_secret("password" + "s" * 100_000)
    assert is_secret(Peculiar("password"))
    assert kept() == before
