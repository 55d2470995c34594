"""A real plant behind a proxy that wounds: it heals, its log holds what the venues said, and the checks can fail."""

import os

import pytest

from tickplant.clock import SECOND_NS
from tickplant.errors import ConfigError
from tickplant.records import BookState, Subject
from tickplant.testing.faults import Fired
from tickplant.testing.reports.wounds import Sign, Wound
from tickplant.testing.sockets.frames import TEXT, Frames
from tickplant.testing.sockets.proxy import SOCKET_FAULTS, socket_faults
from tickplant.testing.sockets.trial import Trial, longest_dark_ns, trial


def test_frames_are_cut_wherever_the_bytes_are():
    texts = [b"x" * size for size in (0, 1, 125, 126, 65_535, 65_536)]
    stream = b"".join(bytes((0x81, size)) + t for t in texts if (size := len(t)) < 126)
    frames = Frames()
    first = next(frames.feed(stream))
    assert (first.opcode, first.payload) == (TEXT, b"")
    stream = b"".join(first.with_payload(text) for text in texts) + bytes((0x8A, 0))
    for step in (1, 7, len(stream)):
        frames = Frames()
        found = [frame for at in range(0, len(stream), step) for frame in frames.feed(stream[at : at + step])]
        assert [frame.payload for frame in found] == [*texts, b""], step
        assert b"".join(frame.raw for frame in found) == stream
        assert found[-1].opcode == 10


def test_faults_of_sockets_are_named():
    assert set(socket_faults("flaky")) == set(SOCKET_FAULTS)
    with pytest.raises(ConfigError, match="restart"):
        socket_faults("restart")


def test_the_time_to_recover_is_that_of_lone_cuts():
    def cut(at_s, healed_s, venue="A", name="rst"):
        return Wound(Fired(at_s * SECOND_NS, name, venue, ""), at_s * SECOND_NS, "", healed_s * SECOND_NS, "RECONNECT")

    unseen = Wound(Fired(99 * SECOND_NS, "duplicate", "A", ""))
    alone = [cut(100, 101), unseen, cut(100, 150, "B", "mute")]
    # One too soon after it, one beside something else, and one a minute after that.
    near = [cut(130, 138), cut(300, 330), cut(310, 330, name="mute"), cut(400, 403, name="fin")]
    found = Trial(1, 500.0, [], [*alone, *near], {}, [900_000_000, 0])
    assert found.recovery_ms == {"p50": 1000, "p99": 3000, "dark": 900, "lone": 2, "cuts": 4}
    assert "p50 1000 ms, p99 3000 ms, no book dark for over 900 ms, 2 of 4 cuts were lone" in found.text()
    assert Trial(1, 1.0, [], [unseen], {}, []).recovery_ms == {"lone": 0, "cuts": 0}


def test_a_book_is_dark_from_when_it_leaves_live():
    def book(at_ns, instrument_id, current):
        return Sign(at_ns, Subject.BOOK, instrument_id, 0, current, 0)

    signs = [book(5, 1, BookState.STALE), book(12, 2, BookState.STALE), book(20, 1, BookState.SYNCING)]
    signs += [book(31, 2, BookState.LIVE), book(40, 1, BookState.LIVE)]
    assert longest_dark_ns(signs, 10, 35) == 25  # the first, from the start to the end
    assert longest_dark_ns(signs[1:2] + signs[3:], 10, 35) == 19
    assert longest_dark_ns(signs, 40, 50) == 0


async def test_a_plant_heals_from_what_a_proxy_does(tmp_path):
    """Short: `make proof` gives it ten minutes."""
    faults = tmp_path / "faults.toml"
    faults.write_text("[faults]\nrst = 0.3\ntruncate = 0.3\ndrop = 0.3\n")
    found = await trial(seed=5, seconds=2, faults=str(faults), venues=["kraken", "binance"], rate=100)
    assert found.violations == [], found.text()
    assert found.wounds
    assert all(wound.healed_ns is not None for wound in found.wounds if wound.noticed_ns)
    assert found.counts["book_messages"] > 20


@pytest.mark.proof
@pytest.mark.timeout(5000)
@pytest.mark.parametrize(("faults", "lines"), [("flaky", 1), ("rst=0.004,fin=0.004", 2)])
async def test_ten_minutes_over_sockets(faults, lines):
    """TICKPLANT_SOCKET_SECONDS for another time; the result stands in bench/record."""
    seconds = float(os.environ.get("TICKPLANT_SOCKET_SECONDS", "600"))
    found = await trial(seed=7, seconds=seconds, faults=faults, lines=lines)
    print(found.text())
    assert found.violations == [], found.text()
    assert found.recovery_ms["cuts"] > 0
    # A dropped line with a warm spare costs no gap.
    assert lines == 1 or not any(found.dark_ns), found.text()
