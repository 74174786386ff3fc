"""`StoreProbe`: asks in a thread whether a store works, because one that is away may take seconds to fail."""

from collections.abc import Callable
from concurrent.futures import Future

from otel_monitoring.forks import renewed
from otel_monitoring.runtime.threads import wait_for

_MOMENT = 0.2
"""Seconds to wait for the answer: a store that works has answered by then."""


class StoreProbe:
    """Asks a store, once at a time; the caller makes sure that one thread at a time uses it.

    Args:
        ask: Asks the store; it raises `StoreError` where that fails.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._asked: Future[object] | None = renewed(self, "_asked", _nobody)

    @property
    def answered(self) -> bool:
        """Whether there is an answer that `works` has not returned yet."""
        return self._asked is not None and self._asked.done()

    def works(self, *, patient: bool = False) -> bool:
        """Whether the store has answered; False: not yet, ask again later.

        Args:
            patient: Whether to wait for the answer, as long as the store takes; else a fifth of a second at most.

        Raises:
            StoreError: It failed.
        """
        asked = self._asked or self._begin()
        if not patient and not asked.done():
            return False
        try:
            asked.result()
        finally:
            self._asked = None
        return True

    def _begin(self) -> Future[object]:
        self._asked = asked = Future[object]()

        def run() -> None:
            try:
                asked.set_result(self._ask())
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                asked.set_exception(error)

        if not wait_for(run, _MOMENT, name="otel-monitoring-probe"):
            run()
        return asked


def _nobody() -> Future[object] | None:
    return None
