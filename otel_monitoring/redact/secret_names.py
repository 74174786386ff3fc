"""Secrets known by their name: names such as `password`, and the value that a text gives to such a name."""

import re
from functools import lru_cache

from otel_monitoring.redact.lazy_pattern import LazyPattern

REPLACED = "[REDACTED]"
"""What takes the place of a secret."""

_KEY = r"[_ -]?key"
# Grouped by first letter, so that the regex engine tries one branch at a character instead of forty.
TELLTALE = (
    rf"(?:p(?:ass(?:word(?!less)|wd|code|phrase|wort)|wd|word|rivate{_KEY})"
    rf"|s(?:ecret(?!ar)|ignature|enha|ess(?:ion)?[_-]?id|eed[_ -]?phrase|aml[_-]?response|(?<![a-z]s)ig(?![a-z])"
    rf"|(?:as|ervice|hared|igning|sh|sl|torage|ubscription){_KEY})"
    r"|token(?!i[sz])"
    rf"|c(?:redential|on(?:trase[nñ]a|nection[_ -]?string|nect\.sid)|ode[_-]?verifier|lient[_-]?assertion"
    rf"|(?:lient|onsumer){_KEY})"
    rf"|a(?:ccess|ccount|pi|pp|pplication|uth){_KEY}"
    rf"|(?:encryption|functions?|integration|license|master|tls){_KEY}"
    r"|m(?:ot[ _-]de[ _-]passe|nemonic)|kennwort|(?:recovery|backup)[_ -]?code"
    r"|\u043f\u0430\u0440\u043e\u043b\u044c|\u5bc6\u7801)"
)
"""Names of secrets that count anywhere in a longer name."""

TELLTALE_NEEDLES = (
    "passw",
    "passc",
    "passp",
    "pwd",
    "pword",
    "kennwort",
    "contrase",
    "mot",
    "senha",
    "пароль",
    "密码",
    "secret",
    "token",
    "credential",
    "signature",
    "key",
    "string",
    "sess",
    "sid",
    "sig",
    "mnemonic",
    "phrase",
    "code",
    "assertion",
    "saml",
)
"""One of these is in each of them, in lower case: texts without are not searched."""

_SHORT = r"auth|bearer|csrf|cvc|cvv|dsn|jwt|otp|pass|pin|psw|pw|sid|ssn|xsrf"
# The beginning of a word, or of a word inside snake_case or camelCase.
BEGINS = r"(?:(?<![a-zA-Z])|(?-i:(?<=[a-z])(?=[A-Z])))"
SHORT = rf"{BEGINS}(?:{_SHORT})(?![a-zA-Z])"
"""Names of secrets that also occur inside other words, so that they count as whole words alone."""

_SECRET_NAME = LazyPattern(
    rf"{TELLTALE}|authorization|cookie|card[_ -]?(?:no|num(?:ber)?)(?![a-z])|{BEGINS}(?:hmac|iban|pem)(?![a-zA-Z])"
    rf"|(?:2fa|mfa|security|sms|verification)[_ -]?code|{SHORT}"
    r"|(?-i:(?:Auth|Csrf|Cvc|Cvv|Jwt|Otp|Pass|Pin|Sid)(?=[A-Z]))",
    re.IGNORECASE,
)
# `token_type`, `password_file`: the value describes a secret and is none.
_ABOUT = LazyPattern(
    r"[_ -]?(?:consent|count|endpoint|expired|expir(?:y|ation)|expires(?:[_-]?(?:at|in))?"
    r"|field|file|length|level|lifetime|limit|method|mode|name|path"
    r"|policy|provider|required|scheme|status|type|ur[il]|valid|version)[\"\]]*\Z",
    re.IGNORECASE,
)


_NEEDLES = (
    *TELLTALE_NEEDLES,
    *("auth", "bearer", "card", "cookie", "csrf", "cv", "dsn", "hmac", "iban", "jwt", "otp", "pass", "pem", "pin"),
    *("psw", "pw", "ssn", "xsrf"),
)


_USUAL_LENGTH = 64


def is_secret(name: str) -> bool:
    """Whether values of this name are secrets: `password` and `api_key` are, `token_type` is not."""
    return _known(name) if type(name) is str and len(name) <= _USUAL_LENGTH else _is_secret(name)


@lru_cache(maxsize=512)
def _known(name: str) -> bool:
    """Cached, because a service has few names, and each log record that is exported asks for its own."""
    return _is_secret(name)


def _is_secret(name: str) -> bool:
    lowered = name.lower()
    if name.isascii() and not any(needle in lowered for needle in _NEEDLES):
        return False
    return _SECRET_NAME.search(name) is not None and _ABOUT.search(name) is None


_LONGEST = 4096
_QUOTED = rf"[bru]{{0,2}}\"(?:[^\"\\]|\\.){{0,{_LONGEST}}}\"?|[bru]{{0,2}}'(?:[^'\\]|\\.){{0,{_LONGEST}}}'?"
_TRIPLE = r"[bru]{0,2}(?:\"{3}.*?(?:\"{3}|\Z)|'{3}.*?(?:'{3}|\Z))"
# JSON inside JSON: its quotes are escaped, once for each time it was put into another text.
_ESCAPED = (
    rf"\\{{1,7}}\"(?:[^\"\\]|\\{{1,7}}(?![\"\\])){{0,{_LONGEST}}}(?:\\{{1,7}}\")?"
    rf"|\\{{1,7}}'[^'\\]{{0,{_LONGEST}}}(?:\\{{1,7}}')?"
)


def _in_brackets(levels: int) -> str:
    """A pattern for brackets and what is in them, nested `levels` deep; brackets inside quotes do not count."""
    within = rf"[^\[\](){{}}\"']+|{_QUOTED}" + (f"|{_in_brackets(levels - 1)}" if levels else "")
    return rf"[\[({{](?:{within}){{0,256}}[\])}}]?"


BRACKETS = _in_brackets(2)
VALUE = (
    rf"{_ESCAPED}|{_TRIPLE}|{_QUOTED}|(?:[A-Za-z_][\w.]{{0,40}})?(?:{BRACKETS})"
    rf"|(?:[^\s,;&)}}\]\"']|,(?=\S)|[)}}\]\"'](?=\w)){{1,{_LONGEST}}}"
)
"""The value after a name: quoted text, brackets, the repr of a type such as `Secret('…')`, or one word."""
# A quote, escaped as in HTML and JSON.
_OTHER_QUOTE = r"(?:&quot;|&#3[49];|\\{1,2}u002[27])"
ASSIGNS = (
    rf"(?:(?:\\{{0,7}}[\"']|{_OTHER_QUOTE})\]?)?\s{{0,4}}"
    r"(?:=>|->|\u2192|:=|[=:]=?|[\uff1a\uff1d]|&#(?:58|61);|(?:%22)?%3[ad](?:%22)?)"
    rf"(?:\s{{0,4}}{_OTHER_QUOTE})?"
    r"|\\{0,7}[\"'],|(?<=\w)>(?=[^\s<])"
)
"""`name=`, `name: `, `"name": `, `name => `, `name%3D`, `<name>`, and the tuple `('name', ` of Python's repr."""

YAML_BLOCK = r"(?:[|>][+-]?\d?|![\w!/.-]{1,40})\s{1,8}"
"""YAML's mark before a value: of a block scalar (`|`, `>`), or a tag (`!secret`)."""

# Words that follow `password:` in sentences and in messages of validators.
_PROSE = LazyPattern(
    r"(?:a|an|the|this|that|these|those|it|its|your|you|we|is|are|was|were|has|have|had|must|may|can|cannot|can't|should"
    r"|could|would|will|does|did|do|don't|not|no|none|null|nil|true|false|only|also|and|or|but|if|when|while|because|since|as|than"
    r"|at|by|for|from|in|of|on|off|to|too|with|without|value|values|field|input|string|str|int|bytes|type|length|key|keys|required"
    r"|expected|optional|expired|expires|invalid|incorrect|wrong|missing|mismatch|malformed|empty|rejected|refused|revoked|unknown"
    r"|unset|undefined|unexpected|unsupported|enabled|disabled|pending|verification|verified|validation|signature|failed|failure"
    r"|error|denied|unauthorized|granted|accepted|please|never|already|changed|reset|set|updated|used|ok|okay|valid|weak|strong"
    r"|too|at|see|use|enter|try|check|choose|found|given|sent|more|less|same|longer|shorter)[.:!?;]{0,3}",
    re.IGNORECASE,
)
# Values that reveal nothing: none at all, or already hidden.
_NOTHING = LazyPattern(
    r"(?:none|null|nil|nan|true|false|undefined|[\"']{2}|[\"']?(?:\*+|x{3,}|•+|<\w+>|\[\w+\]|\.{3}|…)[\"']?)[.,:!?;]{0,3}",
    re.IGNORECASE,
)
_LOOKS_LIKE_A_WORD = LazyPattern(r"[\"']?(?:[A-Za-z]?[a-z]*|[\d.,]{1,6})[\"']?[.,:!?;]{0,3}")
_FEW_DIGITS = 9


def hide_assigned(match: re.Match[str]) -> str:
    """`name=[REDACTED]` for a telltale name; the match itself where it is prose or its value reveals nothing."""
    name, sign, value = match["name"], match["sign"], match["value"]
    if sign[-1:].isspace() and "=" not in sign and _PROSE.fullmatch(value):
        return match[0]
    if name.lower().endswith("tokens") and value.rstrip(".,:!?").isdecimal() and len(value) < _FEW_DIGITS:
        return match[0]  # tokens that a language model counts
    if name == "PWD" and value.startswith("/"):  # the working directory
        return match[0]
    if _ABOUT.search(name) or _NOTHING.fullmatch(value):
        return match[0]
    return match[0] if value.strip("\\\"'") == REPLACED else f"{name}{sign}{REPLACED}"


def hide_assigned_short(match: re.Match[str]) -> str:
    """`sid=[REDACTED]`: short names are also words, so their value stays where it is a plain word or small number.

    After `pass=`, `pw=` and `ps=` a plain word is hidden too: only a password makes sense there.
    """
    passes = match["name"].lower().startswith(("pass", "pw", "ps")) and (
        "=" in match["sign"] or match["sign"][0] in "\"'\\"
    )
    if _LOOKS_LIKE_A_WORD.fullmatch(match["value"]) and not (passes and not match["value"].strip("\"',").isdecimal()):
        return match[0]
    return hide_assigned(match)


def hide_in_sentence(match: re.Match[str]) -> str:
    """`password [REDACTED]` in a sentence where the next word has both letters and digits; else the match itself."""
    value = match["value"]
    is_password = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return f"{match['name']}{match['sign']}{REPLACED}" if is_password else match[0]
