//! The strict scanners of Kraken: the layouts that it sends, byte for byte, as the samples in [`super::kraken`] show them.

use super::scan::Scan;
use crate::event::{BookEvent, Chain, Decoded, Event, Row, TradeEvent};
use crate::record::{Side, UNDEF_U64};

/// Book messages and trades; one item of data in a book message.
pub fn scan_frame(frame: &[u8], out: &mut Decoded) -> Option<()> {
    let mut scan = Scan::new(frame);
    scan.literal(br#"{"channel":""#)?;
    if scan.literal(br#"book","type":""#).is_some() {
        scan_book(&mut scan, out)?;
    } else {
        scan.literal(br#"trade","type":""#)?;
        scan_trades(&mut scan, out)?;
    }
    scan.end()
}

/// `update` or `snapshot`, up to the first symbol.
#[inline]
fn scan_kind(scan: &mut Scan<'_>) -> Option<bool> {
    match scan.peek()? {
        b'u' => scan.literal(br#"update","data":[{"symbol":""#).map(|()| false),
        _ => scan.literal(br#"snapshot","data":[{"symbol":""#).map(|()| true),
    }
}

fn scan_book(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    let snapshot = scan_kind(scan)?;
    let symbol = scan.quoted()?;
    let start = out.rows.len();
    scan.literal(br#","bids":["#)?;
    scan_side(scan, Side::Bid, &mut out.rows)?;
    scan.literal(br#","asks":["#)?;
    scan_side(scan, Side::Ask, &mut out.rows)?;
    scan.literal(br#","checksum":"#)?;
    let checksum = Some(u32::try_from(scan.unsigned()?).ok()?);
    scan.literal(br#","timestamp":""#)?;
    let ts_event = scan.quoted_time()?;
    scan.literal(b"}]}")?;
    let rows = start..out.rows.len();
    out.events.push(Event::Book(BookEvent { symbol, snapshot, rows, chain: Chain::NONE, checksum, ts_event }));
    Some(())
}

/// Levels up to and with the closing bracket.
#[inline]
fn scan_side(scan: &mut Scan<'_>, side: Side, rows: &mut Vec<Row>) -> Option<()> {
    if scan.peek()? == b']' {
        return scan.literal(b"]");
    }
    loop {
        scan.literal(br#"{"price":"#)?;
        let price = scan.number()?;
        scan.literal(br#","qty":"#)?;
        let size = scan.number()?;
        rows.push(Scan::row(side, price, size)?);
        if scan.literal(b"},").is_none() {
            return scan.literal(b"}]");
        }
    }
}

fn scan_trades(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    let snapshot = scan_kind(scan)?;
    loop {
        let symbol = scan.quoted()?;
        scan.literal(br#","side":""#)?;
        let side = match scan.peek()? {
            b'b' => scan.literal(b"buy").map(|()| Side::Bid)?,
            _ => scan.literal(b"sell").map(|()| Side::Ask)?,
        };
        scan.literal(br#"","price":"#)?;
        let price = scan.number()?;
        scan.literal(br#","qty":"#)?;
        let size = scan.number()?;
        scan.literal(br#","ord_type":""#)?;
        scan.quoted()?;
        scan.literal(br#","trade_id":"#)?;
        let id = scan.unsigned()?;
        scan.literal(br#","timestamp":""#)?;
        let ts_event = scan.quoted_time()?;
        let last = scan.literal(br#"},{"symbol":""#).is_none();
        let sequence = UNDEF_U64;
        let trade = TradeEvent { symbol, id, id_is_hash: false, sequence, price, size, side, ts_event, snapshot, last };
        out.events.push(Event::Trade((!size.is_negative()).then_some(trade)?));
        if last {
            return scan.literal(b"}]}");
        }
    }
}
