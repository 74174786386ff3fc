"""`hide`: every form in which a secret stands in a text (URL, header, assignment, command line, key), in search order.

Each pattern takes time linear in the text: it begins only at a word or where a run of its characters begins, and nests
no repetition in a repetition. `tests/redact/test_text.py` tries each against its worst text.

Compared with gitleaks 8 and detect-secrets 1.5: these search files of source code with hundreds of patterns, each fixed
to the key length of one service. That is too slow for a log line, and misses a key that was cut off.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from otel_monitoring.redact import secret_keys, secret_names, secret_numbers
from otel_monitoring.redact.lazy_pattern import LazyPattern
from otel_monitoring.redact.secret_names import (
    ASSIGNS,
    BEGINS,
    BRACKETS,
    REPLACED,
    SHORT,
    TELLTALE,
    TELLTALE_NEEDLES,
    VALUE,
    YAML_BLOCK,
)


def hide(text: str) -> str:
    """Replace the secrets of every known form in `text`, one line."""
    lowered = text.lower()
    for needles, pattern, replacement in _FORMS:
        for needle in needles:
            if needle in lowered:
                text = pattern.sub(replacement, text)
                break
    if secret_numbers.may_be_in(text):
        text = secret_numbers.hide_grouped_cards(text)
        for form in _NUMBERS:
            text = form.pattern.sub(form.replacement, text)
    return text


def _hide_credentials(match: re.Match[str]) -> str:
    """`scheme://[REDACTED]@host` for a login, up to the last @: an unescaped password may contain / and @ itself."""
    scheme, mark, rest = match[0].partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{REPLACED}@{host}" if at else match[0]


_WORD = LazyPattern(r"[A-Za-z]?[a-z]{0,24}")
_CHALLENGE = LazyPattern(r"(?:realm|error|error_description|scope|charset|qop|stale|algorithm)=.*")
_SCHEMES = ("apikey", "basic", "bearer", "digest", "hmac", "key", "negotiate", "ntlm", "oauth", "token")


def _hide_scheme_value(match: re.Match[str]) -> str:
    """`Bearer [REDACTED]`; prose (`basic authentication`) and challenges (`Bearer realm=`) stay."""
    value = match[2]
    return match[0] if _WORD.fullmatch(value) or _CHALLENGE.fullmatch(value) else f"{match[1]} {REPLACED}"


def _hide_authorization(match: re.Match[str]) -> str:
    """`Authorization: [REDACTED]`; a sentence (`authorization: pending`), which begins with no scheme, stays."""
    first = match["value"].split(None, 1)[0]
    bare = first.rstrip(".,:!?;")
    sentence = bare.isalpha() and bare.islower() and bare not in _SCHEMES and match["sign"][-1:].isspace()
    return match[0] if sentence else f"{match['name']}{match['sign']}{REPLACED}"


_HOOK_HOSTS = LazyPattern(
    r"https?://[^/?#]{0,253}?(?:hooks\.slack(?:-gov)?\.com|webhook\.office\.com|logic\.azure\.com|api\.powerplatform\.com"
    r"|api\.telegram\.org|hooks\.zapier\.com|hook\.\w+\.make\.com|maker\.ifttt\.com)(?::\d{1,5})?[/?]."
    r"|https?://[^/?#]{0,253}?(?:discord(?:app)?\.com/api/(?:v\d{1,3}/)?webhooks/|chat\.googleapis\.com/v1/spaces/"
    r"|outlook\.office\.com/webhook)",
    re.IGNORECASE,
)
# `/hooks/…`, `/reset-password/…`: the rest of the path is a secret that lets anybody use it.
_SECRET_PATH = LazyPattern(
    r"((?:hook|invit|reset|magic|activat|confirm|verif|unsubscri|one-?time|passwordless)[\w.-]{0,40}/)(?:[\w.-]{1,40}/){0,6}?"
    r"(?=[\w~%=-]{0,40}?\d)(?=[\w~%=-]{0,40}?[A-Za-z])[\w~%=-]{8,1024}[^?#]*",
    re.IGNORECASE,
)


def _hide_secret_url(match: re.Match[str]) -> str:
    url = match[0]
    if _HOOK_HOSTS.match(url):
        return REPLACED
    return _SECRET_PATH.sub(rf"\1{REPLACED}", url)


_QUOTE = r"(?:\\{0,7}[\"'])?"
_BYTES_QUOTE = r"(?:b?\\{0,7}[\"'])?"
_ANY_TEXT = ("",)


class _Form(NamedTuple):
    """One form of a secret. Texts without one of its needles (lower case) are not searched: most have none."""

    needles: tuple[str, ...]
    pattern: LazyPattern
    replacement: str | Callable[[re.Match[str]], str] = REPLACED


def _any_case(pattern: str) -> LazyPattern:
    return LazyPattern(pattern, re.IGNORECASE)


_URLS = (
    _Form(("http",), _any_case(r"https?://[^\s\"'<>]{1,4096}"), _hide_secret_url),
    _Form(
        ("=",),
        _any_case(
            r"([?&;](?:(?:access|auth|jwt|key|otp|pass|sid)=(?=[^&#\s\"'<>]{8})"
            r"|(?:code|hash|st|ticket)=(?=[^&#\s\"'<>]{16})))"
            r"(?=[^&#\s\"'<>]{0,40}?\d)(?=[^&#\s\"'<>]{0,40}?[A-Za-z])[^&#\s\"'<>]{8,4096}"
        ),
        rf"\1{REPLACED}",
    ),
    _Form(("://",), LazyPattern(r"(?<![^\s\"'<>])[^\s\"'<>]*?://[^\s\"'<>]*"), _hide_credentials),
    # A database's password that contains blanks or quotes; Go's `user:password@tcp(host)`; Oracle's `user/password@`.
    _Form(
        ("://",),
        _any_case(
            r"((?<![\w+.-])(?!https?:)[a-z][a-z0-9+.-]{1,30}://[^\s:/@\"'<>]{0,64}:)"
            r"(?!\d{1,5}(?:[/,?\s\"']|\Z))[^@]{1,128}(?=@[\w\[])"
        ),
        rf"\1{REPLACED}",
    ),
    # `user:password@host` without a scheme.
    _Form(
        ("@",),
        _any_case(
            r"((?:(?<![\w.+%/:@-])|(?<=//))[a-z][\w.-]{0,63}:)(?![\"'/])[^\s@\"'<>]{1,128}"
            r"(?=@(?!sha\d)(?:[a-z\[]|\d{1,3}(?:\.\d{1,3}){3}))"
        ),
        rf"\1{REPLACED}",
    ),
    _Form(
        ("@tcp(", "@unix("), _any_case(r"(?<![^\s\"'=(])([\w.-]{1,64}:)\S{1,128}(?=@(?:tcp|unix)\()"), rf"\1{REPLACED}"
    ),
    _Form((":thin:",), _any_case(r"(:thin:[\w.-]{1,64}/)[^\s@]{1,128}(?=@)"), rf"\1{REPLACED}"),
)
_EMAIL = _Form(
    ("@",),
    LazyPattern(r"(?:(?<![\w.+%-])[\w.+%-]+|\"[^\"]{1,64}\"|'[^']{1,64}')@[\w-]{1,64}(?:\.[\w-]{1,63}){1,8}"),
)
_PARAMETERS = r"(?:,?\s{0,4}[\w-]{1,32}=(?:\\{0,7}\"[^\"]{0,512}\"|[^\s,\"']{0,512})){0,20}"
_HEADERS = (
    _Form(
        ("authorization",),
        _any_case(
            rf"\b(?P<name>(?:proxy-)?authorization)(?P<sign>(?:{ASSIGNS})\s{{0,4}}{_BYTES_QUOTE})"
            rf"(?P<value>(?:[\w-]{{1,30}}\s{{1,4}})?(?:[\w-]{{1,32}}=\\{{0,7}}\"[^\"]{{0,512}}\"|[^\s\"']{{1,4096}}){_PARAMETERS})"
        ),
        _hide_authorization,
    ),
    _Form(
        ("cookie",),
        _any_case(
            rf"\b((?:set-)?cookie(?:{ASSIGNS})\s{{0,4}}{_BYTES_QUOTE})"
            r"(?:[^\s\"';]{1,1024}(?:\"[^\"]{0,1024}\")?)(?:;\s{0,4}[^\s\"';]{1,1024}(?:\"[^\"]{0,1024}\")?){0,50}"
        ),
        rf"\1{REPLACED}",
    ),
    _Form(("cookies",), _any_case(rf"\b(cookies(?:{ASSIGNS})\s{{0,4}})(?:\w{{0,30}}{BRACKETS})"), rf"\1{REPLACED}"),
    _Form(
        ("bearer", "basic", "digest", "auth "),
        _any_case(r"\b(bearer|basic|digest|auth (?:plain|login))\s{1,4}(?!--)([\w.~+/=-]{4,4096})"),
        _hide_scheme_value,
    ),
)
_NAMED = (
    # `<input name="password" value="…">`, `{"name": "password", "value": "…"}`
    _Form(
        ("value",),
        _any_case(rf"((?:{TELLTALE})[\w-]{{0,32}}{_QUOTE},?\s{{1,4}}{_QUOTE}value(?:{ASSIGNS})\s{{0,4}})(?:{VALUE})"),
        rf"\1{REPLACED}",
    ),
    _Form(
        ("mnemonic", "phrase"),
        _any_case(
            rf"((?:mnemonic|(?:seed|recovery|secret)[_ -]?phrase)(?:{ASSIGNS})\s{{0,4}})"
            r"(?:[a-z]{3,8}[ ,]{1,2}){3,30}[a-z]{3,8}"
        ),
        rf"\1{REPLACED}",
    ),
    _Form(
        TELLTALE_NEEDLES,
        _any_case(
            rf"(?P<name>(?:{TELLTALE})[\w-]{{0,32}}(?![\w-]))(?P<sign>(?:{ASSIGNS})\s{{0,4}}(?:{YAML_BLOCK}){{0,2}})"
            rf"(?P<value>{VALUE})"
        ),
        secret_names.hide_assigned,
    ),
    _Form(
        ("auth", "bearer", "csrf", "cv", "jwt", "otp", "pass", "pin", "ps", "pw", "sid", "ssn", "xsrf"),
        _any_case(rf"(?P<name>{SHORT})(?P<sign>(?:{ASSIGNS})\s{{0,4}})(?P<value>{VALUE})"),
        secret_names.hide_assigned_short,
    ),
    # `SecretStr('…')`: the repr or the constructor of a secret's type.
    _Form(
        ("secret", "password", "token", "apikey"),
        LazyPattern(rf"(?P<name>\b(?:Secret(?:Str|Bytes|Value)?|Password|ApiKey|Token))(?P<sign>\()(?P<value>{VALUE})"),
        secret_names.hide_assigned,
    ),
    # Pydantic's message about a field with a telltale name.
    _Form(
        ("input",),
        _any_case(rf"((?:{TELLTALE})\b.{{1,160}}?\binput(?:_value=|[\"']:\s?))(?:{VALUE})"),
        rf"\1{REPLACED}",
    ),
    # `--password …` of command lines, `PASSWORD '…'` and `IDENTIFIED BY '…'` of SQL, `-u user:…` of curl.
    _Form(
        ("--",),
        _any_case(
            rf"(?P<name>(?<![\w-])--[\w-]{{0,32}}?(?:{TELLTALE}|pass(?![a-z]))[\w-]{{0,32}})(?P<sign>[\"']?,?\s{{1,4}})(?!-)"
            rf"(?P<value>{VALUE})"
        ),
        secret_names.hide_assigned,
    ),
    _Form(
        ("password", "passphrase", "passcode", "identified"),
        _any_case(
            r"\b((?:password|passphrase|passcode|identified by)(?:\s{1,4}(?:is|was))?\s{1,4})"
            r"(?:\"[^\"]{1,4096}\"?|'[^']{1,4096}'?)"
        ),
        rf"\1{REPLACED}",
    ),
    _Form(
        ("passw", "passp", "passc", "pwd", "token", "key", "secret"),
        _any_case(
            r"(?<![a-z])(?P<name>password|passwort|passwd|passphrase|passcode|pwd|token|api[ _-]?key|secret(?=\s+is))"
            r"(?P<sign>(?:\s{1,4}(?:(?:is|was)\s{1,4})?|\s{0,4}(?:[|~;\u2013\u2014]|<-|\.{3}|\(|(?<=\s)[-.](?=\s))\s{0,4}"
            r"(?:(?:is|was)\s{1,4})?)[\"']?)(?P<value>[\w!@#$%^&*+~-]{6,256}(?![\w=(/:.-]))"
        ),
        secret_names.hide_in_sentence,
    ),
    # The commands that log in to Redis, FTP, POP3 and IRC, and SQL without quotes.
    *(
        _Form(
            ("auth ", "pass ", "identified by "),
            LazyPattern(
                rf"(?<![\w-])(?P<name>AUTH|PASS|IDENTIFIED BY)(?P<sign>\s{{1,4}}{user})(?P<value>[^\s\"'\[]{{4,256}})"
            ),
            secret_names.hide_in_sentence,
        )
        for user in ("", r"(?:[\w.@-]{1,64}|\[REDACTED\])\s{1,4}")
    ),
    # A part of a form as browsers send it (RFC 7578), its line breaks as they are or as Python's repr has them.
    _Form(
        ("form-data",),
        _any_case(
            rf"(form-data;\s{{0,4}}name=[\"']?[\w-]{{0,32}}(?:{TELLTALE})[\w-]{{0,32}}[\"']?(?:\s|\\[rn]){{2,16}}?)"
            r"(?:[^\s\\]|\\(?![rn])){1,4096}"
        ),
        rf"\1{REPLACED}",
    ),
    _Form(
        ("-u", "--user", "--proxy-user"),
        _any_case(r"((?<![\w-])(?:-u|--user|--proxy-user)[\"']?[ =,]{1,2}[\"']?[^\s:%\"']{0,64}[:%])[^\s\"']{1,256}"),
        rf"\1{REPLACED}",
    ),
    # `mysql -p…`, `mongosh -p …`, `redis-cli -a …`
    _Form(
        ("mongo", "mysql", "mariadb", "sshpass", "cqlsh", "login"),
        LazyPattern(
            r"(\b(?:mongo\w{0,8}|mysql\w{0,10}|mariadb\w{0,10}|sshpass|cqlsh|login)\b[\"']?,?\s[^|;]{0,100}?(?<![\w-])-p[\"']?,?)"
            rf"(?:[ =]{{1,4}}(?!-)(?:{VALUE})|(?=\S)(?:{VALUE}))"
        ),
        rf"\1 {REPLACED}",
    ),
    _Form(
        ("redis-cli", "valkey-cli", "sqlcmd", "bcp", "ldap"),
        LazyPattern(
            r"(\b(?:(?:redis|valkey)-cli\b[^|;]{0,100}?(?<![\w-])-a|(?:sqlcmd|bcp)\b[^|;]{0,100}?(?<![\w-])-P"
            rf"|ldap[a-z]{{3,10}}\b[^|;]{{0,100}}?(?<![\w-])-w)[\"']?,?)[ =]{{1,4}}(?!-)(?:{VALUE})"
        ),
        rf"\1 {REPLACED}",
    ),
    # Codes of digits: one-time passwords, PINs, card verification values.
    _Form(
        ("otp", "cv", "csc", "pin", "code", "mfa", "2fa", "value"),
        _any_case(
            rf"((?:otp|c(?:v[vc]2?|vn|sc)|mfa|2fa|{BEGINS}pin(?![ _-]?code)|card[_ -]?verification[_ -]?value"
            r"|(?:mfa|2fa|sms|security|verification|verify|auth|login|access|recovery|backup|one[_ -]?time)"
            r"[_ -]?(?:pass)?code)"
            rf"(?:[_ -]?(?:code|number|pin|value))?{_QUOTE}\s{{0,4}}(?:=>|[=:]|is\b|%3[ad])\s{{0,4}}{_QUOTE}"
            r"|\b(?:otp|cvv2?|cvc2?|(?:one[ -]time )?passcode|verification code|security code)\s"
            r"|\byour (?:\w{1,20} ){0,2}(?:code|pin)(?: is|:)\s)\d{3,8}(?:[ -]\d{3,4})?(?![\w.])"
        ),
        rf"\1{REPLACED}",
    ),
    _Form(("ssn", "social"), _any_case(r"\b((?:ssn|social security)\b.{0,20}?)\d{3}-\d{2}-\d{4}\b"), rf"\1{REPLACED}"),
)
_PRIVATE_KEY = _Form(("private key", "private-lines"), secret_keys.PRIVATE)
_JSON_WEB_TOKEN = _Form(("eyj",), secret_keys.TOKENS)
_KEYS = (
    _Form(("akia", "asia", "abia", "acca", "a3t"), secret_keys.AWS),
    _Form(("$",), secret_keys.HASHED),
    _Form(_ANY_TEXT, secret_keys.PREFIXED),
    _Form(_ANY_TEXT, secret_keys.HEX, secret_keys.hide_hexadecimal),
    _Form(_ANY_TEXT, secret_keys.RUN, secret_keys.hide_random_run),
)
_NUMBERS = (
    _Form(_ANY_TEXT, secret_numbers.CARD, secret_numbers.hide_card),
    _Form(_ANY_TEXT, secret_numbers.SPREAD_CARD, secret_numbers.hide_card),
    _Form(_ANY_TEXT, secret_numbers.IBAN, secret_numbers.hide_iban),
)
_FORMS = (_PRIVATE_KEY, *_URLS, *_HEADERS, _JSON_WEB_TOKEN, *_NAMED, _EMAIL, *_KEYS)
"""In search order: forms with an unmistakable mark before those that only look like a secret."""
