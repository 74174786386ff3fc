"""`CapturedHeaders`: headers that become attributes of the request's span, named and redacted as contrib does it."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry.trace import Span

_REDACTED: Final = "[REDACTED]"

Headers = Iterable[tuple[bytes, bytes]]


class CapturedHeaders:
    """Which headers are captured. Everything is compiled here, once.

    Args:
        request: Regular expressions; a request header whose whole name one of them matches is captured.
        response: Likewise for headers of the answer.
        sanitize: Regular expressions; the values of headers in whose name one of them is found are redacted.

    Raises:
        re.error: These are no regular expressions.
    """

    def __init__(self, request: Sequence[str] = (), response: Sequence[str] = (), sanitize: Sequence[str] = ()) -> None:
        self._request, self._response = _either(request), _either(response)
        hidden = _either(sanitize)
        self._hides: tuple[Callable[[str], object], ...] = () if hidden is None else (hidden.search,)

    def told(
        self, request: Sequence[str] | None, response: Sequence[str] | None, hides: Callable[[str], object]
    ) -> "CapturedHeaders":
        """These, with other names where others are given; `hides` says which further values are redacted.

        Raises:
            re.error: These are no regular expressions.
        """
        captured = CapturedHeaders(request or (), response or ())
        captured._request = captured._request or self._request
        captured._response = captured._response or self._response
        captured._hides = (*self._hides, hides)
        return captured

    def of_request(self, span: Span | None, headers: Headers) -> None:
        """Put captured headers of the request on `span`, if that is recorded."""
        if self._request is not None and span is not None and span.is_recording():
            self._capture(span, self._request, "http.request.header.", headers)

    def of_response(self, span: Span | None, headers: Headers) -> None:
        """Put captured headers of the answer on `span`, if that is recorded."""
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
