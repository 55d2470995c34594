//! What one verified Kraken v2 book message costs: decode, apply, compare the checksum.
//!
//! `cargo run --release --example kraken_bench [ROUNDS]` prints a JSON object a subscribed depth: ns a message, medians of
//! rounds in which the ways alternate. `naive` is what one would write first: serde_json, two maps, a checksum of
//! formatted text. The stream is made up: a deep book whose orders change near the touch, seen through the window.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt::Write;
use tickplant_core::book::{Book, Checksum, Spec};
use tickplant_core::clock::{Clock, Rng, SystemClock};
use tickplant_core::event::{Decode, Decoded, Event};
use tickplant_core::venues::{decoder, tolerant_decoder};

const MESSAGES: usize = 20_000;

/// One side of the market: sizes in 10^-8 by price in tenths, counted away from the touch.
type Market = BTreeMap<u64, u64>;

/// The name of a figure, and what runs all frames once and counts the messages that came out right.
type Way<'a> = (&'static str, Box<dyn FnMut() -> usize + 'a>);

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(15);
    for depth in [10, 100] {
        let frames = stream(depth);
        let mut ways: [Way<'_>; 4] = [
            ("verified_ns", Box::new(|| verify(decoder("kraken").unwrap(), depth, &frames))),
            ("decode_only_ns", Box::new(|| decode_only(&frames))),
            ("tolerant_ns", Box::new(|| verify(tolerant_decoder("kraken").unwrap(), depth, &frames))),
            ("naive_ns", Box::new(|| verify_naively(depth, &frames))),
        ];
        let mut clock = SystemClock::new();
        let mut times: [Vec<u64>; 4] = Default::default();
        for _ in 0..rounds {
            for ((_, way), times) in ways.iter_mut().zip(&mut times) {
                let start = clock.now();
                let proven = way();
                times.push((clock.now() - start) / MESSAGES as u64);
                assert_eq!(proven, MESSAGES + 1);
            }
        }
        let medians = times.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        });
        let bytes: usize = frames.iter().map(Vec::len).sum::<usize>() / frames.len();
        let figures: Vec<_> =
            ways.iter().zip(medians).map(|((name, _), median)| format!("\"{name}\":{median}")).collect();
        let ratio = medians[3] as f64 / medians[0] as f64;
        println!(
            "{{\"depth\":{depth},\"messages\":{MESSAGES},\"bytes_mean\":{bytes},\"rounds\":{rounds},{},\"naive_ratio\":{ratio:.1}}}",
            figures.join(",")
        );
    }
}

fn verify(mut way: Box<dyn Decode>, depth: u32, frames: &[Vec<u8>]) -> usize {
    let mut book = Book::new(Spec { depth, truncate: true, checksum: Checksum::Kraken });
    let (mut out, mut changes, mut proven) = (Decoded::default(), Vec::new(), 0);
    for frame in frames {
        out.clear();
        changes.clear();
        way.decode(frame, &mut out).expect("our own frames");
        for event in &out.events {
            let Event::Book(event) = event else { continue };
            let rows = &out.rows[event.rows.clone()];
            let applied = if event.snapshot { book.load(rows, &mut changes) } else { book.apply(rows, &mut changes) };
            proven += usize::from(applied.is_ok() && Some(book.checksum()) == event.checksum);
        }
    }
    proven
}

fn decode_only(frames: &[Vec<u8>]) -> usize {
    let (mut way, mut out, mut events) = (decoder("kraken").unwrap(), Decoded::default(), 0);
    for frame in frames {
        out.clear();
        way.decode(frame, &mut out).expect("our own frames");
        events += out.events.len();
    }
    events
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    data: Vec<Data<'a>>,
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    bids: Vec<Row<'a>>,
    #[serde(borrow)]
    asks: Vec<Row<'a>>,
    checksum: u32,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

fn verify_naively(depth: u32, frames: &[Vec<u8>]) -> usize {
    let mut sides: [BTreeMap<u64, (String, String)>; 2] = Default::default();
    let mut proven = 0;
    for frame in frames {
        let message: Message<'_> = serde_json::from_slice(frame).expect("our own frames");
        let data = &message.data[0];
        if message.kind == "snapshot" {
            sides = Default::default();
        }
        for (levels, (rows, is_bid)) in sides.iter_mut().zip([(&data.bids, true), (&data.asks, false)]) {
            for row in rows {
                let (price, qty) = (row.price.get(), row.qty.get());
                // Keyed away from the touch, in tenths: all prices of this stream have one decimal.
                let key: u64 = price.replace('.', "").parse().expect("a price");
                let key = if is_bid { u64::MAX - key } else { key };
                if qty.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
                    levels.remove(&key);
                } else {
                    levels.insert(key, (price.to_owned(), qty.to_owned()));
                }
            }
            while levels.len() > depth as usize {
                levels.pop_last();
            }
        }
        let mut text = String::new();
        for levels in [&sides[1], &sides[0]] {
            for (price, qty) in levels.values().take(10) {
                text.push_str(price.replace('.', "").trim_start_matches('0'));
                text.push_str(qty.replace('.', "").trim_start_matches('0'));
            }
        }
        proven += usize::from(crc32fast::hash(text.as_bytes()) == data.checksum);
    }
    proven
}

/// A snapshot and then updates as the venue sends them for a window of `depth` levels a side.
fn stream(depth: u32) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(7);
    let mut sides: [Market; 2] = Default::default();
    for market in &mut sides {
        market.extend((1..4 * u64::from(depth)).map(|step| (step * 3, 1 + rng.below(300_000_000))));
    }
    let mut shown: [Market; 2] = Default::default();
    (0..=MESSAGES)
        .map(|message| {
            if message > 0 {
                for _ in 0..1 + rng.below(2) {
                    disturb(&mut sides[rng.below(2) as usize], depth, &mut rng);
                }
            }
            let kind = if message == 0 { "snapshot" } else { "update" };
            render(kind, depth, &sides, &mut shown)
        })
        .collect()
}

/// One order comes, changes or goes; near the touch more often than far from it.
fn disturb(market: &mut Market, depth: u32, rng: &mut Rng) {
    let outermost = rng.below(u64::from(depth));
    let rank = rng.below(1 + outermost) as usize;
    let price = *market.keys().nth(rank).expect("the market is deep");
    match rng.below(10) {
        0..6 => drop(market.insert(price, 1 + rng.below(300_000_000))),
        6..8 if market.len() > 2 * depth as usize => drop(market.remove(&price)),
        _ => drop(market.insert((price + rng.below(5)).saturating_sub(2).max(1), 1 + rng.below(300_000_000))),
    }
}

/// The message that takes a client from what it was shown to the market's top `depth` levels.
fn render(kind: &str, depth: u32, sides: &[Market; 2], shown: &mut [Market; 2]) -> Vec<u8> {
    let price = |side: usize, key: u64| if side == 0 { 452_840 - key } else { 452_840 + key };
    let mut texts = [String::new(), String::new()];
    let mut digits = [String::new(), String::new()];
    for side in 0..2 {
        let window: Market = sides[side].iter().take(depth as usize).map(|(key, size)| (*key, *size)).collect();
        let gone = shown[side].keys().filter(|key| !sides[side].contains_key(key)).map(|key| (*key, 0));
        let new =
            window.iter().filter(|(key, size)| shown[side].get(key) != Some(size)).map(|(key, size)| (*key, *size));
        for (key, size) in gone.chain(new) {
            let comma = if texts[side].is_empty() { "" } else { "," };
            let (price, whole, rest) = (price(side, key), size / 100_000_000, size % 100_000_000);
            let (units, tenth) = (price / 10, price % 10);
            write!(texts[side], "{comma}{{\"price\":{units}.{tenth},\"qty\":{whole}.{rest:08}}}")
                .expect("a string grows");
        }
        for (key, size) in window.iter().take(10) {
            write!(digits[side], "{}{size}", price(side, *key)).expect("a string grows");
        }
        shown[side] = window;
    }
    let checksum = crc32fast::hash(format!("{}{}", digits[1], digits[0]).as_bytes());
    format!(
        "{{\"channel\":\"book\",\"type\":\"{kind}\",\"data\":[{{\"symbol\":\"BTC/USD\",\"bids\":[{}],\"asks\":[{}],\
         \"checksum\":{checksum},\"timestamp\":\"2023-10-06T17:35:55.440295Z\"}}]}}",
        texts[0], texts[1]
    )
    .into_bytes()
}
