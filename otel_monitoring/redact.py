"""`redact`: error texts lose their secrets before they enter an answer, a log line or a notification."""

import re

_REPLACED = "[REDACTED]"
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
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)"), _REPLACED),
    # Up to the last @: an unescaped password may contain / and @ itself.
    (re.compile(r"([a-z][a-z0-9+.-]{1,20}://)[^\s\"'<>]{0,256}@", re.IGNORECASE), rf"\1{_REPLACED}@"),
    (
        re.compile(
            r"https?://(?:hooks\.slack(?:-gov)?\.com|discord(?:app)?\.com/api/webhooks"
            r"|[\w.-]{1,64}\.webhook\.office\.com)/[^\s\"'<>]{1,256}",
            re.IGNORECASE,
        ),
        _REPLACED,
    ),
    (
        re.compile(
            r"\b((?:proxy-)?authorization[\"']?\s{0,4}[=:]\s{0,4}b?[\"']?)(?:[\w-]{1,30}\s{1,4})?[^\s\"']{1,1024}",
            re.IGNORECASE,
        ),
        rf"\1{_REPLACED}",
    ),
    (
        re.compile(
            r"\b((?:set-)?cookie[\"']?\s{0,4}[=:]\s{0,4}b?[\"']?)[^\s\"';]{1,1024}(?:;\s{0,4}[^\s\"';]{1,512}){0,50}",
            re.IGNORECASE,
        ),
        rf"\1{_REPLACED}",
    ),
    (re.compile(r"\b(bearer|basic|digest)\s+[\w.~+/=-]{4,2048}", re.IGNORECASE), rf"\1 {_REPLACED}"),
    (re.compile(r"\beyJ[\w-]{4,1024}\.[\w-]{4,2048}(?:\.[\w-]{0,1024})?"), _REPLACED),
    (
        # `word=…`, `word: …`, `"word": …`, `word => …`, `word%3D…` and the tuple `('word', …)` of Python's repr.
        re.compile(
            rf"((?:{_TELLTALE})[\w-]{{0,32}}(?:[\"']?\s{{0,4}}(?:=>|[=:]|%3[ad])|[\"'],)\s{{0,4}})(?:{_VALUE})",
            re.IGNORECASE,
        ),
        rf"\1{_REPLACED}",
    ),
    (re.compile(r"(?:[\w.+%-]{1,64}|\"[^\"]{1,64}\"|'[^']{1,64}')@[\w-]{1,64}(?:\.[\w-]{1,63}){1,8}"), _REPLACED),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), _REPLACED),
    (re.compile(r"\b(?:sk|pk|rk|xox[abprs]|gh[pousr]|glpat|github_pat)[-_][\w-]{10,256}"), _REPLACED),
    (re.compile(r"\b[0-9a-fA-F]{32,1024}\b"), _REPLACED),
)
_LONG_RUN = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")
_RUN_CHANGE = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[a-z0-9])|[0-9](?=[A-Za-z])")
_CARD = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
# Control characters, invisible and direction-changing ones, and halves of surrogate pairs, which no encoder takes.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def redact(text: object, *, limit: int = 500) -> str:
    """`text` as one printable line without credentials, tokens, keys, e-mail addresses and card numbers; never raises.

    Recognised by form: credentials in URIs, `Authorization` and cookies, `Bearer …`, JSON web tokens, private keys,
    `password=…` and its like (also as JSON or Python repr), webhook URLs, well-known key prefixes, long random-looking
    runs, card numbers by the Luhn sum. When in doubt it hides too much. A password in a sentence has no form: it stays.

    Args:
        text: Any text, of any length, or an exception; only its first 4000 characters are looked at.
        limit: How many characters of the result are kept, 0 or more.
    """
    try:
        readable = str(text)
    except Exception:  # noqa: BLE001 - an application's own __str__ may raise anything
        readable = f"unprintable {type(text).__name__}"
    if len(readable) > _READ_LIMIT:
        # What the cut halves would not be recognised any more: it goes as a whole.
        readable = readable[:_READ_LIMIT].rsplit(None, 1)[0]
    result = _UNPRINTABLE.sub(" ", readable)
    for pattern, replacement in _RULES:
        result = pattern.sub(replacement, result)
    result = _CARD.sub(_card, _LONG_RUN.sub(_run, result))
    return result if len(result) <= limit else result[: max(0, limit - 1)] + "…" * (limit > 0)


def _run(match: re.Match[str]) -> str:
    """Paths and identifiers change between small, capital and digit seldom; random text on two of three characters."""
    run = match.group()
    random = len(_RUN_CHANGE.findall(run)) * 4 >= len(run)
    return _REPLACED if random else run


def _card(match: re.Match[str]) -> str:
    digits = [int(c) for c in match.group() if c.isdigit()]
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return _REPLACED if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else match.group()
