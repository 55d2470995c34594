//! Books: snapshots, updates and their proofs; what disproves a book, and how it is made right again.

use super::arrows::{self, BOOK_ARROWS};
use super::connection::backoff;
use super::records::{self, Fact, Hole, Message};
use super::subscriptions::expand;
use super::symbols::Slot;
use super::sync::{Held, Kept, Position, Update, Verdict};
use super::types::{BookPlan, Checksum, Connection, Continuity, Out, Snapshot, StreamName, Wish};
use super::{Session, Told};
use crate::book::{Book, Spec};
use crate::clock::Nanos;
use crate::event::{BookEvent, Chain, Event, Row};
use crate::record::{BookState, Reason, Repair, Stream, Subject, SubscriptionState, UNDEF_I64, UNDEF_U64};

/// Snapshots that are fetched at once by one session, so that a start does not spend a venue's whole budget in a moment.
const FETCHES_MOST: usize = 8;

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
    position: Position,
    held: Held,
    /// Resyncs since the book was last proven healthy: the exponent of their delay.
    tries: u32,
    joined_at: Nanos,
    ts_last: Nanos,
}

impl BookSync {
    pub(super) fn new(plan: &BookPlan, depth: u32, scales: (u8, u8)) -> Self {
        Self {
            book: Self::empty_book(plan, depth, scales),
            state: BookState::Closed,
            reason: Reason::None,
            phase: Phase::Off,
            position: Position::new(plan.continuity),
            held: Held::default(),
            tries: 0,
            joined_at: 0,
            ts_last: UNDEF_U64,
        }
    }

    pub(super) fn empty_book(plan: &BookPlan, depth: u32, scales: (u8, u8)) -> Book {
        let kraken_checksum = plan.checksum == Checksum::Kraken;
        let mut book = Book::new(Spec { depth, truncate: plan.truncate && depth > 0, kraken_checksum });
        book.set_scales(scales.0, scales.1);
        book
    }
}

/// A message as the book takes it, wherever it came from.
struct Incoming<'a> {
    rows: &'a [Row],
    chain: Chain,
    checksum: Option<u32>,
    ts_event: Nanos,
    /// The frame or reply, of which a sample is kept where it is at fault.
    sample: &'a [u8],
}

impl Session {
    /// Moves a book and tells it with a sample; a book that stays where it is tells its new reason.
    fn set_book(&mut self, slot: Slot, to: BookState, reason: Reason, value: i64, text: &[u8], out: &mut Out) {
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
        let (chain, checksum, ts_event) = (event.chain, event.checksum, event.ts_event);
        let incoming = Incoming { rows, chain, checksum, ts_event, sample: told.frame };
        if event.snapshot {
            return self.take_snapshot(slot, &incoming, out);
        }
        let sync = &self.instruments[slot as usize].sync;
        if sync.phase != Phase::Joined {
            return self.keep_update(slot, &incoming, out);
        }
        match sync.position.judge(&chain) {
            Verdict::Apply => {
                self.take_update(slot, &incoming, out);
            }
            Verdict::Old => self.instruments[slot as usize].counters.duplicates += 1,
            Verdict::Impossible => self.fault(slot, BookState::Mismatch, Reason::BadMessage, told.frame, out),
            Verdict::Missing { first, last } => {
                let cause = if sync.position.joining { Reason::SnapshotStale } else { Reason::SequenceGap };
                let ts_before = sync.ts_last;
                self.tell_missing(slot, (first, last), cause, (ts_before, ts_event), BookState::Gap, out);
                self.fault(slot, BookState::Gap, cause, &[], out);
                self.keep_update(slot, &incoming, out);
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
        let rule = self.plan.book.continuity;
        let fetched = matches!(self.plan.book.snapshot, Snapshot::Fetched { .. });
        let sync = &mut self.instruments[slot as usize].sync;
        if rule == Continuity::None || sync.phase == Phase::Off {
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
        true
    }

    fn refuse(&mut self, slot: Slot, error: &crate::book::BookError, sample: &[u8], out: &mut Out) {
        let reason = match error {
            crate::book::BookError::NegativeSize { .. } => Reason::NegativeSize,
            _ => Reason::BadMessage,
        };
        self.fault(slot, BookState::Mismatch, reason, sample, out);
    }

    /// Compares the book with what the venue says of it, on every message that says something.
    fn prove(&mut self, slot: Slot, incoming: &Incoming<'_>, out: &mut Out) -> bool {
        let instrument = &mut self.instruments[slot as usize];
        if self.plan.book.checksum == Checksum::Kraken {
            match incoming.checksum {
                None => instrument.counters.checksums_absent += 1,
                Some(theirs) if theirs == instrument.sync.book.checksum() => instrument.counters.checksums_passed += 1,
                Some(_) => {
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
        let message = Message {
            instrument_id: instrument.id,
            sequence: incoming.chain.last,
            ts_event: incoming.ts_event,
            snapshot,
        };
        instrument.counters.records += records::levels(out, stamp, &message, &self.changes);
    }

    /// Takes a snapshot, asked for or not, joins the updates that wait for it and makes the book live.
    fn take_snapshot(&mut self, slot: Slot, incoming: &Incoming<'_>, out: &mut Out) {
        let rule = self.plan.book.continuity;
        let Some(position) = Position::after_snapshot(rule, &incoming.chain) else {
            return self.fault(slot, BookState::Mismatch, Reason::BadMessage, incoming.sample, out);
        };
        let sync = &self.instruments[slot as usize].sync;
        if sync.phase == Phase::Joined && rule != Continuity::None && position.last < sync.position.last {
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
        self.write(slot, incoming, true, out);
        let now = self.now;
        let sync = &mut self.instruments[slot as usize].sync;
        sync.phase = Phase::Joined;
        sync.joined_at = now;
        let held = std::mem::take(&mut sync.held);
        if sync.state != BookState::Live {
            self.set_book(slot, BookState::Live, Reason::SnapshotJoined, UNDEF_I64, &[], out);
        }
        for Update { rows, chain, checksum, ts_event } in held.updates.get(from..).unwrap_or(&[]) {
            let rows = held.rows.get(rows.clone()).unwrap_or(&[]);
            let update = Incoming { rows, chain: *chain, checksum: *checksum, ts_event: *ts_event, sample: &[] };
            if !self.take_update(slot, &update, out) {
                return;
            }
        }
    }

    /// What disproves a book: it is told, and the resync begins, at once for the first time, later for each further one.
    fn fault(&mut self, slot: Slot, state: BookState, reason: Reason, sample: &[u8], out: &mut Out) {
        let sync = &self.instruments[slot as usize].sync;
        if sync.phase == Phase::Off {
            return self.tell_instrument(slot, reason, sample, out);
        }
        let healthy = self.plan.timing.healthy_after;
        let proven = sync.phase == Phase::Joined && self.now.saturating_sub(sync.joined_at) >= healthy;
        let tries = if proven { 0 } else { sync.tries };
        let delay = if tries == 0 { 0 } else { backoff(&mut self.rng, &self.plan.timing, tries - 1) };
        let until = self.now.saturating_add(delay);
        self.fetches.retain(|&(_, other)| other != slot);
        let sync = &mut self.instruments[slot as usize].sync;
        sync.tries = tries.saturating_add(1);
        sync.phase = Phase::Resting { until };
        sync.held.clear();
        let value = if delay == 0 { UNDEF_I64 } else { i64::try_from(until).unwrap_or(UNDEF_I64) };
        self.set_book(slot, state, reason, value, sample, out);
    }

    /// The snapshot did not come, or could not be joined: to be asked for again later. What waits for it is kept.
    fn resync_failed(&mut self, slot: Slot, reason: Reason, retry_after: Option<Nanos>, sample: &[u8], out: &mut Out) {
        let tries = self.instruments[slot as usize].sync.tries;
        let own = backoff(&mut self.rng, &self.plan.timing, tries);
        let until = self.now.saturating_add(own.max(retry_after.unwrap_or(0)));
        self.fetches.retain(|&(_, other)| other != slot);
        let sync = &mut self.instruments[slot as usize].sync;
        sync.tries = tries.saturating_add(1);
        sync.phase = Phase::Resting { until };
        let state = if sync.state == BookState::Live { BookState::Gap } else { sync.state };
        self.set_book(slot, state, reason, i64::try_from(until).unwrap_or(UNDEF_I64), sample, out);
    }

    /// A message about this instrument could not be read, or cannot be.
    pub(super) fn impossible(
        &mut self,
        connection: Connection,
        slot: Slot,
        reason: Reason,
        frame: &[u8],
        out: &mut Out,
    ) {
        let carried = self
            .plan
            .channels
            .iter()
            .any(|channel| channel.stream == StreamName::Book && channel.route == connection as usize);
        if carried {
            self.fault(slot, BookState::Mismatch, reason, frame, out);
        } else {
            self.tell_instrument(slot, reason, frame, out);
        }
    }

    /// After a frame that could not be read: the books that it names are suspect, and where nothing else would show a lost
    /// message (no numbers, no checksums) and it names none, all of its connection.
    pub(super) fn suspect(&mut self, connection: Connection, reason: Reason, frame: &[u8], out: &mut Out) {
        let sample = &frame[..frame.len().min(records::SAMPLE_BYTES_MOST)];
        let mut slots = Vec::new();
        self.symbols.mentioned(sample, |slot| slots.push(slot));
        slots.sort_unstable();
        slots.dedup();
        let proofless = self.plan.book.continuity == Continuity::None && self.plan.book.checksum == Checksum::None;
        if slots.is_empty() && proofless {
            slots.extend(0..self.instruments.len() as Slot);
        }
        for slot in slots {
            let on_it = self.book_route(slot) == Some(connection);
            if on_it && self.instruments[slot as usize].sync.phase == Phase::Joined {
                self.fault(slot, BookState::Mismatch, reason, &[], out);
            }
        }
    }

    /// The connection that an instrument's book comes over, while it is subscribed.
    fn book_route(&self, slot: Slot) -> Option<Connection> {
        let items = self.instruments[slot as usize].items.iter();
        let mut both = items.zip(&self.plan.channels);
        let there = |item: &super::Item| {
            matches!(item.state, SubscriptionState::Requested | SubscriptionState::Active | SubscriptionState::Leaving)
        };
        let found = both.find(|(item, channel)| channel.stream == StreamName::Book && there(item));
        found.map(|(_, channel)| channel.route as Connection)
    }

    /// Lets a book follow its subscription.
    pub(super) fn book_subscription(
        &mut self,
        channel: usize,
        slot: Slot,
        from: SubscriptionState,
        to: SubscriptionState,
        reason: Reason,
        out: &mut Out,
    ) {
        let fetched = matches!(self.plan.book.snapshot, Snapshot::Fetched { .. });
        let within = self.now.saturating_add(self.plan.timing.snapshot_within);
        let again = self.item(channel, slot).again;
        match to {
            SubscriptionState::Requested => {
                let silent = self.plan.channels[channel].acknowledged == super::Acknowledged::Data;
                // A snapshot that is still on its way belongs to the subscription before.
                self.fetches.retain(|&(_, other)| other != slot);
                let sync = &mut self.instruments[slot as usize].sync;
                sync.held.clear();
                sync.phase = if silent && !fetched { Phase::Waiting { until: within } } else { Phase::Subscribing };
                if sync.state != BookState::Syncing {
                    self.set_book(slot, BookState::Syncing, Reason::AwaitingSnapshot, UNDEF_I64, &[], out);
                }
            }
            SubscriptionState::Active if from == SubscriptionState::Requested && !again => {
                let sync = &mut self.instruments[slot as usize].sync;
                if sync.phase == Phase::Subscribing {
                    sync.phase = if fetched { Phase::Queued } else { Phase::Waiting { until: within } };
                }
            }
            SubscriptionState::Refused => self.close_book(slot, reason, out),
            SubscriptionState::Unsubscribed if matches!(reason, Reason::TokenExpired | Reason::AuthFailed) => {
                self.close_book(slot, reason, out);
            }
            // Left for a resync: the book waits, in the state that says why.
            SubscriptionState::Unsubscribed if self.intends(channel, slot) => {}
            SubscriptionState::Unsubscribed => self.close_book(slot, Reason::Unsubscribed, out),
            _ => {}
        }
    }

    /// Closes one book; what it waited for is forgotten.
    pub(super) fn close_book(&mut self, slot: Slot, reason: Reason, out: &mut Out) {
        self.fetches.retain(|&(_, other)| other != slot);
        let sync = &mut self.instruments[slot as usize].sync;
        sync.phase = Phase::Off;
        sync.held.clear();
        if sync.state != BookState::Closed {
            self.set_book(slot, BookState::Closed, reason, UNDEF_I64, &[], out);
        } else {
            sync.reason = reason;
        }
    }

    /// Closes the books that came over a connection. Call it while their subscriptions are still known or just forgotten.
    pub(super) fn close_books(&mut self, connection: Connection, reason: Reason, out: &mut Out) {
        for slot in self.books_of(connection) {
            if self.instruments[slot as usize].sync.state != BookState::Closed {
                self.close_book(slot, reason, out);
            }
        }
    }

    fn books_of(&self, connection: Connection) -> impl Iterator<Item = Slot> {
        let carries = self
            .plan
            .channels
            .iter()
            .any(|channel| channel.stream == StreamName::Book && channel.route == connection as usize);
        0..if carries { self.instruments.len() as Slot } else { 0 }
    }

    /// Moves every book of a connection that is in one state to another.
    pub(super) fn move_books(
        &mut self,
        connection: Connection,
        from: BookState,
        to: BookState,
        reason: Reason,
        out: &mut Out,
    ) {
        for slot in self.books_of(connection) {
            if self.instruments[slot as usize].sync.state == from {
                self.set_book(slot, to, reason, UNDEF_I64, &[], out);
            }
        }
    }

    /// A new snapshot is asked for by command.
    pub(super) fn resync_asked(&mut self, instrument_id: u32, out: &mut Out) {
        let Some(slot) = self.instruments.iter().position(|instrument| instrument.id == instrument_id) else { return };
        let now = self.now;
        let sync = &mut self.instruments[slot].sync;
        if sync.phase == Phase::Joined {
            sync.phase = Phase::Resting { until: now };
            sync.held.clear();
            self.set_book(slot as Slot, BookState::Syncing, Reason::Requested, UNDEF_I64, &[], out);
        }
    }

    /// Begins the resyncs that are due, gives up on snapshots that did not come, fetches those whose turn it is.
    pub(super) fn settle_books(&mut self, out: &mut Out) {
        for slot in 0..self.instruments.len() as Slot {
            match self.instruments[slot as usize].sync.phase {
                Phase::Resting { until } if until <= self.now => self.begin_resync(slot, out),
                Phase::Waiting { until } if until <= self.now => {
                    self.resync_failed(slot, Reason::NoSnapshot, None, &[], out);
                }
                _ => {}
            }
            let queued = self.instruments[slot as usize].sync.phase == Phase::Queued;
            if queued && self.fetches.len() < FETCHES_MOST && self.fetch_after <= self.now {
                self.fetch(slot, out);
            }
        }
    }

    pub(super) fn books_deadline(&self) -> Option<Nanos> {
        let phases = self.instruments.iter().map(|instrument| match instrument.sync.phase {
            Phase::Resting { until } | Phase::Waiting { until } => until,
            Phase::Queued if self.fetches.len() < FETCHES_MOST => self.fetch_after,
            _ => Nanos::MAX,
        });
        phases.min()
    }

    fn begin_resync(&mut self, slot: Slot, out: &mut Out) {
        let instrument = &mut self.instruments[slot as usize];
        instrument.counters.resyncs += 1;
        let state = instrument.sync.state;
        instrument.sync.phase = match self.plan.book.snapshot {
            Snapshot::Fetched { .. } => Phase::Queued,
            Snapshot::InBand => Phase::Subscribing,
        };
        if self.plan.book.snapshot == Snapshot::InBand {
            for (item, channel) in instrument.items.iter_mut().zip(&self.plan.channels) {
                if channel.stream == StreamName::Book {
                    // A request that waits for its answer is as good as a new one, but for venues that never answer.
                    let silent = channel.acknowledged == super::Acknowledged::Data;
                    item.again = item.state == SubscriptionState::Active
                        || (silent && item.state == SubscriptionState::Requested);
                    self.links[channel.route].dirty = true;
                }
            }
        }
        if state != BookState::Syncing {
            self.set_book(slot, BookState::Syncing, Reason::AwaitingSnapshot, UNDEF_I64, &[], out);
        }
        self.unsettled = true;
    }

    fn fetch(&mut self, slot: Slot, out: &mut Out) {
        let Snapshot::Fetched { url } = &self.plan.book.snapshot else { return };
        let instrument = &mut self.instruments[slot as usize];
        let url = expand(url, |name| match name {
            "symbol" => Some((&*instrument.symbol).into()),
            "symbol_lower" => Some((&*instrument.symbol_lower).into()),
            "depth" => Some(instrument.depth.to_string().into()),
            _ => None,
        });
        let request = self.next_id;
        self.next_id += 1;
        self.fetches.push((request, slot));
        instrument.sync.phase = Phase::Waiting { until: self.now.saturating_add(self.plan.timing.snapshot_within) };
        out.wishes.push(Wish::Fetch { request, url });
    }

    /// A fetched snapshot, or why there is none. Replies that nobody waits for any more are dropped.
    pub(super) fn on_reply(
        &mut self,
        request: u64,
        status: u16,
        retry_after: Option<Nanos>,
        body: &[u8],
        out: &mut Out,
    ) {
        let Some(index) = self.fetches.iter().position(|&(id, _)| id == request) else { return };
        let (_, slot) = self.fetches.remove(index);
        self.unsettled = true;
        if status != 200 {
            let limited = matches!(status, 418 | 429);
            if let Some(wait) = retry_after.filter(|_| limited) {
                self.fetch_after = self.fetch_after.max(self.now.saturating_add(wait));
            }
            let reason = if limited { Reason::RateLimited } else { Reason::FetchFailed };
            return self.resync_failed(slot, reason, retry_after, body, out);
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        let read = self.decoder.decode_reply(body, &mut decoded);
        let book = decoded.events.iter().find_map(|event| match event {
            Event::Book(book) if book.snapshot => Some(book),
            _ => None,
        });
        match (read, book) {
            (Ok(()), Some(book)) => {
                let rows = decoded.rows.get(book.rows.clone()).unwrap_or(&[]);
                let (chain, checksum, ts_event) = (book.chain, book.checksum, book.ts_event);
                self.take_snapshot(slot, &Incoming { rows, chain, checksum, ts_event, sample: body }, out);
            }
            _ => self.resync_failed(slot, Reason::BadMessage, None, body, out),
        }
        self.decoded = decoded;
    }
}
