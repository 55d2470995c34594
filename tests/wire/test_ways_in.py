"""The way to an open connection: addresses, certificates, refusals, proxies. Each failure says what, where, why."""

import http
import socket
import ssl

import pytest
from authority import Authority
from servers import start_proxy, start_script, start_websockets

from tickplant._native import WebSocketClient, http_get
from tickplant.errors import ConfigError, ConnectFailed, HandshakeRefused, TlsFailed, WireError

connect = WebSocketClient.connect


def test_a_refused_address():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(ConnectFailed) as caught:
            connect(f"ws://127.0.0.1:{port}/x?key=secret")
    assert str(caught.value) == (
        f"no connection to 127.0.0.1:{port}: connection refused (ws://127.0.0.1:{port}): "
        "check host and port: nothing listens there"
    )
    assert caught.value.reason == "ConnectFailed"


def test_a_silent_address_is_left_after_the_timeout():
    # A listener that never accepts: TCP stands, the handshake gets no answer.
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(HandshakeRefused, match=r"the WebSocket handshake took longer than 0\.2 s") as caught,
    ):
        connect(f"ws://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
    assert caught.value.reason == "Silent"


def test_a_name_without_an_address():
    with pytest.raises(ConnectFailed, match="the host's name has no address"):
        connect("ws://no-such-name.invalid/")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"url": "http://x"}, "must begin with wss:// or ws://"),
        ({"url": "ws://u:p@x"}, "user name"),
        ({"url": "ws://x", "proxy": "socks5://y"}, "the proxy's address is wrong"),
        ({"url": "wss://127.0.0.1:1", "ca": "/nowhere.pem"}, "CA file /nowhere.pem"),
        ({"url": "ws://127.0.0.1:1", "headers": [("Host", "x")]}, "header Host is set by the handshake"),
        ({"url": "ws://127.0.0.1:1", "headers": [("X", "a\r\nY: b")]}, "line break"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_sent(arguments, why):
    with pytest.raises(ConfigError, match=why):
        connect(**arguments)


def refuse(status, headers, body):
    def process_request(connection, request):
        response = connection.respond(http.HTTPStatus(status), body)
        for name, value in headers.items():
            response.headers[name] = value
        return response

    return process_request


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason", "retry", "wait_s", "text"),
    [
        (403, {}, "region not served", "HandshakeRefused", False, None, "403 Forbidden, text/plain"),
        (429, {"Retry-After": "12"}, "slow down", "RateLimited", True, 12, "429 Too Many Requests, retry after 12 s"),
        (418, {"Retry-After": "120"}, "banned", "RateLimited", True, 120, "418"),
        (401, {}, "", "AuthFailed", False, None, "401 Unauthorized"),
        (503, {}, "maintenance", "HandshakeRefused", True, None, "503 Service Unavailable"),
        (301, {"Location": "wss://else.example/"}, "", "HandshakeRefused", False, None, "to wss://else.example/"),
    ],
)
def test_a_refused_handshake(start, status, headers, body, reason, retry, wait_s, text):
    port = start(start_websockets(process_request=refuse(status, headers, body)))
    with pytest.raises(HandshakeRefused) as caught:
        connect(f"ws://127.0.0.1:{port}/")
    error = caught.value
    assert (error.status, error.reason, error.retry, error.retry_after_s) == (status, reason, retry, wait_s)
    assert text in str(error)
    assert body in str(error)


def test_a_page_of_html_instead_of_a_socket(start):
    page = b"<html>\n<head><title>Sign in</title></head>" + b" " * 5000 + b"</html>"
    port = start(start_script(b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page))
    with pytest.raises(HandshakeRefused) as caught:
        connect(f"ws://127.0.0.1:{port}/")
    assert 'answered 200 OK, text/html; charset=utf-8: "<html> <head><title>Sign in' in str(caught.value)
    assert len(str(caught.value)) < 500


def test_headers_and_subprotocol_reach_the_server(start):
    seen = []

    def note(connection, request):
        seen.append((request.path, request.headers["X-Key"], request.headers["User-Agent"]))

    port = start(start_websockets(process_request=note, subprotocols=["b", "c"]))
    client = connect(f"ws://127.0.0.1:{port}/p?q=1", headers=[("X-Key", "k")], subprotocols=["a", "b"])
    assert client.subprotocol == "b"
    assert client.address == f"127.0.0.1:{port}"
    assert seen[0][:2] == ("/p?q=1", "k")
    assert seen[0][2].startswith("tickplant/")


# TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3(start, authority, version):
    context = authority.context("localhost")
    context.minimum_version = context.maximum_version = version
    client = connect(f"wss://localhost:{start(start_websockets(context))}/", ca=authority.ca)
    client.send("secret")
    assert client.recv() == "secret"
    assert client.close() == "closed by us with code 1000"


def tls_failure(start, context, ca):
    port = start(start_websockets(context))
    with pytest.raises(TlsFailed) as caught:
        connect(f"wss://localhost:{port}/", ca=ca)
    assert caught.value.reason == "TlsFailed"
    assert caught.value.where == f"wss://localhost:{port}"
    return str(caught.value)


def test_wrong_certificates_say_which_name_and_why(start, authority, tmp_path):
    text = tls_failure(start, authority.context("other.example"), authority.ca)
    assert "the certificate is not for localhost but for" in text
    assert "other.example" in text
    text = tls_failure(start, authority.context("localhost", expired=True), authority.ca)
    assert "expired" in text
    assert "clock" in text
    text = tls_failure(start, Authority(tmp_path, "strangers").context("localhost"), authority.ca)
    assert "signed by no authority that is trusted here" in text
    assert "`ca`" in text
    assert "signed by no authority" in tls_failure(start, authority.context("localhost"), None)


def test_tls_and_plain_confused(start, authority):
    plain = start(start_websockets())
    with pytest.raises(TlsFailed, match="ws:// against wss://"):
        connect(f"wss://localhost:{plain}/", timeout_s=30)
    tls = start(start_websockets(authority.context("localhost")))
    with pytest.raises(HandshakeRefused, match="against wss://"):
        connect(f"ws://localhost:{tls}/", timeout_s=30)


# Proxies


@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy_with_a_user_tunnels(start, authority, tls):
    target = start(start_websockets(authority.context("venue.example") if tls else None))
    port, asked = start(start_proxy("me:p@ss", target))
    # The name exists only behind the proxy.
    url = f"{'wss' if tls else 'ws'}://venue.example/feed"
    client = connect(url, ca=authority.ca, proxy=f"http://me:p%40ss@127.0.0.1:{port}")
    client.send("through")
    assert client.recv() == "through"
    assert asked == [f"CONNECT venue.example:{443 if tls else 80} HTTP/1.1"]
    with pytest.raises(HandshakeRefused, match="the proxy answered 407") as caught:
        connect(url, proxy=f"http://127.0.0.1:{port}")
    assert caught.value.hint == "set the proxy's user and password in its address"


# HTTP


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("through_proxy", [False, True])
def test_http_get(start, authority, tls, through_proxy):
    reply = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n'
    target = start(start_script(reply, authority.context("localhost") if tls else None))
    proxy = None
    if through_proxy:
        port, asked = start(start_proxy("me:pw", target))
        proxy = f"http://me:pw@127.0.0.1:{port}"
    url = f"{'https' if tls else 'http'}://localhost:{target}/depth?symbol=X"
    assert http_get(url, ca=authority.ca, proxy=proxy) == (200, None, b'{"a":1}')
    if through_proxy:
        assert asked == [f"CONNECT localhost:{target} HTTP/1.1"]


def test_http_get_says_why_not(start, authority):
    limited = start(start_script(b"HTTP/1.1 429 Slow\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n"))
    assert http_get(f"http://localhost:{limited}/") == (429, 9.0, b"")
    port = start(start_script(b"", authority.context("other.example")))
    with pytest.raises(WireError, match=r"no reply from https://localhost:\d+/x: the certificate is not for localhost"):
        http_get(f"https://localhost:{port}/x?key=secret", ca=authority.ca)
