"""What a user sees of the router: metrics, the live view, what the kernel gives."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from tests.conftest import WITHIN_S, until
from tests.tape.route.routing import WORKER, command, trade

from tickplant.cli.tape.check import look_at_kernel
from tickplant.cli.tape.view import TapeView, bar, number, sparkline


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=WITHIN_S) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_tell_the_account_and_whether_the_router_is_ready(tapes, tmp_path):
    tape = tapes(["[" + ",".join(trade(f"S{number}", number) for number in range(500)) + "]"], stay=True)
    router = subprocess.Popen(
        command(tape, 2, WORKER, tmp_path, "--metrics-port", "0"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert router.stderr is not None
    said = ""
    while not (found := re.search(r"metrics at (http://127\.0\.0\.1:\d+)/metrics", said)):
        line = router.stderr.readline()
        assert line, said
        said += line

    def metrics() -> dict[tuple[str, str], float]:
        status, text = get(f"{found[1]}/metrics")
        assert status == 200
        families = text_string_to_metric_families(text)
        return {(s.name, s.labels.get("pipe", "")): s.value for family in families for s in family.samples}

    until(lambda: metrics()[("tickplant_tape_trades_total", "")] == 500)
    values = metrics()
    assert values[("tickplant_tape_connected", "")] == 1
    assert sum(values[("tickplant_tape_pipe_messages_total", pipe)] for pipe in "01") == 500
    assert values[("tickplant_tape_pipe_stalled", "0")] == 0
    assert get(f"{found[1]}/ready") == (200, "ready\n")
    tape.close()
    until(lambda: get(f"{found[1]}/ready")[0] == 503)
    assert get(f"{found[1]}/health")[0] == 200
    router.terminate()
    router.communicate(timeout=WITHIN_S)
    assert router.returncode == 0


def pipe(**changed: int) -> dict[str, int]:
    names = "messages written_bytes queued_bytes unread_bytes dropped spilled_bytes redelivered restarts failures"
    return dict.fromkeys(names.split(), 0) | {"stalled": 0, "down": 0, "broken": 0} | changed


def report(trades: int, pipes: list[dict[str, int]]) -> dict:
    return {"trades": trades, "received_bytes": trades * 107, "connected": True, "max_over_mean": 1.2, "pipes": pipes}


@pytest.mark.parametrize(("width", "height", "pipes"), [(60, 24, 8), (120, 30, 32), (60, 24, 79), (200, 24, 79)])
def test_the_view_fits_the_terminal_and_shows_every_pipe_that_has_room(width, height, pipes):
    view = TapeView("wss://socket.example.com/stocks to many pipes")
    for second in range(60):
        cells = [pipe(messages=second * (at + 1) * 1000, queued_bytes=at) for at in range(pipes)]
        cells[1] |= {"stalled": 1}
        view.take(report(second * 1_000_000, cells), second * 10**9 + 1)
    view.notices = ["tickplant route: pipe 1 is STALLED: nobody reads the 1048576 bytes in it"] * 5
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(view.render(width, height))
    lines = console.export_text().splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert "1.00M/s" in text
    assert "STALLED" in text
    shown = sum(bool(re.search(rf"(^|\s){at}\s", text)) for at in range(pipes))
    assert shown == pipes or (width, pipes) == (60, 79)


def test_numbers_bars_and_sparklines():
    assert [number(value) for value in (0, 999, 999.6, 12_345, 4_560_000, 123e9)] == [
        "0",
        "999",
        "1.00k",
        "12.3k",
        "4.56M",
        "123G",
    ]
    assert [bar(share, 4) for share in (0, 0.5, 17 / 32, 1, 9)] == ["    ", "██  ", "██▏ ", "████", "████"]
    assert sparkline([0.0, 1.0, 4.0, 8.0], 6) == "   ▁▄█"
    assert sparkline([5.0] * 9, 3) == "███"


def test_the_view_takes_the_terminal_and_gives_it_back(tapes, tmp_path):
    tape = tapes(["[" + ",".join(trade(f"S{number}", number) for number in range(500)) + "]"], stay=True)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 60))
    noisy = 'import os; os.write(2, b"a worker speaks\\n")\n' + WORKER
    router = subprocess.Popen(
        command(tape, 2, noisy, tmp_path, "--view"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""
    while b"500 trades" not in seen or b"a worker speaks" not in seen:
        piece = os.read(ours, 65536)
        assert piece, seen
        seen += piece
    assert b"Rate {r" not in seen
    assert b"\x1b[?1049h" in seen
    router.terminate()
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:
        # The other end is closed.
        pass
    assert router.wait(WITHIN_S) == 0
    back = seen.rpartition(b"\x1b[?1049l")[2]
    assert b"a worker speaks" in back
    os.close(ours)


def test_the_check_names_the_line_that_mends_each_thing(tmp_path):
    for name, text in {
        "sys/net/ipv4/tcp_available_ulp": "espintcp mptcp\n",
        "modules": "nf_tables 1 0 - Live 0x0\n",
        "sys/fs/pipe-user-pages-soft": "16384\n",
        "sys/fs/pipe-user-pages-hard": "0\n",
        "sys/fs/pipe-max-size": "1048576\n",
        "sys/net/core/rmem_max": "212992\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {finding.check: finding for finding in look_at_kernel(2 << 20, tmp_path)}
    assert list(found) == [
        "kernel",
        "tls module",
        "fs.pipe-user-pages-soft",
        "fs.pipe-user-pages-hard",
        "fs.pipe-max-size",
        "net.core.rmem_max",
    ]
    assert not found["tls module"].ok
    assert "modprobe tls" in found["tls module"].advice
    assert found["fs.pipe-user-pages-soft"].advice == "sudo sysctl -w fs.pipe-user-pages-soft=0"
    assert found["fs.pipe-user-pages-hard"].ok
    assert found["fs.pipe-max-size"].advice == "sudo sysctl -w fs.pipe-max-size=2097152"
    assert found["net.core.rmem_max"].advice == "sudo sysctl -w net.core.rmem_max=4194304"
    (tmp_path / "modules").write_text("tls 155648 0 - Live 0x0\n")
    assert next(f for f in look_at_kernel(1, tmp_path) if f.check == "tls module").ok


def test_the_check_needs_no_address_and_a_route_does():
    start = [sys.executable, "-m", "tickplant", "route"]
    done = subprocess.run([*start, "--check", "--json"], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert [finding["check"] for finding in findings][:2] == ["kernel", "tls module"]
    assert done.returncode == (0 if all(finding["ok"] for finding in findings) else 1)
    missing = subprocess.run([*start, "--pipes", "2"], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert missing.returncode == 2
    assert "URL" in missing.stderr
