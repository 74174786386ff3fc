"""`Figures`: what a window says about requests, commands and calls, in numbers that can be subtracted."""

from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeVar

from otel_monitoring import semconv as c
from otel_monitoring.metrics.snapshot import Histogram, Series
from otel_monitoring.metrics.window import Window

K = TypeVar("K", bound=Hashable)

_CALLS = "http.client.request.duration"
_LIMIT = 3000
"""The most cells of a kind; further ones are left out."""
_CLIENT_ERROR = 400


class Cell(NamedTuple):
    """What is known about things of one kind.

    Attributes:
        number: How many there were.
        seconds: How long they took together.
        failed: How many of them failed; requests tell it by their attributes.
    """

    number: float = 0.0
    seconds: float = 0.0
    failed: float = 0.0

    def plus(self, other: "Cell") -> "Cell":
        """Both together."""
        return Cell(self.number + other.number, self.seconds + other.seconds, self.failed + other.failed)

    def minus(self, other: "Cell") -> "Cell":
        """The rest; never negative."""
        return Cell(*(max(0.0, whole - part) for whole, part in zip(self, other, strict=True)))


class Request(NamedTuple):
    """What tells requests apart."""

    method: str
    route: str
    status: int | None
    cause: str

    @property
    def series(self) -> Series:
        """A series with these attributes, for matchers."""
        known = {c.HTTP_REQUEST_METHOD: self.method, c.HTTP_ROUTE: self.route, c.ERROR_TYPE: self.cause}
        attributes: dict[str, str | int] = {key: value for key, value in known.items() if value}
        if self.status is not None:
            attributes[c.HTTP_RESPONSE_STATUS_CODE] = self.status
        if self.route == c.UNMATCHED_ROUTE:
            del attributes[c.HTTP_ROUTE]
        return Series(c.HTTP_SERVER_REQUEST_DURATION, tuple(sorted(attributes.items())))


class Command(NamedTuple):
    """What tells database commands apart."""

    collection: str
    operation: str


class Figures(NamedTuple):
    """The requests, commands and calls of a time.

    Attributes:
        seconds: Its length.
        requests: The requests that were answered.
        commands: The database commands.
        calls: The requests of the application's HTTP clients, by host.
    """

    seconds: float = 0.0
    requests: Mapping[Request, Cell] = {}
    commands: Mapping[Command, Cell] = {}
    calls: Mapping[str, Cell] = {}

    @classmethod
    def of(cls, window: Window) -> "Figures":
        """The figures of a window."""
        return cls(
            window.seconds,
            _summed((_request(series), histogram, 0.0) for series, histogram in _of(window, _REQUESTS)),
            _summed((_command(series), histogram, _failed(series)) for series, histogram in _of(window, _COMMANDS)),
            _summed((_host(series), histogram, _failed(series)) for series, histogram in _of(window, _CALLS)),
        )

    def minus(self, part: "Figures") -> "Figures":
        """What is in these and not in `part`, which they contain."""
        return Figures(
            max(0.0, self.seconds - part.seconds),
            _rest(self.requests, part.requests),
            _rest(self.commands, part.commands),
            _rest(self.calls, part.calls),
        )


_REQUESTS = c.HTTP_SERVER_REQUEST_DURATION
_COMMANDS = c.DB_CLIENT_OPERATION_DURATION


def total(cells: Iterable[Cell]) -> Cell:
    """All of them together."""
    whole = Cell()
    for cell in cells:
        whole = whole.plus(cell)
    return whole


def _of(window: Window, metric: str) -> Iterable[tuple[Series, Histogram]]:
    return window.histograms(metric)


def _summed(found: Iterable[tuple[K, Histogram, float]]) -> dict[K, Cell]:
    cells: dict[K, Cell] = {}
    for key, histogram, failed in found:
        cell = Cell(histogram.count, histogram.sum, failed * histogram.count)
        known = cells.get(key)
        if known is not None or len(cells) < _LIMIT:
            cells[key] = known.plus(cell) if known is not None else cell
    return cells


def _rest(whole: Mapping[K, Cell], part: Mapping[K, Cell]) -> dict[K, Cell]:
    found = {key: cell.minus(part.get(key, Cell())) for key, cell in whole.items()}
    return {key: cell for key, cell in found.items() if cell.number > 0}


@lru_cache(maxsize=_LIMIT)  # shared by the figures of all the times that are kept
def _request(series: Series) -> Request:
    known = dict(series.attributes)
    status = known.get(c.HTTP_RESPONSE_STATUS_CODE)
    return Request(
        str(known.get(c.HTTP_REQUEST_METHOD, "")),
        str(known.get(c.HTTP_ROUTE, c.UNMATCHED_ROUTE)),
        status if isinstance(status, int) else None,
        str(known.get(c.ERROR_TYPE, "")),
    )


def _command(series: Series) -> Command:
    return Command(str(series.get(c.DB_COLLECTION_NAME) or ""), str(series.get(c.DB_OPERATION_NAME) or ""))


def _host(series: Series) -> str:
    host, port = series.get(c.SERVER_ADDRESS), series.get(c.SERVER_PORT)
    return f"{host}:{port}" if port is not None else str(host or "")


def _failed(series: Series) -> float:
    status = series.get(c.HTTP_RESPONSE_STATUS_CODE)
    answered_badly = isinstance(status, int) and status >= _CLIENT_ERROR + 100
    return 1.0 if series.get(c.ERROR_TYPE) is not None or answered_badly else 0.0
