//! Kraken spot, WebSocket v2. Source: docs.kraken.com/api/docs/websocket-v2.

use super::json::{malformed, Value};
use super::kraken_scan::scan_frame;
use super::past_trades;
use super::scan::attempt;
use crate::clock::Nanos;
use crate::event::{
    Answer, BookEvent, Chain, Decode, DecodeError, Decoded, DefinitionEvent, Event, QuoteEvent, Row, Span, TradeEvent,
};
use crate::record::{Side, TradingState, UNDEF_U64};

/// Kraken's dialect.
#[derive(Debug)]
pub struct Kraken {
    pub strict: bool,
}

impl Decode for Kraken {
    fn decode(&mut self, frame: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        if self.strict && attempt(out, |out| scan_frame(frame, out)) {
            return Ok(());
        }
        out.slow_path += 1;
        let message = Value::of_frame(frame)?;
        let [channel, kind, data, method] = message.pick(["channel", "type", "data", "method"])?;
        if method.is_some() {
            return read_answer(&message, out);
        }
        let Some(channel) = channel else { return read_error(&message, out) };
        let snapshot = kind.is_some_and(|kind| kind.text() == b"snapshot");
        let data = || data.ok_or(malformed(message.start(), "data"));
        match channel.text() {
            b"book" => data()?.each(|item| read_book(&item, snapshot, out)),
            b"trade" => read_trades(&data()?, snapshot, out),
            b"ticker" => data()?.each(|item| read_ticker(&item, out)),
            b"instrument" => read_instruments(&data()?, out),
            // {"channel":"heartbeat"}
            // {"channel":"balances","type":"update","data":[..],"sequence":2}   the private channel: a sign of life
            b"heartbeat" | b"balances" => {
                out.events.push(Event::Heartbeat { symbol: 0..0, request: None, ts_event: UNDEF_U64 });
                Ok(())
            }
            // {"channel":"status","type":"update","data":[{"version":"2.0.0","system":"online","api_version":"v2",
            //  "connection_id":13834774380200032777}]}   on connecting, and when the state of the trading engine changes
            b"status" => {
                out.events.push(Event::Welcome { authenticated: false });
                data()?.each(|item| {
                    let [system] = item.pick(["system"])?;
                    let state = system.map(|word| trading_state(word.text()));
                    out.events.extend(state.map(|state| Event::Trading { symbol: 0..0, state }));
                    Ok(())
                })
            }
            _ => read_error(&message, out),
        }
    }

    /// The one thing that is asked over HTTP: past trades.
    fn decode_reply(&mut self, body: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        past_trades::read_kraken(&Value::of_frame(body)?, out)
    }
}

/// {"channel":"book","type":"update","data":[{"symbol":"MATIC/USD","bids":[{"price":0.5657,"qty":1098.39475580}],
///  "asks":[],"checksum":2114181697,"timestamp":"2023-10-06T17:35:55.440295Z"}]}
///
/// A snapshot may come without a timestamp.
fn read_book(item: &Value<'_>, snapshot: bool, out: &mut Decoded) -> Result<(), DecodeError> {
    let [symbol] = item.require(["symbol"])?;
    let symbol = symbol.name("symbol")?;
    let [bids, asks, checksum, timestamp] = item.pick(["bids", "asks", "checksum", "timestamp"])?;
    let start = out.rows.len();
    for (side, levels) in [(Side::Bid, bids), (Side::Ask, asks)] {
        let Some(levels) = levels else { continue };
        levels.each(|level| {
            let [price, qty] = level.require(["price", "qty"])?;
            out.rows.push(Row { side, price: price.decimal(&symbol)?, size: qty.size(&symbol)?, count: 0 });
            Ok(())
        })?;
    }
    let checksum = match checksum {
        Some(value) => {
            let number = u32::try_from(value.unsigned("checksum")?);
            Some(number.map_err(|_| malformed(value.start(), "checksum"))?)
        }
        None => None,
    };
    let rows = start..out.rows.len();
    let ts_event = read_time(timestamp)?;
    out.events.push(Event::Book(BookEvent { symbol, snapshot, rows, chain: Chain::NONE, checksum, ts_event }));
    Ok(())
}

/// {"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,
///  "ord_type":"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"}]}
///
/// `side` is the taker's. A snapshot repeats the newest trades on subscribing.
fn read_trades(data: &Value<'_>, snapshot: bool, out: &mut Decoded) -> Result<(), DecodeError> {
    data.each(|trade| {
        let [symbol, side, price, qty, id, timestamp] =
            trade.require(["symbol", "side", "price", "qty", "trade_id", "timestamp"])?;
        let symbol = symbol.name("symbol")?;
        let (id, id_is_hash) = id.identity();
        out.events.push(Event::Trade(TradeEvent {
            id,
            id_is_hash,
            sequence: UNDEF_U64,
            price: price.decimal(&symbol)?,
            size: qty.size(&symbol)?,
            side: match side.text() {
                b"buy" => Side::Bid,
                b"sell" => Side::Ask,
                _ => return Err(malformed(side.start(), "side")),
            },
            ts_event: timestamp.rfc3339("timestamp")?,
            symbol,
            snapshot,
            last: false,
        }));
        Ok(())
    })?;
    if let Some(Event::Trade(trade)) = out.events.last_mut() {
        trade.last = true;
    }
    Ok(())
}

/// {"channel":"ticker","type":"update","data":[{"symbol":"ALGO/USD","bid":0.10025,"bid_qty":740.0,"ask":0.10036,
///  "ask_qty":1361.44813783,"last":0.10035,"volume":997038.98383185,"vwap":0.10148,"low":0.09979,"high":0.10285,
///  "change":-0.00017,"change_pct":-0.17}]}
fn read_ticker(item: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [symbol] = item.require(["symbol"])?;
    let symbol = symbol.name("symbol")?;
    let [bid, bid_qty, ask, ask_qty, timestamp] = item.pick(["bid", "bid_qty", "ask", "ask_qty", "timestamp"])?;
    let side = |price: Option<Value<'_>>, qty: Option<Value<'_>>| match (price, qty) {
        (Some(price), Some(qty)) => Ok(Some((price.decimal(&symbol)?, qty.size(&symbol)?))),
        _ => Ok(None),
    };
    let (bid, ask) = (side(bid, bid_qty)?, side(ask, ask_qty)?);
    let ts_event = read_time(timestamp)?;
    out.events.push(Event::Quote(QuoteEvent { symbol, sequence: UNDEF_U64, bid, ask, ts_event }));
    Ok(())
}

/// {"channel":"instrument","type":"snapshot","data":{"assets":[..],"pairs":[{"symbol":"EUR/USD","base":"EUR",
///  "quote":"USD","status":"online","qty_precision":8,"qty_increment":0.00000001,"price_precision":5,
///  "price_increment":0.00001,"tick_size":0.00001,"qty_min":0.5,..}]}}
fn read_instruments(data: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [pairs] = data.pick(["pairs"])?;
    let Some(pairs) = pairs else { return Ok(()) };
    pairs.each(|pair| {
        let [symbol, base, quote, status, price_precision, qty_precision, tick, lot] = pair.require([
            "symbol",
            "base",
            "quote",
            "status",
            "price_precision",
            "qty_precision",
            "price_increment",
            "qty_increment",
        ])?;
        let scale =
            |value: Value<'_>, what| u8::try_from(value.unsigned(what)?).map_err(|_| malformed(value.start(), what));
        let (symbol, state) = (symbol.name("symbol")?, trading_state(status.text()));
        use TradingState::{LimitOnly, Online, PostOnly, ReduceOnly};
        out.events.push(Event::Definition(DefinitionEvent {
            base: base.name("base")?,
            quote: quote.name("quote")?,
            tick: tick.decimal(&symbol)?,
            lot: lot.decimal(&symbol)?,
            price_scale: scale(price_precision, "price_precision")?,
            size_scale: scale(qty_precision, "qty_precision")?,
            active: matches!(state, Online | LimitOnly | PostOnly | ReduceOnly),
            text: pair.whole(),
            symbol: symbol.clone(),
        }));
        out.events.push(Event::Trading { symbol, state });
        Ok(())
    })
}

/// The words of both protocols: of the whole venue (the first four), or of a pair.
pub(super) fn trading_state(word: &[u8]) -> TradingState {
    match word {
        b"online" => TradingState::Online,
        b"maintenance" => TradingState::Maintenance,
        b"cancel_only" => TradingState::CancelOnly,
        b"post_only" => TradingState::PostOnly,
        b"limit_only" => TradingState::LimitOnly,
        b"reduce_only" => TradingState::ReduceOnly,
        b"delisted" | b"work_in_progress" => TradingState::Closed,
        _ => TradingState::Unknown,
    }
}

/// {"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"ALGO/USD"},"success":true,
///  "time_in":"2023-09-25T09:04:31.742599Z","time_out":"2023-09-25T09:04:31.742648Z","req_id":7}
/// {"error":"Currency pair not supported ALGO/XYZ","method":"subscribe","req_id":7,"success":false,"symbol":"ALGO/XYZ"}
/// {"method":"pong","req_id":101,"time_in":"2023-09-24T14:10:23.799685Z","time_out":"2023-09-24T14:10:23.799703Z"}
///
/// A refusal that speaks of the session or the token is an [`Event::AuthFailed`] instead: a new token mends it.
fn read_answer(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [method, req_id, result, success, error, symbol, time_out] =
        message.pick(["method", "req_id", "result", "success", "error", "symbol", "time_out"])?;
    let request = req_id.map(|id| id.unsigned("req_id")).transpose()?;
    let method = method.map_or(&b""[..], |method| method.text());
    if method == b"pong" {
        out.events.push(Event::Heartbeat { symbol: 0..0, request, ts_event: read_time(time_out)? });
        return Ok(());
    }
    if !matches!(method, b"subscribe" | b"unsubscribe") {
        return read_error(message, out);
    }
    let [channel, named] = match result {
        Some(result) => result.pick(["channel", "symbol"])?,
        None => [None, None],
    };
    let refusal = match (success, error) {
        (Some(success), None) if success.is_true() => None,
        (_, Some(error)) => Some(error.span()),
        _ => return Err(malformed(message.start(), "success")),
    };
    let text = error.map_or(&b""[..], |error| error.text());
    if refusal.is_some() && [&b"ession"[..], b"oken"].iter().any(|word| memchr::memmem::find(text, word).is_some()) {
        out.events.push(Event::AuthFailed { text: refusal.unwrap_or_default() });
        return Ok(());
    }
    let span = |value: Option<Value<'_>>| value.map_or(0..0, |value| value.span());
    let (channel, symbol) = (span(channel), span(named.or(symbol)));
    out.events.push(Event::Answer(Answer { request, channel, symbol, refusal, leaving: method == b"unsubscribe" }));
    Ok(())
}

/// {"error":"Exceeded msg rate","success":false,..}, and whatever we do not know.
fn read_error(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [error] = message.pick(["error"])?;
    let text: Span = error.map_or_else(|| message.whole(), |error| error.span());
    out.events.push(Event::Error { text });
    Ok(())
}

fn read_time(timestamp: Option<Value<'_>>) -> Result<Nanos, DecodeError> {
    timestamp.map_or(Ok(UNDEF_U64), |time| time.rfc3339("timestamp"))
}
