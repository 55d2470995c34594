//! The strict scanners of Kraken: the layouts that it sends, byte for byte, as the samples in [`super::kraken`] show them.

use super::scan::Scan;
use crate::event::{BookEvent, Chain, Decoded, Event, QuoteEvent, Row, TradeEvent};
use crate::record::{Side, UNDEF_U64};

/// Book messages, trades and tickers; one item of data in a book message and in a ticker.
pub fn scan_frame(frame: &[u8], out: &mut Decoded) -> Option<()> {
    let mut scan = Scan::new(frame);
    scan.literal(br#"{"channel":""#)?;
    if scan.literal(br#"book","type":""#).is_some() {
        scan_book(&mut scan, out)?;
    } else if scan.literal(br#"trade","type":""#).is_some() {
        scan_trades(&mut scan, out)?;
    } else {
        scan.literal(br#"ticker","type":""#)?;
        scan_ticker(&mut scan, out)?;
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
        let size = scan.size()?;
        rows.push(Row { side, price, size, count: 0 });
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
        let size = scan.size()?;
        scan.literal(br#","ord_type":""#)?;
        scan.quoted()?;
        scan.literal(br#","trade_id":"#)?;
        let id = scan.unsigned()?;
        scan.literal(br#","timestamp":""#)?;
        let ts_event = scan.quoted_time()?;
        let last = scan.literal(br#"},{"symbol":""#).is_none();
        let sequence = UNDEF_U64;
        let trade = TradeEvent { symbol, id, id_is_hash: false, sequence, price, size, side, ts_event, snapshot, last };
        out.events.push(Event::Trade(trade));
        if last {
            return scan.literal(b"}]}");
        }
    }
}

fn scan_ticker(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    scan_kind(scan)?;
    let symbol = scan.quoted()?;
    scan.literal(br#","bid":"#)?;
    let bid = scan.number()?;
    scan.literal(br#","bid_qty":"#)?;
    let bid_size = scan.size()?;
    scan.literal(br#","ask":"#)?;
    let ask = scan.number()?;
    scan.literal(br#","ask_qty":"#)?;
    let ask_size = scan.size()?;
    for key in ["last", "volume", "vwap", "low", "high", "change", "change_pct"] {
        scan.key(key)?;
        scan.number()?;
    }
    let ts_event = match scan.literal(br#","timestamp":""#) {
        Some(()) => scan.quoted_time()?,
        None => UNDEF_U64,
    };
    scan.literal(b"}]}")?;
    let (bid, ask) = (Some((bid, bid_size)), Some((ask, ask_size)));
    out.events.push(Event::Quote(QuoteEvent { symbol, sequence: UNDEF_U64, bid, ask, ts_event }));
    Some(())
}
