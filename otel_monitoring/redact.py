"""`redact`: error texts lose their secrets before they enter an answer, a log line or a notification."""

import re

_REPLACED = "[REDACTED]"
_READ_LIMIT = 4000

# Each pattern is linear: no nested repetition, bounded runs. They see at most `_READ_LIMIT` characters.
_NAMES_OF_SECRETS = (
    r"password|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|session[_-]?id"
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"([a-z][a-z0-9+.-]{1,20}://)[^\s/?#@]{0,256}(?:@[^\s/?#@]{0,256})?@", re.IGNORECASE),
        rf"\1{_REPLACED}@",
    ),
    (re.compile(r"https://hooks\.slack\.com/[^\s\"'<>]{1,256}", re.IGNORECASE), _REPLACED),
    (re.compile(r"\b(bearer|basic|digest)\s+[\w.~+/=-]{4,2048}", re.IGNORECASE), rf"\1 {_REPLACED}"),
    (re.compile(r"\beyJ[\w-]{4,1024}\.[\w-]{4,2048}(?:\.[\w-]{0,1024})?"), _REPLACED),
    (
        re.compile(
            rf"([\w-]{{0,32}}(?:{_NAMES_OF_SECRETS})[\w-]{{0,32}}[\"']?\s{{0,4}}[=:]\s{{0,4}})"
            r"(?:\"[^\"]{0,512}\"?|'[^']{0,512}'?|[^\s,;&)}\]\"']{1,512})",
            re.IGNORECASE,
        ),
        rf"\1{_REPLACED}",
    ),
    (re.compile(r"[\w.+%-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,63}){1,8}"), _REPLACED),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), _REPLACED),
    (re.compile(r"\b(?:sk|pk|rk|xox[abprs]|gh[pousr]|glpat)[-_][\w-]{10,256}"), _REPLACED),
    (re.compile(r"\b(?=[A-Za-z+/_-]{0,64}\d)[A-Za-z0-9+/_-]{40,1024}={0,2}"), _REPLACED),
    (re.compile(r"\b[0-9a-fA-F]{32,1024}\b"), _REPLACED),
)
_CARD = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def redact(text: str, *, limit: int = 500) -> str:
    """`text` without credentials, tokens, keys, e-mail addresses, card numbers and control characters.

    Recognised by form: credentials in URIs, `Bearer …`, JSON web tokens, `password=…` and its like (also as JSON or
    Python repr), Slack webhook URLs, well-known key prefixes, long random-looking runs, card numbers by the Luhn sum.

    Args:
        text: Any text, of any length; only its first 4000 characters are looked at.
        limit: How many characters of the result are kept.
    """
    result = _CONTROL.sub(" ", str(text)[:_READ_LIMIT])
    for pattern, replacement in _RULES:
        result = pattern.sub(replacement, result)
    result = _CARD.sub(_card, result)
    return result if len(result) <= limit else result[: limit - 1] + "…"


def _card(match: re.Match[str]) -> str:
    digits = [int(c) for c in match.group() if c.isdigit()]
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return _REPLACED if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else match.group()
