//! The strict scanners of Kraken v1: the layouts that it sends, byte for byte, as the samples in [`super::kraken_v1`] show
//! them. The channel stands last, so the payload's own shape tells what it is: a book's levels are lists in a map, a
//! ticker's are not.

use super::kraken_v1::newest_time;
use super::scan::Scan;
use crate::clock::Nanos;
use crate::event::{BookEvent, Chain, Decoded, Event, QuoteEvent, Span, TradeEvent};
use crate::record::{Side, UNDEF_U64};

/// Books, trades and tickers.
pub fn scan_frame(frame: &[u8], out: &mut Decoded) -> Option<()> {
    let mut scan = Scan::new(frame);
    scan.literal(b"[")?;
    scan.unsigned()?;
    scan.literal(b",")?;
    if scan.literal(br#"{"a":[""#).is_some() {
        scan_ticker(&mut scan, out)
    } else if scan.literal(br#"{"as":"#).is_some() {
        scan_snapshot(&mut scan, out)
    } else if scan.peek()? == b'{' {
        scan_update(&mut scan, out)
    } else {
        scan_trades(&mut scan, out)
    }
}

/// `,"book-10","XBT/USD"]`, and the frame ends.
fn scan_end(scan: &mut Scan<'_>, channel: &[u8]) -> Option<Span> {
    scan.literal(br#",""#)?;
    scan.literal(channel)?;
    if channel == b"book-" {
        scan.quoted()?;
    } else {
        scan.literal(b"\"")?;
    }
    scan.literal(br#",""#)?;
    let symbol = scan.quoted()?;
    scan.literal(b"]")?;
    scan.end()?;
    Some(symbol)
}

fn push_book(scan: &mut Scan<'_>, start: usize, newest: Nanos, checksum: Option<u32>, out: &mut Decoded) -> Option<()> {
    let symbol = scan_end(scan, b"book-")?;
    let (snapshot, rows, ts_event) = (checksum.is_none(), start..out.rows.len(), newest_time(newest));
    out.events.push(Event::Book(BookEvent { symbol, snapshot, rows, chain: Chain::NONE, checksum, ts_event }));
    Some(())
}

/// From the asks on.
fn scan_snapshot(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    let start = out.rows.len();
    let mut newest = 0;
    scan_side(scan, Side::Ask, &mut newest, out)?;
    scan.literal(br#","bs":"#)?;
    scan_side(scan, Side::Bid, &mut newest, out)?;
    scan.literal(b"}")?;
    push_book(scan, start, newest, None, out)
}

/// One or two maps, the checksum in the last.
fn scan_update(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    let start = out.rows.len();
    let mut newest = 0;
    if scan.literal(br#"{"a":"#).is_some() {
        scan_side(scan, Side::Ask, &mut newest, out)?;
        if scan.literal(br#"},{"b":"#).is_some() {
            scan_side(scan, Side::Bid, &mut newest, out)?;
        }
    } else {
        scan.literal(br#"{"b":"#)?;
        scan_side(scan, Side::Bid, &mut newest, out)?;
    }
    scan.literal(br#","c":""#)?;
    let checksum = u32::try_from(scan.unsigned()?).ok()?;
    scan.literal(br#""}"#)?;
    push_book(scan, start, newest, Some(checksum), out)
}

/// `[["5541.30000","2.50700000","1534614248.456738"],..]`, each perhaps with `,"r"` at its end, or an empty list.
#[inline]
fn scan_side(scan: &mut Scan<'_>, side: Side, newest: &mut Nanos, out: &mut Decoded) -> Option<()> {
    if scan.literal(b"[]").is_some() {
        return Some(());
    }
    scan.literal(br#"[[""#)?;
    loop {
        out.rows.push(scan.quoted_row(side)?);
        scan.literal(br#",""#)?;
        *newest = (*newest).max(scan.quoted_seconds()?);
        if scan.literal(br#"],[""#).is_some() {
            continue;
        }
        if scan.literal(b"]]").is_some() {
            return Some(());
        }
        scan.literal(br#","r"]"#)?;
        if scan.literal(br#",[""#).is_none() {
            return scan.literal(b"]");
        }
    }
}

/// `[["5541.20000","0.15850568","1534614057.321597","s","l",""],..]`
fn scan_trades(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    let first = out.events.len();
    scan.literal(br#"[[""#)?;
    loop {
        // The side's place is taken by any until it is read.
        let row = scan.quoted_row(Side::Bid)?;
        scan.literal(br#",""#)?;
        let ts_event = scan.quoted_seconds()?;
        let side = match scan.literal(br#","b",""#) {
            Some(()) => Side::Bid,
            None => scan.literal(br#","s",""#).map(|()| Side::Ask)?,
        };
        scan.quoted()?;
        scan.literal(br#",""#)?;
        scan.quoted()?;
        let last = scan.literal(br#"],[""#).is_none();
        out.events.push(Event::Trade(TradeEvent {
            symbol: 0..0,
            id: UNDEF_U64,
            id_is_hash: false,
            sequence: UNDEF_U64,
            price: row.price,
            size: row.size,
            side,
            ts_event,
            snapshot: false,
            last,
        }));
        if last {
            break;
        }
    }
    scan.literal(b"]]")?;
    let symbol = scan_end(scan, b"trade")?;
    for event in out.events.get_mut(first..)? {
        if let Event::Trade(trade) = event {
            trade.symbol = symbol.clone();
        }
    }
    Some(())
}

/// From the ask's price on. What stands after bid and ask are whole statistics that nobody keeps: lists of texts and counts.
fn scan_ticker(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    let ask = scan_offer(scan)?;
    scan.literal(br#","b":[""#)?;
    let bid = scan_offer(scan)?;
    for name in [&br#","c":["#[..], br#","v":["#, br#","p":["#, br#","t":["#, br#","l":["#, br#","h":["#, br#","o":["#]
    {
        scan.literal(name)?;
        loop {
            if scan.literal(b"\"").is_some() {
                scan.quoted()?;
            } else {
                scan.unsigned()?;
            }
            if scan.literal(b",").is_none() {
                break;
            }
        }
        scan.literal(b"]")?;
    }
    scan.literal(b"}")?;
    let symbol = scan_end(scan, b"ticker")?;
    let (bid, ask, sequence, ts_event) = (Some(bid), Some(ask), UNDEF_U64, UNDEF_U64);
    out.events.push(Event::Quote(QuoteEvent { symbol, sequence, bid, ask, ts_event }));
    Some(())
}

/// `5525.40000",1,"1.000"]`
fn scan_offer(scan: &mut Scan<'_>) -> Option<(crate::decimal::Decimal, crate::decimal::Decimal)> {
    let price = scan.number()?;
    scan.literal(br#"","#)?;
    scan.unsigned()?;
    scan.literal(br#",""#)?;
    let size = scan.size()?;
    scan.literal(br#""]"#)?;
    Some((price, size))
}
