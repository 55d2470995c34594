//! One instrument's book as a reader of the log holds it.

use crate::book::{Book, Checksum, Spec};
use crate::clock::Nanos;
use crate::decimal::Decimal;
use crate::event::{Change, Row};
use crate::record::{Action, BookState, Level, Side, F_LAST, F_MAYBE_BAD_BOOK, F_SNAPSHOT, UNDEF_I64, UNDEF_U64};

/// What feeding one record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// The message goes on, or belongs to a book whose snapshot was not seen.
    Pending,
    /// The record was the last of its venue message, which is applied.
    Applied,
}

/// A book fed with the LEVEL records of its instrument, in the order of the lane. Messages are applied whole: what came
/// of a message before its last record shows nowhere.
#[derive(Clone, Debug)]
pub struct Replica {
    book: Book,
    rows: Vec<Row>,
    /// What the book says that the last applied message changed.
    told: Vec<Change>,
    clears: bool,
    joined: bool,
    state: u8,
    ts_event: Nanos,
    ts_event_max: Nanos,
    last: Level,
    index: u64,
    changes: u32,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            book: Book::new(Spec { depth: 0, truncate: false, checksum: Checksum::None }),
            rows: Vec::new(),
            told: Vec::new(),
            clears: false,
            joined: false,
            state: BookState::Syncing as u8,
            ts_event: UNDEF_U64,
            ts_event_max: 0,
            last: bytemuck::Zeroable::zeroed(),
            index: 0,
            changes: 0,
        }
    }
}

impl Replica {
    /// Takes the record at `index` of the lane.
    pub fn feed(&mut self, index: u64, line: &Level) -> Fed {
        match Action::from_number(line.action) {
            Some(Action::Clear) => {
                self.rows.clear();
                self.clears = true;
            }
            Some(Action::Add | Action::Modify | Action::Cancel) => self.rows.push(row(line)),
            _ => {}
        }
        if line.flags & F_LAST == 0 {
            return Fed::Pending;
        }
        let known = self.joined || self.clears;
        if known {
            self.apply(index, line);
        }
        self.interrupt();
        if known {
            Fed::Applied
        } else {
            Fed::Pending
        }
    }

    fn apply(&mut self, index: u64, line: &Level) {
        self.told.clear();
        let done = match self.clears {
            true => self.book.load(&self.rows, &mut self.told),
            false => self.book.apply(&self.rows, &mut self.told),
        };
        self.joined = true;
        self.state = line.state;
        self.last = *line;
        if done.is_err() {
            // The plant writes no such record: the log was written by hand. The book is as before and says so.
            self.state = BookState::Mismatch as u8;
            self.last.flags |= F_MAYBE_BAD_BOOK;
        }
        if self.clears {
            let snapshot = Level { action: Action::Clear as u8, side: Side::None as u8, ..self.last };
            let flags = self.last.flags | F_SNAPSHOT;
            self.last = Level { price: UNDEF_I64, size: UNDEF_I64, price_scale: 0, size_scale: 0, flags, ..snapshot };
        }
        if line.ts_event != UNDEF_U64 {
            self.ts_event = line.ts_event;
            self.ts_event_max = self.ts_event_max.max(line.ts_event);
        }
        self.index = index;
        self.changes = self.rows.len() as u32;
    }

    /// Drops what came of an unfinished message: the log was cut there.
    pub fn interrupt(&mut self) {
        self.rows.clear();
        self.clears = false;
    }

    /// Takes the state that a STATUS record tells.
    pub fn set_state(&mut self, state: u8) {
        self.state = state;
    }

    /// Sets what a checkpoint knows beside the levels.
    pub fn restore(&mut self, state: u8, index: u64, ts_event_max: Nanos) {
        (self.state, self.index, self.ts_event_max) = (state, index, ts_event_max);
    }

    /// A message has begun whose last record was not seen.
    pub fn is_unfinished(&self) -> bool {
        self.clears || !self.rows.is_empty()
    }

    /// Records were lost: the next snapshot is waited for. The running maximum of the event times stays.
    pub fn forget(&mut self) {
        *self = Self { ts_event: self.ts_event, ts_event_max: self.ts_event_max, ..Self::default() };
    }

    pub fn book(&self) -> &Book {
        &self.book
    }

    /// A snapshot was seen: the levels mean something.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// The number of the book's [`BookState`].
    pub fn state(&self) -> u8 {
        self.state
    }

    /// Last record of the last applied message. Of a snapshot: its Clear, without price and size.
    pub fn last(&self) -> &Level {
        &self.last
    }

    /// Lane index of the last record of the last applied message.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Levels that the last applied message changed.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// What the last applied message changed, as the book tells it.
    pub(super) fn told(&self) -> &[Change] {
        &self.told
    }

    /// The last event time that the venue gave; UNDEF before the first.
    pub fn ts_event(&self) -> Nanos {
        self.ts_event
    }

    /// Running maximum of the event times of the applied messages; 0 before the first.
    pub fn ts_event_max(&self) -> Nanos {
        self.ts_event_max
    }
}

fn row(line: &Level) -> Row {
    let side = Side::from_number(line.side).unwrap_or(Side::None);
    let price = Decimal::new(line.price, line.price_scale);
    let cancelled = line.action == Action::Cancel as u8;
    let size = Decimal::new(if cancelled { 0 } else { line.size }, line.size_scale);
    Row { side, price, size, count: line.aux }
}
