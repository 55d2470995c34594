//! Books: snapshots, updates and their proofs; [`recovery`] makes right what they disprove, [`life`] follows subscriptions.

mod cover;
mod life;
mod recovery;
mod shadow;
mod ticker;

pub(super) use shadow::Shadow;

use super::arrows::{self, BOOK_ARROWS};
use super::records::{self, Fact, Hole, Message};
use super::symbols::Slot;
use super::sync::{Held, Kept, Position, Update, Verdict};
use super::types::{BookPlan, Checksum, Connection, Continuity, Out, Snapshot, StreamName};
use super::{Session, Told};
use crate::book::{self, Book, Proof, Spec};
use crate::clock::Nanos;
use crate::event::{BookEvent, Chain, Row};
use crate::record::{BookState, Reason, Repair, Stream, Subject, UNDEF_I64, UNDEF_U64};

/// Rows for which a book keeps memory between resyncs.
const HELD_ROWS_KEPT: usize = 4096;

/// What a book waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not subscribed.
    Off,
    /// Its subscription is on its way.
    Subscribing,
    /// A resync is to begin at this time.
    Resting { until: Nanos },
    /// A snapshot is to be fetched when it is its turn.
    Queued,
    /// A snapshot was asked for and has until then to come.
    Waiting { until: Nanos },
    /// It has its snapshot and follows the updates.
    Joined,
}

/// One instrument's book and how it stands to its venue.
pub(super) struct BookSync {
    pub(super) book: Book,
    pub(super) state: BookState,
    pub(super) reason: Reason,
    phase: Phase,
    pub(super) position: Position,
    held: Held,
    /// Resyncs since the book was last proven healthy: the exponent of their delay.
    tries: u32,
    joined_at: Nanos,
    /// When a shadow check last agreed, and what the snapshot that was joined reached to.
    checked_at: Nanos,
    bounds: shadow::Bounds,
    ticker: ticker::TickerCheck,
    pub(super) ts_last: Nanos,
}

impl BookSync {
    pub(super) fn new(plan: &BookPlan, depth: u32, scales: (u8, u8)) -> Self {
        Self {
            book: Self::empty_book(plan, depth, scales),
            state: BookState::Closed,
            reason: Reason::None,
            phase: Phase::Off,
            position: Position::new(plan.rule()),
            held: Held::default(),
            tries: 0,
            joined_at: 0,
            checked_at: 0,
            bounds: shadow::Bounds::default(),
            ticker: ticker::TickerCheck::default(),
            ts_last: UNDEF_U64,
        }
    }

    pub(super) fn empty_book(plan: &BookPlan, depth: u32, scales: (u8, u8)) -> Book {
        let checksum = match plan.checksum {
            Checksum::None => book::Checksum::None,
            Checksum::Kraken => book::Checksum::Kraken,
            Checksum::Okx => book::Checksum::Okx,
            Checksum::Bitfinex => book::Checksum::Bitfinex,
        };
        let mut book = Book::new(Spec { depth, truncate: plan.truncate && depth > 0, checksum });
        book.set_scales(scales.0, scales.1);
        book
    }
}

/// A message as the book takes it, wherever it came from.
pub(super) struct Incoming<'a> {
    pub(super) rows: &'a [Row],
    pub(super) chain: Chain,
    pub(super) checksum: Option<u32>,
    pub(super) ts_event: Nanos,
    /// The frame or reply, of which a sample is kept where it is at fault.
    pub(super) sample: &'a [u8],
}

/// An update of its own memory, held while another line may bring the ones before it.
#[derive(Debug)]
pub(super) struct HeldUpdate {
    rows: Vec<Row>,
    chain: Chain,
    checksum: Option<u32>,
    ts_event: Nanos,
}

impl HeldUpdate {
    pub(super) fn of(update: &Incoming<'_>) -> Self {
        let (chain, checksum, ts_event) = (update.chain, update.checksum, update.ts_event);
        Self { rows: update.rows.to_vec(), chain, checksum, ts_event }
    }

    pub(super) fn incoming(&self) -> Incoming<'_> {
        let (chain, checksum, ts_event) = (self.chain, self.checksum, self.ts_event);
        Incoming { rows: &self.rows, chain, checksum, ts_event, sample: &[] }
    }
}

impl Session {
    /// Moves a book and tells it with a sample; a book that stays where it is tells its new reason.
    pub(super) fn set_book(
        &mut self,
        slot: Slot,
        to: BookState,
        reason: Reason,
        value: i64,
        text: &[u8],
        out: &mut Out,
    ) {
        let stamp = self.stamp();
        let instrument = &mut self.instruments[slot as usize];
        let from = instrument.sync.state;
        if from != to && !arrows::allowed(BOOK_ARROWS, &from, &to) {
            return;
        }
        instrument.sync.state = to;
        instrument.sync.reason = reason;
        let fact = Fact {
            state: to,
            instrument_id: instrument.id,
            sequence: instrument.sync.position.last,
            value,
            text,
            ..Fact::new(Subject::Book, from as u8, to as u8, reason)
        };
        records::status(out, stamp, &fact);
        self.cover_book(slot, reason, out);
        self.unsettled = true;
    }

    pub(super) fn on_book(
        &mut self,
        connection: Connection,
        event: &BookEvent,
        rows: &[Row],
        told: Told<'_>,
        out: &mut Out,
    ) {
        let Some(slot) = self.receive(connection, StreamName::Book, told.text(&event.symbol), out) else { return };
        self.instruments[slot as usize].counters.messages += 1;
        // A snapshot that was asked for is no news of the market's own.
        if !event.snapshot || self.instruments[slot as usize].sync.phase == Phase::Joined {
            self.beat(connection, slot, StreamName::Book, event.ts_event, out);
        } else {
            let line = self.line_of(connection);
            self.instruments[slot as usize].pulses[line].book.answered(self.now);
        }
        let (chain, checksum, ts_event) = (event.chain, event.checksum, event.ts_event);
        let mut priced = std::mem::take(&mut self.priced);
        let mut rows = rows;
        if self.plan.book.zero_price_ignored {
            priced.clear();
            priced.extend(rows.iter().filter(|row| !row.price.is_zero()));
            rows = &priced;
        }
        let incoming = Incoming { rows, chain, checksum, ts_event, sample: told.frame };
        let whole = event.snapshot || self.plan.book.whole || self.plan.book.rule().begins_anew(chain.last);
        if self.is_redundant() {
            self.merge_book(connection, slot, whole, &incoming, out);
        } else {
            self.take_book(slot, whole, &incoming, out);
        }
        self.priced = priced;
    }

    /// Takes the next message of a book, by whatever line it came.
    pub(super) fn take_book(&mut self, slot: Slot, whole: bool, incoming: &Incoming<'_>, out: &mut Out) {
        if whole {
            self.take_snapshot(slot, incoming, out);
        } else {
            self.follow(slot, incoming, out);
        }
    }

    /// Whether a connection carries a book at present.
    fn is_carried(&self, connection: Connection, slot: Slot) -> bool {
        self.book_route(slot) == Some(connection)
            || (self.is_redundant() && self.carries(connection, slot, StreamName::Book))
    }

    /// Takes an update by the rule of the chain.
    fn follow(&mut self, slot: Slot, incoming: &Incoming<'_>, out: &mut Out) {
        let sync = &self.instruments[slot as usize].sync;
        if sync.phase != Phase::Joined {
            return self.keep_update(slot, incoming, out);
        }
        match sync.position.judge(&incoming.chain) {
            Verdict::Apply => {
                self.take_update(slot, incoming, out);
            }
            Verdict::Old => self.instruments[slot as usize].counters.duplicates += 1,
            Verdict::Impossible => self.fault(slot, BookState::Mismatch, Reason::BadMessage, incoming.sample, out),
            Verdict::Missing { first, last } => {
                let cause = if sync.position.joining { Reason::SnapshotStale } else { Reason::SequenceGap };
                let ts_before = sync.ts_last;
                self.tell_missing(slot, (first, last), cause, (ts_before, incoming.ts_event), BookState::Gap, out);
                self.fault(slot, BookState::Gap, cause, &[], out);
                self.keep_update(slot, incoming, out);
            }
        }
    }

    fn tell_missing(
        &mut self,
        slot: Slot,
        (first, last): (u64, u64),
        cause: Reason,
        (ts_event, ts_end): (Nanos, Nanos),
        state: BookState,
        out: &mut Out,
    ) {
        let stamp = self.stamp();
        let instrument = &mut self.instruments[slot as usize];
        instrument.counters.gaps += 1;
        instrument.ledger.missing(first, last);
        instrument.counters.records += 1;
        let (instrument_id, stream, repaired_from) = (instrument.id, Stream::Book, Repair::None);
        records::gap(
            out,
            stamp,
            &Hole { instrument_id, stream, first, last, cause, ts_event, ts_end, repaired_from, state },
        );
    }

    /// Keeps an update for the snapshot that is awaited. Without numbers there is nothing to join it by: it is dropped.
    fn keep_update(&mut self, slot: Slot, incoming: &Incoming<'_>, out: &mut Out) {
        let rule = self.plan.book.rule();
        let fetched = matches!(self.plan.book.snapshot, Snapshot::Fetched { .. });
        let sync = &mut self.instruments[slot as usize].sync;
        if rule.chain == Continuity::None || sync.phase == Phase::Off {
            return;
        }
        let kept = sync.held.push(rule, incoming.chain, incoming.rows, incoming.checksum, incoming.ts_event);
        if sync.phase == Phase::Subscribing && fetched {
            // Data is as good as an acknowledgement: what the snapshot is joined to has begun.
            sync.phase = Phase::Queued;
            self.unsettled = true;
        }
        match kept {
            Kept::Yes => {}
            Kept::Old => self.instruments[slot as usize].counters.duplicates += 1,
            Kept::Missing { first, last, ts_before } => {
                let (state, times) = (self.instruments[slot as usize].sync.state, (ts_before, incoming.ts_event));
                self.tell_missing(slot, (first, last), Reason::SequenceGap, times, state, out);
            }
            Kept::Impossible => self.fault(slot, BookState::Mismatch, Reason::BadMessage, incoming.sample, out),
        }
    }

    /// Applies one update and proves the book; false where it is disproved, and then nothing of it is written.
    fn take_update(&mut self, slot: Slot, incoming: &Incoming<'_>, out: &mut Out) -> bool {
        let sync = &mut self.instruments[slot as usize].sync;
        self.changes.clear();
        if let Err(error) = sync.book.apply(incoming.rows, &mut self.changes) {
            self.refuse(slot, &error, incoming.sample, out);
            return false;
        }
        if !self.prove(slot, incoming, out) {
            return false;
        }
        let sync = &mut self.instruments[slot as usize].sync;
        sync.position.accept(&incoming.chain);
        self.write(slot, incoming, false, out);
        self.shadow_update(slot, incoming, out);
        true
    }

    fn refuse(&mut self, slot: Slot, error: &book::BookError, sample: &[u8], out: &mut Out) {
        let reason = match error {
            book::BookError::NegativeSize { .. } => Reason::NegativeSize,
            _ => Reason::BadMessage,
        };
        self.fault(slot, BookState::Mismatch, reason, sample, out);
    }

    /// Compares the book with what the venue says of it, on every message that says something.
    fn prove(&mut self, slot: Slot, incoming: &Incoming<'_>, out: &mut Out) -> bool {
        let instrument = &mut self.instruments[slot as usize];
        if self.plan.book.checksum != Checksum::None {
            match instrument.sync.book.prove(incoming.checksum) {
                Proof::Absent => instrument.counters.checksums_absent += 1,
                Proof::Passed => instrument.counters.checksums_passed += 1,
                Proof::Failed => {
                    instrument.counters.checksums_failed += 1;
                    self.fault(slot, BookState::Mismatch, Reason::ChecksumMismatch, incoming.sample, out);
                    return false;
                }
            }
        }
        if self.plan.book.crossed_is_fault && self.instruments[slot as usize].sync.book.is_crossed() {
            self.fault(slot, BookState::Mismatch, Reason::CrossedBook, incoming.sample, out);
            return false;
        }
        true
    }

    fn write(&mut self, slot: Slot, incoming: &Incoming<'_>, snapshot: bool, out: &mut Out) {
        let stamp = self.stamp();
        let instrument = &mut self.instruments[slot as usize];
        instrument.sync.ts_last = incoming.ts_event;
        instrument.ledger.heard(Stream::Book, stamp.at);
        let message = Message {
            instrument_id: instrument.id,
            sequence: incoming.chain.last,
            ts_event: incoming.ts_event,
            snapshot,
        };
        instrument.counters.records += records::levels(out, stamp, &message, &self.changes);
        self.hash_if_due(slot, &message, stamp, out);
    }

    /// Takes a snapshot, asked for or not, joins the updates that wait for it and makes the book live.
    fn take_snapshot(&mut self, slot: Slot, incoming: &Incoming<'_>, out: &mut Out) {
        let rule = self.plan.book.rule();
        let Some(position) = Position::after_snapshot(rule, &incoming.chain) else {
            return self.fault(slot, BookState::Mismatch, Reason::BadMessage, incoming.sample, out);
        };
        let sync = &mut self.instruments[slot as usize].sync;
        if rule.begins_anew(position.last) {
            // What was kept is of the numbers before.
            sync.held.clear();
        } else if sync.phase == Phase::Joined && rule.chain != Continuity::None && position.last < sync.position.last {
            self.instruments[slot as usize].counters.duplicates += 1;
            return;
        }
        let Some(from) = sync.held.join(&position) else {
            return self.resync_failed(slot, Reason::SnapshotStale, None, &[], out);
        };
        let sync = &mut self.instruments[slot as usize].sync;
        self.changes.clear();
        if let Err(error) = sync.book.load(incoming.rows, &mut self.changes) {
            return self.refuse(slot, &error, incoming.sample, out);
        }
        sync.position = position;
        if !self.prove(slot, incoming, out) {
            return;
        }
        let mut held = std::mem::take(&mut self.instruments[slot as usize].sync.held);
        self.joined(slot, incoming, out);
        for Update { rows, chain, checksum, ts_event } in held.updates.get(from..).unwrap_or(&[]) {
            let rows = held.rows.get(rows.clone()).unwrap_or(&[]);
            let update = Incoming { rows, chain: *chain, checksum: *checksum, ts_event: *ts_event, sample: &[] };
            if !self.take_update(slot, &update, out) {
                break;
            }
        }
        // The memory serves the next resync, but for that of an uncommonly long one.
        held.clear();
        held.rows.shrink_to(HELD_ROWS_KEPT);
        self.instruments[slot as usize].sync.held = held;
    }

    /// The book is what a snapshot says: tells it, and the book is live.
    fn joined(&mut self, slot: Slot, incoming: &Incoming<'_>, out: &mut Out) {
        self.write(slot, incoming, true, out);
        let now = self.now;
        let instrument = &mut self.instruments[slot as usize];
        let sync = &mut instrument.sync;
        sync.phase = Phase::Joined;
        sync.joined_at = now;
        sync.bounds = shadow::Bounds::of(&sync.book);
        instrument.pulses.iter_mut().for_each(|pulses| pulses.book.stale = false);
        self.advance_merge(slot);
        if self.instruments[slot as usize].sync.state != BookState::Live {
            self.set_book(slot, BookState::Live, Reason::SnapshotJoined, UNDEF_I64, &[], out);
        }
    }

    /// Another line's proven book takes the place of this one.
    pub(super) fn take_over(&mut self, slot: Slot, incoming: &Incoming<'_>, position: Position, out: &mut Out) {
        let sync = &mut self.instruments[slot as usize].sync;
        self.changes.clear();
        if let Err(error) = sync.book.load(incoming.rows, &mut self.changes) {
            return self.refuse(slot, &error, incoming.sample, out);
        }
        sync.position = position;
        self.joined(slot, incoming, out);
    }

    /// Whether a frame's number lets it count. A jump makes every book on the connection suspect; the frame itself is good.
    pub(super) fn counted(
        &mut self,
        connection: Connection,
        number: Option<u64>,
        told: Told<'_>,
        out: &mut Out,
    ) -> bool {
        let verdict = self.links[connection as usize].numbers.judge(number);
        let (state, reason) = match verdict {
            Verdict::Apply => return true,
            Verdict::Old => return false,
            Verdict::Missing { .. } => (BookState::Gap, Reason::SequenceGap),
            Verdict::Impossible => (BookState::Mismatch, Reason::BadMessage),
        };
        for slot in 0..self.instruments.len() as Slot {
            let joined = self.instruments[slot as usize].sync.phase == Phase::Joined;
            if !joined || !self.is_carried(connection, slot) || self.is_spared(connection, slot) {
                continue;
            }
            if let Verdict::Missing { first, last } = verdict {
                let ts_before = self.instruments[slot as usize].sync.ts_last;
                self.tell_missing(slot, (first, last), reason, (ts_before, UNDEF_U64), state, out);
            }
            self.fault(slot, state, reason, told.frame, out);
        }
        true
    }
}
