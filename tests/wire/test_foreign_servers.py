"""The client against WebSocket servers that we did not write, plain and TLS."""

import pytest
from servers import BIG

from tickplant._native import WebSocketClient
from tickplant.errors import ProtocolError, WireError


@pytest.fixture
def client(endpoint):
    url, ca = endpoint
    return WebSocketClient.connect(url, ca=ca)


def test_text_and_binary_come_back(client):
    for message in ["hello", "", "\N{EURO SIGN}" * 30_000, b"", bytes(range(256)), b"z" * 126, b"z" * 65_536]:
        client.send(message)
        assert client.recv() == message
    assert client.close() == "closed by us with code 1000"


def test_a_burst_arrives_whole_and_in_order(client):
    client.send("burst 5000")
    for number in range(5000):
        assert client.recv() == f"{number}:" + "x" * (number % 700)


def test_a_message_of_10_mib(client):
    client.send("big")
    assert client.recv() == BIG
    client.send(BIG[:3_000_000])
    assert client.recv() == BIG[:3_000_000]


def test_fragments_are_joined_and_pings_between_them_answered(client):
    client.send("fragments")
    assert client.recv() == "\N{EURO SIGN}uro"
    client.send("after")
    assert client.recv() == "after"


def test_our_ping_gets_its_pong(client):
    assert 0 < client.ping(b"payload") < 5
    assert 0 < client.ping() < 5
    with pytest.raises(ValueError, match="at most 125 bytes"):
        client.ping(b"x" * 126)


def test_the_peer_closes(client):
    client.send("close 4001 bad subscription")
    with pytest.raises(WireError) as caught:
        client.recv()
    error = caught.value
    assert (error.close_code, error.reason) == (4001, "PeerClosed")
    assert error.what == 'closed by the peer with code 4001 "bad subscription"'
    with pytest.raises(WireError, match="closed by the peer"):
        client.send("more")


def test_the_peer_drops_the_connection(client):
    client.send("drop")
    with pytest.raises(WireError, match="without a close") as caught:
        client.recv()
    assert caught.value.reason == "PeerClosed"


def test_nothing_coming_is_a_timeout_and_no_end(client):
    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        client.recv(timeout_s=0.05)
    client.send("still there")
    assert client.recv() == "still there"


def test_a_message_over_the_limit_is_refused(endpoint):
    url, ca = endpoint
    client = WebSocketClient.connect(url, ca=ca, message_bytes_max=1 << 20)
    client.send("big")
    with pytest.raises(ProtocolError, match="10485760 bytes exceeds the limit of 1048576") as caught:
        client.recv()
    assert (caught.value.reason, caught.value.hint) == (
        "ProtocolError",
        "set message_bytes_max higher if the venue sends such messages",
    )


def test_a_context_closes(endpoint):
    url, ca = endpoint
    with WebSocketClient.connect(url, ca=ca) as client:
        client.send("x")
        assert client.recv() == "x"
    with pytest.raises(WireError, match="closed by us"):
        client.recv()
