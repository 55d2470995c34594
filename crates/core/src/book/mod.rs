//! Order books by price level: pure state, told what the venue said, telling what changed.
//!
//! A book keeps each side as a vector sorted by value with the best level at the end, so that the changes near the touch,
//! which are nearly all, move little memory. Prices are compared exactly whatever their scales (0.10 and 0.1 are one
//! level) and every number keeps the scale that it had on the wire.

mod checksum;
mod side;

use crate::decimal::Decimal;
use crate::event::{Change, Row};
use crate::record::{Action, Side};
use checksum::Checksum;
use side::Levels;
use std::fmt;

/// What a book is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Levels a side that are subscribed; 0: full depth.
    pub depth: u32,
    /// After every message each side is cut to `depth`: the venue sends no delete for what falls out.
    pub truncate: bool,
    /// [`Book::checksum`] will be asked for often: keep the digits of the top ranks between messages.
    pub kraken_checksum: bool,
}

/// One price level, its numbers as they stood on the wire when they were last sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub price: Decimal,
    pub size: Decimal,
    /// Orders at the level where the venue says so, else 0.
    pub count: u32,
}

/// Why a message was refused. The book is as it was before the message; the caller resyncs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookError {
    /// The row of this index has a negative size.
    NegativeSize { row: usize },
    /// The row of this index is neither a bid nor an ask.
    NoSide { row: usize },
}

impl fmt::Display for BookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BookError::NegativeSize { row } => write!(f, "row {row} has a negative size; resync the book"),
            BookError::NoSide { row } => write!(f, "row {row} is neither a bid nor an ask; resync the book"),
        }
    }
}

impl std::error::Error for BookError {}

/// The book of one instrument.
#[derive(Clone, Debug)]
pub struct Book {
    spec: Spec,
    bids: Levels,
    asks: Levels,
    checksum: Option<Box<Checksum>>,
    /// Printed decimals of prices and sizes; 255: not known.
    scales: (u8, u8),
    unknown_deletes: u64,
}

impl Book {
    pub fn new(spec: Spec) -> Self {
        Self {
            spec,
            bids: Levels::new(Side::Bid),
            asks: Levels::new(Side::Ask),
            checksum: spec.kraken_checksum.then(Box::default),
            scales: (UNKNOWN_SCALE, UNKNOWN_SCALE),
            unknown_deletes: 0,
        }
    }

    /// Decimals that the venue prints for prices and sizes, 255 where they are not known. The checksum needs them where a
    /// venue sends JSON numbers that have lost their trailing zeros.
    pub fn set_scales(&mut self, price: u8, size: u8) {
        self.scales = (price, size);
        if let Some(checksum) = &mut self.checksum {
            checksum.forget();
        }
    }

    /// Replaces the book by a snapshot, whose rows may come in any order; of rows with one price the last wins, and a zero
    /// size is no level. Appends a Clear and then an Add for each level, bids then asks, best first.
    pub fn load(&mut self, rows: &[Row], changes: &mut Vec<Change>) -> Result<(), BookError> {
        check(rows)?;
        self.clear();
        changes.push(Change {
            action: Action::Clear,
            side: Side::None,
            price: Decimal::ZERO,
            size: Decimal::ZERO,
            count: 0,
            window: false,
        });
        let depth = self.depth_kept();
        for side in [&mut self.bids, &mut self.asks] {
            side.load(rows, depth);
            let name = side.side();
            changes.extend(side.best_first().map(|level| change(Action::Add, name, level)));
        }
        Ok(())
    }

    /// Applies one venue message: its rows in order, so that of rows with one price the last wins, then the cut to the
    /// subscribed depth. Appends one change for each row (a delete of a level that is not there changes nothing and is
    /// counted) and one with `window` for each level that the cut drops.
    pub fn apply(&mut self, rows: &[Row], changes: &mut Vec<Change>) -> Result<(), BookError> {
        check(rows)?;
        for row in rows {
            let level = Level { price: row.price, size: row.size, count: row.count };
            let levels = if row.side == Side::Bid { &mut self.bids } else { &mut self.asks };
            match (levels.find(&row.price), row.size.is_zero()) {
                (Ok(rank), false) => {
                    levels.set(rank, level);
                    changes.push(change(Action::Modify, row.side, &level));
                    if let Some(checksum) = &mut self.checksum {
                        checksum.changed(row.side, rank);
                    }
                }
                (Err(rank), false) => {
                    levels.insert(rank, level);
                    changes.push(change(Action::Add, row.side, &level));
                    if let Some(checksum) = &mut self.checksum {
                        checksum.inserted(row.side, rank);
                    }
                }
                (Ok(rank), true) => {
                    levels.remove(rank);
                    changes.push(change(Action::Cancel, row.side, &level));
                    if let Some(checksum) = &mut self.checksum {
                        checksum.removed(row.side, rank);
                    }
                }
                (Err(_), true) => self.unknown_deletes += 1,
            }
        }
        self.cut(changes);
        Ok(())
    }

    /// Kraken's CRC32 over the top ten asks, then the top ten bids. Costs next to nothing while no top rank changes.
    pub fn checksum(&mut self) -> u32 {
        let mut fresh;
        let checksum = match &mut self.checksum {
            Some(kept) => kept,
            None => {
                fresh = Box::default();
                &mut fresh
            }
        };
        checksum.value(&self.asks, &self.bids, self.scales)
    }

    pub fn best(&self, side: Side) -> Option<Level> {
        self.side(side)?.best_first().next().copied()
    }

    /// Levels of a side, best first; none for `Side::None`.
    pub fn levels(&self, side: Side) -> impl Iterator<Item = Level> + Clone + '_ {
        self.side(side).into_iter().flat_map(Levels::best_first).copied()
    }

    pub fn len(&self, side: Side) -> usize {
        self.side(side).map_or(0, Levels::len)
    }

    pub fn is_empty(&self) -> bool {
        self.bids.len() + self.asks.len() == 0
    }

    /// The best bid is not below the best ask (a locked book counts: a matching engine would have traded).
    pub fn is_crossed(&self) -> bool {
        match (self.best(Side::Bid), self.best(Side::Ask)) {
            (Some(bid), Some(ask)) => bid.price.cmp_value(&ask.price).is_ge(),
            _ => false,
        }
    }

    /// Drops every level; the scales and the count of unknown deletes stay.
    pub fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
        if let Some(checksum) = &mut self.checksum {
            checksum.forget();
        }
    }

    /// Deletes so far of levels that were not there: normal on some venues, a sign of loss on others.
    pub const fn unknown_deletes(&self) -> u64 {
        self.unknown_deletes
    }

    fn side(&self, side: Side) -> Option<&Levels> {
        match side {
            Side::Bid => Some(&self.bids),
            Side::Ask => Some(&self.asks),
            Side::None => None,
        }
    }

    fn depth_kept(&self) -> usize {
        if self.spec.truncate && self.spec.depth > 0 {
            self.spec.depth as usize
        } else {
            usize::MAX
        }
    }

    /// Drops the worst levels beyond the subscribed depth, the outermost first.
    fn cut(&mut self, changes: &mut Vec<Change>) {
        let depth = self.depth_kept();
        for levels in [&mut self.bids, &mut self.asks] {
            let (side, length) = (levels.side(), levels.len());
            if length <= depth {
                continue;
            }
            for dropped in levels.cut(depth) {
                let size = Decimal::new(0, dropped.size.scale);
                let cancel = change(Action::Cancel, side, &Level { size, count: 0, ..dropped });
                changes.push(Change { window: true, ..cancel });
            }
            if let Some(checksum) = &mut self.checksum {
                checksum.cut(side, depth);
            }
        }
    }
}

const UNKNOWN_SCALE: u8 = 255;

fn change(action: Action, side: Side, level: &Level) -> Change {
    Change { action, side, price: level.price, size: level.size, count: level.count, window: false }
}

/// Refuses a message before any of it is applied.
fn check(rows: &[Row]) -> Result<(), BookError> {
    for (row, content) in rows.iter().enumerate() {
        if content.size.is_negative() {
            return Err(BookError::NegativeSize { row });
        }
        if content.side == Side::None {
            return Err(BookError::NoSide { row });
        }
    }
    Ok(())
}
