"""`hide`: the forms in which secrets stand in texts, and what takes their place.

Every pattern is linear in the text, with a small factor: it begins only where a run of its characters begins, or at a
word of its own, and repeats nothing that it repeats already. `tests/test_redact.py` tries each against its worst text.

The forms were compared with those of gitleaks 8 and detect-secrets 1.5. They search source code, a file at a time, with
hundreds of patterns of which few occur in error texts: what both call generic (a telling name and a value), and the
prefixes that services gave their keys so that they can be found. These are here.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

REPLACED = "[REDACTED]"


TELLTALE = (
    r"password(?!less)|passwd|passcode|passphrase|pwd|secret(?!ar)|token(?!i[sz])|credential|signature"
    r"|(?:api|access|account|client|consumer|encryption|master|private|sas|service|shared|signing|storage|subscription)"
    r"[_ -]?key|connection[_ -]?string|session[_-]?id|\bsig\b"
)
"""Names of which the value is a secret, wherever they stand in a longer name."""

_QUOTED = r"[bru]{0,2}\"(?:[^\"\\]|\\.){0,512}\"?|[bru]{0,2}'(?:[^'\\]|\\.){0,512}'?"
# JSON inside JSON: its quotes are escaped, once for each time it was put into another text.
_ESCAPED = r"\\{1,7}\"(?:[^\"\\]|\\{1,7}(?![\"\\])){0,512}(?:\\{1,7}\")?|\\{1,7}'[^'\\]{0,512}(?:\\{1,7}')?"
_VALUE = rf"{_ESCAPED}|{_QUOTED}|[\[({{][^\])}}]{{0,512}}[\])}}]?|(?:[^\s,;&)}}\]\"']|,(?=\S)){{1,512}}"
_ASSIGNS = r"(?:\\{0,7}[\"'])?\s{0,4}(?:=>|[=:]|(?:%22)?%3[ad](?:%22)?)|[\"'],|(?<=\w)>(?=[^\s<])"
# What stands after `password:` in a sentence, and in the messages of validators.
_PROSE = re.compile(
    r"(?:a|an|the|is|are|was|has|have|had|must|may|can|cannot|can't|should|could|will|does|did|do|not|no|none|null|nil|true|false|only"
    r"|at|by|for|from|in|of|on|to|too|with|value|values|field|input|string|str|int|bytes|type|length|key|keys|required|expected"
    r"|expired|invalid|incorrect|wrong|missing|mismatch|malformed|empty|rejected|refused|revoked|unknown|unset|undefined|verification"
    r"|validation|signature|failed|failure|error|denied|unauthorized|please|never|already|changed|reset|ok|valid)[.:!?]{0,3}",
    re.IGNORECASE,
)
_SHORTEST_IBAN, _LONGEST_IBAN = 15, 34
_WORD = re.compile(r"[A-Za-z]?[a-z]{0,24}")


def hide(text: str) -> str:
    """`text`, which is one line, without secrets of any known form."""
    lowered = text.lower()
    for form in _FORMS:
        if any(needle in lowered for needle in form.needles):
            text = form.pattern.sub(form.replacement, text)
    return text


def _credentials(match: re.Match[str]) -> str:
    """`scheme://user:password@host`, up to the last @: an unescaped password may contain / and @ itself."""
    scheme, mark, rest = match[0].partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{REPLACED}@{host}" if at else match[0]


def _header(match: re.Match[str]) -> str:
    """`Bearer x`: a word is prose, such as `basic authentication`."""
    return match[0] if _WORD.fullmatch(match[2]) else f"{match[1]} {REPLACED}"


def _assigned(match: re.Match[str]) -> str:
    name, sign, value = match["name"], match["sign"], match["value"]
    bare = value.rstrip(".,:!?")
    if sign[-1:].isspace() and ":" in sign and _PROSE.fullmatch(value):
        return match[0]
    if name.lower().endswith("tokens") and bare.isdecimal() and len(bare) < 9:  # a language model counts them
        return match[0]
    if name == "PWD" and value.startswith("/"):  # where a process stands
        return match[0]
    return match[0] if value.strip("\\\"'") == REPLACED else f"{name}{sign}{REPLACED}"


def _run(match: re.Match[str]) -> str:
    """Paths and identifiers change between small, capital and digit seldom; random text on two of three characters."""
    run = match.group()
    changes = len(_RUN_CHANGE.findall(run))
    camel_case = run.isalpha() and changes * 2 < len(run)
    return REPLACED if changes * 4 >= len(run) and not camel_case else run


def _card(match: re.Match[str]) -> str:
    """By the Luhn sum, ISO/IEC 7812-1 annex B; issuers of payment cards begin with 2 to 6."""
    digits = [int(c) for c in match.group() if c.isdigit()]
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return REPLACED if 2 <= digits[0] <= 6 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else match.group()


def _iban(match: re.Match[str]) -> str:
    """By the check digits, ISO 13616-1: the number that the letters make is 1 modulo 97."""
    groups = match[0].split(" ")
    for end in range(len(groups), 0, -1):  # what follows may be a word in capital letters
        account = "".join(groups[:end])
        number = "".join(str(int(c, 36)) for c in account[4:] + account[:4])
        if _SHORTEST_IBAN <= len(account) <= _LONGEST_IBAN and int(number) % 97 == 1:
            return " ".join([REPLACED, *groups[end:]])
    return match[0]


_RUN_CHANGE = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[a-z0-9])|[0-9](?=[A-Za-z])")
_IN_ANY = ("",)
_IN_TELLTALE = (
    "passw",
    "passc",
    "passp",
    "pwd",
    "secret",
    "token",
    "credential",
    "signature",
    "key",
    "string",
    "session",
    "sig",
)
_QUOTE = r"(?:\\{0,7}[\"'])?"


class _Form(NamedTuple):
    """A form, and in lower case what a text must hold to have it: most texts have none, and are not searched."""

    needles: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str] = REPLACED


def _any_case(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_ADDRESSES = (
    # Whoever has one of these may post.
    _Form(
        ("slack", "discord", "office.com", "logic.azure", "chat.googleapis", "api.telegram", "hooks.zapier", "ifttt"),
        _any_case(
            r"https?://[\w.-]{0,253}?(?:hooks\.slack(?:-gov)?\.com|discord(?:app)?\.com/api/webhooks|webhook\.office\.com"
            r"|outlook\.office\.com/webhook|logic\.azure\.com(?::\d{1,5})?/(?:\w{1,20}/)?workflows"
            r"|chat\.googleapis\.com/v1/spaces|api\.telegram\.org|hooks\.zapier\.com/hooks|maker\.ifttt\.com)"
            r"[/?][^\s\"'<>]{1,1024}"
        ),
    ),
    _Form(("://",), re.compile(r"(?<![^\s\"'<>])[^\s\"'<>]*?://[^\s\"'<>]*"), _credentials),
    _Form(
        ("@",),
        re.compile(r"(?:(?<![\w.+%-])[\w.+%-]+|\"[^\"]{1,64}\"|'[^']{1,64}')@[\w-]{1,64}(?:\.[\w-]{1,63}){1,8}"),
    ),
)
_HEADERS = (
    _Form(
        ("authorization",),
        _any_case(
            rf"\b((?:proxy-)?authorization{_QUOTE}\s{{0,4}}[=:]\s{{0,4}}b?{_QUOTE})"
            r"(?:[\w-]{1,30}\s{1,4})?[^\s\"']{1,1024}"
        ),
        rf"\1{REPLACED}",
    ),
    _Form(
        ("cookie",),
        _any_case(
            rf"\b((?:set-)?cookie{_QUOTE}\s{{0,4}}[=:]\s{{0,4}}b?{_QUOTE})"
            r"[^\s\"';]{1,1024}(?:;\s{0,4}[^\s\"';]{1,512}){0,50}"
        ),
        rf"\1{REPLACED}",
    ),
    _Form(("bearer", "basic", "digest"), _any_case(r"\b(bearer|basic|digest)\s{1,4}([\w.~+/=-]{4,2048})"), _header),
)
_NAMED = (
    # `word=…`, `word: …`, `"word": …`, `word => …`, `word%3D…`, `<word>…` and the tuple `('word', …)` of Python's repr.
    _Form(
        _IN_TELLTALE,
        _any_case(
            rf"(?P<name>(?:{TELLTALE})[\w-]{{0,32}}(?![\w-]))(?P<sign>(?:{_ASSIGNS})\s{{0,4}})(?P<value>{_VALUE})"
        ),
        _assigned,
    ),
    # `auth=('root', '…')` of HTTP clients.
    _Form(
        ("auth",),
        _any_case(r"((?<![a-z])auth(?:\\{0,7}[\"'])?\s{0,4}[=:]\s{0,4})[\[(][^\])]{0,512}[\])]?"),
        rf"\1{REPLACED}",
    ),
    # What pydantic says of a field by a telltale name.
    _Form(
        ("input",),
        _any_case(rf"((?:{TELLTALE})\b.{{1,160}}?\binput(?:_value=|[\"']:\s?))(?:{_VALUE})"),
        rf"\1{REPLACED}",
    ),
    # `--password …` of a command line, `PASSWORD '…'` and `IDENTIFIED BY '…'` of SQL, `-u user:…` of curl.
    _Form(
        ("--",),
        _any_case(rf"((?<![\w-])--[\w-]{{0,32}}?(?:{TELLTALE})[\w-]{{0,32}}[\"']?,?\s{{1,4}})(?!-)(?:{_VALUE})"),
        rf"\1{REPLACED}",
    ),
    _Form(
        ("password", "identified"),
        _any_case(r"\b((?:password|identified by)\s{1,4})(?:\"[^\"]{1,512}\"?|'[^']{1,512}'?)"),
        rf"\1{REPLACED}",
    ),
    _Form(
        ("-u", "--user", "--proxy-user"),
        _any_case(r"((?<![\w-])(?:-u|--user|--proxy-user)[ =]{1,2}[\"']?[^\s:\"']{0,64}:)[^\s\"']{1,256}"),
        rf"\1{REPLACED}",
    ),
    _Form(
        ("otp", "cv", "pin", "code"),
        _any_case(
            r"\b((?:[a-z]{0,8}otp|cvv2?|cvc2?|cvn|pin|(?:mfa|2fa|sms|security|verification|one[_ -]?time)[_ -]?code)"
            rf"{_QUOTE}\s{{0,4}}(?:=>|[=:]|is\b|%3[ad])\s{{0,4}}{_QUOTE})\d{{3,10}}\b"
        ),
        rf"\1{REPLACED}",
    ),
)
_KEYS = (
    _Form(
        ("private key-----",),
        re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)"),
    ),
    # JSON web tokens, signed (RFC 7515) and encrypted (RFC 7516, whose second part may be empty).
    _Form(("eyj",), re.compile(r"(?<![\w-])eyJ[\w-]{4,4096}(?:\.[\w-]{0,4096}){1,4}")),
    # The prefixes by which services make their keys known.
    _Form(("akia", "asia", "abia", "acca"), re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b")),
    _Form(
        _IN_ANY,
        re.compile(
            r"(?<![A-Za-z0-9])(?:(?:[sprw]k|whsec)[-_](?=[\w-]{0,40}[0-9])[\w+/=-]{8,1024}"
            r"|xox[a-z]-[\w-]{8,1024}|xapp-[\w-]{10,1024}|gh[opsur]_\w{10,1024}|github_pat_\w{10,1024}|glpat-[\w-]{10,1024}"
            r"|(?:npm|hf|dop_v1|doo_v1|shp(?:at|ss|ca|pa)|lin_api|rzp_(?:live|test)|sntry[su]|figd|tfp|glsa)_"
            r"[A-Za-z0-9]{10,1024}|dckr_pat_[\w-]{10,1024}|pypi-AgE[\w-]{10,1024}|sq0(?:atp|csp|idp)-[\w-]{10,1024}"
            r"|nvapi-[\w-]{10,1024}|(?:PMAK|NRAK)-[\w-]{10,1024}|AIza[\w-]{20,1024}|ya29\.[\w-]{10,1024}"
            r"|hv[sb]\.[\w-]{10,1024}|SG\.[\w-]{10,64}\.[\w-]{10,256}|AGE-SECRET-KEY-1\w{10,1024}"
            r"|EAA[A-Z]{2}[A-Za-z0-9]{20,1024}|dapi[0-9a-f]{32})"
        ),
    ),
    _Form(_IN_ANY, re.compile(r"\b[0-9a-fA-F]{32,4096}\b")),
    _Form(_IN_ANY, re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{40,}={0,2}"), _run),
)
_NUMBERS = (
    _Form(
        _IN_ANY,
        re.compile(r"\b\d(?:[ -]?\d){12,18}\b|\b\d{4}(?:\.\d{4}){3}(?:\.\d{3})?\b|\b\d{4}\.\d{6}\.\d{5}\b"),
        _card,
    ),
    _Form(_IN_ANY, re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,40}\b"), _iban),
)
_FORMS = (_KEYS[0], *_ADDRESSES[:2], *_HEADERS, _KEYS[1], *_NAMED, _ADDRESSES[2], *_KEYS[2:], *_NUMBERS)
"""In the order in which they are looked for: what has a name of its own before what only looks like a secret."""
