"""The one language of templates: texts with named fields in braces, and the formats of `str.format`.

`{value:.1f}` is a field with a format, `{{` a brace. A field is a name: it reaches no attribute and no item.
"""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from otel_monitoring.config.hints import did_you_mean

_IN_NO_URL = re.compile(r"""[\x00-\x20"'<>\\^`{|}\x7f]""")
"""Characters that no URL contains; an apostrophe is allowed, but ends a link in some texts."""


class _Fields(string.Formatter):
    """Fills in fields by their whole names, so that labels may have dots."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        return kwargs[field_name], field_name


_FIELDS = _Fields()


def fill(template: str, values: Mapping[str, object]) -> str:
    """`template` with `values` filled in.

    Raises:
        LookupError, ValueError, TypeError: It cannot be filled in with them; see `check`.
    """
    return _FIELDS.vformat(template, (), values)


def fill_link(template: str, values: Mapping[str, object]) -> str:
    """A link with `values` filled in. What no URL may contain is quoted: blanks, and the braces of JSON in a query.

    Raises:
        LookupError, ValueError, TypeError: It cannot be filled in with them; see `check`.
    """
    return _IN_NO_URL.sub(lambda found: quote(found[0]), fill(template, values))


def check(template: object, known: Mapping[str, object]) -> None:
    """Check that a template can be filled in with values as `known`.

    Raises:
        ValueError: It cannot; the message says why, and which fields there are.
    """
    fields = ", ".join(f"{{{field}}}" for field in known)
    if not isinstance(template, str):
        raise ValueError(f"{template!r} is no text; it may have {fields}")  # noqa: TRY004 - as every wrong template
    try:
        fill(template, known)
    except KeyError as error:
        missing = str(error.args[0])
        if missing.isdigit():
            raise ValueError(f"its fields have names: it may have {fields}") from None
        raise ValueError(f"there is no {{{missing}}}, it may have {fields}{did_you_mean(missing, known)}") from None
    except (LookupError, ValueError, TypeError) as error:
        why = f"{error}; it may have {fields}, with formats as {{value:.1f}}, and {{{{ for a brace"
        raise ValueError(why) from None
