//! How a book follows its subscription and its connection.

use super::{Phase, Session};
use crate::record::{BookState, Reason, SubscriptionState, UNDEF_I64};
use crate::session::symbols::Slot;
use crate::session::types::{Acknowledged, Connection, Out, Snapshot, StreamName};
use crate::session::Item;

impl Session {
    /// The connection that an instrument's book comes over, while it is subscribed.
    pub(super) fn book_route(&self, slot: Slot) -> Option<Connection> {
        let items = self.instruments[slot as usize].items.iter();
        let mut both = items.zip(&self.plan.channels);
        let there = |item: &Item| {
            matches!(item.state, SubscriptionState::Requested | SubscriptionState::Active | SubscriptionState::Leaving)
        };
        let leading = self.leading(slot);
        let followed = |route: usize| leading.is_none_or(|line| self.line_of(route as Connection) == line);
        let found =
            both.find(|(item, channel)| channel.stream == StreamName::Book && there(item) && followed(channel.route));
        found.map(|(_, channel)| channel.route as Connection)
    }

    /// Lets a book follow its subscription.
    pub(in crate::session) fn book_subscription(
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
                let silent = self.plan.channels[channel].acknowledged == Acknowledged::Data;
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

    /// Its subscription is there already, and what it waits for is the snapshot.
    pub(in crate::session) fn await_snapshot(&mut self, slot: Slot, out: &mut Out) {
        let until = self.now.saturating_add(self.plan.timing.snapshot_within);
        self.instruments[slot as usize].sync.phase = Phase::Waiting { until };
        self.set_book(slot, BookState::Syncing, Reason::AwaitingSnapshot, UNDEF_I64, &[], out);
    }

    /// Closes one book; what it waited for is forgotten.
    pub(in crate::session) fn close_book(&mut self, slot: Slot, reason: Reason, out: &mut Out) {
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
    pub(in crate::session) fn close_books(&mut self, connection: Connection, reason: Reason, out: &mut Out) {
        for slot in self.books_of(connection) {
            if self.instruments[slot as usize].sync.state != BookState::Closed
                && !self.survives(connection, slot, reason, out)
            {
                self.close_book(slot, reason, out);
            }
        }
    }

    pub(super) fn books_of(&self, connection: Connection) -> impl Iterator<Item = Slot> {
        let carries = self
            .plan
            .channels
            .iter()
            .any(|channel| channel.stream == StreamName::Book && channel.route == connection as usize);
        0..if carries { self.instruments.len() as Slot } else { 0 }
    }

    /// Moves every book of a connection that is in one state to another.
    pub(in crate::session) fn move_books(
        &mut self,
        connection: Connection,
        from: BookState,
        to: BookState,
        reason: Reason,
        out: &mut Out,
    ) {
        for slot in self.books_of(connection) {
            // A book that is silent for itself is not mended by what the connection says of others.
            let line = self.line_of(connection);
            let silent = self.instruments[slot as usize].pulses[line].book.stale;
            if to == BookState::Stale && self.survives(connection, slot, reason, out) {
                continue;
            }
            if self.instruments[slot as usize].sync.state == from && !silent {
                self.set_book(slot, to, reason, UNDEF_I64, &[], out);
            }
        }
    }
}
