//! Order books by price level: pure state, told what the venue said, telling what changed.
//!
//! A book of few levels keeps each side sorted by value with the best level at the end, so that the changes near the touch,
//! which are nearly all, move little memory; a deep one gives the ticks next to the touch a place each. Prices are compared exactly whatever their scales (0.10 and 0.1 are one level) and
//! every number keeps the scale that it had on the wire.
//!
//! What bad rows do: a negative size or a row without a side refuses the whole message; of rows with one price the last
//! wins, in a snapshot as in an update; a snapshot may be unsorted; a delete of an unknown level is counted. What is no
//! number that 63 bits hold exactly never gets here: the decoder refuses it. A crossed book is told, not refused: it is
//! legal on some venues and the session knows which.

mod checksum;
mod crc;
pub mod hash;
mod ladder;
mod levels;
pub mod orders;
mod sorted;
mod text;

pub use checksum::Checksum;

use crate::decimal::Decimal;
use crate::event::{Change, Row};
use crate::record::{Action, Side};
use checksum::Kept;
use levels::Levels;
use sorted::Priced;
use std::fmt;
use text::UNKNOWN_SCALE;

/// Messages after which a side without a ladder is looked at again.
const LADDERS_EVERY: u64 = 4096;

/// What a book is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Levels a side that are subscribed; 0: full depth.
    pub depth: u32,
    /// After every message each side is cut to `depth`: the venue sends no delete for what falls out.
    pub truncate: bool,
    /// The checksum that the venue sends of the book.
    pub checksum: Checksum,
}

/// One price level, its numbers as they stood on the wire when they were last sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub price: Decimal,
    pub size: Decimal,
    /// Orders at the level where the venue says so, else 0.
    pub count: u32,
    /// The message that changed the level last, as [`Book::messages`] counts: who was told the book up to a message
    /// needs the levels of the later ones only.
    pub changed: u64,
}

/// What the venue's checksum says of a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The venue sent none that counts.
    Absent,
    Passed,
    Failed,
}

/// A level as it is kept: half a cache line.
#[derive(Clone, Copy, Debug)]
struct Slot {
    price: i64,
    size: i64,
    changed: u64,
    count: u32,
    price_scale: u8,
    size_scale: u8,
    price_altered: bool,
    size_altered: bool,
}

impl Slot {
    #[inline]
    fn new(row: &Row, changed: u64) -> Self {
        Self {
            price: row.price.mantissa,
            size: row.size.mantissa,
            changed,
            count: row.count,
            price_scale: row.price.scale,
            size_scale: row.size.scale,
            price_altered: row.price.altered,
            size_altered: row.size.altered,
        }
    }

    fn size(&self) -> Decimal {
        Decimal { mantissa: self.size, scale: self.size_scale, altered: self.size_altered }
    }

    fn level(&self) -> Level {
        Level { price: self.price(), size: self.size(), count: self.count, changed: self.changed }
    }
}

impl Priced for Slot {
    #[inline]
    fn price(&self) -> Decimal {
        Decimal { mantissa: self.price, scale: self.price_scale, altered: self.price_altered }
    }
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
    bids: Levels<Slot>,
    asks: Levels<Slot>,
    checksum: Option<Box<Kept>>,
    /// Printed decimals of prices and sizes; 255: not known.
    scales: (u8, u8),
    messages: u64,
    unknown_deletes: u64,
}

impl Book {
    pub fn new(spec: Spec) -> Self {
        Self {
            spec,
            bids: Levels::new(Side::Bid),
            asks: Levels::new(Side::Ask),
            checksum: (spec.checksum != Checksum::None).then(|| Box::new(Kept::new(spec.checksum))),
            scales: (UNKNOWN_SCALE, UNKNOWN_SCALE),
            messages: 0,
            unknown_deletes: 0,
        }
    }

    /// Decimals that the venue prints for prices and sizes, 255 where they are not known. The checksum needs them where a
    /// venue sends JSON numbers that have lost their trailing zeros.
    pub fn set_scales(&mut self, price: u8, size: u8) {
        if self.scales == (price, size) {
            return;
        }
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
        self.messages += 1;
        changes.push(Change {
            action: Action::Clear,
            side: Side::None,
            price: Decimal::ZERO,
            size: Decimal::ZERO,
            count: 0,
            window: false,
        });
        let (depth, message) = (self.depth_kept(), self.messages);
        for levels in [&mut self.bids, &mut self.asks] {
            let side = levels.side();
            let own = rows.iter().filter(|row| row.side == side).map(|row| Slot::new(row, message));
            levels.load(own, |level| level.size != 0, depth);
            changes.extend(levels.best_first().map(|level| change(Action::Add, side, level)));
        }
        Ok(())
    }

    /// Applies one venue message: its rows in order, so that of rows with one price the last wins, then the cut to the
    /// subscribed depth. Appends one change for each row (a delete of a level that is not there changes nothing and is
    /// counted) and one with `window` for each level that the cut drops.
    pub fn apply(&mut self, rows: &[Row], changes: &mut Vec<Change>) -> Result<(), BookError> {
        check(rows)?;
        self.messages += 1;
        for row in rows {
            let level = Slot::new(row, self.messages);
            let levels = if row.side == Side::Bid { &mut self.bids } else { &mut self.asks };
            let checksum = self.checksum.as_deref_mut();
            match (levels.find(&row.price), row.size.is_zero()) {
                (Ok(place), false) => {
                    if let Some(checksum) = checksum {
                        checksum.changed(row.side, levels.rank(place, checksum.ranks()));
                    }
                    if let Some(standing) = levels.get_mut(place) {
                        *standing = level;
                    }
                    changes.push(change(Action::Modify, row.side, &level));
                }
                (Err(place), false) => {
                    let place = levels.make_room(place, &row.price);
                    if let Some(checksum) = checksum {
                        checksum.inserted(row.side, levels.rank_before(place, checksum.ranks()));
                    }
                    levels.insert(place, level);
                    changes.push(change(Action::Add, row.side, &level));
                }
                (Ok(place), true) => {
                    if let Some(checksum) = checksum {
                        checksum.removed(row.side, levels.rank(place, checksum.ranks()));
                    }
                    levels.remove(place);
                    changes.push(change(Action::Cancel, row.side, &level));
                }
                (Err(_), true) => self.unknown_deletes += 1,
            }
        }
        self.cut(changes);
        if self.messages.is_multiple_of(LADDERS_EVERY) {
            [&mut self.bids, &mut self.asks].into_iter().for_each(Levels::look_again);
        }
        Ok(())
    }

    /// The checksum of the book as the venue makes it (signed ones by their 32 bits). Costs next to nothing while no top
    /// rank changes. 0 where the book was made without one.
    pub fn checksum(&mut self) -> u32 {
        match &mut self.checksum {
            Some(kept) => kept.value(&self.asks, &self.bids, self.scales),
            None => 0,
        }
    }

    /// Compares the book with the checksum that the venue sent. One of 0 is none on venues that retired theirs.
    pub fn prove(&mut self, theirs: Option<u32>) -> Proof {
        let rule = self.checksum.as_ref().map_or(Checksum::None, |kept| kept.rule());
        match theirs {
            None => Proof::Absent,
            Some(_) if rule == Checksum::None => Proof::Absent,
            Some(0) if rule == Checksum::Okx => Proof::Absent,
            Some(theirs) if theirs == self.checksum() => Proof::Passed,
            Some(_) => Proof::Failed,
        }
    }

    pub fn best(&self, side: Side) -> Option<Level> {
        self.side(side)?.best().map(Slot::level)
    }

    /// Levels of a side, best first; none for `Side::None`.
    pub fn levels(&self, side: Side) -> impl Iterator<Item = Level> + Clone + '_ {
        self.side(side).into_iter().flat_map(Levels::best_first).map(Slot::level)
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

    /// Messages that the book has taken so far, snapshots too.
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// Drops every level; the scales and the counts of messages and unknown deletes stay.
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

    fn side(&self, side: Side) -> Option<&Levels<Slot>> {
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
            if levels.len() <= depth {
                continue;
            }
            let side = levels.side();
            levels.cut(depth, |dropped| {
                let cancel = change(Action::Cancel, side, &Slot { size: 0, count: 0, size_altered: false, ..dropped });
                changes.push(Change { window: true, ..cancel });
            });
            if let Some(checksum) = &mut self.checksum {
                checksum.cut(side, depth);
            }
        }
    }
}

fn change(action: Action, side: Side, level: &Slot) -> Change {
    Change { action, side, price: level.price(), size: level.size(), count: level.count, window: false }
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
