//! What an update of a full-depth book costs, by the structure of its sides and against a BTreeMap.
//!
//! `cargo run --release --example book_bench [ROUNDS]` prints a JSON object for 5000 and for 50,000 levels a side: ns an
//! update, medians of rounds in which the ways alternate. The flow is made up and the same for every way: levels lie on
//! every second tick, an update falls within 8 ticks of the touch and passes each doubling of that reach with a chance of
//! two in five; half of them set a level of the beginning, a quarter any tick, and a quarter delete one if it is there.
//!
//! Two more lines tell what a level costs that comes nearer than all and drives out the worst, in books that are cut to 100 and
//! 1000 levels after each message of 19 such.

#[allow(dead_code, reason = "the book's own file, measured alone")]
#[path = "../src/book/ladder.rs"]
mod ladder;
#[allow(dead_code, reason = "the book's own file, measured alone")]
#[path = "../src/book/levels.rs"]
mod levels;
#[allow(dead_code, reason = "the book's own file, measured with other chunk sizes than the one that it chose")]
#[path = "../src/book/sorted.rs"]
mod sorted;

use levels::Levels;
use sorted::{Priced, Sorted};
use std::collections::BTreeMap;
use tickplant_core::book::{Book, Checksum, Spec};
use tickplant_core::clock::{Clock, Rng, SystemClock};
use tickplant_core::decimal::Decimal;
use tickplant_core::event::Row;
use tickplant_core::record::Side;
use tickplant_core::{decimal, record};

/// The name of a figure, and what takes all updates once.
type Way<'a> = (&'a str, Box<dyn FnMut() -> Taken + 'a>);

const UPDATES: usize = 200_000;
/// Rows of a message: what Binance sends on average.
const ROWS: usize = 19;
/// The best ask; the best bid is one below.
const TOUCH: i64 = 1_000_000;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(7);
    for levels in [5_000, 50_000] {
        let (start, updates) = flow(levels);
        let mut ways: [Way<'_>; 8] = [
            ("book", Box::new(|| through_a_book(&start, &updates))),
            ("levels", Box::new(|| through_levels(&start, &updates))),
            ("chunks_32", Box::new(|| through_chunks::<32>(&start, &updates))),
            ("chunks_64", Box::new(|| through_chunks::<64>(&start, &updates))),
            ("chunks_128", Box::new(|| through_chunks::<128>(&start, &updates))),
            ("chunks_256", Box::new(|| through_chunks::<256>(&start, &updates))),
            ("bare_ladder", Box::new(|| through_a_ladder(&start, &updates))),
            ("btree", Box::new(|| through_a_map(&start, &updates))),
        ];
        let mut figures = Vec::new();
        let mut times: [Vec<f64>; 8] = Default::default();
        let mut expected = None;
        for _ in 0..rounds {
            for ((name, way), times) in ways.iter_mut().zip(&mut times) {
                let taken = way();
                times.push(taken.nanos as f64 / updates.len() as f64);
                let left = *expected.get_or_insert(taken.levels);
                assert_eq!(taken.levels, left, "{name} keeps other levels");
            }
        }
        for ((name, _), times) in ways.iter().zip(&mut times) {
            times.sort_by(f64::total_cmp);
            figures.push(format!("\"{name}_ns\":{:.1}", times[times.len() / 2]));
        }
        println!(
            "{{\"levels_a_side\":{levels},\"updates\":{},\"rounds\":{rounds},{}}}",
            updates.len(),
            figures.join(",")
        );
    }
    for depth in [100, 1000] {
        let mut times: Vec<f64> = (0..rounds).map(|_| through_cuts(depth)).collect();
        times.sort_by(f64::total_cmp);
        println!("{{\"cut_to\":{depth},\"rounds\":{rounds},\"cut_ns\":{:.1}}}", times[times.len() / 2]);
    }
}

/// ns for each level that comes and drives one out.
fn through_cuts(depth: i64) -> f64 {
    let mut book = Book::new(Spec { depth: depth as u32, truncate: true, checksum: Checksum::None });
    let start: Vec<Row> = (0..depth).map(|rank| at(Side::Bid, rank, 5)).collect();
    let coming: Vec<Row> = (1..=UPDATES as i64).map(|tick| at(Side::Bid, -tick, 5)).collect();
    let (mut changes, mut dropped) = (Vec::new(), 0);
    book.load(&start, &mut changes).expect("our own rows");
    let nanos = timed(|| {
        for message in coming.chunks(ROWS) {
            changes.clear();
            book.apply(message, &mut changes).expect("our own rows");
            dropped += changes.iter().filter(|change| change.window).count();
        }
    });
    assert_eq!((dropped, book.len(Side::Bid)), (coming.len(), depth as usize));
    nanos as f64 / coming.len() as f64
}

/// How long the updates took, and a sum over the levels that stand afterwards.
struct Taken {
    nanos: u64,
    levels: i64,
}

/// The levels at the beginning, and the rows that change them.
fn flow(levels: usize) -> (Vec<Row>, Vec<Row>) {
    let mut rng = Rng::new(5);
    let start = (0..levels as i64).flat_map(|rank| [at(Side::Bid, 2 * rank, 5), at(Side::Ask, 2 * rank, 5)]).collect();
    let updates = (0..UPDATES)
        .map(|_| {
            let mut reach = 8;
            while reach < 2 * levels as u64 && rng.below(5) < 2 {
                reach *= 2;
            }
            let distance = rng.below(reach.min(2 * levels as u64)) as i64;
            let side = if rng.below(2) == 0 { Side::Bid } else { Side::Ask };
            let size = 1 + rng.below(1_000_000) as i64;
            match rng.below(4) {
                // Even ticks are there unless they were deleted, odd ones are not unless they were added.
                0..2 => at(side, distance & !1, size),
                2 => at(side, distance, size),
                _ => at(side, distance, 0),
            }
        })
        .collect();
    (start, updates)
}

fn at(side: Side, distance: i64, size: i64) -> Row {
    let price = if side == Side::Bid { TOUCH - 1 - distance } else { TOUCH + distance };
    Row { side, price: Decimal::new(price, 2), size: Decimal::new(size, 3), count: 0 }
}

fn timed(work: impl FnOnce()) -> u64 {
    let mut clock = SystemClock::new();
    let start = clock.now();
    work();
    clock.now() - start
}

/// The book that users have, in messages of [`ROWS`] rows, without a checksum.
fn through_a_book(start: &[Row], updates: &[Row]) -> Taken {
    let mut book = Book::new(Spec { depth: 0, truncate: false, checksum: Checksum::None });
    let mut changes = Vec::new();
    book.load(start, &mut changes).expect("our own rows");
    let nanos = timed(|| {
        for message in updates.chunks(ROWS) {
            changes.clear();
            book.apply(message, &mut changes).expect("our own rows");
        }
    });
    let sizes = [Side::Bid, Side::Ask].map(|side| book.levels(side).map(|level| level.size.mantissa).sum::<i64>());
    Taken { nanos, levels: sizes[0] + sizes[1] }
}

/// As large as a level of a book.
#[derive(Clone, Copy)]
struct Kept {
    price: Decimal,
    size: Decimal,
}

impl Priced for Kept {
    fn price(&self) -> Decimal {
        self.price
    }
}

fn through_chunks<const LEVELS: usize>(start: &[Row], updates: &[Row]) -> Taken {
    let mut sides = [Side::Bid, Side::Ask].map(|side| {
        let mut levels = Sorted::<Kept, LEVELS>::new(side);
        let own = start.iter().filter(|row| row.side == side);
        levels.load(own.map(|row| Kept { price: row.price, size: row.size }), |_| true, usize::MAX);
        levels
    });
    let nanos = timed(|| {
        for row in updates {
            let levels = &mut sides[usize::from(row.side == Side::Ask)];
            match (levels.find(&row.price), row.size.is_zero()) {
                (Ok(place), false) => levels.get_mut(place).size = row.size,
                (Err(place), false) => levels.insert(place, Kept { price: row.price, size: row.size }),
                (Ok(place), true) => drop(levels.remove(place)),
                (Err(_), true) => {}
            }
        }
    });
    let levels = sides.iter().flat_map(Sorted::best_first).map(|level| level.size.mantissa).sum();
    Taken { nanos, levels }
}

/// What a side of a book is.
fn through_levels(start: &[Row], updates: &[Row]) -> Taken {
    let mut sides = [Side::Bid, Side::Ask].map(|side| {
        let mut levels = Levels::<Kept>::new(side);
        let own = start.iter().filter(|row| row.side == side);
        levels.load(own.map(|row| Kept { price: row.price, size: row.size }), |_| true, usize::MAX);
        levels
    });
    let nanos = timed(|| {
        for row in updates {
            let levels = &mut sides[usize::from(row.side == Side::Ask)];
            match (levels.find(&row.price), row.size.is_zero()) {
                (Ok(place), false) => {
                    if let Some(level) = levels.get_mut(place) {
                        level.size = row.size;
                    }
                }
                (Err(place), false) => {
                    let place = levels.make_room(place, &row.price);
                    levels.insert(place, Kept { price: row.price, size: row.size });
                }
                (Ok(place), true) => levels.remove(place),
                (Err(_), true) => {}
            }
        }
    });
    let levels = sides.iter().flat_map(Levels::best_first).map(|level| level.size.mantissa).sum();
    Taken { nanos, levels }
}

/// One side as a window of ticks with a bitmap of those that stand and a bitmap of its words, away from the touch. It knows
/// one scale and the ticks of its window only; what a book would need besides (a fallback for a price outside, moving with the
/// market, the wire's scales, ranks for checksums) is left out, so its figure is a lower bound.
struct Ladder {
    levels: Vec<Kept>,
    standing: Vec<u64>,
    words: Vec<u64>,
}

impl Ladder {
    fn new(ticks: usize) -> Self {
        let empty = Kept { price: Decimal::ZERO, size: Decimal::ZERO };
        Self { levels: vec![empty; ticks], standing: vec![0; ticks / 64 + 1], words: vec![0; ticks / 4096 + 1] }
    }

    fn set(&mut self, tick: usize, price: Decimal, size: Decimal) {
        let (word, bit) = (tick / 64, 1 << (tick % 64));
        if size.is_zero() {
            self.standing[word] &= !bit;
            if self.standing[word] == 0 {
                self.words[word / 64] &= !(1 << (word % 64));
            }
        } else {
            self.levels[tick] = Kept { price, size };
            self.standing[word] |= bit;
            self.words[word / 64] |= 1 << (word % 64);
        }
    }

    /// The tick that is nearest to the touch.
    fn best(&self) -> Option<usize> {
        let (at, words) = self.words.iter().enumerate().find(|(_, words)| **words != 0)?;
        let word = at * 64 + words.trailing_zeros() as usize;
        Some(word * 64 + self.standing[word].trailing_zeros() as usize)
    }
}

fn through_a_ladder(start: &[Row], updates: &[Row]) -> Taken {
    let mut sides = [Side::Bid, Side::Ask].map(|_| Ladder::new(start.len() + 64));
    let tick = |row: &Row| match row.side {
        Side::Bid => (TOUCH - 1 - row.price.mantissa) as usize,
        _ => (row.price.mantissa - TOUCH) as usize,
    };
    for row in start {
        sides[usize::from(row.side == Side::Ask)].set(tick(row), row.price, row.size);
    }
    let mut seen = 0;
    let nanos = timed(|| {
        for row in updates {
            let ladder = &mut sides[usize::from(row.side == Side::Ask)];
            ladder.set(tick(row), row.price, row.size);
            seen += ladder.best().unwrap_or(0);
        }
    });
    assert!(seen < usize::MAX / 2, "the touch is read each time");
    let stands = |ladder: &Ladder, tick: usize| ladder.standing[tick / 64] >> (tick % 64) & 1 == 1;
    let sum = |ladder: &Ladder| -> i64 {
        (0..ladder.levels.len()).filter(|&at| stands(ladder, at)).map(|at| ladder.levels[at].size.mantissa).sum()
    };
    Taken { nanos, levels: sides.iter().map(sum).sum() }
}

fn through_a_map(start: &[Row], updates: &[Row]) -> Taken {
    let mut sides: [BTreeMap<i64, i64>; 2] = Default::default();
    for row in start {
        sides[usize::from(row.side == Side::Ask)].insert(row.price.mantissa, row.size.mantissa);
    }
    let nanos = timed(|| {
        for row in updates {
            let levels = &mut sides[usize::from(row.side == Side::Ask)];
            if row.size.is_zero() {
                levels.remove(&row.price.mantissa);
            } else {
                levels.insert(row.price.mantissa, row.size.mantissa);
            }
        }
    });
    Taken { nanos, levels: sides.iter().flat_map(BTreeMap::values).sum() }
}
