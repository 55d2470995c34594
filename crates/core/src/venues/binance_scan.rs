//! The strict scanners of Binance's two markets: the layouts that they send, byte for byte, as their samples in
//! [`super::binance`] show them. The futures differ by the matching time `T`, by `pu` and by a named ticker.

use super::scan::Scan;
use crate::decimal::Decimal;
use crate::event::{BookEvent, Chain, Decoded, Event, QuoteEvent, TradeEvent};
use crate::record::{Side, UNDEF_U64};

/// Spot's messages, with or without the envelope of a combined stream.
pub fn scan_spot(frame: &[u8], out: &mut Decoded) -> Option<()> {
    scan_frame(frame, out, |scan, out| {
        if scan.literal(br#"{"u":"#).is_some() {
            return scan_ticker(scan, false, out);
        }
        scan.literal(br#"{"e":""#)?;
        match scan.peek()? {
            b'd' => scan_depth(scan, false, out),
            _ => scan_trade(scan, false, out),
        }
    })
}

/// The futures' messages, likewise.
pub fn scan_usdm(frame: &[u8], out: &mut Decoded) -> Option<()> {
    scan_frame(frame, out, |scan, out| {
        scan.literal(br#"{"e":""#)?;
        match scan.peek()? {
            b'd' => scan_depth(scan, true, out),
            b't' => scan_trade(scan, true, out),
            _ => {
                scan.literal(br#"bookTicker","u":"#)?;
                scan_ticker(scan, true, out)
            }
        }
    })
}

#[inline]
fn scan_frame<'f>(
    frame: &'f [u8],
    out: &mut Decoded,
    message: impl FnOnce(&mut Scan<'f>, &mut Decoded) -> Option<()>,
) -> Option<()> {
    let mut scan = Scan::new(frame);
    let wrapped = scan.literal(br#"{"stream":""#).is_some();
    if wrapped {
        scan.quoted()?;
        scan.literal(br#","data":"#)?;
    }
    message(&mut scan, out)?;
    if wrapped {
        scan.literal(b"}")?;
    }
    scan.end()
}

/// From the kind on.
fn scan_depth(scan: &mut Scan<'_>, futures: bool, out: &mut Decoded) -> Option<()> {
    scan.literal(br#"depthUpdate","E":"#)?;
    let mut ts_event = scan.epoch()?;
    if futures {
        scan.literal(br#","T":"#)?;
        ts_event = scan.epoch()?;
    }
    scan.literal(br#","s":""#)?;
    let symbol = scan.quoted()?;
    scan.literal(br#","U":"#)?;
    let first = scan.unsigned()?;
    scan.literal(br#","u":"#)?;
    let mut chain = Chain { first, last: scan.unsigned()?, previous: UNDEF_U64 };
    if futures {
        scan.literal(br#","pu":"#)?;
        chain.previous = scan.unsigned()?;
    }
    let start = out.rows.len();
    scan.literal(br#","b":"#)?;
    scan.pairs(Side::Bid, &mut out.rows)?;
    scan.literal(br#","a":"#)?;
    scan.pairs(Side::Ask, &mut out.rows)?;
    scan.literal(b"}")?;
    let rows = start..out.rows.len();
    out.events.push(Event::Book(BookEvent { symbol, snapshot: false, rows, chain, checksum: None, ts_event }));
    Some(())
}

/// From the kind on.
fn scan_trade(scan: &mut Scan<'_>, futures: bool, out: &mut Decoded) -> Option<()> {
    scan.literal(br#"trade","E":"#)?;
    scan.unsigned()?;
    let mut ts_event = UNDEF_U64;
    if futures {
        scan.literal(br#","T":"#)?;
        ts_event = scan.epoch()?;
    }
    scan.literal(br#","s":""#)?;
    let symbol = scan.quoted()?;
    scan.literal(br#","t":"#)?;
    let id = scan.unsigned()?;
    scan.literal(br#","p":""#)?;
    let price = scan.number()?;
    scan.literal(br#"","q":""#)?;
    let size = scan.size()?;
    if futures {
        scan.literal(br#"","X":""#)?;
        scan.quoted()?;
        scan.literal(br#","m":"#)?;
    } else {
        scan.literal(br#"","T":"#)?;
        ts_event = scan.epoch()?;
        scan.literal(br#","m":"#)?;
    }
    let buyer_made = scan.boolean()?;
    if !futures {
        scan.literal(br#","M":"#)?;
        scan.boolean()?;
    }
    scan.literal(b"}")?;
    out.events.push(Event::Trade(TradeEvent {
        symbol,
        id,
        id_is_hash: false,
        sequence: UNDEF_U64,
        price,
        size,
        side: if buyer_made { Side::Ask } else { Side::Bid },
        ts_event,
        snapshot: false,
        last: true,
    }));
    Some(())
}

/// From the update id on.
fn scan_ticker(scan: &mut Scan<'_>, futures: bool, out: &mut Decoded) -> Option<()> {
    let sequence = scan.unsigned()?;
    scan.literal(br#","s":""#)?;
    let symbol = scan.quoted()?;
    scan.literal(br#","b":""#)?;
    let bid = scan.number()?;
    scan.literal(br#"","B":""#)?;
    let bid = quote_side(bid, scan.size()?);
    scan.literal(br#"","a":""#)?;
    let ask = scan.number()?;
    scan.literal(br#"","A":""#)?;
    let ask = quote_side(ask, scan.size()?);
    scan.literal(b"\"")?;
    let mut ts_event = UNDEF_U64;
    if futures {
        scan.literal(br#","T":"#)?;
        ts_event = scan.epoch()?;
        scan.literal(br#","E":"#)?;
        scan.unsigned()?;
    }
    scan.literal(b"}")?;
    out.events.push(Event::Quote(QuoteEvent { symbol, sequence, bid, ask, ts_event }));
    Some(())
}

/// A side without offers is sent as price zero.
#[inline]
fn quote_side(price: Decimal, size: Decimal) -> Option<(Decimal, Decimal)> {
    (!price.is_zero()).then_some((price, size))
}
