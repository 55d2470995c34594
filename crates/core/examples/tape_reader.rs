//! The readers of the tape's bench: `tape_reader OUT EXPECTED DIR#0@N DIR#1@N ...` (the router appends the shards).
//!
//! A thread a shard follows it through the crate and checks each trade as `bench/tape/verify.c` does behind pipes: its form,
//! that `q` grows within its symbol, and at the end that no symbol came by two shards. At EXPECTED trades, or where every shard
//! has ended, the same JSON is written to OUT, under another name first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tickplant_core::clock::{monotonic, process_cpu};
use tickplant_core::log::Position;
use tickplant_core::tape::lane::{Taken, TapeReader};
use xxhash_rust::xxh3::xxh3_64;

/// How soon a shard without news sees that the others have the last trade.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const HEAD: &[u8] = b"{\"ev\":\"T\",\"sym\":\"";
const SLOTS: usize = 1 << 13;

/// Trades of all shards.
static TRADES: AtomicU64 = AtomicU64::new(0);

/// What one shard gave.
struct Shard {
    /// Symbol and its last `q`, close together so that all shards' stay in a cache. The first is nobody's.
    symbols: Vec<(u128, u64)>,
    /// The place of each in `symbols`, found by its hash; 0 where there is none.
    slots: [u16; SLOTS],
    trades: u64,
    bytes: u64,
    checksum: u64,
    bad_form: u64,
    bad_order: u64,
    first: u64,
    last: u64,
}

impl Shard {
    fn new() -> Self {
        let (symbols, slots) = (vec![(0, 0)], [0; SLOTS]);
        Self { symbols, slots, trades: 0, bytes: 0, checksum: 0, bad_form: 0, bad_order: 0, first: u64::MAX, last: 0 }
    }

    fn take(&mut self, object: &[u8]) {
        self.trades += 1;
        self.bytes += object.len() as u64;
        self.checksum = self.checksum.wrapping_add(xxh3_64(object));
        let (Some(name), Some(number)) = (symbol(object), last_number(object)) else {
            self.bad_form += 1;
            return;
        };
        let mut at = (name as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> 51;
        let last = loop {
            match self.symbols.get_mut(usize::from(self.slots[at])) {
                Some((known, last)) if *known == name => break last,
                Some((0, _)) | None => {
                    assert!(self.symbols.len() < SLOTS / 2, "more symbols than a shard of this bench has");
                    self.slots[at] = self.symbols.len() as u16;
                    self.symbols.push((name, 0));
                }
                Some(_) => at = (at + 1) % SLOTS,
            }
        };
        self.bad_order += u64::from(number <= *last);
        *last = number;
    }
}

/// The symbol, at most 15 bytes, as a number.
fn symbol(object: &[u8]) -> Option<u128> {
    let text = u128::from_le_bytes(*object.strip_prefix(HEAD)?.first_chunk()?);
    let other = text ^ u128::from_le_bytes([b'"'; 16]);
    // Bit 7 of each byte that is a quote, of which the lowest is sure to be right.
    let quotes = other.wrapping_sub(u128::from_le_bytes([1; 16])) & !other & u128::from_le_bytes([0x80; 16]);
    let bits = quotes.trailing_zeros() & !7;
    (quotes != 0 && bits > 0).then(|| text & ((1 << bits) - 1))
}

/// The digits of `...,"q":DIGITS}`.
fn last_number(object: &[u8]) -> Option<u64> {
    let mut text = object.strip_suffix(b"}")?;
    let (mut number, mut scale) = (0u64, 1u64);
    while let Some((rest, digit)) = text.split_last().and_then(|(digit, rest)| Some((rest, digit.checked_sub(b'0')?))) {
        if digit > 9 {
            break;
        }
        number = number.wrapping_add(u64::from(digit).wrapping_mul(scale));
        (text, scale) = (rest, scale.wrapping_mul(10));
    }
    text.ends_with(b",\"q\":").then_some(number)
}

fn follow(place: &str, expected: u64) -> Shard {
    let (log, shard) = place.rsplit_once('#').expect("DIR#SHARD@INDEX");
    let (shard, index) = shard.split_once('@').expect("DIR#SHARD@INDEX");
    let from = Position::Index(index.parse().expect("an index"));
    let mut reader = TapeReader::open(log, shard.parse().expect("a shard"), from).expect("a tape");
    let mut seen = Shard::new();
    while TRADES.load(Relaxed) < expected {
        match reader.read(&mut |object| seen.take(object)).expect("a whole tape") {
            Taken::Objects(0) => {}
            Taken::Objects(count) => {
                seen.last = monotonic();
                seen.first = seen.first.min(seen.last);
                TRADES.fetch_add(count as u64, Relaxed);
            }
            Taken::Nothing => reader.wait(LOOK_EVERY),
            Taken::Lost(count) => panic!("{place}: {count} trades were lost, give the router more --log-bytes"),
            Taken::Ended | Taken::Abandoned => break,
        }
    }
    seen
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [out, expected, places @ ..] = &args[..] else { panic!("tape_reader OUT EXPECTED DIR#0@N ...") };
    let expected: u64 = expected.parse().expect("a whole number");
    let threads: Vec<_> =
        places.iter().cloned().map(|place| std::thread::spawn(move || follow(&place, expected))).collect();
    let shards: Vec<Shard> = threads.into_iter().map(|thread| thread.join().expect("a shard that was read")).collect();
    let mut homes: HashMap<u128, u64> = HashMap::new();
    for (name, _) in shards.iter().flat_map(|shard| shard.symbols.iter().skip(1)) {
        *homes.entry(*name).or_default() += 1;
    }
    let sum = |count: fn(&Shard) -> u64| shards.iter().map(count).fold(0, u64::wrapping_add);
    let first = shards.iter().map(|shard| shard.first).min().unwrap_or(0);
    let last = shards.iter().map(|shard| shard.last).max().unwrap_or(0);
    let told = serde_json::json!({
        "trades": sum(|shard| shard.trades),
        "bytes": sum(|shard| shard.bytes),
        "checksum": format!("{:016x}", sum(|shard| shard.checksum)),
        "symbols": homes.len(),
        "bad_form": sum(|shard| shard.bad_form),
        "bad_pipe": homes.values().filter(|&&shards| shards > 1).count(),
        "bad_order": sum(|shard| shard.bad_order),
        "elapsed_ns": last.saturating_sub(first),
        "cpu_ns": process_cpu(),
    });
    let draft = format!("{out}.draft");
    std::fs::write(&draft, told.to_string()).expect("OUT can be written");
    std::fs::rename(draft, out).expect("OUT can be written");
}
