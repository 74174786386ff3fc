"""Names of which the value is a secret, the values that stand under them, and what of it is no secret after all."""

import re

from otel_monitoring.redact.secret_numbers import REPLACED

_KEY = r"[_ -]?key"
# By their first letters: the engine looks at one branch a letter, where it would try forty at each character.
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
"""Names of secrets, wherever they stand in a longer name."""

_SHORT = r"auth|bearer|csrf|cvc|cvv|dsn|jwt|otp|pass|pin|psw|pw|sid|ssn|xsrf"
# As a word of its own or of a name in snake_case or camelCase.
BEGINS = r"(?:(?<![a-zA-Z])|(?-i:(?<=[a-z])(?=[A-Z])))"
SHORT = rf"{BEGINS}(?:{_SHORT})(?![a-zA-Z])"
"""Names of secrets that are parts of other words."""

_SECRET_NAME = re.compile(
    rf"{TELLTALE}|authorization|cookie|card[_ -]?(?:no|num(?:ber)?)(?![a-z])|{BEGINS}(?:hmac|iban|pem)(?![a-zA-Z])"
    rf"|(?:2fa|mfa|security|sms|verification)[_ -]?code|{SHORT}"
    r"|(?-i:(?:Auth|Csrf|Cvc|Cvv|Jwt|Otp|Pass|Pin|Sid)(?=[A-Z]))",
    re.IGNORECASE,
)
# `token_type`, `password_file`: what is said about a secret.
_ABOUT = re.compile(
    r"[_ -]?(?:consent|count|endpoint|expired|expir(?:y|ation)|expires(?:[_-]?(?:at|in))?"
    r"|field|file|length|level|lifetime|limit|method|mode|name|path"
    r"|policy|provider|required|scheme|status|type|ur[il]|valid|version)[\"\]]*\Z",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether a value of this name is one that nobody should read."""
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
    """What stands in brackets, with brackets in it; brackets in quotes do not count."""
    within = rf"[^\[\](){{}}\"']+|{_QUOTED}" + (f"|{_in_brackets(levels - 1)}" if levels else "")
    return rf"[\[({{](?:{within}){{0,256}}[\])}}]?"


BRACKETS = _in_brackets(2)
VALUE = (
    rf"{_ESCAPED}|{_TRIPLE}|{_QUOTED}|(?:[A-Za-z_][\w.]{{0,40}})?(?:{BRACKETS})"
    rf"|(?:[^\s,;&)}}\]\"']|,(?=\S)|[)}}\]\"'](?=\w)){{1,{_LONGEST}}}"
)
"""What stands behind a name: a text in quotes, something in brackets, what a type made of them, or a word."""
# A quote as HTML, JSON and URLs escape it.
_OTHER_QUOTE = r"(?:&quot;|&#3[49];|\\{1,2}u002[27])"
ASSIGNS = (
    rf"(?:(?:\\{{0,7}}[\"']|{_OTHER_QUOTE})\]?)?\s{{0,4}}"
    r"(?:=>|->|\u2192|:=|[=:]=?|[\uff1a\uff1d]|&#61;|(?:%22)?%3[ad](?:%22)?)"
    rf"(?:\s{{0,4}}{_OTHER_QUOTE})?"
    r"|\\{0,7}[\"'],|(?<=\w)>(?=[^\s<])"
)
"""`name=`, `name: `, `"name": `, `name => `, `name%3D`, `<name>`, and the tuple `('name', ` of Python's repr."""

# What stands after `password:` in a sentence, and in the messages of validators.
_PROSE = re.compile(
    r"(?:a|an|the|this|that|these|those|it|its|your|you|we|is|are|was|were|has|have|had|must|may|can|cannot|can't|should"
    r"|could|would|will|does|did|do|don't|not|no|none|null|nil|true|false|only|also|and|or|but|if|when|while|because|since|as|than"
    r"|at|by|for|from|in|of|on|off|to|too|with|without|value|values|field|input|string|str|int|bytes|type|length|key|keys|required"
    r"|expected|optional|expired|expires|invalid|incorrect|wrong|missing|mismatch|malformed|empty|rejected|refused|revoked|unknown"
    r"|unset|undefined|unexpected|unsupported|enabled|disabled|pending|verification|verified|validation|signature|failed|failure"
    r"|error|denied|unauthorized|granted|accepted|please|never|already|changed|reset|set|updated|used|ok|okay|valid|weak|strong"
    r"|too|at|see|use|enter|try|check|choose|found|given|sent|more|less|same|longer|shorter)[.:!?;]{0,3}",
    re.IGNORECASE,
)
# It tells nothing that there is none, or that something was hidden before.
_NOTHING = re.compile(
    r"(?:none|null|nil|nan|true|false|undefined|[\"']{2}|[\"']?(?:\*+|x{3,}|•+|<\w+>|\[\w+\]|\.{3}|…)[\"']?)[.,:!?;]{0,3}",
    re.IGNORECASE,
)
_LOOKS_LIKE_A_WORD = re.compile(r"[\"']?(?:[A-Za-z]?[a-z]*|[\d.,]{1,6})[\"']?[.,:!?;]{0,3}")
_FEW_DIGITS = 9


def assigned(match: re.Match[str]) -> str:
    """`name=[REDACTED]` for a telltale name, unless it is a sentence or there is nothing to tell."""
    name, sign, value = match["name"], match["sign"], match["value"]
    if sign[-1:].isspace() and "=" not in sign and _PROSE.fullmatch(value):
        return match[0]
    if name.lower().endswith("tokens") and value.rstrip(".,:!?").isdecimal() and len(value) < _FEW_DIGITS:
        return match[0]  # a language model counts them
    if name == "PWD" and value.startswith("/"):  # where a process stands
        return match[0]
    if _ABOUT.search(name) or _NOTHING.fullmatch(value):
        return match[0]
    return match[0] if value.strip("\\\"'") == REPLACED else f"{name}{sign}{REPLACED}"


def assigned_short(match: re.Match[str]) -> str:
    """`pass=[REDACTED]`: such names are words as well, so that words and small numbers under them stay.

    But for `pass=word`, in which only a password makes sense.
    """
    passes = match["name"].lower().startswith(("pass", "pw", "ps")) and (
        "=" in match["sign"] or match["sign"][0] in "\"'\\"
    )
    if _LOOKS_LIKE_A_WORD.fullmatch(match["value"]) and not (passes and not match["value"].strip("\"',").isdecimal()):
        return match[0]
    return assigned(match)


def said(match: re.Match[str]) -> str:
    """`password [REDACTED]` in a sentence: what is no word, having letters and digits."""
    value = match["value"]
    told = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return f"{match['name']}{match['sign']}{REPLACED}" if told else match[0]
