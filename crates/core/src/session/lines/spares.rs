//! Spare books, for venues whose messages have no numbers: each line but the one that is followed keeps a book of its own,
//! proven as the venue lets it be. When the line that is followed ends or is at fault, a spare takes its place: the book
//! stays live, and what readers have is replaced by the spare's as by a snapshot.
//!
//! A spare may be some milliseconds behind what readers have. It takes over as soon as it has caught up; one that has not
//! after `hold_within` lost something, and the book waits for a snapshot.

use super::{Joint, Session};
use crate::book::{Book, Proof};
use crate::clock::Nanos;
use crate::event::{Chain, Row};
use crate::record::{BookState, Reason, Rung, Side, Subject, SubscriptionState, UNDEF_U64};
use crate::session::books::{BookSync, Incoming};
use crate::session::records::{self, Fact};
use crate::session::subscriptions::stream_number;
use crate::session::symbols::Slot;
use crate::session::sync::{Position, Verdict};
use crate::session::types::{BookPlan, Connection, Out, StreamName};

/// The lines of one instrument's book.
pub(in crate::session) struct Spares {
    leader: usize,
    /// The leader's book is at fault or ended, and it has not caught up with what readers have: until then.
    catching_until: Option<Nanos>,
    /// By line; the leader's own is in use only while it catches up.
    books: Vec<Spare>,
}

/// One line's own book.
struct Spare {
    /// None: it waits for a snapshot.
    book: Option<Book>,
    position: Position,
    ts_last: Nanos,
    /// When it is subscribed anew, should no snapshot have come by then.
    until: Option<Nanos>,
    tries: u32,
    /// When its snapshot came, or it began to be followed.
    joined_at: Nanos,
    /// Since when it holds something newer than what readers have, and the event time of that.
    ahead: Option<(Nanos, Nanos)>,
}

impl Spares {
    pub(super) fn new(lines: usize, plan: &BookPlan) -> Self {
        let position = Position::new(plan.rule());
        let spare =
            || Spare { book: None, position, ts_last: UNDEF_U64, until: None, tries: 0, joined_at: 0, ahead: None };
        Self { leader: 0, catching_until: None, books: (0..lines).map(|_| spare()).collect() }
    }

    pub(super) fn deadline(&self, within: Nanos) -> Option<Nanos> {
        let ahead = self.books.iter().filter_map(|spare| spare.ahead.map(|ahead| ahead.0.saturating_add(within)));
        self.books.iter().filter_map(|spare| spare.until).chain(ahead).chain(self.catching_until).min()
    }
}

impl Session {
    fn spares(&mut self, slot: Slot) -> Option<&mut Spares> {
        Some(&mut self.instruments[slot as usize].merge.as_deref_mut()?.spares)
    }

    fn leader(&self, slot: Slot) -> Option<&Spares> {
        let spares = &self.instruments[slot as usize].merge.as_deref()?.spares;
        (self.joint() == Joint::Leader).then_some(spares)
    }

    /// Whether a line's book is a spare's at present, with all lines but the one that is followed.
    pub(in crate::session) fn is_spare(&self, connection: Connection, slot: Slot) -> bool {
        self.leader(slot).is_some_and(|spares| spares.leader != self.line_of(connection))
    }

    /// The line whose book is followed; None where books are not led by one.
    pub(in crate::session) fn leading(&self, slot: Slot) -> Option<usize> {
        self.leader(slot).map(|spares| spares.leader)
    }

    /// Whether a line could take an instrument's book over now.
    pub(super) fn is_spare_ready(&self, connection: Connection, slot: Slot) -> bool {
        let line = self.line_of(connection);
        let joined = |spares: &Spares| spares.books.get(line).is_some_and(|spare| spare.book.is_some());
        self.leader(slot).is_some_and(|spares| spares.leader == line || joined(spares))
    }

    /// Takes a book message where books are led by one line.
    pub(super) fn lead_book(
        &mut self,
        connection: Connection,
        slot: Slot,
        whole: bool,
        update: &Incoming<'_>,
        out: &mut Out,
    ) {
        let line = self.line_of(connection);
        let Some(spares) = self.spares(slot) else { return };
        let catching = spares.catching_until.is_some();
        if spares.leader == line && !catching {
            return self.take_book(slot, whole, update, out);
        }
        let leads = spares.leader == line;
        self.take_spare(connection, slot, whole, update);
        if leads {
            self.catch_up(slot, out);
        }
    }

    /// A message on a line that is not followed: its book goes on, or is dropped and subscribed anew.
    fn take_spare(&mut self, connection: Connection, slot: Slot, whole: bool, update: &Incoming<'_>) {
        let line = self.line_of(connection);
        let (rule, crossed_is_fault) = (self.plan.book.rule(), self.plan.book.crossed_is_fault);
        let (now, shown) = (self.now, self.instruments[slot as usize].sync.ts_last);
        let mut changes = std::mem::take(&mut self.changes);
        changes.clear();
        let instrument = &self.instruments[slot as usize];
        let fresh = || BookSync::empty_book(&self.plan.book, instrument.depth, instrument.scales);
        let fresh = whole.then(fresh);
        let Some(spare) = self.spares(slot).and_then(|spares| spares.books.get_mut(line)) else { return };
        let mut is_true = true;
        if let Some(mut book) = fresh {
            let position = Position::after_snapshot(rule, &update.chain);
            is_true = position.is_some() && book.load(update.rows, &mut changes).is_ok();
            (spare.book, spare.position) = (Some(book), position.unwrap_or(spare.position));
            (spare.until, spare.joined_at) = (None, now);
        } else if let Some(book) = &mut spare.book {
            match spare.position.judge(&update.chain) {
                Verdict::Apply => is_true = book.apply(update.rows, &mut changes).is_ok(),
                Verdict::Old => {
                    self.changes = changes;
                    return;
                }
                Verdict::Missing { .. } | Verdict::Impossible => is_true = false,
            }
            spare.position.accept(&update.chain);
        }
        if let Some(book) = &mut spare.book {
            is_true &= book.prove(update.checksum) != Proof::Failed && !(crossed_is_fault && book.is_crossed());
            spare.ts_last = update.ts_event;
            let newer = update.ts_event != UNDEF_U64 && shown != UNDEF_U64 && update.ts_event > shown;
            if newer && spare.ahead.is_none() {
                spare.ahead = Some((now, update.ts_event));
            }
        }
        self.changes = changes;
        if !is_true {
            self.spare_fault(connection, slot);
        }
    }

    /// A spare's book is wrong, or nothing is known of it any more: after a while it is subscribed anew.
    pub(in crate::session) fn spare_fault(&mut self, connection: Connection, slot: Slot) {
        let line = self.line_of(connection);
        let healthy_at = self.now.saturating_sub(self.plan.timing.healthy_after);
        let Some(tries) = self.spares(slot).and_then(|spares| {
            let spare = spares.books.get(line)?;
            Some(if spare.joined_at <= healthy_at { 0 } else { spare.tries })
        }) else {
            return;
        };
        // At once for the first time, as a book's own.
        let wait = if tries == 0 { 0 } else { self.plan.timing.backoff().wait(&mut self.rng, tries - 1) };
        let until = self.now.saturating_add(wait);
        let now = self.now;
        let Some(spare) = self.spares(slot).and_then(|spares| spares.books.get_mut(line)) else { return };
        (spare.tries, spare.joined_at) = (tries.saturating_add(1), now);
        (spare.book, spare.until, spare.ahead) = (None, Some(until), None);
        self.unsettled = true;
    }

    /// Lets a spare follow its line's subscription.
    fn spare_subscription(&mut self, connection: Connection, slot: Slot, to: SubscriptionState) {
        let (line, until) = (self.line_of(connection), self.now.saturating_add(self.plan.timing.snapshot_within));
        let Some(spare) = self.spares(slot).and_then(|spares| spares.books.get_mut(line)) else { return };
        match to {
            SubscriptionState::Requested => spare.book = None,
            SubscriptionState::Active => {
                spare.until = spare.book.is_none().then_some(until);
                return;
            }
            _ => spare.book = None,
        }
        (spare.until, spare.ahead) = (None, None);
        self.unsettled = true;
    }

    /// The followed line's book is at fault, or ends: true where a spare takes over and the book stays live.
    pub(in crate::session) fn fail_over(&mut self, slot: Slot, reason: Reason, out: &mut Out) -> bool {
        self.go_over(slot, reason, false, out)
    }

    /// `late`: the line that was followed is well, and will be a spare from now on.
    fn go_over(&mut self, slot: Slot, reason: Reason, late: bool, out: &mut Out) -> bool {
        let Some(from) = self.leading(slot).filter(|_| !self.draining) else { return false };
        let state = self.instruments[slot as usize].sync.state;
        if !matches!(state, BookState::Live | BookState::Stale) {
            return false;
        }
        let old = self.book_connection(from);
        let Some(next) = old.and_then(|old| {
            let mut twins = self.twins(old);
            twins.find(|&twin| {
                self.carries(twin, slot, StreamName::Book)
                    && self.links[usize::from(twin)].state == crate::record::ConnectionState::Live
                    && self.is_spare_ready(twin, slot)
            })
        }) else {
            return false;
        };
        let (line, until) = (self.line_of(next), self.now.saturating_add(self.plan.lines.hold_within));
        let sync = &self.instruments[slot as usize].sync;
        let (kept, position, shown) = (late.then(|| sync.book.clone()), sync.position, sync.ts_last);
        if let Some(spares) = self.spares(slot) {
            spares.leader = line;
            spares.catching_until = Some(until);
            spares.books.iter_mut().for_each(|spare| spare.ahead = None);
            if let Some(spare) = spares.books.get_mut(from) {
                (spare.book, spare.position, spare.ts_last, spare.until) = (kept, position, shown, None);
            }
        }
        self.climb(Some(slot), Some(next), (Rung::Line, reason), out);
        // The line that is left may still be there: then it becomes a spare again.
        if let Some(old) = old.filter(|&old| !late && self.carries(old, slot, StreamName::Book)) {
            self.spare_fault(old, slot);
        }
        self.catch_up(slot, out);
        true
    }

    /// Puts the leader's own book in the place of what readers have, once it is not older.
    fn catch_up(&mut self, slot: Slot, out: &mut Out) {
        let now = self.now;
        let shown = self.instruments[slot as usize].sync.ts_last;
        let Some(spares) = self.spares(slot) else { return };
        let Some(until) = spares.catching_until else { return };
        let leader = spares.leader;
        let Some(spare) = spares.books.get_mut(leader) else { return };
        let behind = spare.ts_last != UNDEF_U64 && shown != UNDEF_U64 && spare.ts_last < shown;
        if spare.book.is_some() && behind && until > now {
            return;
        }
        if spare.book.is_none() || behind {
            // It turned out to be wrong in the meantime, or its line never brought what readers have: an older book is
            // none to go back to. Now the book has nobody to follow.
            spares.catching_until = None;
            (spare.book, spare.until) = (None, None);
            return self.fault(slot, BookState::Gap, Reason::NoSnapshot, &[], out);
        }
        spares.catching_until = None;
        let (ts_event, number) = (spare.ts_last, spare.position);
        let Some(book) = spare.book.take() else { return };
        let rows: Vec<Row> = [Side::Bid, Side::Ask]
            .into_iter()
            .flat_map(|side| {
                book.levels(side).map(move |level| Row {
                    side,
                    price: level.price,
                    size: level.size,
                    count: level.count,
                })
            })
            .collect();
        let chain = Chain { last: number.last, ..Chain::NONE };
        let incoming = Incoming { rows: &rows, chain, checksum: None, ts_event, sample: &[] };
        self.take_over(slot, &incoming, number, out);
    }

    /// A subscription of one line to a book moved. True where the book itself is to follow it.
    pub(in crate::session) fn is_books_own(
        &mut self,
        channel: usize,
        slot: Slot,
        to: SubscriptionState,
        reason: Reason,
        out: &mut Out,
    ) -> bool {
        if !self.is_redundant() {
            return true;
        }
        let connection = self.plan.channels[channel].route as Connection;
        let other = self.stands_in(connection, slot, StreamName::Book);
        if self.leading(slot).is_none() {
            // Whichever line is acknowledged first, a snapshot may be had from then on.
            return other.is_none() || to == SubscriptionState::Active;
        }
        if !self.is_spare(connection, slot) {
            let ends = !matches!(to, SubscriptionState::Requested | SubscriptionState::Active);
            if ends && self.fail_over(slot, reason, out) {
                self.spare_subscription(connection, slot, to);
                return false;
            }
            return true;
        }
        // A line that comes while nobody is followed is the one to follow.
        if to == SubscriptionState::Requested && other.is_none() {
            self.follow_line(connection, slot);
            return true;
        }
        self.spare_subscription(connection, slot, to);
        false
    }

    /// A spare has held something newer for long: the line that is followed is silent, or far behind.
    fn leave_late_leader(&mut self, slot: Slot, out: &mut Out) {
        let (now, within) = (self.now, self.plan.lines.hold_within);
        let shown = self.instruments[slot as usize].sync.ts_last;
        let Some(spares) = self.spares(slot) else { return };
        let mut late = false;
        for spare in &mut spares.books {
            if let Some((_, newer)) = spare.ahead.take_if(|ahead| ahead.0.saturating_add(within) <= now) {
                late |= newer > shown;
            }
        }
        if late && spares.catching_until.is_none() {
            self.go_over(slot, Reason::Silent, true, out);
        }
    }

    /// A line's own book is made anew while the other one is followed: until it is there nothing can take over.
    fn tell_spare(&mut self, connection: Connection, slot: Slot, out: &mut Out) {
        let (instrument_id, detail) = (self.instruments[slot as usize].id, stream_number(StreamName::Book));
        let to = Fact::new(Subject::Recovery, 0, Rung::Resubscribe as u8, Reason::AwaitingSnapshot);
        let fact = Fact { instrument_id, connection: u32::from(connection), detail, ..to };
        records::status(out, self.stamp(), &fact);
    }

    fn follow_line(&mut self, connection: Connection, slot: Slot) {
        let line = self.line_of(connection);
        if let Some(spares) = self.spares(slot) {
            (spares.leader, spares.catching_until) = (line, None);
            if let Some(spare) = spares.books.get_mut(line) {
                (spare.book, spare.until) = (None, None);
            }
        }
    }

    /// A line with this book ended. True where another one has it, so that it stays.
    pub(in crate::session) fn survives(
        &mut self,
        connection: Connection,
        slot: Slot,
        reason: Reason,
        out: &mut Out,
    ) -> bool {
        let Some(other) = self.stands_in(connection, slot, StreamName::Book) else { return false };
        if self.leading(slot).is_none() {
            return true;
        }
        if self.is_spare(connection, slot) {
            self.spare_subscription(connection, slot, SubscriptionState::Unsubscribed);
            return true;
        }
        if self.fail_over(slot, reason, out) {
            return true;
        }
        // The other line waits for its snapshot, and so does the book from now on.
        self.close_book(slot, reason, out);
        self.follow_line(other, slot);
        self.await_snapshot(slot, out);
        true
    }

    /// Something of one line about a book cannot be read. True where the book itself is not touched by that.
    pub(in crate::session) fn is_spared(&mut self, connection: Connection, slot: Slot) -> bool {
        if !self.is_redundant() {
            return false;
        }
        if self.is_spare(connection, slot) {
            self.spare_fault(connection, slot);
            return true;
        }
        self.leading(slot).is_none() && self.stands_in(connection, slot, StreamName::Book).is_some()
    }

    /// The connection of a line that carries books.
    pub(in crate::session) fn book_connection(&self, line: usize) -> Option<Connection> {
        let books = self.plan.channels.iter().filter(|channel| channel.stream == StreamName::Book);
        let mut routes = books.map(|channel| channel.route as Connection);
        routes.find(|&route| self.line_of(route) == line)
    }

    /// Subscribes spares anew whose snapshot did not come, and ends the patience with one that catches up.
    pub(super) fn settle_spares(&mut self, out: &mut Out) {
        if self.joint() != Joint::Leader {
            return;
        }
        for slot in 0..self.instruments.len() as Slot {
            self.catch_up(slot, out);
            self.leave_late_leader(slot, out);
            let Some(merge) = self.instruments[slot as usize].merge.as_deref_mut() else { continue };
            let leader = merge.spares.leader;
            let due = |spare: &Spare| spare.until.is_some_and(|until| until <= self.now);
            let lines: Vec<usize> = (0..merge.spares.books.len())
                .filter(|&line| line != leader && due(&merge.spares.books[line]))
                .collect();
            for line in lines {
                let Some(connection) = self.book_connection(line) else { continue };
                if self.carries(connection, slot, StreamName::Book) {
                    // Should this not be answered, it is the subscription's own affair.
                    let again = self.now.saturating_add(self.plan.timing.snapshot_within);
                    self.tell_spare(connection, slot, out);
                    self.resubscribe(connection, slot, StreamName::Book);
                    if let Some(spare) = self.spares(slot).and_then(|spares| spares.books.get_mut(line)) {
                        spare.until = Some(again);
                    }
                } else if let Some(spare) = self.spares(slot).and_then(|spares| spares.books.get_mut(line)) {
                    spare.until = None;
                }
            }
        }
    }
}
