"""Guards around callbacks of observable instruments, which may raise anything, take long, or hang."""

import contextvars
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait

from opentelemetry.metrics import CallbackOptions, Observation

from otel_monitoring.forks import renewed
from otel_monitoring.guard import as_exception, fail_open

_PATIENCE_SECONDS = 2.0

Callback = Callable[[CallbackOptions], Iterable[Observation]]


class PatientCallback:
    """A callback with a time limit, which raises nothing but an `Exception`.

    The SDK calls all callbacks one after the other, and holds a lock that the making of an instrument needs: a callback
    that hangs would end all metrics and rules. So each runs in a thread of its own. While it is late, its metric is
    missing from collections; the first collection after its end has what it observed.

    Args:
        callback: The application's callback: a function, or a generator that receives the options.
        patience: Seconds that a collection waits for the callback.
    """

    def __init__(
        self,
        callback: Callback | Generator[Iterable[Observation], CallbackOptions, None],
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        self._name = getattr(callback, "__qualname__", type(callback).__name__)
        self._callback = _function(callback) if isinstance(callback, Generator) else callback
        self._patience = patience
        self._running: Future[list[Observation]] | None = renewed(self, "_running", _nothing_running)

    def __call__(self, options: CallbackOptions) -> list[Observation]:
        """The observations of the callback; empty while it is late.

        Raises:
            Exception: The callback raised it; `guard.Escaped` wraps a `BaseException` that is no `Exception`.
        """
        late = self._running
        running = late or self._begin(options)
        wait((running,), 0 if late else self._patience)
        if running.done():
            self._running = None
            return running.result()
        self._running = running
        if late is None:
            error = TimeoutError(
                f"{self._name} has not returned within {self._patience:g} s: its metric is left out until then"
            )
            fail_open.note("an observable callback", error)
        return []

    def _begin(self, options: CallbackOptions) -> "Future[list[Observation]]":
        future: Future[list[Observation]] = Future()
        run = contextvars.copy_context().run
        work = (_run, future, self._callback, options)
        thread = threading.Thread(target=run, args=work, name="otel-monitoring-callback", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there can be no further thread, e.g. because the interpreter exits
            _run(future, self._callback, options)
        return future


def guarded(callback: Callback) -> Callback:
    """`callback`, which never hangs, with `guard.Escaped` in place of a `BaseException` that is no `Exception`."""

    def observe(options: CallbackOptions) -> list[Observation]:
        try:
            return list(callback(options))
        except BaseException as error:
            raise as_exception(error) from error

    return observe


def _run(future: "Future[list[Observation]]", callback: Callback, options: CallbackOptions) -> None:
    try:
        future.set_result(list(callback(options)))
    except BaseException as error:  # noqa: BLE001 - raised to the SDK, which catches and logs it
        future.set_exception(as_exception(error))


def _function(generator: Generator[Iterable[Observation], CallbackOptions, None]) -> Callback:
    """A callback that sends the options to `generator`, which runs to its first `yield` now, as in the SDK."""
    next(generator)

    def observe(options: CallbackOptions) -> Iterable[Observation]:
        try:
            return generator.send(options)
        except StopIteration:
            return ()

    return observe


def _nothing_running() -> "Future[list[Observation]] | None":
    return None
