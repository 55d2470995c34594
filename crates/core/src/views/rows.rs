//! Wide rows from a lane's records: what a row is, when there is one, and how it is written.

use super::consolidated::{Best, Consolidated};
use super::measures;
use super::replica::{Fed, Replica};
use super::write::{write_book, write_row, Head};
use crate::book::Level as BookLevel;
use crate::clock::{Nanos, SECOND};
use crate::decimal::Decimal;
use crate::record::*;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

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

/// What a row is.
#[derive(Clone, Debug)]
pub enum View {
    /// `mbp-1`, `mbp-10`: one a venue message that was applied.
    Mbp { depth: usize },
    /// `bbo`: one where the best levels or the state changed.
    Bbo,
    /// `bbo-1s`, `bbo-1m`: the best levels and the last sale at the end of an interval of receive time, of each instrument
    /// in whose interval either changed. It comes with the first record behind the interval.
    Every { interval: Nanos },
    /// `tbbo`: one a trade, with the best levels as they stood before it.
    Tbbo,
    /// `touch`: as `bbo`, with spread, microprice and imbalance.
    Touch,
    /// `depth`: one where the best levels, the state or what stands within so many basis points changed.
    Depth { basis_points: u32 },
    /// `impact`: one where the best levels, the state or what an order of this size would meet changed.
    Impact { size: Decimal },
    /// `cmbp-1`: one where the best bid or offer of all books that are LIVE changed; `lane` is this reader's.
    Consolidated { lane: usize, books: Arc<Mutex<Consolidated>> },
}

impl View {
    /// The view of a schema; None: it is none, or lacks its parameter.
    pub fn named(schema: &str, basis_points: Option<u32>, size: Option<Decimal>) -> Option<Self> {
        Some(match schema {
            "mbp-1" => Self::Mbp { depth: 1 },
            "mbp-10" => Self::Mbp { depth: 10 },
            "bbo" => Self::Bbo,
            "bbo-1s" => Self::Every { interval: SECOND },
            "bbo-1m" => Self::Every { interval: 60 * SECOND },
            "tbbo" => Self::Tbbo,
            "touch" => Self::Touch,
            "depth" => Self::Depth { basis_points: basis_points? },
            "impact" => Self::Impact { size: size? },
            "cmbp-1" => Self::Consolidated { lane: 0, books: Arc::default() },
            _ => return None,
        })
    }

    /// The kinds of records that it is made of.
    pub fn kinds(&self) -> &'static [Kind] {
        match self {
            Self::Every { .. } | Self::Tbbo => &[Kind::Level, Kind::Trade, Kind::Status],
            Self::Mbp { .. } => &[Kind::Level],
            _ => &[Kind::Level, Kind::Status],
        }
    }

    /// Whether a change of a book's state alone is a row.
    fn tells_states(&self) -> bool {
        matches!(self, Self::Bbo | Self::Touch | Self::Depth { .. } | Self::Impact { .. })
    }

    /// What a row of `depth` or `impact` measures.
    fn measure(&self, replica: &Replica, tail: &mut Vec<u8>) {
        tail.clear();
        match self {
            Self::Depth { basis_points } => {
                tail.extend_from_slice(bytemuck::bytes_of(&measures::depth(replica, *basis_points)));
            }
            Self::Impact { size } => tail.extend_from_slice(bytemuck::bytes_of(&measures::impact(replica, size))),
            _ => {}
        }
    }

    /// Whether the last message can have changed what is measured, where the best prices are as before.
    fn is_touched(&self, replica: &Replica, tail: &[u8]) -> bool {
        match self {
            Self::Depth { basis_points } => measures::depth_is_touched(replica, *basis_points),
            Self::Impact { size } => measures::impact_is_touched(replica, size, &bytemuck::pod_read_unaligned(tail)),
            _ => false,
        }
    }

    /// The same view for a further lane of the same reader.
    pub fn of_lane(&self, lane: usize) -> Self {
        match self {
            Self::Consolidated { books, .. } => Self::Consolidated { lane, books: books.clone() },
            other => other.clone(),
        }
    }
}

/// One side's best level as it can be seen.
type Seen = Option<(Decimal, Decimal, u32)>;

/// Best bid, best ask and the state.
type Touch = (Seen, Seen, u8);

/// The best prices of a touch.
fn prices((bid, ask, _): &Touch) -> [Option<Decimal>; 2] {
    [bid, ask].map(|seen| seen.map(|(price, ..)| price))
}

impl Replica {
    fn touch(&self) -> Touch {
        let seen = |side| self.book().best(side).map(|level| (level.price, level.size, level.count));
        (seen(Side::Bid), seen(Side::Ask), self.state())
    }
}

#[derive(Debug, Default)]
struct Viewed {
    replica: Replica,
    touch: Option<Touch>,
    /// The measures as they stand, and memory for those before them.
    tail: Vec<u8>,
    tail_before: Vec<u8>,
    /// The last sale.
    trade: Option<Trade>,
    /// The best levels changed, or a trade came, in the present interval.
    is_due: bool,
}

impl Viewed {
    /// Whether the best levels or the state changed since the last call.
    fn turned(&mut self) -> bool {
        let touch = Some(self.replica.touch());
        let turned = self.touch != touch;
        self.touch = touch;
        turned
    }

    fn write_touch(&self, head: &Head, out: &mut Vec<u8>) -> Result<(), ViewError> {
        let (price_scale, size_scale) = write_book(head, &self.replica, 1, out)?;
        let at = |level: BookLevel| Some((level.price.rescale(price_scale)?, level.size.rescale(size_scale)?));
        let [bid, ask] = self.sides().map(|level| level.and_then(at));
        out.extend_from_slice(bytemuck::bytes_of(&measures::touch(bid, ask, price_scale)));
        Ok(())
    }

    /// Appends a row of `bbo`, `touch`, `depth` or `impact` where something that it shows changed.
    fn tell_turn(&mut self, view: &View, head: &Head, out: &mut Vec<u8>) -> Result<(), ViewError> {
        let (held, turned) = (self.touch.as_ref().map(prices), self.turned());
        let mut changed = turned;
        if self.tail.is_empty() || held != self.touch.as_ref().map(prices) || view.is_touched(&self.replica, &self.tail)
        {
            std::mem::swap(&mut self.tail, &mut self.tail_before);
            view.measure(&self.replica, &mut self.tail);
            changed |= self.tail != self.tail_before;
        }
        if changed {
            self.write(view, head, out)?;
        }
        Ok(())
    }

    fn write(&self, view: &View, head: &Head, out: &mut Vec<u8>) -> Result<(), ViewError> {
        if matches!(view, View::Touch) {
            return self.write_touch(head, out);
        }
        write_book(head, &self.replica, 1, out)?;
        out.extend_from_slice(&self.tail);
        Ok(())
    }

    fn sides(&self) -> [Option<BookLevel>; 2] {
        [Side::Bid, Side::Ask].map(|side| self.replica.book().best(side))
    }
}

/// The books of one lane's reader and the rows that they give.
#[derive(Debug)]
pub struct Views {
    view: View,
    books: BTreeMap<u32, Viewed>,
    /// Books that the consolidated view is over; None: all.
    only: Option<Vec<u32>>,
    /// End of the present interval; 0 before the first record.
    interval_end: Nanos,
}

impl Views {
    /// Books of which no row but `mbp` (and with `touch_only` `bbo`) is wanted.
    pub fn new(depth: usize, touch_only: bool) -> Self {
        Self::of(if touch_only { View::Bbo } else { View::Mbp { depth } })
    }

    pub fn of(view: View) -> Self {
        Self { view, books: BTreeMap::new(), only: None, interval_end: 0 }
    }

    /// Names the books, sorted, that the consolidated view is over.
    pub fn limit(&mut self, ids: Option<&[u32]>) {
        self.only = ids.map(<[u32]>::to_vec);
        let held: Vec<u32> = self.books.keys().copied().collect();
        for id in held {
            self.publish(id);
        }
    }

    /// Takes the record at `index` of the lane and appends the rows that it completes, if any. Gives whether it did.
    pub fn feed(&mut self, index: u64, line: &Level, out: &mut Vec<u8>) -> Result<bool, ViewError> {
        let before = out.len();
        self.pass(line.ts_recv, out)?;
        let viewed = self.books.entry(line.instrument_id).or_default();
        if viewed.tail.is_empty() && viewed.replica.is_joined() {
            // What lies before the reader's start is measured once, when the first change comes.
            self.view.measure(&viewed.replica, &mut viewed.tail);
        }
        if viewed.replica.feed(index, line) == Fed::Pending {
            return Ok(out.len() > before);
        }
        let head = Head::of(&viewed.replica);
        match &self.view {
            View::Mbp { depth } => drop(write_book(&head, &viewed.replica, *depth, out)?),
            View::Tbbo => {}
            View::Every { .. } => viewed.is_due |= viewed.turned(),
            View::Consolidated { .. } => self.consolidate(head, out)?,
            view => viewed.tell_turn(view, &head, out)?,
        }
        Ok(out.len() > before)
    }

    /// Takes a TRADE record, as `feed` a LEVEL.
    pub fn trade(&mut self, index: u64, line: &Trade, out: &mut Vec<u8>) -> Result<bool, ViewError> {
        let before = out.len();
        self.pass(line.ts_recv, out)?;
        let viewed = self.books.entry(line.instrument_id).or_default();
        viewed.trade = Some(*line);
        viewed.is_due = true;
        if matches!(self.view, View::Tbbo) {
            let head = Head { state: viewed.replica.state(), ..Head::of_trade(line, index) };
            let [bid, ask] = viewed.sides();
            write_row(&head, bid.into_iter(), ask.into_iter(), 1, out)?;
        }
        Ok(out.len() > before)
    }

    /// Takes a STATUS record: views that show a book's state give a row where it changed, the consolidated one where the
    /// book set a price, as one that is no longer LIVE sets none.
    pub fn status(&mut self, index: u64, line: &Status, out: &mut Vec<u8>) -> Result<bool, ViewError> {
        let before = out.len();
        for id in self.take_status(line) {
            let head = Head { index, ..Head::of_status(line, id) };
            let Some(viewed) = self.books.get_mut(&id) else { continue };
            match &self.view {
                View::Consolidated { .. } => self.consolidate(head, out)?,
                view if view.tells_states() && viewed.replica.is_joined() && viewed.turned() => {
                    if viewed.tail.is_empty() {
                        view.measure(&viewed.replica, &mut viewed.tail);
                    }
                    viewed.write(view, &head, out)?;
                }
                _ => {}
            }
        }
        Ok(out.len() > before)
    }

    /// Takes a record without giving a row: what lies before the reader's start.
    pub fn prime(&mut self, index: u64, line: &Level) {
        self.move_on(line.ts_recv);
        let viewed = self.books.entry(line.instrument_id).or_default();
        if viewed.replica.feed(index, line) == Fed::Applied {
            viewed.turned();
            viewed.tail.clear();
            self.publish(line.instrument_id);
        }
    }

    /// A checkpoint has set the state of this book.
    pub fn restored(&mut self, instrument_id: u32) {
        if let Some(viewed) = self.books.get_mut(&instrument_id) {
            viewed.turned();
        }
        self.publish(instrument_id);
    }

    /// Takes a trade without giving a row.
    pub fn prime_trade(&mut self, line: &Trade) {
        self.move_on(line.ts_recv);
        self.books.entry(line.instrument_id).or_default().trade = Some(*line);
    }

    /// Takes a status without giving a row.
    pub fn prime_status(&mut self, line: &Status) {
        for id in self.take_status(line) {
            let told = self.books.get_mut(&id).filter(|viewed| viewed.replica.is_joined());
            if let Some(viewed) = told.filter(|_| self.view.tells_states()) {
                viewed.turned();
            }
            self.publish(id);
        }
    }

    /// Takes the states of books that STATUS records tell, whatever the view.
    pub fn statuses(&mut self, lines: &[[u8; RECORD_BYTES]]) {
        for status in lines.iter().map(bytemuck::cast_ref::<_, Status>) {
            if let Some(viewed) = self.books.get_mut(&status.instrument_id) {
                if status.subject == Subject::Book as u8 {
                    viewed.replica.set_state(status.current);
                }
            }
        }
    }

    /// Sets the states that a STATUS tells, and gives whose.
    fn take_status(&mut self, line: &Status) -> Vec<u32> {
        if !self.view.kinds().contains(&Kind::Status) {
            return Vec::new();
        }
        let is_run = line.subject == Subject::Plant as u8 && line.reason == Reason::Restarted as u8;
        let mut ids = Vec::new();
        for (&id, viewed) in &mut self.books {
            if is_run {
                // A new run begins: what the books were is over, whether or not the old one could say so.
                viewed.replica.set_state(BookState::Closed as u8);
                ids.push(id);
            } else if id == line.instrument_id && line.subject == Subject::Book as u8 {
                viewed.replica.set_state(line.current);
                ids.push(id);
            }
        }
        ids
    }

    /// Ends the intervals that lie wholly before a receive time and gives their rows.
    fn pass(&mut self, ts_recv: Nanos, out: &mut Vec<u8>) -> Result<(), ViewError> {
        let View::Every { interval } = self.view else { return Ok(()) };
        if ts_recv == UNDEF_U64 || ts_recv < self.interval_end {
            return Ok(());
        }
        for (&id, viewed) in &mut self.books {
            if !std::mem::take(&mut viewed.is_due) || !viewed.replica.is_joined() {
                continue;
            }
            let sale = viewed.trade.as_ref().map_or(Head::NO_SALE, |trade| Head::of_trade(trade, 0));
            let last = viewed.replica.last();
            let head = Head {
                ts_recv: self.interval_end,
                sequence: last.sequence,
                index: viewed.replica.index(),
                instrument_id: id,
                venue: last.venue,
                flags: last.flags,
                state: viewed.replica.state(),
                ..sale
            };
            let [bid, ask] = viewed.sides();
            write_row(&head, bid.into_iter(), ask.into_iter(), 1, out)?;
        }
        self.interval_end = end_of(ts_recv, interval);
        Ok(())
    }

    fn move_on(&mut self, ts_recv: Nanos) {
        if let View::Every { interval } = self.view {
            if ts_recv != UNDEF_U64 && ts_recv >= self.interval_end {
                self.books.values_mut().for_each(|viewed| viewed.is_due = false);
                self.interval_end = end_of(ts_recv, interval);
            }
        }
    }

    /// Tells the consolidated view where a book stands; gives the best of all where that changed.
    fn publish(&mut self, instrument_id: u32) -> Option<Best> {
        let View::Consolidated { lane, books } = &self.view else { return None };
        if self.only.as_ref().is_some_and(|only| only.binary_search(&instrument_id).is_err()) {
            return None;
        }
        let viewed = self.books.get(&instrument_id)?;
        let is_live = viewed.replica.is_joined() && viewed.replica.state() == BookState::Live as u8;
        // Only what can be seen makes a difference, not which message set it.
        let seen = |level: BookLevel| BookLevel { count: 0, changed: 0, ..level };
        let sides = is_live.then(|| viewed.sides().map(|level| level.map(seen)));
        books.lock().unwrap_or_else(PoisonError::into_inner).set(*lane, instrument_id, sides)
    }

    fn consolidate(&mut self, head: Head, out: &mut Vec<u8>) -> Result<(), ViewError> {
        let Some(best) = self.publish(head.instrument_id) else { return Ok(()) };
        // The place of the order count holds who sets the price.
        let [bid, ask] = best.map(|level| level.map(|(level, id)| BookLevel { count: id, ..level }));
        write_row(&head, bid.into_iter(), ask.into_iter(), 1, out).map(drop)
    }

    /// Drops unfinished messages: the log was cut here.
    pub fn interrupt(&mut self) {
        self.books.values_mut().for_each(|viewed| viewed.replica.interrupt());
    }

    /// Forgets every book: records were lost, so each waits for its next snapshot.
    pub fn forget(&mut self) {
        self.books.clear();
        if let View::Consolidated { lane, books } = &self.view {
            books.lock().unwrap_or_else(PoisonError::into_inner).forget(*lane);
        }
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

/// The end of the interval that a time lies in.
fn end_of(ts_recv: Nanos, interval: Nanos) -> Nanos {
    (ts_recv - ts_recv % interval).saturating_add(interval)
}
