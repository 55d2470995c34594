//! Past trades as venues give them over HTTP, which is seldom as they give them on the socket. No reply but Kraken's names its
//! instrument. Sources: binance-spot-api-docs rest-api.md, developers.binance.com (USDS-Margined Futures, "Recent Trades
//! List"), docs.cdp.coinbase.com "Get product trades", docs.kraken.com "Get Recent Trades".

use super::json::{malformed, Value};
use crate::event::{DecodeError, Decoded, Event, TradeEvent};
use crate::record::{Side, UNDEF_U64};

const NOBODY: std::ops::Range<usize> = 0..0;

/// GET /api/v3/historicalTrades, oldest first:
/// [{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012","time":1499865549590,"isBuyerMaker":true,
///   "isBestMatch":true}]       GET /fapi/v1/trades: the same without the last key, or with others.
pub fn read_binance(reply: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    reply.each(|trade| {
        let [id, price, size, time, maker] = trade.require(["id", "price", "qty", "time", "isBuyerMaker"])?;
        let side = if maker.boolean("isBuyerMaker")? { Side::Ask } else { Side::Bid };
        push(&id, &price, &size, side, time.epoch("time")?, out)
    })
}

/// One of GET /products/{id}/trades, newest first; `side` is the maker's, as in a match:
/// {"trade_id":74,"side":"sell","size":"0.01000000","price":"10.00000000","time":"2014-11-07T22:19:28.578544Z"}
pub fn read_coinbase(trade: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [id, side, size, price, time] = trade.require(["trade_id", "side", "size", "price", "time"])?;
    let side = match side.text() {
        b"buy" => Side::Ask,
        b"sell" => Side::Bid,
        _ => return Err(malformed(side.start(), "side")),
    };
    push(&id, &price, &size, side, time.rfc3339("time")?, out)
}

/// GET /0/public/Trades, oldest first; `b` and `s` are the taker's side, the last of each is its id:
/// {"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952]],
///  "last":"1688671969993150842"}}
///
/// A refusal comes with status 200 too: {"error":["EQuery:Unknown asset pair"]}.
pub fn read_kraken(reply: &Value<'_>, out: &mut Decoded) -> Result<(), DecodeError> {
    let [errors, result] = reply.pick(["error", "result"])?;
    let mut refused = false;
    errors.map_or(Ok(()), |errors| {
        errors.each(|_| {
            refused = true;
            Ok(())
        })
    })?;
    let Some(result) = result.filter(|_| !refused) else {
        out.events.push(Event::Error { text: errors.unwrap_or(*reply).whole() });
        return Ok(());
    };
    let mut pairs = 0;
    result.members(|name, value| {
        if name == b"last" {
            return Ok(());
        }
        pairs += 1;
        value.each(|trade| {
            let [price, size, time, side, _, _, id] = trade.items("a trade of seven items")?;
            let side = match side.text() {
                b"b" => Side::Bid,
                b"s" => Side::Ask,
                _ => return Err(malformed(side.start(), "side")),
            };
            push(&id, &price, &size, side, time.seconds("time")?, out)
        })
    })?;
    (pairs == 1).then_some(()).ok_or(malformed(result.start(), "trades of one pair"))
}

fn push(
    id: &Value<'_>,
    price: &Value<'_>,
    size: &Value<'_>,
    side: Side,
    ts_event: u64,
    out: &mut Decoded,
) -> Result<(), DecodeError> {
    let (id, id_is_hash) = id.identity();
    out.events.push(Event::Trade(TradeEvent {
        symbol: NOBODY,
        id,
        id_is_hash,
        sequence: UNDEF_U64,
        price: price.decimal(&NOBODY)?,
        size: size.size(&NOBODY)?,
        side,
        ts_event,
        snapshot: false,
        last: true,
    }));
    Ok(())
}
