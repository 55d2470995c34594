//! What a book's state means for the coverage ledger.

use super::{BookSync, Session};
use crate::record::{BookState, Quality, Reason, Stream};
use crate::session::coverage::Turn;
use crate::session::symbols::Slot;
use crate::session::types::{Checksum, Continuity, Out, StreamName};

impl BookSync {
    /// The last number that the book holds; UNDEF where the venue gives none.
    pub(in crate::session) fn number(&self) -> u64 {
        self.position.last
    }
}

impl Checksum {
    /// Whether it says something of every level of a book so deep (0: all there are). What is lost of the levels behind those
    /// that it covers shows nowhere until they come up.
    pub(super) const fn covers(self, depth: u32) -> bool {
        let levels = match self {
            Checksum::None => 0,
            Checksum::Kraken => 10,
            Checksum::Okx | Checksum::Bitfinex => 25,
        };
        depth != 0 && depth <= levels
    }
}

impl Session {
    /// Lets the ledger follow a book. What disproves it reaches back to the last message that was proven, or to the last
    /// independent agreement where only such a one could disprove it.
    pub(in crate::session) fn cover_book(&mut self, slot: Slot, reason: Reason, out: &mut Out) {
        if self.plan.coverage_every == 0 {
            return;
        }
        let instrument = &self.instruments[slot as usize];
        let sync = &instrument.sync;
        let is_wanted = instrument.holders > 0 && instrument.wants(StreamName::Book) && !self.draining;
        let quality = match sync.state {
            BookState::Live if self.is_loss_seen(instrument.depth) => Some(Quality::Complete),
            BookState::Live => Some(Quality::Unproven),
            BookState::Stale => Some(Quality::Stale),
            BookState::Closed if !is_wanted => None,
            _ => Some(Quality::Gap),
        };
        let since = match sync.state {
            BookState::Gap | BookState::Mismatch if reason == Reason::ShadowMismatch => {
                self.steps.stamp(sync.joined_at).max(sync.checked_at)
            }
            BookState::Gap | BookState::Mismatch if reason == Reason::TickerMismatch => {
                self.steps.stamp(sync.joined_at).max(sync.checked_at).max(sync.ticker.agreed_at)
            }
            BookState::Gap | BookState::Mismatch => instrument.ledger.heard_at(Stream::Book),
            BookState::Closed => self.book_seen(),
            _ => self.at,
        };
        let cause = if reason == Reason::None { Reason::AwaitingSnapshot } else { reason };
        let to = quality.map(|quality| match quality {
            Quality::Complete | Quality::Unproven => (quality, Reason::None),
            _ => (quality, cause),
        });
        let turn = Turn { to, since, number: sync.position.last };
        let stamp = self.stamp();
        self.instruments[slot as usize].ledger.turn(Stream::Book, turn, stamp, out);
    }

    /// Whether a message that is lost shows, by its number or by the next checksum.
    fn is_loss_seen(&self, depth: u32) -> bool {
        let book = &self.plan.book;
        book.connection_numbered
            || book.checksum.covers(depth)
            || matches!(book.continuity, Continuity::Range | Continuity::Previous)
    }

    /// When the connection that carries books last gave a sign of life; now while it is open.
    fn book_seen(&self) -> u64 {
        let carries = self.plan.channels.iter().filter(|channel| channel.stream == StreamName::Book);
        let routes = || carries.clone().map(|channel| channel.route);
        if routes().any(|route| self.links[route].is_open()) {
            return self.at;
        }
        routes().map(|route| self.last_seen(route as u16)).max().unwrap_or(self.at)
    }
}
