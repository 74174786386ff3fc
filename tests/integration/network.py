"""The network between a host and a server: a TCP proxy that a test can cut."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


class Link:
    """A network that can be cut: then nothing arrives, and nobody is told, until it is mended.

    Connections are still accepted, as a kernel does on behalf of a server that hangs; what was sent while it was cut
    arrives late, as a retransmission does. `cut` and `mend` may be called from any thread.

    Args:
        target: Host and port of the server.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.port = 0
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._whole = asyncio.Event()
        self._whole.set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self._soon(self._whole.clear)

    def mend(self) -> None:
        self._soon(self._whole.set)

    def _soon(self, change: Callable[[], None]) -> None:
        async def work() -> None:
            change()

        asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._whole.wait()
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            ways = [asyncio.ensure_future(self._carry(*way)) for way in ((reader, far_writer), (far_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                far_writer.close()
        except (OSError, asyncio.CancelledError):
            pass  # the server refuses, and so does this; or it is the end
        finally:
            self._connections.discard(task)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
            await self._whole.wait()

    async def end(self) -> None:
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


@asynccontextmanager
async def link(target: tuple[str, int]) -> AsyncIterator[Link]:
    """A link to `target` on a free port."""
    made = Link(target)
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.end()
