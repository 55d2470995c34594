//! Lists of instruments over HTTP, cut down to those that somebody wants.
//!
//! Such a list is megabytes (Binance: 15 MB for 3,000 symbols) of which a session keeps a few items. Reading all of it costs
//! tens of milliseconds, which whoever fetches can spend and an ingestion loop cannot.

use super::json::Value;
use crate::event::DecodeError;

/// The list with only the items whose symbol is `wanted`, as they stand and in their order; with its first item where none
/// is, for a list without any is none. What is left decodes to the same definitions of these symbols as the whole. None: the
/// decoder has no such list, or this is none, and its session is to read what the venue sent.
pub fn shorten_list(decoder: &str, body: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let (before, key, after): (&[u8], _, &[u8]) = match decoder {
        "binance" | "binance_usdm" => (br#"{"symbols":["#, "symbol", b"]}"),
        "coinbase" => (b"[", "id", b"]"),
        _ => return None,
    };
    let whole = Value::of_frame(body).ok()?;
    let list = match whole.is_array() {
        true => whole,
        false => whole.pick(["symbols"]).ok()?[0]?,
    };
    // A single product of Coinbase, or another dialect's list: not for us.
    if whole.is_array() != (decoder == "coinbase") || !list.is_array() {
        return None;
    }
    let items = wanted_items(&list, key, wanted).ok().filter(|items| !items.is_empty())?;
    let mut short =
        Vec::with_capacity(before.len() + items.iter().map(|item| item.len() + 1).sum::<usize>() + after.len());
    short.extend_from_slice(before);
    for (place, item) in items.into_iter().enumerate() {
        short.extend_from_slice(if place == 0 { b"" } else { b"," });
        short.extend_from_slice(body.get(item)?);
    }
    short.extend_from_slice(after);
    Some(short)
}

type Spans = Vec<crate::event::Span>;

fn wanted_items(list: &Value<'_>, key: &'static str, wanted: impl Fn(&[u8]) -> bool) -> Result<Spans, DecodeError> {
    let (mut items, mut first) = (Vec::new(), None);
    list.each(|item| {
        let [symbol] = item.require([key])?;
        first.get_or_insert(item.whole());
        if wanted(symbol.text()) {
            items.push(item.whole());
        }
        Ok(())
    })?;
    if items.is_empty() {
        items.extend(first);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Decoded, Event};
    use crate::venues::decoder;
    use proptest::prelude::*;

    const DECODERS: [&str; 3] = ["binance", "binance_usdm", "coinbase"];

    fn item(name: &str, symbol: u8, tick: u8) -> String {
        let (zeros, symbol) = ("0".repeat(usize::from(tick % 7)), char::from(b'A' + symbol));
        match name {
            "coinbase" => format!(
                r#"{{"id":"{symbol}-USD","base_currency":"{symbol}","quote_currency":"USD","quote_increment":"0.{zeros}1","base_increment":"0.01","status":"online","note":"[{{,\"}}"}}"#
            ),
            _ => format!(
                r#"{{"symbol":"{symbol}USD","status":"TRADING","baseAsset":"{symbol}","quoteAsset":"USD","contractType":"PERPETUAL","note":"]}},{{\"",
                "filters":[{{"filterType":"PRICE_FILTER","tickSize":"0.{zeros}1"}},{{"filterType":"LOT_SIZE","stepSize":"0.01"}}]}}"#
            ),
        }
    }

    fn list(name: &str, items: &[(u8, u8)]) -> String {
        let items: Vec<_> = items.iter().map(|&(symbol, tick)| item(name, symbol, tick)).collect();
        match name {
            "coinbase" => format!("[{}]", items.join(" ,\n")),
            _ => format!(r#"{{"timezone":"UTC","symbols":[{}],"rateLimits":[]}}"#, items.join(" ,\n")),
        }
    }

    /// The definitions of what is wanted, each with its whole text; None where the decoder refuses the list.
    fn definitions(name: &str, body: &[u8], wanted: &dyn Fn(&[u8]) -> bool) -> Option<Vec<String>> {
        let mut out = Decoded::default();
        decoder(name)?.decode_reply(body, &mut out).ok()?;
        let told = out.events.iter().filter_map(|event| match event {
            Event::Definition(definition) if wanted(out.text(body, &definition.symbol)) => {
                let text = String::from_utf8_lossy(out.text(body, &definition.text)).into_owned();
                Some(format!("{text} {:?} {:?} {}", definition.tick, definition.lot, definition.active))
            }
            _ => None,
        });
        Some(told.collect())
    }

    proptest! {
        #[test]
        fn what_is_wanted_is_told_alike(items in prop::collection::vec((0u8..20, 0u8..7), 1..30), kept in 0u32..1 << 20, name in 0usize..3) {
            let name = DECODERS[name];
            let body = list(name, &items);
            let wanted = |symbol: &[u8]| kept >> (symbol[0] - b'A') & 1 == 1;
            let short = shorten_list(name, body.as_bytes(), wanted).unwrap();
            let whole = definitions(name, body.as_bytes(), &wanted).unwrap();
            prop_assert_eq!(definitions(name, &short, &wanted).unwrap(), whole);
            let left = definitions(name, &short, &|_| true).unwrap();
            let count = items.iter().filter(|(symbol, _)| kept >> symbol & 1 == 1).count();
            prop_assert_eq!(left.len(), count.max(1), "nothing else is left, and it is still a list");
        }

        #[test]
        fn a_damaged_list_is_left_as_it_is(place in 0usize..400, byte: u8, name in 0usize..3) {
            let name = DECODERS[name];
            let mut body = list(name, &[(0, 1), (1, 2), (2, 3)]).into_bytes();
            let place = place % body.len();
            body[place] = byte;
            if let Some(short) = shorten_list(name, &body, |symbol| symbol.starts_with(b"B")) {
                // Damage in an item that nobody wants need not be seen; what is wanted is told alike.
                let wanted = |symbol: &[u8]| symbol.starts_with(b"B");
                if let Some(whole) = definitions(name, &body, &wanted) {
                    prop_assert_eq!(definitions(name, &short, &wanted).unwrap(), whole);
                }
            }
        }
    }

    #[test]
    fn what_is_no_list_is_left_as_it_is() {
        let all = |_: &[u8]| true;
        for name in DECODERS {
            for body in [r#"{"code":-1,"msg":"no"}"#, r#"{"symbols":[]}"#, "[]", "", "{", "[{}]", "\u{0}"] {
                assert_eq!(shorten_list(name, body.as_bytes(), all), None, "{name} {body}");
            }
        }
        assert_eq!(shorten_list("kraken", list("coinbase", &[(1, 1)]).as_bytes(), all), None);
        assert_eq!(shorten_list("binance", list("coinbase", &[(1, 1)]).as_bytes(), all), None);
        assert_eq!(shorten_list("coinbase", list("binance", &[(1, 1)]).as_bytes(), all), None);
    }
}
