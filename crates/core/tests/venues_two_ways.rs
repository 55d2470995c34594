//! The strict scanners and the tolerant reader say the same of every frame, sound or broken, and neither ever panics.

mod support;

use proptest::prelude::*;
use proptest::test_runner::TestRng;
use support::{told, VENUES};
use tickplant_core::event::{DecodeError, Decoded};
use tickplant_core::venues::{decoder, tolerant_decoder};

type Pairs = Vec<(&'static str, Json)>;

/// A JSON text that can be written in many ways.
#[derive(Clone, Debug)]
enum Json {
    Raw(String),
    List(Vec<Json>),
    Object(Pairs),
}

impl Json {
    fn text(text: impl std::fmt::Display) -> Self {
        Self::Raw(format!("\"{text}\""))
    }

    fn raw(text: impl ToString) -> Self {
        Self::Raw(text.to_string())
    }

    /// As venues write it: this order, no spaces.
    fn plain(&self) -> String {
        self.write(&mut |_| {}, &mut String::new)
    }

    /// Keys in any order, spaces anywhere, keys that nobody knows.
    fn loose(&self, rng: &mut TestRng) -> String {
        let rng = std::cell::RefCell::new(rng);
        self.write(
            &mut |keys| {
                keys.push(("unknown", Self::List(vec![Self::raw("-1.5e300"), Self::text("\\u00e9\\\"]}")])));
                for at in (1..keys.len()).rev() {
                    keys.swap(at, rng.borrow_mut().random_range(0..=at));
                }
            },
            &mut || ["", "", " ", "\n\t ", "\r"][rng.borrow_mut().random_range(0..5usize)].to_owned(),
        )
    }

    fn write(&self, order: &mut dyn FnMut(&mut Pairs), space: &mut dyn FnMut() -> String) -> String {
        let inner = match self {
            Json::Raw(text) => text.clone(),
            Json::List(items) => {
                let items: Vec<_> = items.iter().map(|item| item.write(order, space)).collect();
                format!("[{}]", items.join(","))
            }
            Json::Object(pairs) => {
                let mut pairs = pairs.clone();
                order(&mut pairs);
                let pairs: Vec<_> = pairs
                    .iter()
                    .map(|(key, value)| format!("{}\"{key}\"{}:{}", space(), space(), value.write(order, space)))
                    .collect();
                format!("{{{}}}", pairs.join(","))
            }
        };
        format!("{}{inner}{}", space(), space())
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "(0|[1-9][0-9]{0,7})(\\.[0-9]{1,9})?",
        1 => Just("0.00000000".to_owned()),
        1 => "[1-9](\\.[0-9]{1,3})?e-?[0-9]",
        1 => "[1-9][0-9]{0,12}\\.[0-9]{0,3}0{1,8}",
    ]
}

fn levels() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((number(), number()), 0..6)
}

fn symbol() -> impl Strategy<Value = String> {
    "[A-Z0-9]{2,6}[/-]?[A-Z]{3}"
}

fn time() -> impl Strategy<Value = String> {
    "20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?Z"
}

fn kraken() -> impl Strategy<Value = Json> {
    (symbol(), levels(), levels(), any::<u32>(), time(), any::<bool>()).prop_map(
        |(symbol, bids, asks, crc, time, snapshot)| {
            let side = |levels: Vec<(String, String)>| {
                Json::List(
                    levels
                        .iter()
                        .map(|(p, q)| Json::Object(vec![("price", Json::raw(p)), ("qty", Json::raw(q))]))
                        .collect(),
                )
            };
            let book = Json::Object(vec![
                ("symbol", Json::text(symbol)),
                ("bids", side(bids)),
                ("asks", side(asks)),
                ("checksum", Json::raw(crc)),
                ("timestamp", Json::text(time)),
            ]);
            let kind = Json::text(if snapshot { "snapshot" } else { "update" });
            Json::Object(vec![("channel", Json::text("book")), ("type", kind), ("data", Json::List(vec![book]))])
        },
    )
}

fn binance(futures: bool) -> impl Strategy<Value = Json> {
    let stamp = prop_oneof![1_500_000_000_000u64..2_000_000_000_000, 1_500_000_000_000_000u64..2_000_000_000_000_000];
    (symbol(), levels(), levels(), stamp, 1u64..1 << 50, any::<bool>()).prop_map(
        move |(symbol, bids, asks, stamp, id, wrapped)| {
            let side = |levels: Vec<(String, String)>| {
                Json::List(levels.iter().map(|(p, q)| Json::List(vec![Json::text(p), Json::text(q)])).collect())
            };
            let mut pairs = vec![("e", Json::text("depthUpdate")), ("E", Json::raw(stamp))];
            if futures {
                pairs.push(("T", Json::raw(stamp - 1)));
            }
            pairs.extend([("s", Json::text(&symbol)), ("U", Json::raw(id)), ("u", Json::raw(id + 3))]);
            if futures {
                pairs.push(("pu", Json::raw(id - 1)));
            }
            pairs.extend([("b", side(bids)), ("a", side(asks))]);
            let message = Json::Object(pairs);
            if wrapped {
                Json::Object(vec![("stream", Json::text(format!("{symbol}@depth"))), ("data", message)])
            } else {
                message
            }
        },
    )
}

fn coinbase() -> impl Strategy<Value = Json> {
    (symbol(), prop::collection::vec((any::<bool>(), number(), number()), 1..6), time()).prop_map(
        |(symbol, changes, time)| {
            let changes = changes.iter().map(|(buy, price, size)| {
                Json::List(vec![Json::text(if *buy { "buy" } else { "sell" }), Json::text(price), Json::text(size)])
            });
            Json::Object(vec![
                ("type", Json::text("l2update")),
                ("product_id", Json::text(symbol)),
                ("changes", Json::List(changes.collect())),
                ("time", Json::text(time)),
            ])
        },
    )
}

/// What trades and tickers are made of.
#[derive(Clone, Debug)]
struct Parts {
    symbol: String,
    numbers: [String; 4],
    time: String,
    stamp: u64,
    id: u64,
    flag: bool,
}

fn parts() -> impl Strategy<Value = Parts> {
    let numbers = [number(), number(), number(), number()];
    (symbol(), numbers, time(), 1_672_515_782_000u64..1_672_515_783_000, 1u64..1 << 53, any::<bool>())
        .prop_map(|(symbol, numbers, time, stamp, id, flag)| Parts { symbol, numbers, time, stamp, id, flag })
}

fn kraken_trades((parts, count): (Parts, usize)) -> Json {
    let [price, qty, ..] = &parts.numbers;
    let trade = Json::Object(vec![
        ("symbol", Json::text(&parts.symbol)),
        ("side", Json::text(if parts.flag { "buy" } else { "sell" })),
        ("price", Json::raw(price)),
        ("qty", Json::raw(qty)),
        ("ord_type", Json::text("limit")),
        ("trade_id", Json::raw(parts.id)),
        ("timestamp", Json::text(&parts.time)),
    ]);
    let kind = Json::text(if parts.flag { "snapshot" } else { "update" });
    let data = Json::List(vec![trade; count]);
    Json::Object(vec![("channel", Json::text("trade")), ("type", kind), ("data", data)])
}

fn kraken_ticker(parts: Parts) -> Json {
    let mut pairs = vec![("symbol", Json::text(&parts.symbol))];
    pairs.extend(["bid", "bid_qty", "ask", "ask_qty"].into_iter().zip(parts.numbers.iter().map(Json::raw)));
    let [last, volume, ..] = &parts.numbers;
    pairs.extend(["last", "volume", "vwap", "low", "high"].map(|key| (key, Json::raw(last))));
    pairs.extend([("change", Json::raw(format!("-{last}"))), ("change_pct", Json::raw(volume))]);
    if parts.flag {
        pairs.push(("timestamp", Json::text(&parts.time)));
    }
    let data = Json::List(vec![Json::Object(pairs)]);
    Json::Object(vec![("channel", Json::text("ticker")), ("type", Json::text("update")), ("data", data)])
}

fn binance_ticker(parts: Parts, futures: bool) -> Json {
    let mut pairs = if futures { vec![("e", Json::text("bookTicker"))] } else { Vec::new() };
    pairs.extend([("u", Json::raw(parts.id)), ("s", Json::text(&parts.symbol))]);
    pairs.extend(["b", "B", "a", "A"].into_iter().zip(parts.numbers.iter().map(Json::text)));
    if futures {
        pairs.extend([("T", Json::raw(parts.stamp)), ("E", Json::raw(parts.stamp + 1))]);
    }
    Json::Object(pairs)
}

fn binance_trade(parts: Parts, futures: bool) -> Json {
    let [price, size, ..] = &parts.numbers;
    let matched = ("T", Json::raw(parts.stamp));
    let mut pairs = vec![("e", Json::text("trade")), ("E", Json::raw(parts.stamp + 1))];
    if futures {
        pairs.push(matched.clone());
    }
    pairs.extend([("s", Json::text(&parts.symbol)), ("t", Json::raw(parts.id))]);
    pairs.extend([("p", Json::text(price)), ("q", Json::text(size))]);
    pairs.push(if futures { ("X", Json::text("MARKET")) } else { matched });
    pairs.push(("m", Json::raw(parts.flag)));
    if !futures {
        pairs.push(("M", Json::raw(true)));
    }
    Json::Object(vec![("stream", Json::text("x@trade")), ("data", Json::Object(pairs))])
}

fn coinbase_match(parts: Parts) -> Json {
    let [price, size, ..] = &parts.numbers;
    Json::Object(vec![
        ("type", Json::text("match")),
        ("trade_id", Json::raw(parts.id)),
        ("maker_order_id", Json::text("2a0da34e-61f7")),
        ("taker_order_id", Json::text("3c82abaa-c01e")),
        ("side", Json::text(if parts.flag { "buy" } else { "sell" })),
        ("size", Json::text(size)),
        ("price", Json::text(price)),
        ("product_id", Json::text(&parts.symbol)),
        ("sequence", Json::raw(parts.id + 7)),
        ("time", Json::text(&parts.time)),
    ])
}

fn coinbase_ticker(parts: Parts) -> Json {
    let [price, size, ..] = &parts.numbers;
    let mut pairs = vec![
        ("type", Json::text("ticker")),
        ("sequence", Json::raw(parts.id)),
        ("product_id", Json::text(&parts.symbol)),
    ];
    let ignored = ["price", "open_24h", "volume_24h", "low_24h", "high_24h", "volume_30d"];
    pairs.extend(ignored.map(|key| (key, Json::text(price))));
    let best = ["best_bid", "best_bid_size", "best_ask", "best_ask_size"];
    pairs.extend(best.into_iter().zip(parts.numbers.iter().map(Json::text)));
    pairs.extend([
        ("side", Json::text(if parts.flag { "buy" } else { "sell" })),
        ("time", Json::text(&parts.time)),
        ("trade_id", Json::raw(parts.id + 3)),
        ("last_size", Json::text(size)),
    ]);
    Json::Object(pairs)
}

/// What the strict scanners know, as the venues write it.
fn message() -> impl Strategy<Value = (&'static str, Json)> {
    prop_oneof![
        kraken().prop_map(|json| ("kraken", json)),
        binance(false).prop_map(|json| ("binance", json)),
        binance(true).prop_map(|json| ("binance_usdm", json)),
        coinbase().prop_map(|json| ("coinbase", json)),
        (parts(), 1..4usize).prop_map(|parts| ("kraken", kraken_trades(parts))),
        parts().prop_map(|parts| ("binance", binance_ticker(parts, false))),
        parts().prop_map(|parts| ("binance_usdm", binance_ticker(parts, true))),
        parts().prop_map(|parts| ("binance", binance_trade(parts, false))),
        parts().prop_map(|parts| ("binance_usdm", binance_trade(parts, true))),
        parts().prop_map(|parts| ("coinbase", coinbase_match(parts))),
        parts().prop_map(|parts| ("kraken", kraken_ticker(parts))),
        parts().prop_map(|parts| ("coinbase", coinbase_ticker(parts))),
    ]
}

/// Both ways on one frame: the results, equal to the byte. Also whether the strict scanner knew the frame.
fn both_ways(venue: &str, frame: &[u8]) -> (Result<(), DecodeError>, bool) {
    let (mut strict, mut tolerant) = (Decoded::default(), Decoded::default());
    let result = decoder(venue).unwrap().decode(frame, &mut strict);
    assert_eq!(result, tolerant_decoder(venue).unwrap().decode(frame, &mut tolerant), "{}", frame.escape_ascii());
    if result.is_ok() {
        assert_eq!(strict.events, tolerant.events, "{}", frame.escape_ascii());
        assert_eq!(strict.rows, tolerant.rows, "{}", frame.escape_ascii());
    }
    (result, strict.slow_path == 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn however_it_is_written_it_says_the_same((venue, json) in message(), seed in any::<[u8; 32]>()) {
        let plain = json.plain();
        let (result, strict) = both_ways(venue, plain.as_bytes());
        prop_assert_eq!(result, Ok(()));
        // Numbers with exponents or of many digits are what the strict way leaves to the other.
        let exponent = plain.as_bytes().windows(2).any(|pair| pair[0].is_ascii_digit() && pair[1] == b'e');
        prop_assert!(strict || exponent || plain.split(|c: char| !c.is_ascii_digit() && c != '.').any(|n| n.len() > 18));
        let loose = json.loose(&mut TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &seed));
        let mut way = decoder(venue).unwrap();
        prop_assert_eq!(told(way.as_mut(), plain.as_bytes(), false), told(way.as_mut(), loose.as_bytes(), false));
    }

    #[test]
    fn a_changed_byte_is_judged_alike((venue, json) in message(), at in any::<prop::sample::Index>(), byte in any::<u8>(), kind in 0..4) {
        let mut frame = json.plain().into_bytes();
        let at = at.index(frame.len());
        match kind {
            0 => frame[at] = byte,
            1 => frame.insert(at, byte),
            2 => frame[at] = b"0\".,-eE]}[{: "[usize::from(byte) % 13],
            _ => drop(frame.remove(at)),
        }
        let _ = both_ways(venue, &frame);
    }

    #[test]
    fn a_cut_frame_is_refused((venue, json) in message(), at in any::<prop::sample::Index>()) {
        let frame = json.plain();
        let cut = &frame.as_bytes()[..at.index(frame.len())];
        prop_assert!(both_ways(venue, cut).0.is_err());
    }

    #[test]
    fn hostile_bytes_never_panic(venue in prop::sample::select(&VENUES[..]), bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = both_ways(venue, &bytes);
        let _ = decoder(venue).unwrap().decode_reply(&bytes, &mut Decoded::default());
    }

    /// Every golden frame and reply with a few bytes changed: deep inside the messages that have no scanner too.
    #[test]
    fn changed_golden_frames_never_panic(
        venue in prop::sample::select(&VENUES[..]),
        line in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"0\".,-eE]}[{:\\ nt\xff".to_vec())), 1..4),
    ) {
        let text = std::fs::read_to_string(support::root().join("tests/golden").join(venue).join("frames.txt")).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with(['#', '='])).collect();
        let mut frame = lines[line.index(lines.len())].trim_start_matches("reply ").as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        let _ = both_ways(venue, &frame);
        told(decoder(venue).unwrap().as_mut(), &frame, true);
    }
}

#[test]
fn numbers_that_look_alike_are_told_apart() {
    let frame = |number: &str| {
        format!(
            r#"{{"channel":"book","type":"update","data":[{{"symbol":"X/Y","bids":[{{"price":{number},"qty":1}}],"asks":[],"checksum":1,"timestamp":"2023-10-06T17:35:55Z"}}]}}"#
        )
    };
    for number in ["1", "0", "-0", "-1.5", "0.10", "100000000000000000", "1e5", "1E-7", "9223372036854775806"] {
        assert_eq!(both_ways("kraken", frame(number).as_bytes()).0, Ok(()), "{number}");
    }
    for number in ["01", "1.", ".5", "-", "+1", "1e", "--1", "1.2.3", "9223372036854775807", "NaN", "\"", "00", "0x1"] {
        assert!(both_ways("kraken", frame(number).as_bytes()).0.is_err(), "{number}");
    }
}
