"""WebSocket servers that we did not write, with one dialect of commands, and a CONNECT proxy."""

import asyncio
import base64
import contextlib
import threading

import picows
import websockets.asyncio.server

BIG = bytes(range(256)) * 4096 * 10
"""10 MiB."""


class Background:
    """An event loop on a thread of its own, so that the blocking client does not stop its server."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    async def _cancel(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        self.run(self._cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


async def start_websockets(ssl=None, process_request=None, **options):
    """`burst N`, `big`, `fragments`, `close CODE REASON`, `drop`, `subprotocol`; anything else is echoed."""

    async def handle(socket):
        async for message in socket:
            match message.split() if isinstance(message, str) else [message]:
                case ["burst", count]:
                    for number in range(int(count)):
                        await socket.send(f"{number}:" + "x" * (number % 700))
                case ["big"]:
                    await socket.send(BIG)
                case ["fragments"]:
                    await socket.send(pieces(socket))
                case ["close", code, *reason]:
                    await socket.close(int(code), " ".join(reason))
                case ["drop"]:
                    socket.transport.abort()
                case _:
                    await socket.send(message)

    async def pieces(socket):
        for letter in "\N{EURO SIGN}uro":
            yield letter
            # A ping between the fragments; its pong must come while the message is still open.
            await asyncio.wait_for(await socket.ping(), 5)

    server = await websockets.asyncio.server.serve(
        handle, "127.0.0.1", 0, ssl=ssl, process_request=process_request, max_size=None, compression=None, **options
    )
    return server, server.sockets[0].getsockname()[1]


class PicowsCommands(picows.WSListener):
    """The same commands, answered by picows."""

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        if frame.msg_type not in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY):
            return
        payload = frame.get_payload_as_bytes()
        text = picows.WSMsgType.TEXT
        match payload.split() if frame.msg_type == text else [payload]:
            case [b"burst", count]:
                for number in range(int(count)):
                    transport.send(text, f"{number}:".encode() + b"x" * (number % 700))
            case [b"big"]:
                transport.send(picows.WSMsgType.BINARY, BIG)
            case [b"fragments"]:
                pieces = ["\N{EURO SIGN}".encode()[:1], "\N{EURO SIGN}".encode()[1:], b"", b"uro"]
                for number, piece in enumerate(pieces):
                    kind = picows.WSMsgType.CONTINUATION if number else text
                    transport.send(kind, piece, fin=number == len(pieces) - 1)
                    transport.send_ping(b"between")
            case [b"close", code, *reason]:
                transport.send_close(int(code), b" ".join(reason))
            case [b"drop"]:
                transport.underlying_transport.abort()
            case _:
                transport.send(frame.msg_type, payload)


async def start_picows(ssl=None):
    server = await picows.ws_create_server(lambda request: PicowsCommands(), "127.0.0.1", 0, ssl=ssl)
    return server, server.sockets[0].getsockname()[1]


async def start_proxy(user: str = "", target_port: int = 0):
    """An HTTP proxy that tunnels every CONNECT to `target_port` on loopback and lists the lines that it was asked."""
    asked: list[str] = []

    async def handle(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head.splitlines()[0])
        wanted = "Proxy-Authorization: Basic " + base64.b64encode(user.encode()).decode()
        if user and wanted not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    async def copy(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1], asked


async def start_script(reply: bytes, ssl=None):
    """Reads one request and answers it with these bytes, then closes."""

    async def handle(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=ssl)
    return server, server.sockets[0].getsockname()[1]
