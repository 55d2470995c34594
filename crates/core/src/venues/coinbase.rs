//! Coinbase Exchange. Source: docs.cdp.coinbase.com/exchange/websocket-feed/channels.

use super::coinbase_scan::scan_frame;
use super::json::{malformed, Value};
use super::past_trades;
use super::scan::attempt;
use crate::event::{
    Answer, BookEvent, Chain, Decode, DecodeError, Decoded, DefinitionEvent, Event, QuoteEvent, Row, Span, TradeEvent,
};
use crate::record::{Side, UNDEF_U64};

/// Coinbase Exchange's dialect.
#[derive(Debug)]
pub struct Coinbase {
    pub strict: bool,
}

impl Decode for Coinbase {
    fn decode(&mut self, frame: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        if self.strict && attempt(out, |out| scan_frame(frame, out)) {
            return Ok(());
        }
        out.slow_path += 1;
        let message = Value::of_frame(frame)?;
        let [kind] = message.pick(["type"])?;
        match kind.map_or(&b""[..], |kind| kind.text()) {
            b"snapshot" => read_snapshot(&message, out),
            b"l2update" => read_update(&message, out),
            b"match" => read_match(&message, out),
            // One old trade, repeated on subscribing: as in `read_match` but for the type.
            b"last_match" => Ok(()),
            b"ticker" => read_ticker(&message, out),
            // {"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":"2014-11-07T08:19:28.464459Z"}
            b"heartbeat" => {
                let [symbol, time] = message.require(["product_id", "time"])?;
                let (symbol, ts_event) = (symbol.name("product_id")?, time.rfc3339("time")?);
                out.events.push(Event::Heartbeat { symbol, request: None, ts_event });
                Ok(())
            }
            b"subscriptions" => read_subscriptions(&message, out),
            b"error" => read_error(&message, out),
            // {"type":"status","products":[..],"currencies":[..]}
            b"status" => match message.pick(["products"])? {
                [Some(products)] => products.each(|product| read_definition(&product, out)),
                [None] => Ok(()),
            },
            _ => {
                out.events.push(Event::Error { text: message.whole() });
                Ok(())
            }
        }
    }

    /// GET /products gives a list of definitions, GET /products/{id}/trades of trades, GET /products/{id} one definition, and
    /// an error {"message":"NotFound"}.
    fn decode_reply(&mut self, body: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        let reply = Value::of_frame(body)?;
        if reply.is_array() {
            return reply.each(|item| match item.pick(["trade_id"])? {
                [Some(_)] => past_trades::read_coinbase(&item, out),
                [None] => read_definition(&item, out),
            });
        }
        match reply.pick(["message"])? {
            [Some(text)] => out.events.push(Event::Error { text: text.span() }),
            [None] => read_definition(&reply, out)?,
        }
        Ok(())
    }
}

/// {"type":"l2update","product_id":"BTC-USD","changes":[["buy","18356.65","0.05"]],"time":"2022-08-04T15:25:05.010758Z"}
///
/// The size is the new size of the level, zero deletes it.
fn read_update(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [symbol, changes, time] = message.require(["product_id", "changes", "time"])?;
    let symbol = symbol.name("product_id")?;
    let start = out.rows.len();
    changes.each(|change| {
        let [side, price, size] = change.items("a change of side, price and size")?;
        let side = read_side(&side)?;
        out.rows.push(Row { side, price: price.decimal(&symbol)?, size: size.size(&symbol)?, count: 0 });
        Ok(())
    })?;
    push_book(symbol, false, start, time.rfc3339("time")?, out);
    Ok(())
}

/// {"type":"snapshot","product_id":"BTC-USD","bids":[["10101.10","0.45054140"]],"asks":[["10102.55","0.57753524"]],
///  "time":"2022-08-04T15:25:05.010758Z"}   (without the time until 2022)
fn read_snapshot(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [symbol, bids, asks] = message.require(["product_id", "bids", "asks"])?;
    let symbol = symbol.name("product_id")?;
    let start = out.rows.len();
    for (side, levels) in [(Side::Bid, bids), (Side::Ask, asks)] {
        levels.each(|level| {
            let [price, size] = level.items("a level of price and size")?;
            out.rows.push(Row { side, price: price.decimal(&symbol)?, size: size.size(&symbol)?, count: 0 });
            Ok(())
        })?;
    }
    let [time] = message.pick(["time"])?;
    let ts_event = time.map_or(Ok(UNDEF_U64), |time| time.rfc3339("time"))?;
    push_book(symbol, true, start, ts_event, out);
    Ok(())
}

pub(super) fn push_book(symbol: Span, snapshot: bool, start: usize, ts_event: u64, out: &mut Decoded) {
    let rows = start..out.rows.len();
    out.events.push(Event::Book(BookEvent { symbol, snapshot, rows, chain: Chain::NONE, checksum: None, ts_event }));
}

fn read_side(side: &Value<'_>) -> Result<Side, DecodeError> {
    match side.text() {
        b"buy" => Ok(Side::Bid),
        b"sell" => Ok(Side::Ask),
        _ => Err(malformed(side.start(), "side")),
    }
}

/// {"type":"match","trade_id":10,"sequence":50,"maker_order_id":"ac928c66-..","taker_order_id":"132fb6ae-..",
///  "time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512","price":"400.23","side":"sell"}
///
/// `side` is the maker's: here the maker sold, so the aggressor bought.
fn read_match(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [symbol, id, sequence, side, size, price, time] =
        message.require(["product_id", "trade_id", "sequence", "side", "size", "price", "time"])?;
    let symbol = symbol.name("product_id")?;
    let (id, id_is_hash) = id.identity();
    out.events.push(Event::Trade(TradeEvent {
        id,
        id_is_hash,
        sequence: sequence.unsigned("sequence")?,
        price: price.decimal(&symbol)?,
        size: size.size(&symbol)?,
        side: if read_side(&side)? == Side::Bid { Side::Ask } else { Side::Bid },
        ts_event: time.rfc3339("time")?,
        symbol,
        snapshot: false,
        last: true,
    }));
    Ok(())
}

/// {"type":"ticker","sequence":37475248783,"product_id":"ETH-USD","price":"1285.22","best_bid":"1285.04",
///  "best_bid_size":"0.46688654","best_ask":"1285.27","best_ask_size":"1.56637040","side":"buy",
///  "time":"2022-10-19T23:28:22.061769Z","trade_id":370843401,"last_size":"11.4396987",..}
///
/// Without sizes (as until 2022) a side counts as not given.
fn read_ticker(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [symbol, sequence, time] = message.require(["product_id", "sequence", "time"])?;
    let symbol = symbol.name("product_id")?;
    let [bid, bid_size, ask, ask_size] = message.pick(["best_bid", "best_bid_size", "best_ask", "best_ask_size"])?;
    let side = |price: Option<Value<'_>>, size: Option<Value<'_>>| match (price, size) {
        (Some(price), Some(size)) => Ok(Some((price.decimal(&symbol)?, size.size(&symbol)?))),
        _ => Ok(None),
    };
    let (bid, ask) = (side(bid, bid_size)?, side(ask, ask_size)?);
    let (sequence, ts_event) = (sequence.unsigned("sequence")?, time.rfc3339("time")?);
    out.events.push(Event::Quote(QuoteEvent { symbol, sequence, bid, ask, ts_event }));
    Ok(())
}

/// {"type":"subscriptions","channels":[{"name":"level2_batch","product_ids":["ETH-USD","ETH-EUR"]}]}
///
/// Lists all that is active, so there is one answer for each channel and product. When nothing is active any more, one
/// answer without channel and symbol and with `leaving` says so.
fn read_subscriptions(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [channels] = message.require(["channels"])?;
    let before = out.events.len();
    let answer =
        |channel, symbol, leaving| Event::Answer(Answer { request: None, channel, symbol, refusal: None, leaving });
    channels.each(|channel| {
        let [name] = channel.require(["name"])?;
        let [products] = channel.pick(["product_ids"])?;
        let Some(products) = products else {
            out.events.push(answer(name.name("name")?, 0..0, false));
            return Ok(());
        };
        products.each(|product| {
            out.events.push(answer(name.name("name")?, product.name("product_ids")?, false));
            Ok(())
        })
    })?;
    if out.events.len() == before {
        out.events.push(answer(0..0, 0..0, true));
    }
    Ok(())
}

/// {"type":"error","message":"Failed to subscribe","reason":"BTC-XYZ is not a valid product"}
/// {"type":"error","message":"Authentication Failed","reason":"invalid signature"}
/// {"type":"error","message":"Malformed JSON"}
fn read_error(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [text, reason] = message.pick(["message", "reason"])?;
    let said = reason.or(text).map_or_else(|| message.whole(), |reason| reason.span());
    let text = text.map_or(&b""[..], |text| text.text());
    out.events.push(if text.starts_with(b"Authentication") {
        Event::AuthFailed { text: said }
    } else if text.starts_with(b"Failed to") {
        let symbol = reason.and_then(|reason| {
            let length = reason.text().strip_suffix(b" is not a valid product")?.len();
            Some(reason.span().start..reason.span().start + length)
        });
        Event::Answer(Answer {
            request: None,
            channel: 0..0,
            symbol: symbol.unwrap_or_default(),
            refusal: Some(said),
            leaving: false,
        })
    } else {
        Event::Error { text: said }
    });
    Ok(())
}

/// {"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","quote_increment":"0.01","base_increment":"0.00000001",
///  "status":"online","trading_disabled":false,..}
fn read_definition(product: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [symbol, base, quote, tick, lot, status] =
        product.require(["id", "base_currency", "quote_currency", "quote_increment", "base_increment", "status"])?;
    let [disabled] = product.pick(["trading_disabled"])?;
    let symbol = symbol.name("id")?;
    out.events.push(Event::Definition(DefinitionEvent {
        base: base.name("base_currency")?,
        quote: quote.name("quote_currency")?,
        tick: tick.decimal(&symbol)?,
        lot: lot.decimal(&symbol)?,
        // Sizes are printed with or without their trailing zeros, prices mostly with them: neither is promised.
        price_scale: 255,
        size_scale: 255,
        active: status.text() == b"online" && !disabled.is_some_and(|disabled| disabled.is_true()),
        text: product.whole(),
        symbol,
    }));
    Ok(())
}
