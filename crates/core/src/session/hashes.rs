//! State hashes of books: when one is due, and its record. What is hashed is defined in `book::hash`.

use super::records::{Message, Stamp};
use super::symbols::Slot;
use super::types::{HashPlan, Out};
use super::Session;
use crate::book::hash::hash_book;
use crate::clock::Nanos;
use crate::record::*;

/// When a book's next hash is due. It stands with the first message at or after that, so a quiet book costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HashClock {
    at: Nanos,
    updates: u32,
}

impl HashClock {
    /// Counts a message; true where its book is to be hashed.
    fn tick(&mut self, plan: &HashPlan, now: Nanos, snapshot: bool) -> bool {
        self.updates = self.updates.saturating_add(1);
        let by_time = plan.every > 0 && now >= self.at;
        let by_count = plan.updates > 0 && self.updates >= plan.updates;
        let due = by_time || by_count || (snapshot && (plan.every > 0 || plan.updates > 0));
        if due {
            *self = Self { at: now.saturating_add(plan.every), updates: 0 };
        }
        due
    }
}

impl Session {
    /// Writes the hash of a book right after the message whose records were just written, where one is due.
    pub(super) fn hash_if_due(&mut self, slot: Slot, message: &Message, stamp: Stamp, out: &mut Out) {
        let instrument = &mut self.instruments[slot as usize];
        if !instrument.hashes.tick(&self.plan.hashes, stamp.at, message.snapshot) {
            return;
        }
        let hashed = hash_book(&instrument.sync.book, instrument.depth);
        out.record(&StateHash {
            ts_event: message.ts_event,
            ts_recv: stamp.at,
            sequence: message.sequence,
            hash: hashed.hash,
            r#ref: UNDEF_U64,
            bid_levels: hashed.bid_levels,
            ask_levels: hashed.ask_levels,
            instrument_id: instrument.id,
            venue: stamp.venue,
            reserved: 0,
            reserved2: 0,
            flags: F_LAST | if message.snapshot { F_SNAPSHOT } else { 0 },
            price_scale: instrument.scales.0,
            size_scale: instrument.scales.1,
            state: BookState::Live as u8,
            depth: instrument.depth,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_come_by_time_by_count_and_after_snapshots() {
        let mut clock = HashClock::default();
        let (off, timed, counted) =
            (HashPlan::default(), HashPlan { every: 10, updates: 0 }, HashPlan { every: 0, updates: 3 });
        assert!(!clock.tick(&off, 5, true), "off is off, after snapshots too");
        assert!(clock.tick(&timed, 5, true));
        assert!(!clock.tick(&timed, 14, false));
        assert!(clock.tick(&timed, 15, false));
        assert!(clock.tick(&timed, 16, true));
        let mut clock = HashClock::default();
        let due: Vec<bool> = (0..7).map(|at| clock.tick(&counted, at, false)).collect();
        assert_eq!(due, [false, false, true, false, false, true, false]);
    }
}
