"""`proof_of`: what a driver's error proves: the database is down, it answers, or nothing.

Exception classes are recognised by name, so that PyMongo need not be installed; Motor raises PyMongo's.
"""

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from enum import Enum

from otel_monitoring.redact.lazy_pattern import LazyPattern


class Proof(Enum):
    """What an error proves about the database."""

    DOWN = "down"
    """The database was asked, and is unreachable or did not answer in time."""
    ANSWERS = "answers"
    """The database answered: with an error, as a replica set member without the role, or by a failed TLS handshake."""
    NO_CONNECTION = "no connection"
    """The database was not asked: every connection of the application's pool is in use."""
    NOTHING = "nothing"
    """The database was not asked, e.g. because the client is closed or misconfigured, or no descriptor is left."""


_ANSWERS = {"OperationFailure", "NotPrimaryError", "ProtocolError", "SSLError", "CertificateError"}
_TIMEOUTS = {"NetworkTimeout", "ServerSelectionTimeoutError", "ExecutionTimeout", "WaitQueueTimeoutError", "NoAnswer"}
# A `ServerSelectionTimeoutError` has the errors of all servers only in its text, before the topology's description.
_NO_NAME = LazyPattern(
    r"name or service not known|name resolution|nodename nor servname|getaddrinfo|no address associated",
    re.IGNORECASE,
)
_TLS = LazyPattern(r"SSL handshake failed|\[SSL|certificate", re.IGNORECASE)
_OWN_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
"""Error numbers for exhausted resources of this process or its host."""
_OWN_LIMIT = LazyPattern("|".join(re.escape(os.strerror(number)) for number in sorted(_OWN_LIMITS)))
_SELECTED_NONE = LazyPattern(r"match selector|available for writes|available for replica set name")
_NETWORK = LazyPattern(r"refused|timed out|timeout:? |reset by peer|unreachable|no route", re.IGNORECASE)
_OWN_TIME = "would exceed time limit"
_CLOSED = LazyPattern(r"\b(?:closed|closing|after close|shut ?down)\b", re.IGNORECASE)
_THEIRS = LazyPattern(r"\b(?:by|server|peer|remote|host|proxy|broker|unexpectedly|middle|incomplete)\b", re.IGNORECASE)
"""Words of a message that the other side has closed a connection."""


def proof_of(error: BaseException) -> Proof:
    """What `error` proves; never raises."""
    names = _names(error)
    if "WaitQueueTimeoutError" in names:
        return Proof.NO_CONNECTION
    if names & {"_OperationCancelled", "CancelledError"}:
        return Proof.NOTHING
    text = _text(error)
    if names & _ANSWERS:
        # The driver also raises `ExecutionTimeout` without asking, if no time is left.
        return Proof.NOTHING if "ExecutionTimeout" in names and _OWN_TIME in text else Proof.ANSWERS
    if isinstance(error, socket.gaierror) or getattr(error, "errno", None) in _OWN_LIMITS:
        return Proof.NOTHING
    if "ConnectionFailure" in names:
        return _connection(error, text)
    return (
        Proof.DOWN
        if isinstance(error, OSError | TimeoutError) or names & {"NoAnswer", "TimeoutError"}
        else Proof.NOTHING
    )


def is_timeout(error: BaseException) -> bool:
    """Whether `error` is a timeout; a process that is too busy to read the answer causes one as well."""
    return isinstance(error, TimeoutError) or bool(_names(error) & {*_TIMEOUTS, "TimeoutError"})


def is_lost_connection(error: BaseException) -> bool:
    """Whether `error` may concern one connection only: it was lost while idle, or the primary has changed."""
    names = _names(error)
    return "AutoReconnect" in names and not names & _TIMEOUTS


def is_use_after_close(error: BaseException) -> bool:
    """Whether `error`, or a cause of it, says that this process had closed the client that was used; never raises.

    Examples: PyMongo's "Cannot use MongoClient after close", httpx's "the client has been closed", aiohttp's "Session
    is closed", psycopg's "the pool is already closed", anyio's `ClosedResourceError`.
    """
    chain = (error, *_causes(error))
    if any(proof_of(one) is not Proof.NOTHING for one in chain):
        return False
    return any(_CLOSED.search(text) and not _THEIRS.search(text) for text in map(_words, chain))


def _words(error: BaseException) -> str:
    """The error's text; if it is empty, the words of its class name."""
    return _text(error) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__)


def _connection(error: BaseException, text: str) -> Proof:
    causes = tuple(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return Proof.NOTHING
    network = _NETWORK.search(text)
    if any(getattr(cause, "errno", None) in _OWN_LIMITS for cause in causes) or (
        _OWN_LIMIT.search(text) and not network
    ):
        return Proof.NOTHING
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or _SELECTED_NONE.search(text):
        return Proof.ANSWERS
    if _NO_NAME.search(text) and not network:
        return Proof.NOTHING
    return Proof.ANSWERS if _TLS.search(text) and not network else Proof.DOWN


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _text(error: BaseException) -> str:
    try:
        return re.split(r"(?:\(configured timeouts|, Timeout: |, Topology Description: )", str(error))[0]
    except BaseException:  # noqa: BLE001 - foreign code
        return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    for _ in range(5):
        following = error.__cause__ or error.__context__
        if following is None:
            return
        yield following
        error = following
