//! Binance spot, and what the dialect of Binance USD-M futures shares with it. Source: binance-spot-api-docs,
//! `web-socket-streams.md` and `rest-api.md`.

use super::binance_scan::scan_spot;
use super::json::{malformed, Value};
use super::past_trades;
use super::scan::attempt;
use crate::event::{
    Answer, BookEvent, Chain, Decode, DecodeError, Decoded, DefinitionEvent, Event, QuoteEvent, Row, Span, TradeEvent,
};
use crate::record::{Side, UNDEF_U64};

/// Where the two markets differ.
#[derive(Debug)]
pub struct Dialect {
    /// The key of the time that a book message is of.
    pub book_time: &'static str,
    /// Book messages carry the id of the message before (`pu`).
    pub chained: bool,
    /// The strict scanner of a frame.
    pub scan: fn(&[u8], &mut Decoded) -> Option<()>,
}

/// Spot: a depth message has only the event time.
pub static SPOT: Dialect = Dialect { book_time: "E", chained: false, scan: scan_spot };

/// Binance's dialect in one of its markets.
#[derive(Debug)]
pub struct Binance {
    pub dialect: &'static Dialect,
    pub strict: bool,
}

impl Decode for Binance {
    fn decode(&mut self, frame: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        if self.strict && attempt(out, |out| (self.dialect.scan)(frame, out)) {
            return Ok(());
        }
        out.slow_path += 1;
        let message = Value::of_frame(frame)?;
        // {"stream":"btcusdt@depth@100ms","data":{..}} on /stream, the bare message on /ws.
        let [stream, data] = message.pick(["stream", "data"])?;
        self.read_message(&data.filter(|_| stream.is_some()).unwrap_or(message), out)
    }

    fn decode_reply(&mut self, body: &[u8], out: &mut Decoded) -> Result<(), DecodeError> {
        let reply = Value::of_frame(body)?;
        if reply.is_array() {
            return past_trades::read_binance(&reply, out);
        }
        let [update, symbols] = reply.pick(["lastUpdateId", "symbols"])?;
        match (update, symbols) {
            (Some(update), _) => read_snapshot(&reply, &update, out),
            (None, Some(symbols)) => symbols.each(|symbol| read_definition(&symbol, out)),
            _ => read_control(&reply, out),
        }
    }
}

impl Binance {
    fn read_message(&self, message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
        let [kind, update, ask] = message.pick(["e", "u", "A"])?;
        match (kind.map(|kind| kind.text()), update, ask) {
            (Some(b"depthUpdate"), ..) => self.read_depth(message, out),
            (Some(b"trade"), ..) => read_trade(message, out),
            // Only the futures' ticker names its kind.
            (Some(b"bookTicker"), ..) | (None, Some(_), Some(_)) => read_ticker(message, out),
            // {"e":"serverShutdown","E":1770123456789}
            (Some(b"serverShutdown"), ..) => {
                out.events.push(Event::Maintenance { text: message.whole() });
                Ok(())
            }
            // Kinds that carry nothing which the plant keeps.
            (Some(b"aggTrade" | b"kline" | b"24hrTicker" | b"24hrMiniTicker" | b"markPriceUpdate"), ..) => Ok(()),
            _ => read_control(message, out),
        }
    }

    /// {"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":157,"u":160,"b":[["0.0024","10"]],"a":[["0.0026","100"]]}
    fn read_depth(&self, message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
        let [symbol, first, last, bids, asks, time] =
            message.require(["s", "U", "u", "b", "a", self.dialect.book_time])?;
        let symbol = symbol.name("s")?;
        let [previous] = message.pick(["pu"])?;
        let previous = match previous {
            Some(previous) if self.dialect.chained => previous.unsigned("pu")?,
            None if self.dialect.chained => return Err(malformed(message.start(), "pu")),
            _ => UNDEF_U64,
        };
        let chain = Chain { first: first.unsigned("U")?, last: last.unsigned("u")?, previous };
        let start = out.rows.len();
        read_levels(&bids, Side::Bid, &symbol, out)?;
        read_levels(&asks, Side::Ask, &symbol, out)?;
        let (rows, ts_event) = (start..out.rows.len(), time.epoch(self.dialect.book_time)?);
        out.events.push(Event::Book(BookEvent { symbol, snapshot: false, rows, chain, checksum: None, ts_event }));
        Ok(())
    }
}

/// [["0.0024","10"],..]
fn read_levels(levels: &Value<'_>, side: Side, symbol: &Span, out: &mut Decoded) -> Result<(), DecodeError> {
    levels.each(|level| {
        let [price, size] = level.items("a level of price and quantity")?;
        out.rows.push(Row { side, price: price.decimal(symbol)?, size: size.size(symbol)?, count: 0 });
        Ok(())
    })
}

/// GET /api/v3/depth: {"lastUpdateId":1027024,"bids":[["4.00000000","431.00000000"]],"asks":[["4.00000200","12.0"]]}
/// GET /fapi/v1/depth has "E" and "T" (matching time) besides.
fn read_snapshot(reply: &Value<'_>, update: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [bids, asks] = reply.require(["bids", "asks"])?;
    let [time] = reply.pick(["T"])?;
    let chain = Chain { last: update.unsigned("lastUpdateId")?, ..Chain::NONE };
    let start = out.rows.len();
    read_levels(&bids, Side::Bid, &(0..0), out)?;
    read_levels(&asks, Side::Ask, &(0..0), out)?;
    let rows = start..out.rows.len();
    let ts_event = time.map_or(Ok(UNDEF_U64), |time| time.epoch("T"))?;
    out.events.push(Event::Book(BookEvent { symbol: 0..0, snapshot: true, rows, chain, checksum: None, ts_event }));
    Ok(())
}

/// {"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100","T":1672515782136,"m":true,"M":true}
///
/// `m`: the buyer was the maker, so the seller was the aggressor.
fn read_trade(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [symbol, id, price, size, time, maker] = message.require(["s", "t", "p", "q", "T", "m"])?;
    let symbol = symbol.name("s")?;
    let (id, id_is_hash) = id.identity();
    out.events.push(Event::Trade(TradeEvent {
        id,
        id_is_hash,
        sequence: UNDEF_U64,
        price: price.decimal(&symbol)?,
        size: size.size(&symbol)?,
        side: if maker.boolean("m")? { Side::Ask } else { Side::Bid },
        ts_event: time.epoch("T")?,
        symbol,
        snapshot: false,
        last: true,
    }));
    Ok(())
}

/// Spot:    {"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}
/// Futures: {"e":"bookTicker","u":400900217,"s":"BNBUSDT","b":"25.35","B":"31.2","a":"25.36","A":"40.6","T":1568014460891,
///           "E":1568014460893}
fn read_ticker(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [symbol, update, bid, bid_size, ask, ask_size] = message.require(["s", "u", "b", "B", "a", "A"])?;
    let symbol = symbol.name("s")?;
    let [time] = message.pick(["T"])?;
    // A side without offers is sent as price zero.
    let side = |price: Value<'_>, size: Value<'_>| {
        let quote = (price.decimal(&symbol)?, size.size(&symbol)?);
        Ok((!quote.0.is_zero()).then_some(quote))
    };
    let (bid, ask) = (side(bid, bid_size)?, side(ask, ask_size)?);
    let sequence = update.unsigned("u")?;
    let ts_event = time.map_or(Ok(UNDEF_U64), |time| time.epoch("T"))?;
    out.events.push(Event::Quote(QuoteEvent { symbol, sequence, bid, ask, ts_event }));
    Ok(())
}

/// GET /api/v3/exchangeInfo, one of "symbols": {"symbol":"ETHBTC","status":"TRADING","baseAsset":"ETH",
///  "quoteAsset":"BTC","filters":[{"filterType":"PRICE_FILTER","minPrice":"0.00000100","tickSize":"0.00000100",..},
///  {"filterType":"LOT_SIZE","stepSize":"0.00010000",..},..],..}
///
/// Tick and lot are written at the precision that the market prints.
fn read_definition(item: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [symbol, status, base, quote, filters] =
        item.require(["symbol", "status", "baseAsset", "quoteAsset", "filters"])?;
    let symbol = symbol.name("symbol")?;
    let (mut tick, mut lot) = (None, None);
    filters.each(|filter| {
        let [kind, tick_size, step_size] = filter.pick(["filterType", "tickSize", "stepSize"])?;
        match (kind.map(|kind| kind.text()), tick_size, step_size) {
            (Some(b"PRICE_FILTER"), Some(size), _) => tick = Some(size.decimal(&symbol)?),
            (Some(b"LOT_SIZE"), _, Some(size)) => lot = Some(size.decimal(&symbol)?),
            _ => {}
        }
        Ok(())
    })?;
    let tick = tick.ok_or(malformed(item.start(), "PRICE_FILTER"))?;
    let lot = lot.ok_or(malformed(item.start(), "LOT_SIZE"))?;
    out.events.push(Event::Definition(DefinitionEvent {
        symbol,
        base: base.name("baseAsset")?,
        quote: quote.name("quoteAsset")?,
        tick,
        lot,
        price_scale: tick.scale,
        size_scale: lot.scale,
        active: status.text() == b"TRADING",
        text: item.whole(),
    }));
    Ok(())
}

/// {"result":null,"id":1}
/// {"code":2,"msg":"Invalid request: invalid stream","id":1}  or  {"error":{"code":2,"msg":".."},"id":1}
/// Over HTTP: {"code":-1121,"msg":"Invalid symbol."}. And whatever we do not know.
fn read_control(message: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [id, error, own_text] = message.pick(["id", "error", "msg"])?;
    let inner = error.filter(Value::is_object).map_or(Ok([None]), |error| error.pick(["msg"]))?;
    let text = own_text.or(inner[0]).or(error).map(|text| text.span());
    // An id that is no number is not one that we sent.
    let request = id.and_then(|id| id.unsigned("id").ok());
    out.events.push(match (request, text) {
        (None, text) => Event::Error { text: text.unwrap_or_else(|| message.whole()) },
        (_, refusal) => Event::Answer(Answer { request, channel: 0..0, symbol: 0..0, refusal, leaving: false }),
    });
    Ok(())
}
