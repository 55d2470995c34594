"""`venues`: what this installation knows, and what a venue lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from tickplant._native import http_get
from tickplant.cli.common import (
    Exit,
    JsonOption,
    SetOption,
    load_settings,
    print_json,
    rows_text,
)
from tickplant.errors import ConnectFailed, VenueError, WireError
from tickplant.venues.base import Venue
from tickplant.venues.settings import VenueSettings
from tickplant.venues.table import VENUES, find_venue

HTTP_TIMEOUT_S = 20.0


def venues(
    name: Annotated[str | None, typer.Argument(metavar="VENUE", help="One venue; without it, all.")] = None,
    instruments: Annotated[
        bool, typer.Option("--instruments", help="Ask the venue for its instruments (needs a network).")
    ] = False,
    sets: SetOption = None,
    json: JsonOption = False,
) -> Exit:
    """List the venues, or the instruments that one of them has.

    Example: tickplant venues binance-usdm --instruments
    """
    chosen = list(VENUES.values()) if name is None else [find_venue(name)]
    if instruments:
        settings = load_settings(None, sets=sets).venues
        rows = [row for venue in chosen for row in _instruments(venue, settings.get(venue.code, VenueSettings()))]
    else:
        rows = [_venue_row(venue) for venue in chosen]
    if json:
        for row in rows:
            print_json(row)
    else:
        typer.echo(rows_text(rows))
    return Exit.OK


def _venue_row(venue: Venue) -> dict[str, Any]:
    return {
        "venue": venue.code,
        "number": venue.number,
        "title": venue.title,
        "example": f"{venue.symbol_example}.{venue.code}",
        "streams": [c.stream for c in venue.channels if c.stream in ("book", "trades", "ticker")],
        "depths": list(venue.depths) or ["full"],
        "proof": "checksum" if venue.book.checksum != "none" else _CHAINS[venue.book.continuity],
        "address": venue.routes[0].url,
    }


_CHAINS = {"none": "none given", "range": "sequence", "previous": "sequence", "growing": "none given"}


def _instruments(venue: Venue, settings: VenueSettings) -> Iterator[dict[str, Any]]:
    request = venue.instruments_request(settings)
    try:
        status, _, body = http_get(request.url, ca=settings.ca, proxy=settings.proxy, timeout_s=HTTP_TIMEOUT_S)
    except WireError as error:
        raise ConnectFailed(
            f"{venue.title} cannot be reached: {error.what}",
            where=request.url,
            hint=f"check the network, or set venue.{venue.code.lower()}.rest_url or .proxy",
        ) from None
    if status != 200:
        raise VenueError(f"{venue.title} answered with {status}", where=request.url, venue=venue.code)
    found = venue.parse_instruments(body)
    for definition in sorted(found, key=lambda definition: definition.symbol):
        yield {
            "instrument": f"{definition.symbol}.{venue.code}",
            "base": definition.base,
            "quote": definition.quote,
            "tick": definition.tick,
            "lot": definition.lot,
            "active": definition.active,
        }
