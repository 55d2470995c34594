"""Recordings of other collectors: what their lines mean, and what is said where they are wrong."""

import gzip

import pytest

from tickplant.cli.imports.recordings import Entry, read_recording, symbols_in
from tickplant.errors import ImportFormatError
from tickplant.venues.table import VENUES

HFTBACKTEST = b"""1723161253937085768 {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","s":"BTCUSDT"}}
1723161254206652067 {"lastUpdateId":50093239218,"bids":[]}
"""
SOCKET = b"""wss://ws-feed.pro.coinbase.com <-> 1618677816.8434298
wss://ws-feed.pro.coinbase.com <- 1618677817.020616: {"type":"subscribe","product_ids":["SKL-USD"]}
1618677817.061845: {"type":"ticker","product_id":"SKL-USD"}
1618677819: {"type":"l2update","product_id":"SKL-BTC"}
"""
REPLIES = b"""https://api.example/products -> 1618677810.1: [{"id":"SKL-EUR"}]
https://api.example/depth?symbol=SKL-USD&limit=5 -> 1618677818.5: {"lastUpdateId":1}
"""


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="recording"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_file


def test_hftbacktest_lines(write):
    path = write(gzip.compress(HFTBACKTEST))
    frame, reply = read_recording([path], "hftbacktest")
    assert (frame.at, frame.kind) == (1723161253937085768, "frame")
    assert frame.body.startswith(b'{"stream"')
    assert (reply.kind, reply.symbol) == ("reply", "")
    assert symbols_in([frame, reply], VENUES["BINANCE"].symbol_in_frame) == ["BTCUSDT"]


def test_cryptofeed_files_are_merged_by_time_and_times_are_exact(write):
    socket, replies = write(SOCKET), write(REPLIES, "http")
    entries = list(read_recording([socket, replies], "cryptofeed"))
    assert [entry.source for entry in entries] == [str(socket), str(socket), str(replies), str(socket)]
    assert [entry._replace(source="") for entry in entries] == [
        Entry(1618677816_843429800, "opened", b""),
        Entry(1618677817_061845000, "frame", b'{"type":"ticker","product_id":"SKL-USD"}'),
        Entry(1618677818_500000000, "reply", b'{"lastUpdateId":1}', "SKL-USD"),
        Entry(1618677819_000000000, "frame", b'{"type":"l2update","product_id":"SKL-BTC"}'),
    ]
    assert symbols_in(entries, VENUES["COINBASE"].symbol_in_frame) == ["SKL-USD", "SKL-BTC"]


def test_raw_lines(write):
    path = write(b"1723161253937085768 frame with spaces\n\n1723161253937085769 GET https://x/d?symbol=A body\n")
    assert [entry._replace(source="") for entry in read_recording([path], "raw")] == [
        Entry(1723161253937085768, "frame", b"frame with spaces"),
        Entry(1723161253937085769, "reply", b"body", "A"),
    ]


@pytest.mark.parametrize(
    ("form", "content", "line"),
    [
        ("hftbacktest", b"1723161253937085768 {}\nnonsense\n", 2),
        ("hftbacktest", b"1723161253 {}\n", 1),
        ("raw", b"1723161253937085768\n", 1),
        ("cryptofeed", b"not a line\n", 1),
        ("cryptofeed", b"16e9: {}\n", 1),
        ("cryptofeed", b"https://api.example nothing\n", 1),
    ],
)
def test_a_line_of_another_format_is_named(write, form, content, line):
    path = write(content)
    with pytest.raises(ImportFormatError) as caught:
        list(read_recording([path], form))
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.hint.startswith("expected ")


def test_a_cut_file_gives_what_came_before_and_says_so(write):
    content = gzip.compress(b"".join(b"%d {}\n" % (1723161253937085768 + n * n) for n in range(5000)))
    path = write(content[: len(content) // 2])
    seen = []
    with pytest.raises(ImportFormatError, match="cannot be read on"):
        seen.extend(read_recording([path], "hftbacktest"))
    assert len(seen) > 100
    with pytest.raises(ImportFormatError, match="No such file"):
        list(read_recording([path.with_name("none")], "raw"))
