//! One instrument's true book at a scripted venue, and the plain twin that holds written records against it.

use std::collections::BTreeMap;
use tickplant_core::clock::Rng;
use tickplant_core::event::Chain;
use tickplant_core::record::*;
use tickplant_core::session::Continuity;

/// A book as plainly as can be: price to size, all at one scale.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plain {
    pub bids: BTreeMap<i64, i64>,
    pub asks: BTreeMap<i64, i64>,
}

impl Plain {
    pub fn set(&mut self, side: Side, price: i64, size: i64) {
        let levels = if side == Side::Bid { &mut self.bids } else { &mut self.asks };
        if size == 0 {
            levels.remove(&price);
        } else {
            levels.insert(price, size);
        }
    }

    pub fn cut(&mut self, depth: usize) {
        while self.bids.len() > depth {
            self.bids.pop_first();
        }
        while self.asks.len() > depth {
            self.asks.pop_last();
        }
    }

    /// Kraken's checksum, from its documentation: top ten asks from low to high, then bids from high to low, price then
    /// size, without the dot and leading zeros. With whole numbers that is just their digits.
    pub fn checksum(&self) -> u32 {
        let mut text = String::new();
        for (price, size) in self.asks.iter().take(10).chain(self.bids.iter().rev().take(10)) {
            text.push_str(&format!("{price}{size}"));
        }
        crc32fast::hash(text.as_bytes())
    }
}

/// A message of the market.
#[derive(Clone, Debug)]
pub struct Said {
    pub chain: Chain,
    pub rows: Vec<(Side, i64, i64)>,
    pub checksum: Option<u32>,
    /// The message's number, which stands in as its event time: what the truth is kept under.
    pub number: u64,
}

/// A market: its book, its numbers, and what the book was after every message.
#[derive(Clone, Debug)]
pub struct Market {
    pub book: Plain,
    pub depth: usize,
    pub rule: Continuity,
    pub checksums: bool,
    pub last: u64,
    pub number: u64,
    pub truth: BTreeMap<u64, Plain>,
    /// The snapshot after every message, by its number.
    pub snapshots: Vec<Said>,
    pub rng: Rng,
}

impl Market {
    pub fn new(rule: Continuity, checksums: bool, depth: usize, seed: u64) -> Self {
        let mut book = Plain::default();
        for rank in 0..depth.min(12) as i64 {
            book.set(Side::Bid, 1000 - rank * 3, 5 + rank);
            book.set(Side::Ask, 1003 + rank * 3, 7 + rank);
        }
        let truth = BTreeMap::from([(0, book.clone())]);
        let (rng, snapshots) = (Rng::new(seed), Vec::new());
        let mut market = Self { book, depth, rule, checksums, last: 100, number: 0, truth, snapshots, rng };
        market.snapshots.push(market.snapshot());
        market
    }

    /// The book changes and the market says so.
    pub fn change(&mut self) -> Said {
        let mut rows = Vec::new();
        for _ in 0..1 + self.rng.below(3) {
            let side = if self.rng.below(2) == 0 { Side::Bid } else { Side::Ask };
            let away = self.rng.below(20) as i64;
            let price = if side == Side::Bid { 1001 - away } else { 1002 + away };
            let size = if self.rng.below(3) == 0 { 0 } else { 1 + self.rng.below(50) as i64 };
            self.book.set(side, price, size);
            rows.push((side, price, size));
        }
        self.book.cut(self.depth);
        let previous = self.last;
        // Numbers that other instruments took lie between ours under the rule that names the one before.
        let first = previous + 1 + if self.rule == Continuity::Previous { self.rng.below(4) } else { 0 };
        self.last = first + self.rng.below(3);
        self.number += 1;
        self.truth.insert(self.number, self.book.clone());
        self.snapshots.push(self.snapshot());
        Said { chain: self.chain(first, previous), rows, checksum: self.proof(), number: self.number }
    }

    fn chain(&self, first: u64, previous: u64) -> Chain {
        match self.rule {
            Continuity::None => Chain::NONE,
            Continuity::Range | Continuity::Growing => Chain { first, last: self.last, previous: UNDEF_U64 },
            Continuity::Previous => Chain { first, last: self.last, previous },
        }
    }

    fn proof(&self) -> Option<u32> {
        self.checksums.then(|| self.book.checksum())
    }

    pub fn snapshot(&self) -> Said {
        let asks = self.book.asks.iter().map(|(&price, &size)| (Side::Ask, price, size));
        let bids = self.book.bids.iter().map(|(&price, &size)| (Side::Bid, price, size));
        let last = if self.rule == Continuity::None { UNDEF_U64 } else { self.last };
        let chain = Chain { last, ..Chain::NONE };
        Said { chain, rows: asks.chain(bids).collect(), checksum: self.proof(), number: self.number }
    }
}

/// Applies an instrument's LEVEL records to a plain book; after each whole message the book must be the market's own of that
/// message. Gives how many messages were compared.
pub fn hold_against(levels: &[Level], instrument_id: u32, truth: &BTreeMap<u64, Plain>) -> usize {
    let mut book = Plain::default();
    let mut compared = 0;
    for level in levels.iter().filter(|level| level.instrument_id == instrument_id) {
        let side = Side::from_number(level.side).unwrap();
        match Action::from_number(level.action).unwrap() {
            Action::Clear => book = Plain::default(),
            Action::None => {}
            Action::Cancel => book.set(side, level.price, 0),
            _ => book.set(side, level.price, level.size),
        }
        assert_eq!(level.state, BookState::Live as u8);
        if level.flags & F_LAST != 0 {
            assert_eq!(Some(&book), truth.get(&level.ts_event), "after message {}", level.ts_event);
            compared += 1;
        }
    }
    compared
}
