"""Secrets known by their look: the prefixes of services' keys and tokens, private keys, stored hashes, random text."""

import re

from otel_monitoring.redact.lazy_pattern import LazyPattern
from otel_monitoring.redact.secret_names import REPLACED

# The secret part has a digit or a capital letter: `npm_config_cache` is the name of a setting.
_REST = r"(?=[\w.+/~-]{0,40}?[0-9A-Z])[\w+/~-]{8,1024}(?:[.$][\w+/~-]{4,1024}){0,4}={0,2}"
_PREFIXES = (
    # Source code, packages, images
    r"gh[a-z]_|github_pat_|gl(?:pat|ptt|dt|rtr?|cbt|soat|ft|imt|agent|oas|ffct|wt)-|_?npm_|pypi-|rubygems_|dckr_[a-z]{3}_|CLOJARS_|AKCp|ATATT3|ATCTT3|ATBB|BBDC-"
    r"|sgp_|rdme_|bkua_|CCIPAT_|pul-|sntry[a-z]_|glsa_|glc_|PMAK-|NR[A-Z]{2}-|figd_|lin_(?:api|oauth)_|(?:ntn|secret)_(?=[A-Za-z0-9]{20})"
    # Clouds, hosting, databases
    r"|AIza|ya29\.|1//0|GOCSPX-|LTAI|AKID|do[a-z]_v1_|dapi|dp\.(?:pt|st|ct|sa|scim|audit)\.|dt0[a-z]\d\d\.|hv[a-z]\.|tskey-|sbp_|sb_[a-z]{6,11}_"
    r"|vercel_[a-z_]{1,12}|pscale_[a-z]{2,5}_|napi_|pnu_|(?:fo1|fm[12][a-z]?|rnd|nfp)_(?=[A-Za-z0-9]{16})|HRKU-|mdb_[a-z]{2}_[a-z]{2}_|ops_eyJ"
    r"|A3-[A-Z0-9]{6}-|p8e-|sha256~|amzn\.mws\.|ABSK|AGE-SECRET-KEY-1|AQ\.A|t1\.9euel|AQVN"
    # Payments and shops
    r"|whsec[_-]|shp[a-z]{2}_|sq0[a-z]{3}-|rzp_(?:live|test)_|EZ[AT]K|FLW(?:SEC|PUB)K|duffel_(?:live|test)_|shippo_(?:live|test)_"
    r"|(?:live|test)_(?=[A-Za-z0-9]{30})|access-(?:sandbox|development|production)-|access_token\$|cfsk_[a-z]{2}_|EAA[A-Z]{2}"
    # Messages and mail
    r"|xox[a-z]{1,2}[-.]|xapp-|SG\.|xkeysib-|xsmtpsib-|key-(?=[0-9a-f]{32})|pat-(?:na|eu)\d-|CFPAT-|sl\.(?=[\w-]{40})"
    # Models
    r"|hf_|api_org_|r8_(?=[A-Za-z0-9]{16})|gsk_|xai-|pplx-|nvapi-|lsv2_[a-z]{2}_|tgp_v\d_|[ps]k-lf-|ddp_|tfp_|esecret_"
)
PREFIXED = LazyPattern(
    rf"(?<![A-Za-z0-9])(?:(?:{_PREFIXES}){_REST}"
    # Stripe, OpenAI, Anthropic and services that took over their form
    r"|[sprw]k[-_](?:(?=[\w-]{0,40}?[0-9])|(?=[\w-]{0,40}?[a-z][A-Z])|(?:live|test|proj|ant)[-_])[\w-]{8,1024}"
    r"|re_[A-Za-z0-9]{8}_[A-Za-z0-9]{16,64}|SK[0-9a-f]{32}|cio[A-Za-z0-9]{32}|oy2[a-z0-9]{43}|[0-9a-f]{32}-us\d{1,2}"
    r"|pat[A-Za-z0-9]{14}\.[0-9a-f]{64}"
    # Tokens of Telegram and Discord, Azure's client secrets, PASETO, Fernet
    r"|(?:bot)?\d{6,12}:AA[\w-]{30,40}|[MNO][\w-]{22,30}\.[\w-]{6}\.[\w-]{27,40}|[\w~.]{3}\dQ~[\w~.-]{31,34}"
    r"|v[1-4]\.(?:local|public)\.[\w-]{20,4096}(?:\.[\w-]{1,1024})?|gAAAAA[\w-]{30,4096}={0,2})"
)
AWS = LazyPattern(r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[0-9A-Z]{16}(?![A-Za-z0-9])")
HASHED = LazyPattern(
    r"\$(?:2[abxy]?|argon2[di]{1,2}|scrypt|y|[156])\$[\w$./,=+-]{16,512}|\bpbkdf2[\w:-]{0,16}\$[\w$./+=-]{16,512}"
)
"""Hashed passwords as databases store them: crypt(3), PHC strings, Django."""

PRIVATE = LazyPattern(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)"
    r"|\bPrivate-Lines: \d{1,3}.*"
)
TOKENS = LazyPattern(r"(?<![\w-])eyJ[\w-]{4,4096}(?:\.[\w-]{0,4096}){1,4}")
"""JSON web tokens, signed (RFC 7515) and encrypted (RFC 7516, whose second part may be empty)."""

HEX = LazyPattern(r"(?<![A-Za-z0-9])[0-9a-fA-F]{32,4096}(?![A-Za-z0-9])")
RUN = LazyPattern(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{32,}={0,2}")
_TRACED = LazyPattern(r"(?:trace[_. -]?(?:id)?[\"']?\s?[=:]?\s?[\"']?|\b00-)\Z", re.IGNORECASE)
_TRACEPARENT = LazyPattern(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context
_LONG_RUN = 40
_RUN_CHANGE = LazyPattern(r"[a-z](?=[A-Z0-9])|[A-Z](?=[a-z0-9])|[0-9](?=[A-Za-z])")
_CLASSES = tuple(LazyPattern(one) for one in ("[a-z]", "[A-Z]", "[0-9]"))


def hide_hexadecimal(match: re.Match[str]) -> str:
    """The replacement for a long hexadecimal number; trace ids stay, because they lead from a log line to its trace."""
    before = match.string[max(0, match.start() - 16) : match.start()]
    return match[0] if len(match[0]) == 32 and _TRACED.search(before) else REPLACED


def hide_random_run(match: re.Match[str]) -> str:
    """The replacement for random text; else the match itself.

    Random text changes between lower case, upper case and digit at about two of three characters; paths and identifiers
    do so seldom. One change in four characters counts as random.
    """
    text = match[0]
    changes = len(_RUN_CHANGE.compiled.findall(text))
    camel_case = text.isalpha() and changes * 2 < len(text)
    mixed = len(text) >= _LONG_RUN or all(one.search(text) for one in _CLASSES)
    secret = changes * 4 >= len(text) and mixed and not camel_case and not _TRACEPARENT.fullmatch(text)
    return REPLACED if secret else text
