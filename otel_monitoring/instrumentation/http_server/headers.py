"""`CapturedHeaders`: headers that become attributes of request spans, named and redacted as in contrib."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry.trace import Span

_REDACTED: Final = "[REDACTED]"

Headers = Iterable[tuple[bytes, bytes]]


class CapturedHeaders:
    """Selects the captured headers; the regular expressions are compiled once, here.

    Args:
        request: Regular expressions; a request header is captured if one matches its whole name.
        response: Regular expressions; likewise for response headers.
        sanitize: Regular expressions; the value of a captured header is redacted if one is found in its name.

    Raises:
        re.error: An expression is invalid.
    """

    def __init__(self, request: Sequence[str] = (), response: Sequence[str] = (), sanitize: Sequence[str] = ()) -> None:
        self._request, self._response = _either(request), _either(response)
        hidden = _either(sanitize)
        self._hides: tuple[Callable[[str], object], ...] = () if hidden is None else (hidden.search,)

    def replaced_by(
        self, request: Sequence[str] | None, response: Sequence[str] | None, hides: Callable[[str], object]
    ) -> "CapturedHeaders":
        """A copy with other expressions, where they are given.

        Args:
            request: Expressions in place of those for request headers; empty or None: they stay.
            response: Expressions in place of those for response headers, likewise.
            hides: Whether the value of a header, given by its name, is redacted, too.

        Raises:
            re.error: An expression is invalid.
        """
        captured = CapturedHeaders(request or (), response or ())
        captured._request = captured._request or self._request
        captured._response = captured._response or self._response
        captured._hides = (*self._hides, hides)
        return captured

    def of_request(self, span: Span | None, headers: Headers) -> None:
        """Add captured request headers to `span` if it is recording."""
        if self._request is not None and span is not None and span.is_recording():
            self._capture(span, self._request, "http.request.header.", headers)

    def of_response(self, span: Span | None, headers: Headers) -> None:
        """Add captured response headers to `span` if it is recording."""
        if self._response is not None and span is not None and span.is_recording():
            self._capture(span, self._response, "http.response.header.", headers)

    def _capture(self, span: Span, names: re.Pattern[str], prefix: str, headers: Headers) -> None:
        captured: dict[str, list[str]] = {}
        for raw_name, raw_value in headers:
            name = raw_name.decode("latin-1").lower()
            if names.fullmatch(name):
                hidden = any(hides(name) for hides in self._hides)
                captured.setdefault(prefix + name.replace("-", "_"), []).append(
                    _REDACTED if hidden else _text(raw_value)
                )
        span.set_attributes(captured)


def _either(expressions: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(expressions), re.IGNORECASE) if expressions else None


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
