//! The readers of the tape's bench: `tape_reader OUT EXPECTED DIR#0@N DIR#1@N ...` (the router appends the shards).
//!
//! A thread a shard follows it through the crate and checks each trade as `bench/tape/verify.c` does behind pipes: its form,
//! that `q` grows within its symbol, and at the end that no symbol came by two shards. At EXPECTED trades, or where every shard
//! has ended, the same JSON is written to OUT, under another name first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tickplant_core::clock::monotonic;
use tickplant_core::log::Position;
use tickplant_core::tape::lane::{Taken, TapeReader};
use xxhash_rust::xxh3::xxh3_64;

/// How soon a shard without news sees that the others have the last trade.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const HEAD: &[u8] = b"{\"ev\":\"T\",\"sym\":\"";
const SLOTS: usize = 1 << 14;

/// Trades of all shards.
static TRADES: AtomicU64 = AtomicU64::new(0);

/// What one shard gave.
struct Shard {
    /// Symbol and its last `q`, found by the symbol's hash.
    symbols: Vec<([u8; 16], u64)>,
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
        let symbols = vec![([0; 16], 0); SLOTS];
        Self { symbols, trades: 0, bytes: 0, checksum: 0, bad_form: 0, bad_order: 0, first: u64::MAX, last: 0 }
    }

    fn take(&mut self, object: &[u8]) {
        self.trades += 1;
        self.bytes += object.len() as u64;
        self.checksum = self.checksum.wrapping_add(xxh3_64(object));
        let symbol = object.strip_prefix(HEAD).and_then(|rest| rest.get(..rest.iter().position(|&byte| byte == b'"')?));
        let (Some(symbol @ [_, ..]), Some(number)) = (symbol, last_number(object)) else {
            self.bad_form += 1;
            return;
        };
        let mut name = [0; 16];
        name[..symbol.len()].copy_from_slice(symbol);
        let mut at = (u128::from_le_bytes(name) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> 50;
        while self.symbols[at].0 != name && self.symbols[at].0 != [0; 16] {
            at = (at + 1) % SLOTS;
        }
        let (slot, last) = &mut self.symbols[at];
        self.bad_order += u64::from(number <= *last);
        (*slot, *last) = (name, number);
    }
}

/// The digits of `...,"q":DIGITS}`.
fn last_number(object: &[u8]) -> Option<u64> {
    let text = object.strip_suffix(b"}")?;
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (head, digits) = text.split_at(text.len() - digits);
    let number =
        digits.iter().fold(0u64, |number, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    head.ends_with(b",\"q\":").then_some(number)
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
    let mut homes: HashMap<[u8; 16], u64> = HashMap::new();
    for (name, _) in shards.iter().flat_map(|shard| &shard.symbols).filter(|(name, _)| *name != [0; 16]) {
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
    });
    let draft = format!("{out}.draft");
    std::fs::write(&draft, told.to_string()).expect("OUT can be written");
    std::fs::rename(draft, out).expect("OUT can be written");
}
