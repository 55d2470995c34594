"""An address in front of a venue's: a line of its own, which can be slow, cut or dead."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

READ_BYTES = 1 << 16


class Door:
    """Passes on what comes to `there` and back as long as the `async with` lasts; what comes back `delay_s` later."""

    def __init__(self, there: str, *, delay_s: float = 0.0) -> None:
        self._there = urlsplit(there)
        self._delay_s = delay_s
        self._clients: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._there._replace(netloc=f"127.0.0.1:{port}").geturl()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """From now on nobody listens here."""
        self._server.close()
        self.cut()

    def cut(self) -> int:
        """Ends what is open without a word and says how many connections that were."""
        clients = list(self._clients)
        for client in clients:
            client.transport.abort()
        return len(clients)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        far = None
        try:
            far_reader, far = await asyncio.open_connection(self._there.hostname, self._there.port)
            back = asyncio.create_task(self._back(far_reader, writer))
            while data := await reader.read(READ_BYTES):
                far.write(data)
            back.cancel()
        except OSError:
            pass
        finally:
            self._clients.discard(writer)
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(READ_BYTES):
            loop.call_later(self._delay_s, writer.write, data)
        loop.call_later(self._delay_s, writer.close)
