"""`LiveView`: redraws the picture and handles keys, while a thread asks the service."""

import getpass
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

from otel_monitoring.cli import exit_codes
from otel_monitoring.cli.client import DeniedError, ServiceClient, UnreachableError
from otel_monitoring.cli.terminal import type_name
from otel_monitoring.cli.watch.keyboard import Keyboard
from otel_monitoring.cli.watch.poll import Refresh, RefreshHistory, ask
from otel_monitoring.cli.watch.screen import full_screen

T = TypeVar("T")

_POLL_SECONDS = 0.1
_REDRAW_SECONDS = 1.0


class _Background:
    """A daemon thread that runs jobs one after the other. It keeps no process alive while the service hangs."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._run, name="otel-monitoring-poll", daemon=True).start()

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Run `work` in the thread."""
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - raised by the future's `result`
                future.set_exception(error)

        self._jobs.put(job)
        return future

    def _run(self) -> None:
        while True:
            self._jobs.get()()


class LiveView:
    """Shows a service until q is pressed. A thread asks the service, so that keys work while it hangs.

    Args:
        service: The service.
        interval: Seconds between two refreshes.
        mute_for: Seconds for which the key m mutes; None: as long as the service does where nobody says how long.
        out: The terminal.
    """

    def __init__(self, service: ServiceClient, *, interval: float, mute_for: float | None, out: Console) -> None:
        self._service = service
        self._history = RefreshHistory()
        self._interval = interval
        self._mute_for = mute_for
        self._out = out
        self._background = _Background()
        self._selected = 0
        self._message = ""

    def run(self) -> int:
        """Run until q is pressed; returns the exit code. SIGTERM ends it and restores the terminal."""
        before = signal.signal(signal.SIGTERM, _end)
        try:
            return self._run()
        finally:
            signal.signal(signal.SIGTERM, before)

    def _run(self) -> int:
        asking: Future[Refresh] | None = None
        due = drawn = 0.0
        changed = True
        with Keyboard() as keyboard, Live(console=self._out, screen=True, auto_refresh=False) as live:
            while True:
                now = time.monotonic()
                if changed or now - drawn >= _REDRAW_SECONDS:
                    live.update(self._picture(), refresh=True)
                    drawn, changed = now, False
                if asking is None and now >= due:
                    asking, due = self._background.submit(lambda: ask(self._service)), now + self._interval
                until_due = min(_REDRAW_SECONDS, max(_POLL_SECONDS, due - now))
                key = keyboard.wait(_POLL_SECONDS if asking is not None else until_due)
                if key == "q":
                    return exit_codes.OK
                if key is not None:
                    changed = True
                    due = 0.0 if self._pressed(key) else due
                if asking is not None and asking.done():
                    self._add(asking.result())
                    asking, changed = None, True

    def _add(self, refresh: Refresh) -> None:
        if self._history.last is None and refresh.diagnostics is not None:
            self._message = self._service.moved or ""
        self._history.add(refresh)

    def _picture(self) -> RenderableType:
        return full_screen(
            self._history,
            self._service.url,
            selected=self._selected,
            message=self._message,
            height=self._out.height,
            width=self._out.width,
        )

    def _pressed(self, key: str) -> bool:
        """Handle a key; True where the service is to be asked again."""
        self._message = ""
        types = self._history.last.mutable_types if self._history.last is not None else []
        if key in ("up", "down") and types:
            self._selected = (self._selected + (1 if key == "down" else -1)) % len(types)
        if key not in ("m", "u"):
            return False
        if not types:
            self._message = "there is no alert to mute or unmute"
            return False
        kind = types[self._selected % len(types)]
        change = self._mute if key == "m" else self._unmute
        self._message = f"{type_name(kind)}: …"
        self._background.submit(lambda: self._change(change, kind))
        return True

    def _change(self, change: Callable[[str], str], kind: str) -> None:
        try:
            self._message = change(kind)
        except (UnreachableError, DeniedError) as error:
            self._message = f"{type_name(kind)}: {error}"

    def _mute(self, kind: str) -> str:
        body: dict[str, Any] = {"type": kind, "reason": "watch", "author": _user()}
        body |= {"duration_seconds": self._mute_for} if self._mute_for is not None else {}
        answer = self._service.post("/alerts/mutes", body)
        if answer is None or answer.status != 201:
            return f"{type_name(kind)} was not muted"
        return f"{type_name(kind)} is muted until {answer.body.get('until')}"

    def _unmute(self, kind: str) -> str:
        ended = self._service.delete(f"/alerts/mutes/{kind}")
        return f"{type_name(kind)} is no longer muted" if ended else f"{type_name(kind)} is not muted"


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)  # the exit code that shells use for signals


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user id has no name, as in containers
        return "otel-monitoring watch"
