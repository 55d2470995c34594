"""Servers on a background loop and certificates for the tests of the wire."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from authority import Authority
from servers import Background, start_picows, start_websockets


@pytest.fixture(scope="session")
def background():
    background = Background()
    yield background
    background.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"), "tests")


@pytest.fixture
def start(background):
    """Runs a coroutine that gives (server, ...); the server is closed after the test."""
    servers = []

    def start(coroutine):
        server, *rest = background.run(coroutine)
        servers.append(server)
        return rest[0] if len(rest) == 1 else rest

    yield start
    for server in servers:
        background.loop.call_soon_threadsafe(server.close)


@pytest.fixture(params=["websockets", "picows", "websockets-tls", "picows-tls"])
def endpoint(request, start, authority):
    """URL and CA file of each foreign server, plain and with TLS."""
    name, _, tls = request.param.partition("-")
    context = authority.context("localhost", "127.0.0.1") if tls else None
    port = start({"websockets": start_websockets, "picows": start_picows}[name](context))
    return (f"wss://localhost:{port}/", authority.ca) if tls else (f"ws://127.0.0.1:{port}/", None)
