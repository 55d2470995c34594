//! The strict scanners of Coinbase: the layouts that it sends, byte for byte, as the samples in [`super::coinbase`] show them.

use super::coinbase::push_book;
use super::scan::Scan;
use crate::event::{Decoded, Event, QuoteEvent, TradeEvent};
use crate::record::Side;

/// Changes of a book, trades and tickers.
pub fn scan_frame(frame: &[u8], out: &mut Decoded) -> Option<()> {
    let mut scan = Scan::new(frame);
    scan.literal(br#"{"type":""#)?;
    match scan.peek()? {
        b'l' => scan_update(&mut scan, out)?,
        b'm' => scan_match(&mut scan, out)?,
        _ => scan_ticker(&mut scan, out)?,
    }
    scan.literal(b"}")?;
    scan.end()
}

fn scan_update(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    scan.literal(br#"l2update","product_id":""#)?;
    let symbol = scan.quoted()?;
    scan.literal(br#","changes":["#)?;
    let start = out.rows.len();
    loop {
        scan.literal(br#"[""#)?;
        let side = match scan.peek()? {
            b'b' => scan.literal(br#"buy",""#).map(|()| Side::Bid)?,
            _ => scan.literal(br#"sell",""#).map(|()| Side::Ask)?,
        };
        out.rows.push(scan.quoted_row(side)?);
        if scan.literal(b"],").is_none() {
            break;
        }
    }
    scan.literal(br#"]],"time":""#)?;
    let ts_event = scan.quoted_time()?;
    push_book(symbol, false, start, ts_event, out);
    Some(())
}

/// The side is the maker's, see the tolerant reader.
fn scan_match(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    scan.literal(br#"match","trade_id":"#)?;
    let id = scan.unsigned()?;
    scan.literal(br#","maker_order_id":""#)?;
    scan.quoted()?;
    scan.literal(br#","taker_order_id":""#)?;
    scan.quoted()?;
    let side = match scan.literal(br#","side":"sell","size":""#) {
        Some(()) => Side::Bid,
        None => scan.literal(br#","side":"buy","size":""#).map(|()| Side::Ask)?,
    };
    let size = scan.size()?;
    scan.literal(br#"","price":""#)?;
    let price = scan.number()?;
    scan.literal(br#"","product_id":""#)?;
    let symbol = scan.quoted()?;
    scan.literal(br#","sequence":"#)?;
    let sequence = scan.unsigned()?;
    scan.literal(br#","time":""#)?;
    let ts_event = scan.quoted_time()?;
    let (id_is_hash, snapshot, last) = (false, false, true);
    let trade = TradeEvent { symbol, id, id_is_hash, sequence, price, size, side, ts_event, snapshot, last };
    out.events.push(Event::Trade(trade));
    Some(())
}

fn scan_ticker(scan: &mut Scan<'_>, out: &mut Decoded) -> Option<()> {
    scan.literal(br#"ticker","sequence":"#)?;
    let sequence = scan.unsigned()?;
    scan.literal(br#","product_id":""#)?;
    let symbol = scan.quoted()?;
    for key in ["price", "open_24h", "volume_24h", "low_24h", "high_24h", "volume_30d"] {
        scan.key(key)?;
        scan.literal(b"\"")?;
        scan.quoted()?;
    }
    scan.literal(br#","best_bid":""#)?;
    let bid = scan.number()?;
    scan.literal(br#"","best_bid_size":""#)?;
    let bid_size = scan.size()?;
    scan.literal(br#"","best_ask":""#)?;
    let ask = scan.number()?;
    scan.literal(br#"","best_ask_size":""#)?;
    let ask_size = scan.size()?;
    scan.literal(br#"","side":""#)?;
    scan.quoted()?;
    scan.literal(br#","time":""#)?;
    let ts_event = scan.quoted_time()?;
    scan.literal(br#","trade_id":"#)?;
    scan.unsigned()?;
    scan.literal(br#","last_size":""#)?;
    scan.quoted()?;
    let (bid, ask) = (Some((bid, bid_size)), Some((ask, ask_size)));
    out.events.push(Event::Quote(QuoteEvent { symbol, sequence, bid, ask, ts_event }));
    Some(())
}
