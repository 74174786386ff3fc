"""`redact`: what comes from outside becomes one printable line without secrets before anybody reads it.

Its counterpart for values of any type is `otel_monitoring.jsonable`.
"""

import re

REPLACED = "[REDACTED]"
_READ_LIMIT = 4000

# Each pattern is linear: no nested repetition, bounded runs. They see at most `_READ_LIMIT` characters.
_TELLTALE = (
    r"password|passwd|passcode|passphrase|pwd|secret|token|api[_ -]?key|access[_-]?key|private[_-]?key|credential"
    r"|session[_-]?id|signature|\bsig\b"
)
_VALUE = (
    r"[bru]{0,2}\"(?:[^\"\\]|\\.){0,512}\"?"
    r"|[bru]{0,2}'(?:[^'\\]|\\.){0,512}'?"
    r"|[\[({][^\])}]{0,512}[\])}]?"
    r"|(?:[^\s,;&)}\]\"']|,(?=\S)){1,512}"
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)"), REPLACED),
    # Up to the last @: an unescaped password may contain / and @ itself.
    (re.compile(r"([a-z][a-z0-9+.-]{1,20}://)[^\s\"'<>]{0,256}@", re.IGNORECASE), rf"\1{REPLACED}@"),
    (
        re.compile(
            r"https?://(?:hooks\.slack(?:-gov)?\.com|discord(?:app)?\.com/api/webhooks"
            r"|[\w.-]{1,64}\.webhook\.office\.com)/[^\s\"'<>]{1,256}",
            re.IGNORECASE,
        ),
        REPLACED,
    ),
    (
        re.compile(
            r"\b((?:proxy-)?authorization[\"']?\s{0,4}[=:]\s{0,4}b?[\"']?)(?:[\w-]{1,30}\s{1,4})?[^\s\"']{1,1024}",
            re.IGNORECASE,
        ),
        rf"\1{REPLACED}",
    ),
    (
        re.compile(
            r"\b((?:set-)?cookie[\"']?\s{0,4}[=:]\s{0,4}b?[\"']?)[^\s\"';]{1,1024}(?:;\s{0,4}[^\s\"';]{1,512}){0,50}",
            re.IGNORECASE,
        ),
        rf"\1{REPLACED}",
    ),
    (re.compile(r"\b(bearer|basic|digest)\s+[\w.~+/=-]{4,2048}", re.IGNORECASE), rf"\1 {REPLACED}"),
    (re.compile(r"\beyJ[\w-]{4,1024}\.[\w-]{4,2048}(?:\.[\w-]{0,1024})?"), REPLACED),
    (
        # `word=…`, `word: …`, `"word": …`, `word => …`, `word%3D…` and the tuple `('word', …)` of Python's repr.
        re.compile(
            rf"((?:{_TELLTALE})[\w-]{{0,32}}(?:[\"']?\s{{0,4}}(?:=>|[=:]|%3[ad])|[\"'],)\s{{0,4}})"
            rf"(?![\"']{re.escape(REPLACED)}[\"'])(?:{_VALUE})",
            re.IGNORECASE,
        ),
        rf"\1{REPLACED}",
    ),
    # `--password …` of a command line.
    (
        re.compile(rf"(--[\w-]{{0,32}}(?:{_TELLTALE})[\w-]{{0,32}}\s{{1,4}})(?!-)(?:{_VALUE})", re.IGNORECASE),
        rf"\1{REPLACED}",
    ),
    (re.compile(r"(?:[\w.+%-]{1,64}|\"[^\"]{1,64}\"|'[^']{1,64}')@[\w-]{1,64}(?:\.[\w-]{1,63}){1,8}"), REPLACED),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), REPLACED),
    (re.compile(r"\b(?:sk|pk|rk|xox[abprs]|gh[pousr]|glpat|github_pat)[-_][\w-]{10,256}"), REPLACED),
    (re.compile(r"\b[0-9a-fA-F]{32,1024}\b"), REPLACED),
)
_SECRET_NAME = re.compile(
    rf"{_TELLTALE}|authorization|cookie|connection[ _-]?string|encryption[ _-]?key|signing[ _-]?key"
    r"|(?<![a-z])(?:auth|bearer|csrf|cvc|cvv|dsn|jwt|otp|pass|pin|pw|sid|xsrf)(?![a-z])",
    re.IGNORECASE,
)
_LONG_RUN = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")
_RUN_CHANGE = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[a-z0-9])|[0-9](?=[A-Za-z])")
_CARD = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
_SUSPECT = re.compile(r"[^ -~]")
# PyMongo repeats each server's error in its description of the topology, and says after it what its timeouts are.
_TIMEOUTS = re.compile(r" \(configured timeouts: [^()]{0,200}\)")
_TOPOLOGY = ", Topology Description: <"


def redact(text: object, *, limit: int = 500) -> str:
    """`text` as one printable line without credentials, tokens, keys, e-mail addresses and card numbers; never raises.

    Recognised by form: credentials in URIs, `Authorization` and cookies, `Bearer …`, JSON web tokens, private keys,
    `password=…` and its like (also as JSON or Python repr), webhook URLs, well-known key prefixes, long random-looking
    runs, card numbers by the Luhn sum. When in doubt it hides too much. A password in a sentence has no form: it stays.
    PyMongo's description of a topology is left out.

    Args:
        text: Anything that has a text, of any length; only its first 4000 characters are looked at.
        limit: How many characters of the result are kept, 0 or more.
    """
    readable = _without_topology(text_of(text))
    if len(readable) > _READ_LIMIT:
        # What the cut halves would not be recognised any more: it goes as a whole.
        readable = readable[:_READ_LIMIT].rsplit(None, 1)[0]
    result = printable(readable)
    for pattern, replacement in _RULES:
        result = pattern.sub(replacement, result)
    result = _CARD.sub(_card, _LONG_RUN.sub(_run, result))
    return result if len(result) <= limit else result[: max(0, limit - 1)] + "…" * (limit > 0)


def redact_error(error: BaseException, *, limit: int = 500) -> str:
    """`redact` of `ValueError: what it says`; never raises.

    Args:
        error: Any exception, also one that cannot be printed.
        limit: How many characters are kept.
    """
    kind, said = kind_of(error), text_of(error)
    return redact(f"{kind}: {said}" if said and said != _unprintable(error) else said or kind, limit=limit)


def is_secret(name: str) -> bool:
    """Whether a value of this name is one that nobody should read."""
    return _SECRET_NAME.search(name) is not None


def printable(text: str) -> str:
    """`text` with a blank for each line break and each control, invisible, direction-changing or unpaired character."""
    return text if text.isprintable() else _SUSPECT.sub(lambda c: c[0] if c[0].isprintable() else " ", text)


def text_of(value: object) -> str:
    """The text of anything: bytes decoded, everything else as `str` has it; never raises. It may hold secrets."""
    try:
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value[:_READ_LIMIT]).decode(errors="backslashreplace")
        return str(value)
    except BaseException:  # noqa: BLE001 - an application's own __str__ may raise anything
        return _unprintable(value)


def kind_of(value: object) -> str:
    """The name of a value's type; never raises."""
    name = type.__dict__["__name__"].__get__(type(value))
    return str.__str__(name)


def _unprintable(value: object) -> str:
    return f"unprintable {kind_of(value)}"


def _without_topology(text: str) -> str:
    start = text.find(_TOPOLOGY)
    if start >= 0:
        end = text.rfind(">", start)
        text = text[:start] + (text[end + 1 :] if end >= 0 else "")
    return _TIMEOUTS.sub("", text) if " (configured timeouts: " in text else text


def _run(match: re.Match[str]) -> str:
    """Paths and identifiers change between small, capital and digit seldom; random text on two of three characters."""
    run = match.group()
    random = len(_RUN_CHANGE.findall(run)) * 4 >= len(run)
    return REPLACED if random else run


def _card(match: re.Match[str]) -> str:
    digits = [int(c) for c in match.group() if c.isdigit()]
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return REPLACED if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else match.group()
