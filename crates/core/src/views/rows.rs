//! Wide rows from a lane's LEVEL records: one row a venue message that was applied.

use super::replica::{Fed, Replica};
use super::row::{RowHead, RowLevel};
use crate::book::Level as BookLevel;
use crate::decimal::Decimal;
use crate::record::{Level, Side, Status, Subject, RECORD_BYTES, UNDEF_I64};
use std::collections::BTreeMap;
use std::fmt;

/// Why a row cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewError {
    /// The numbers of one row have no common scale at which all mantissas fit in 63 bits.
    Scale { instrument_id: u32, index: u64 },
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ViewError::Scale { instrument_id, index } = self;
        write!(
            f,
            "the levels of instrument {instrument_id} at record {index} have no common scale that fits in 63 bits; read \
             the schema `levels`, which keeps each number's own scale"
        )
    }
}

impl std::error::Error for ViewError {}

/// Best bid, best ask and the state.
type Touch = (Option<BookLevel>, Option<BookLevel>, u8);

impl Replica {
    fn touch(&self) -> Touch {
        (self.book().best(Side::Bid), self.book().best(Side::Ask), self.state())
    }
}

#[derive(Debug, Default)]
struct Viewed {
    replica: Replica,
    touch: Option<Touch>,
}

/// The books of one lane's reader and the rows that they give.
#[derive(Debug)]
pub struct Views {
    depth: usize,
    /// `bbo`: a row only where the best levels or the state changed.
    touch_only: bool,
    books: BTreeMap<u32, Viewed>,
}

impl Views {
    pub fn new(depth: usize, touch_only: bool) -> Self {
        Self { depth, touch_only, books: BTreeMap::new() }
    }

    /// Takes the record at `index` of the lane and appends the row that it completes, if any. Gives whether it did.
    pub fn feed(&mut self, index: u64, line: &Level, out: &mut Vec<u8>) -> Result<bool, ViewError> {
        let viewed = self.books.entry(line.instrument_id).or_default();
        if viewed.replica.feed(index, line) == Fed::Pending {
            return Ok(false);
        }
        if self.touch_only {
            let touch = Some(viewed.replica.touch());
            if viewed.touch == touch {
                return Ok(false);
            }
            viewed.touch = touch;
        }
        write_row(&viewed.replica, self.depth, out)?;
        Ok(true)
    }

    /// Takes a record without giving a row: what lies before the reader's start.
    pub fn prime(&mut self, index: u64, line: &Level) {
        let viewed = self.books.entry(line.instrument_id).or_default();
        if viewed.replica.feed(index, line) == Fed::Applied && self.touch_only {
            viewed.touch = Some(viewed.replica.touch());
        }
    }

    /// Takes the states of books that STATUS records tell.
    pub fn statuses(&mut self, lines: &[[u8; RECORD_BYTES]]) {
        for status in lines.iter().map(bytemuck::cast_ref::<_, Status>) {
            if let Some(viewed) = self.books.get_mut(&status.instrument_id) {
                if status.subject == Subject::Book as u8 {
                    viewed.replica.set_state(status.current);
                }
            }
        }
    }

    /// Drops unfinished messages: the log was cut here.
    pub fn interrupt(&mut self) {
        self.books.values_mut().for_each(|viewed| viewed.replica.interrupt());
    }

    /// Forgets every book: records were lost, so each waits for its next snapshot.
    pub fn forget(&mut self) {
        self.books.clear();
    }

    /// The books by instrument id.
    pub fn replicas(&self) -> impl Iterator<Item = (u32, &Replica)> {
        self.books.iter().map(|(id, viewed)| (*id, &viewed.replica))
    }

    /// The book of an instrument, made where there is none.
    pub fn replica_mut(&mut self, instrument_id: u32) -> &mut Replica {
        &mut self.books.entry(instrument_id).or_default().replica
    }
}

/// The smallest scale at which all of `numbers` fit: the largest of the wire where that fits, else without trailing zeros.
fn common_scale(numbers: impl Iterator<Item = Decimal> + Clone) -> Option<u8> {
    let wire = numbers.clone().map(|number| number.scale).max().unwrap_or(0);
    // Most venues print every price of an instrument with as many decimals.
    if numbers.clone().all(|number| number.scale == wire || number.rescale(wire).is_some()) {
        return Some(wire);
    }
    let least = numbers.clone().map(|number| number.key().1).max().unwrap_or(0);
    numbers.clone().all(|number| number.rescale(least).is_some()).then_some(least)
}

fn write_row(replica: &Replica, depth: usize, out: &mut Vec<u8>) -> Result<(), ViewError> {
    let (book, last) = (replica.book(), replica.last());
    let bids = || book.levels(Side::Bid).take(depth);
    let asks = || book.levels(Side::Ask).take(depth);
    let given = |mantissa: i64, scale: u8| (mantissa != UNDEF_I64).then(|| Decimal::new(mantissa, scale));
    let (price, size) = (given(last.price, last.price_scale), given(last.size, last.size_scale));
    let failed = ViewError::Scale { instrument_id: last.instrument_id, index: replica.index() };
    let levels = bids().chain(asks());
    let price_scale = common_scale(levels.clone().map(|level| level.price).chain(price)).ok_or(failed)?;
    let size_scale = common_scale(levels.map(|level| level.size).chain(size)).ok_or(failed)?;
    let at = |number: Option<Decimal>, scale: u8| match number {
        Some(number) if number.scale == scale => Ok(number.mantissa),
        Some(number) => number.rescale(scale).ok_or(failed),
        None => Ok(UNDEF_I64),
    };
    let head = RowHead {
        ts_event: last.ts_event,
        ts_recv: last.ts_recv,
        sequence: last.sequence,
        price: at(price, price_scale)?,
        size: at(size, size_scale)?,
        index: replica.index(),
        instrument_id: last.instrument_id,
        venue: last.venue,
        action: last.action,
        side: last.side,
        flags: last.flags,
        price_scale,
        size_scale,
        state: replica.state(),
        changes: replica.changes(),
    };
    out.extend_from_slice(bytemuck::bytes_of(&head));
    let (mut bids, mut asks) = (bids(), asks());
    for _ in 0..depth {
        let mut rank = RowLevel { bid_px: UNDEF_I64, ask_px: UNDEF_I64, ..bytemuck::Zeroable::zeroed() };
        if let Some(level) = bids.next() {
            (rank.bid_px, rank.bid_sz) = (at(Some(level.price), price_scale)?, at(Some(level.size), size_scale)?);
            (rank.bid_ct, rank.bid_px_scale, rank.bid_sz_scale) = (level.count, level.price.scale, level.size.scale);
        }
        if let Some(level) = asks.next() {
            (rank.ask_px, rank.ask_sz) = (at(Some(level.price), price_scale)?, at(Some(level.size), size_scale)?);
            (rank.ask_ct, rank.ask_px_scale, rank.ask_sz_scale) = (level.count, level.price.scale, level.size.scale);
        }
        out.extend_from_slice(bytemuck::bytes_of(&rank));
    }
    Ok(())
}
