//! Wide rows from a lane's records: what a row is, when there is one, and how it is written.

use super::consolidated::{Best, Consolidated};
use super::measures;
use super::replica::{Fed, Replica};
use super::row::{RowHead, RowLevel};
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
            Self::Consolidated { .. } => &[Kind::Level, Kind::Status],
            _ => &[Kind::Level],
        }
    }

    /// Appends what a row of `depth` or `impact` measures.
    fn measure(&self, replica: &Replica, tail: &mut Vec<u8>) {
        match self {
            Self::Depth { basis_points } => {
                tail.extend_from_slice(bytemuck::bytes_of(&measures::depth(replica, *basis_points)));
            }
            Self::Impact { size } => tail.extend_from_slice(bytemuck::bytes_of(&measures::impact(replica, size))),
            _ => {}
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
    /// The measures of the last row.
    tail: Vec<u8>,
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

    fn write_touch(&self, out: &mut Vec<u8>) -> Result<(), ViewError> {
        let (price_scale, size_scale) = write_book(&self.replica, 1, out)?;
        let at = |level: BookLevel| Some((level.price.rescale(price_scale)?, level.size.rescale(size_scale)?));
        let [bid, ask] = self.sides().map(|level| level.and_then(at));
        out.extend_from_slice(bytemuck::bytes_of(&measures::touch(bid, ask, price_scale)));
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
        match &self.view {
            View::Mbp { depth } => drop(write_book(&viewed.replica, *depth, out)?),
            View::Tbbo => {}
            View::Every { .. } => viewed.is_due |= viewed.turned(),
            View::Bbo => {
                if viewed.turned() {
                    write_book(&viewed.replica, 1, out)?;
                }
            }
            View::Touch => {
                if viewed.turned() {
                    viewed.write_touch(out)?;
                }
            }
            View::Depth { .. } | View::Impact { .. } => {
                let mut tail = Vec::with_capacity(64);
                self.view.measure(&viewed.replica, &mut tail);
                if viewed.turned() || viewed.tail != tail {
                    write_book(&viewed.replica, 1, out)?;
                    out.extend_from_slice(&tail);
                    viewed.tail = tail;
                }
            }
            View::Consolidated { .. } => {
                let head = Head::of(&viewed.replica);
                self.consolidate(head, out)?;
            }
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

    /// Takes a STATUS record. Only the consolidated view gives a row for it: a book that is no longer LIVE sets nothing.
    pub fn status(&mut self, index: u64, line: &Status, out: &mut Vec<u8>) -> Result<bool, ViewError> {
        let before = out.len();
        for id in self.take_status(line) {
            let head = Head { index, ..Head::of_status(line, id) };
            self.consolidate(head, out)?;
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

/// What stands before the levels of a row.
#[derive(Clone, Copy, Debug)]
struct Head {
    ts_event: Nanos,
    ts_recv: Nanos,
    sequence: u64,
    price: Option<Decimal>,
    size: Option<Decimal>,
    index: u64,
    instrument_id: u32,
    venue: u16,
    action: u8,
    side: u8,
    flags: u8,
    state: u8,
    changes: u32,
}

impl Head {
    const NO_SALE: Head = Head {
        ts_event: UNDEF_U64,
        ts_recv: UNDEF_U64,
        sequence: UNDEF_U64,
        price: None,
        size: None,
        index: 0,
        instrument_id: 0,
        venue: 0,
        action: Action::None as u8,
        side: Side::None as u8,
        flags: 0,
        state: BookState::None as u8,
        changes: 0,
    };

    fn of(replica: &Replica) -> Self {
        let last = replica.last();
        let given = |mantissa: i64, scale: u8| (mantissa != UNDEF_I64).then(|| Decimal::new(mantissa, scale));
        Self {
            ts_event: last.ts_event,
            ts_recv: last.ts_recv,
            sequence: last.sequence,
            price: given(last.price, last.price_scale),
            size: given(last.size, last.size_scale),
            index: replica.index(),
            instrument_id: last.instrument_id,
            venue: last.venue,
            action: last.action,
            side: last.side,
            flags: last.flags,
            state: replica.state(),
            changes: replica.changes(),
        }
    }

    fn of_trade(line: &Trade, index: u64) -> Self {
        Self {
            ts_event: line.ts_event,
            ts_recv: line.ts_recv,
            sequence: line.sequence,
            price: Some(Decimal::new(line.price, line.price_scale)),
            size: Some(Decimal::new(line.size, line.size_scale)),
            index,
            instrument_id: line.instrument_id,
            venue: line.venue,
            action: line.action,
            side: line.side,
            flags: line.flags,
            ..Self::NO_SALE
        }
    }

    fn of_status(line: &Status, instrument_id: u32) -> Self {
        let state = if line.subject == Subject::Book as u8 { line.current } else { BookState::Closed as u8 };
        let (ts_recv, venue, flags) = (line.ts_recv, line.venue, line.flags);
        Self { ts_recv, sequence: line.sequence, instrument_id, venue, flags, state, ..Self::NO_SALE }
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

fn write_book(replica: &Replica, depth: usize, out: &mut Vec<u8>) -> Result<(u8, u8), ViewError> {
    let (bids, asks) = (replica.book().levels(Side::Bid), replica.book().levels(Side::Ask));
    write_row(&Head::of(replica), bids.take(depth), asks.take(depth), depth, out)
}

/// Appends a row and gives its common scales of prices and sizes.
fn write_row(
    head: &Head,
    bids: impl Iterator<Item = BookLevel> + Clone,
    asks: impl Iterator<Item = BookLevel> + Clone,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(u8, u8), ViewError> {
    let failed = ViewError::Scale { instrument_id: head.instrument_id, index: head.index };
    let levels = bids.clone().chain(asks.clone());
    let price_scale = common_scale(levels.clone().map(|level| level.price).chain(head.price)).ok_or(failed)?;
    let size_scale = common_scale(levels.map(|level| level.size).chain(head.size)).ok_or(failed)?;
    let at = |number: Option<Decimal>, scale: u8| match number {
        Some(number) if number.scale == scale => Ok(number.mantissa),
        Some(number) => number.rescale(scale).ok_or(failed),
        None => Ok(UNDEF_I64),
    };
    let written = RowHead {
        ts_event: head.ts_event,
        ts_recv: head.ts_recv,
        sequence: head.sequence,
        price: at(head.price, price_scale)?,
        size: at(head.size, size_scale)?,
        index: head.index,
        instrument_id: head.instrument_id,
        venue: head.venue,
        action: head.action,
        side: head.side,
        flags: head.flags,
        price_scale,
        size_scale,
        state: head.state,
        changes: head.changes,
    };
    out.extend_from_slice(bytemuck::bytes_of(&written));
    let (mut bids, mut asks) = (bids, asks);
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
    Ok((price_scale, size_scale))
}
