//! Kraken spot, WebSocket v1: frozen, still served, and the shape of older recordings. Source: docs.kraken.com/websockets.
//!
//! Data frames are arrays whose channel and pair stand last; numbers are texts, bitcoin is XBT. Trades have no ids.

use super::json::{malformed, Value};
use super::kraken::trading_state;
use super::kraken_v1_scan::scan_frame;
use super::scan::attempt;
use crate::clock::Nanos;
use crate::event::{Answer, BookEvent, Chain, Decode, DecodeError, Decoded, Event, QuoteEvent, Row, Span, TradeEvent};
use crate::record::{Side, TradingState, UNDEF_U64};

/// Items of a data frame: the channel's number, one or two payloads, the channel, the pair.
const ITEMS_MOST: usize = 5;

/// Kraken's older dialect.
#[derive(Debug)]
pub struct KrakenV1 {
    pub strict: bool,
}

impl Decode for KrakenV1 {
    fn decode(&mut self, frame: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        if self.strict && attempt(out, |out| scan_frame(frame, out)) {
            return Ok(());
        }
        out.slow_path += 1;
        let message = Value::of_frame(frame)?;
        if message.is_array() {
            read_data(&message, out)
        } else {
            read_event(&message, out)
        }
    }
}

/// [336,{..},"book-10","XBT/USD"], with two maps where both sides changed; [321,[[..],..],"trade","XBT/USD"].
fn read_data(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let mut items = [*message; ITEMS_MOST];
    let mut count = 0;
    message.each(|item| {
        *items.get_mut(count).ok_or(malformed(item.start(), "a frame of at most five items"))? = item;
        count += 1;
        Ok(())
    })?;
    let [_, parts @ .., channel, pair] = &items[..count] else {
        return Err(malformed(message.start(), "a frame of at least four items"));
    };
    let Some((first, others)) = parts.split_first() else { return Err(malformed(message.start(), "a payload")) };
    let symbol = pair.name("pair")?;
    let kind = channel.text();
    if kind.starts_with(b"book-") {
        return read_book(symbol, parts, out);
    }
    match (kind, others) {
        (b"trade", []) => read_trades(&symbol, first, out),
        (b"ticker", []) => read_ticker(symbol, first, out),
        _ => {
            out.events.push(Event::Error { text: message.whole() });
            Ok(())
        }
    }
}

/// {"as":[["5541.30000","2.50700000","1534614248.123678"],..],"bs":[["5541.20000","1.52900000","1534614248.765567"],..]}
/// {"a":[["5541.30000","2.50700000","1534614248.456738"],..],"c":"974942666"}
/// {"a":[..]},{"b":[["5541.30000","0.00000000","1534614335.345903"]],"c":"974942666"}
/// ["5541.30000","2.50700000","1534614248.456738","r"]   a level that comes back into the window
///
/// A snapshot has no checksum; of an update it stands in the last map. The event's time is the newest of its levels.
fn read_book(symbol: Span, parts: &[Value<'_>], out: &mut Decoded) -> Result<(), DecodeError> {
    let (start, mut newest, mut checksum) = (out.rows.len(), 0, None);
    let (mut snapshots, mut updates) = (0, 0);
    for part in parts {
        let [all_asks, all_bids, asks, bids, crc] = part.pick(["as", "bs", "a", "b", "c"])?;
        snapshots += usize::from(all_asks.is_some() || all_bids.is_some());
        updates += usize::from(asks.is_some() || bids.is_some());
        for (side, levels) in [(Side::Ask, all_asks), (Side::Bid, all_bids), (Side::Ask, asks), (Side::Bid, bids)] {
            let Some(levels) = levels else { continue };
            levels.each(|level| {
                let [price, size, time] = level.items("a level of price, volume and time")?;
                out.rows.push(Row { side, price: price.decimal(&symbol)?, size: size.size(&symbol)?, count: 0 });
                newest = newest.max(time.seconds("time")?);
                Ok(())
            })?;
        }
        if let Some(crc) = crc {
            let number = u32::try_from(crc.unsigned("c")?);
            checksum = Some(number.map_err(|_| malformed(crc.start(), "c"))?);
        }
    }
    let snapshot = updates == 0;
    let [first, ..] = parts else { return Err(malformed(0, "a payload")) };
    if snapshots + updates != parts.len() || (snapshots > 0 && updates > 0) || (snapshot && parts.len() > 1) {
        return Err(malformed(first.start(), "a snapshot (as, bs) or an update (a, b)"));
    }
    let ts_event = newest_time(newest);
    let rows = start..out.rows.len();
    out.events.push(Event::Book(BookEvent { symbol, snapshot, rows, chain: Chain::NONE, checksum, ts_event }));
    Ok(())
}

/// The time of a message without levels is not given.
pub fn newest_time(newest: Nanos) -> Nanos {
    if newest == 0 {
        UNDEF_U64
    } else {
        newest
    }
}

/// [["5541.20000","0.15850568","1534614057.321597","s","l",""],..]: price, volume, time, the taker's side, order type, misc.
fn read_trades(symbol: &Span, data: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    data.each(|trade| {
        let [price, size, time, side] = trade.items("a trade of price, volume, time and side")?;
        out.events.push(Event::Trade(TradeEvent {
            symbol: symbol.clone(),
            id: UNDEF_U64,
            id_is_hash: false,
            sequence: UNDEF_U64,
            price: price.decimal(symbol)?,
            size: size.size(symbol)?,
            side: match side.text() {
                b"b" => Side::Bid,
                b"s" => Side::Ask,
                _ => return Err(malformed(side.start(), "side")),
            },
            ts_event: time.seconds("time")?,
            snapshot: false,
            last: false,
        }));
        Ok(())
    })?;
    if let Some(Event::Trade(trade)) = out.events.last_mut() {
        trade.last = true;
    }
    Ok(())
}

/// {"a":["5525.40000",1,"1.000"],"b":["5525.10000",1,"1.000"],"c":["5525.10000","0.00398963"],"v":[..],"p":[..],"t":[..],
///  "l":[..],"h":[..],"o":[..]}: best ask and bid with whole lots and volume.
fn read_ticker(symbol: Span, data: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [ask, bid] = data.pick(["a", "b"])?;
    let side = |offer: Option<Value<'_>>| {
        let Some(offer) = offer else { return Ok(None) };
        let [price, _, size] = offer.items("an offer of price, whole lots and volume")?;
        Ok(Some((price.decimal(&symbol)?, size.size(&symbol)?)))
    };
    let (bid, ask) = (side(bid)?, side(ask)?);
    out.events.push(Event::Quote(QuoteEvent { symbol, sequence: UNDEF_U64, bid, ask, ts_event: UNDEF_U64 }));
    Ok(())
}

/// {"event":"heartbeat"}
/// {"event":"pong","reqid":42}
/// {"connectionID":8628615390848610000,"event":"systemStatus","status":"online","version":"1.0.0"}
/// {"errorMessage":"Malformed request","event":"error","reqid":42}
fn read_event(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [event, request, error] = message.pick(["event", "reqid", "errorMessage"])?;
    let request = request.map(|id| id.unsigned("reqid")).transpose()?;
    let event = match event.map_or(&b""[..], |event| event.text()) {
        b"heartbeat" | b"pong" => Event::Heartbeat { symbol: 0..0, request, ts_event: UNDEF_U64 },
        b"systemStatus" => {
            let [status] = message.pick(["status"])?;
            out.events.push(Event::Welcome { authenticated: false });
            let state = status.map_or(TradingState::Unknown, |word| trading_state(word.text()));
            Event::Trading { symbol: 0..0, state }
        }
        b"subscriptionStatus" => return read_status(message, request, error, out),
        _ => match (request, error) {
            (Some(_), Some(error)) => {
                let refusal = Some(error.span());
                Event::Answer(Answer { request, channel: 0..0, symbol: 0..0, refusal, leaving: false })
            }
            (_, error) => Event::Error { text: error.map_or_else(|| message.whole(), |error| error.span()) },
        },
    };
    out.events.push(event);
    Ok(())
}

/// {"channelID":10001,"channelName":"book-10","event":"subscriptionStatus","pair":"XBT/EUR","reqid":42,"status":"subscribed",
///  "subscription":{"depth":10,"name":"book"}}
/// {"errorMessage":"Currency pair not supported XBT/XYZ","event":"subscriptionStatus","pair":"XBT/XYZ","status":"error",
///  "subscription":{"name":"ticker"}}
fn read_status(
    message: &Value<'_>,
    request: Option<u64>,
    error: Option<Value<'_>>,
    out: &mut Decoded,
) -> Result<(), DecodeError> {
    let [status] = message.require(["status"])?;
    let [pair, subscription] = message.pick(["pair", "subscription"])?;
    let [name] = subscription.map_or(Ok([None]), |subscription| subscription.pick(["name"]))?;
    let refusal = match (status.text(), error) {
        (b"subscribed" | b"unsubscribed", None) => None,
        (_, Some(error)) => Some(error.span()),
        _ => return Err(malformed(status.start(), "status")),
    };
    let span = |value: Option<Value<'_>>| value.map_or(0..0, |value| value.span());
    let (channel, symbol) = (span(name), span(pair));
    let leaving = status.text() == b"unsubscribed";
    out.events.push(Event::Answer(Answer { request, channel, symbol, refusal, leaving }));
    Ok(())
}
