"""Secrets known by their check digits: numbers of payment cards and bank accounts (IBAN)."""

import re

from otel_monitoring.redact.lazy_pattern import LazyPattern
from otel_monitoring.redact.secret_names import REPLACED

_SEPARATOR = r"(?:[ ._/+\u2013-]|%20)"
_GROUPED_CARD = LazyPattern(
    rf"(?<![A-Za-z0-9.])(?P<first>\d{{4}})(?P<separator>{_SEPARATOR})"
    r"(?:\d{4}(?P=separator)\d{4}(?P=separator)\d{4}(?P<more>(?P=separator)\d{3}(?!\d))?|\d{6}(?P=separator)\d{4,5})"
    r"(?![A-Za-z0-9])"
)
CARD = LazyPattern(r"(?<![A-Za-z0-9.])\d{12,19}(?![A-Za-z0-9])")
SPREAD_CARD = LazyPattern(r"(?<![A-Za-z0-9.])\d(?:[ -]?\d){11,18}(?![A-Za-z0-9])")
IBAN = LazyPattern(
    r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[A-Za-z0-9]{11,30}|(?:([ -]|%20)[A-Za-z0-9]{4})(?:\1[A-Za-z0-9]{4}){1,6}"
    r"(?:\1[A-Za-z0-9]{1,3})?)(?![A-Za-z0-9])"
)

# Issuers by their first digits and how many digits their numbers have: ISO/IEC 7812, as the issuers publish it.
_ISSUED = LazyPattern(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}(?:\d\d)?|35(?:2[89]|[3-8]\d)\d{12,15}|6(?:011|5\d\d|4[4-9]\d|2\d\d)\d{12,15}"
    r"|(?:50|5[6-9]|6\d)\d{10,17}",
    re.ASCII,
)
_SHORTEST = 12
"""Digits of the shortest card number."""
_DOUBLED = str.maketrans("0123456789", "0246813579")
"""Luhn's doubling: the digit sum of twice each digit."""
_NO_SEPARATORS = str.maketrans("", "", " ._/+-")
_REGISTRY = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29
    ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20
    LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29
    PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20
    YE30
"""
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _REGISTRY.split()}
"""Characters of an IBAN by country: the registry of ISO 13616, release 99."""


def may_be_in(text: str) -> bool:
    """Whether a text is long enough for a number, and has a digit: that of a service, at its start, has none."""
    return len(text) >= _SHORTEST and (not text.isascii() or any(digit in text for digit in "0123456789"))


def hide_grouped_cards(text: str) -> str:
    """Replace card numbers written in groups of 4, or of 4, 6 and 4 or 5, also right after other groups of digits."""
    parts, kept, at = [], 0, 0
    while match := _GROUPED_CARD.search(text, at):
        at = match.end("first")
        for end in {match.end(), match.start("more")} - {-1}:
            if _is_card(text[match.start() : end].replace("%20", "")):
                parts += [text[kept : match.start()], REPLACED]
                kept = at = end
    return "".join([*parts, text[kept:]])


def hide_card(match: re.Match[str]) -> str:
    """The replacement where the digits are a card number; else the match itself."""
    return REPLACED if _is_card(match[0]) else match[0]


def _is_card(text: str) -> bool:
    """Whether an issuer has such numbers and the Luhn sum is right (ISO/IEC 7812-1, annex B)."""
    digits = text.translate(_NO_SEPARATORS)
    if not digits.isascii():
        digits = "".join(str(int(c)) for c in digits if c.isdecimal())
    if not _ISSUED.fullmatch(digits):
        return False
    return sum(map(int, digits[-1::-2] + digits[-2::-2].translate(_DOUBLED))) % 10 == 0


def hide_iban(match: re.Match[str]) -> str:
    """The replacement where the country has IBANs of this length and the check digits are right; else the match itself.

    ISO 13616-1: the IBAN read as a number, its first four characters last, is 1 modulo 97.
    """
    text, separator = match[0], match[1] or ""
    groups = text.split(separator) if separator else [text]
    length = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    for end in range(len(groups), 0, -1):  # the last groups may be words that follow the IBAN
        account = "".join(groups[:end])
        if len(account) == length and int("".join(str(int(c, 36)) for c in account[4:] + account[:4])) % 97 == 1:
            return separator.join([REPLACED, *groups[end:]])
    return text
