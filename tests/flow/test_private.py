"""The private channel: a token that expires, fetched anew at each connect, and never written down."""

from __future__ import annotations

import re
from pathlib import Path

from tickplant import ConnectionState, Log, Plant, Subject

from .conftest import all_live, settings_for, simulated, until

PRIVATE = 1
"""Connection of the private route: the second of Kraken's."""


def moves(log: Log) -> list[ConnectionState]:
    """The states of the private connection, in their order."""
    found = [record for batch in log.records(schema="status") for record in batch]
    return [r.current for r in found if r.subject is Subject.CONNECTION and r.connection == PRIVATE]


def segments(log: Path) -> bytes:
    """All that the log wrote."""
    return b"".join(path.read_bytes() for path in log.rglob("*.seg"))


async def test_an_expired_token_is_fetched_anew_and_never_kept(tmp_path: Path) -> None:
    async with simulated(["kraken"]) as server:
        settings = settings_for(
            server,
            ["kraken"],
            tmp_path,
            venue__kraken__api_key="key",
            venue__kraken__api_secret="c2VjcmV0",
            venue__kraken__backoff_first_s=0.05,
        )
        async with Plant(settings) as plant:
            await until(lambda: all_live(plant, 2))
            await until(lambda: moves(plant.log).count(ConnectionState.LIVE) == 1)
            # A plant that kept its token would be refused from here on.
            server.venue("kraken").expire_tokens()
            assert server.drop_connections("kraken") == 2
            await until(lambda: moves(plant.log).count(ConnectionState.LIVE) == 2)
            assert moves(plant.log).count(ConnectionState.AUTHENTICATING) == 2
            await until(lambda: all_live(plant, 2, messages=40))
    # What was told to the session, and what it sent.
    assert set(re.findall(rb'"token":"([^"]*)"', segments(tmp_path))) == {b"<redacted>", b"{token}"}
