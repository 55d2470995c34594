//! What disproves a book, and how it is made right again: resyncs, their delays, snapshots that are fetched.

use super::{Incoming, Phase, Session};
use crate::clock::Nanos;
use crate::event::Event;
use crate::record::{BookState, Reason, Rung, SubscriptionState, UNDEF_I64};
use crate::session::records;
use crate::session::subscriptions::expand;
use crate::session::symbols::Slot;
use crate::session::types::{Acknowledged, Budget, Connection, Continuity, Out, Reply, Snapshot, StreamName, Wish};

/// Snapshots that are fetched at once by one session, so that a start does not spend a venue's whole budget in a moment.
pub(super) const FETCHES_MOST: usize = 8;

impl Session {
    /// What disproves a book: it is told, and the resync begins, at once for the first time, later for each further one.
    pub(in crate::session) fn fault(
        &mut self,
        slot: Slot,
        state: BookState,
        reason: Reason,
        sample: &[u8],
        out: &mut Out,
    ) {
        let sync = &self.instruments[slot as usize].sync;
        if sync.phase == Phase::Off {
            return self.tell_instrument(slot, reason, sample, out);
        }
        self.restart_merge(slot);
        if self.fail_over(slot, reason, out) {
            return;
        }
        let sync = &self.instruments[slot as usize].sync;
        let healthy = self.plan.timing.healthy_after;
        let proven = sync.phase == Phase::Joined && self.now.saturating_sub(sync.joined_at) >= healthy;
        let tries = if proven { 0 } else { sync.tries };
        let delay = if tries == 0 { 0 } else { self.plan.timing.backoff().wait(&mut self.rng, tries - 1) };
        let until = self.now.saturating_add(delay);
        self.fetches.retain(|&(_, other)| other != slot);
        let sync = &mut self.instruments[slot as usize].sync;
        sync.tries = tries.saturating_add(1);
        sync.phase = Phase::Resting { until };
        sync.held.clear();
        if proven {
            self.instruments[slot as usize].rung = Rung::None;
        }
        let value = if delay == 0 { UNDEF_I64 } else { self.told(until) };
        self.set_book(slot, state, reason, value, sample, out);
        self.climb_where_it_persists(slot, reason, out);
    }

    /// A book that is wrong again and again, without health between, may be wrong by its connection: that is made anew.
    /// Should it not help, each further time waits for twice as many faults, since the others on it suffer too.
    fn climb_where_it_persists(&mut self, slot: Slot, reason: Reason, out: &mut Out) {
        let (tries, least) = (self.instruments[slot as usize].sync.tries, self.plan.reconnect_after_faults);
        if least == 0 || tries % least != 0 || !(tries / least).is_power_of_two() {
            return;
        }
        let Some(connection) = self.book_route(slot).filter(|&route| self.links[route as usize].is_open()) else {
            return;
        };
        self.climb(Some(slot), Some(connection), (Rung::Reconnect, reason), out);
        self.close(connection, reason, b"a book on it is wrong again and again", out);
    }

    /// The snapshot did not come, or could not be joined: to be asked for again later. What waits for it is kept.
    pub(super) fn resync_failed(
        &mut self,
        slot: Slot,
        reason: Reason,
        retry_after: Option<Nanos>,
        sample: &[u8],
        out: &mut Out,
    ) {
        let tries = self.instruments[slot as usize].sync.tries;
        let own = self.plan.timing.backoff().wait(&mut self.rng, tries);
        let until = self.now.saturating_add(own.max(retry_after.unwrap_or(0)));
        self.fetches.retain(|&(_, other)| other != slot);
        let sync = &mut self.instruments[slot as usize].sync;
        sync.tries = tries.saturating_add(1);
        sync.phase = Phase::Resting { until };
        let state = if sync.state == BookState::Live { BookState::Gap } else { sync.state };
        let value = self.told(until);
        self.set_book(slot, state, reason, value, sample, out);
        // What is fetched does not come by the connection.
        if self.plan.book.snapshot == Snapshot::InBand {
            self.climb_where_it_persists(slot, reason, out);
        }
    }

    /// A message about this instrument could not be read, or cannot be.
    pub(in crate::session) fn impossible(
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
        if carried && !self.is_spared(connection, slot) {
            self.fault(slot, BookState::Mismatch, reason, frame, out);
        } else {
            self.tell_instrument(slot, reason, frame, out);
        }
    }

    /// After a frame that could not be read: the books that it names are suspect, and where nothing else would show a lost
    /// message (no numbers, no checksum of all levels) every one of its connection: two messages that arrive as one name
    /// one, and hold another.
    pub(in crate::session) fn suspect(&mut self, connection: Connection, reason: Reason, frame: &[u8], out: &mut Out) {
        let sample = &frame[..frame.len().min(records::SAMPLE_BYTES_MOST)];
        let mut slots = Vec::new();
        self.symbols.mentioned(sample, |slot| slots.push(slot));
        if self.plan.book.continuity == Continuity::None {
            let checksum = self.plan.book.checksum;
            let depths = self.instruments.iter().map(|instrument| instrument.depth);
            let unproven = depths.zip(0..).filter(|&(depth, _)| !checksum.covers(depth));
            slots.extend(unproven.map(|(_, slot): (u32, Slot)| slot));
        }
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            let on_it = self.is_carried(connection, slot) && !self.is_spared(connection, slot);
            if on_it && self.instruments[slot as usize].sync.phase == Phase::Joined {
                self.fault(slot, BookState::Mismatch, reason, &[], out);
            }
        }
    }

    /// A new snapshot is asked for by command.
    pub(in crate::session) fn resync_asked(&mut self, instrument_id: u32, out: &mut Out) {
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
    pub(in crate::session) fn settle_books(&mut self, out: &mut Out) {
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
        self.settle_shadow(out);
    }

    pub(in crate::session) fn books_deadline(&self) -> Option<Nanos> {
        let phases = self.instruments.iter().map(|instrument| match instrument.sync.phase {
            Phase::Resting { until } | Phase::Waiting { until } => until,
            Phase::Queued if self.fetches.len() < FETCHES_MOST && !self.awaits_fetch_grant() => self.fetch_after,
            _ => Nanos::MAX,
        });
        phases.chain([self.shadow_deadline()]).min()
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
            let (leading, lines) = (self.leading(slot), self.plan.lines.copies.max(1));
            let of_line = self.plan.routes.len() / usize::from(lines);
            let instrument = &mut self.instruments[slot as usize];
            let followed = |route: usize| leading.is_none_or(|line| route / of_line.max(1) == line);
            for (item, channel) in instrument.items.iter_mut().zip(&self.plan.channels) {
                if channel.stream == StreamName::Book && followed(channel.route) {
                    // A request that waits for its answer is as good as a new one, but for venues that never answer.
                    let silent = channel.acknowledged == Acknowledged::Data;
                    item.again = item.state == SubscriptionState::Active
                        || (silent && item.state == SubscriptionState::Requested);
                    self.links[channel.route].dirty = true;
                }
            }
        }
        let (reason, connection) = (self.instruments[slot as usize].sync.reason, self.book_route(slot));
        self.climb(Some(slot), connection, (Rung::Snapshot, reason), out);
        if state != BookState::Syncing {
            self.set_book(slot, BookState::Syncing, Reason::AwaitingSnapshot, UNDEF_I64, &[], out);
        }
        self.unsettled = true;
    }

    fn fetch(&mut self, slot: Slot, out: &mut Out) {
        if !self.may_fetch(self.plan.budgets.fetches.map(|weights| weights.snapshot), out) {
            return;
        }
        let Some((request, url)) = self.snapshot_request(slot) else { return };
        self.fetches.push((request, slot));
        let until = self.now.saturating_add(self.plan.timing.snapshot_within);
        self.instruments[slot as usize].sync.phase = Phase::Waiting { until };
        out.wishes.push(Wish::Fetch { request, url });
    }

    /// A new request's number and the address of a book's snapshot; None where snapshots come in band.
    pub(super) fn snapshot_request(&mut self, slot: Slot) -> Option<(u64, String)> {
        let Snapshot::Fetched { url } = &self.plan.book.snapshot else { return None };
        let instrument = &self.instruments[slot as usize];
        let url = expand(url, |name| match name {
            "symbol" => Some((&*instrument.symbol).into()),
            "symbol_lower" => Some((&*instrument.symbol_lower).into()),
            "depth" => Some(instrument.depth.to_string().into()),
            _ => None,
        });
        let request = self.next_id;
        self.next_id += 1;
        Some((request, url))
    }

    /// What a reply that refuses means. One that asks for patience holds every fetch of this session back.
    pub(in crate::session) fn refused_fetch(&mut self, status: u16, retry_after: Option<Nanos>) -> Reason {
        if !matches!(status, 418 | 429) {
            return Reason::FetchFailed;
        }
        let wait = retry_after.unwrap_or(self.plan.timing.backoff_most);
        self.fetch_after = self.fetch_after.max(self.now.saturating_add(wait));
        Reason::RateLimited
    }

    /// A fetched snapshot, or why there is none. Replies that nobody waits for any more are dropped.
    pub(in crate::session) fn on_reply(&mut self, reply: Reply<'_>, out: &mut Out) {
        if matches!(reply.status, 418 | 429) {
            let wait = reply.retry_after.unwrap_or(self.plan.timing.backoff_most);
            out.wishes.push(Wish::Hold { budget: Budget::Fetches, connection: 0, wait });
        }
        if self.on_listing_reply(reply, out) || self.shadow_reply(reply, out) || self.backfill_reply(reply, out) {
            return;
        }
        let Reply { request, status, retry_after, body } = reply;
        let Some(index) = self.fetches.iter().position(|&(id, _)| id == request) else { return };
        let (_, slot) = self.fetches.remove(index);
        self.unsettled = true;
        if status != 200 {
            let reason = self.refused_fetch(status, retry_after);
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
