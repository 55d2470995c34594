//! The shadow check: a live book against an independent snapshot at the same update id, without disturbing it.
//!
//! For venues that publish no checksum but number their snapshots as their updates. At intervals a snapshot is fetched for
//! one book; the updates that come meanwhile are kept beside the book, which goes on untouched. They carry the snapshot to
//! the id at which the book stands (or the book reaches the snapshot's), and there the two are compared, price by price and
//! size by size. Agreement is a COVERAGE record; a difference is a MISMATCH and a resync. A snapshot that cannot be aligned
//! says nothing and is dropped.
//!
//! A fetched snapshot ends at its limit, so both books are compared up to the nearer of the two last levels that were ever
//! fetched: what lies beyond is known to neither.

use super::recovery::FETCHES_MOST;
use super::*;
use crate::book::Level as BookLevel;
use crate::decimal::Decimal;
use crate::event::Event;
use crate::record::{Coverage, Quality, Side, F_LAST};
use crate::session::records::Stamp;
use crate::session::types::{Reply, Wish};

/// Where the budget of fetches is used up, a check waits so long.
const LATER: Nanos = crate::clock::SECOND;

/// The outermost prices of a snapshot, bid and ask; None: the side was empty, and nothing bounds it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds([Option<Decimal>; 2]);

impl Bounds {
    pub(super) fn of(book: &Book) -> Self {
        Self([Side::Bid, Side::Ask].map(|side| book.levels(side).last().map(|level| level.price)))
    }

    fn holds(&self, side: Side, price: &Decimal) -> bool {
        match (side, &self.0) {
            (Side::Bid, [Some(worst), _]) => price.cmp_value(worst).is_ge(),
            (Side::Ask, [_, Some(worst)]) => price.cmp_value(worst).is_le(),
            _ => true,
        }
    }
}

/// The one check of a session that may be under way, and when the next begins.
#[derive(Default)]
pub(in crate::session) struct Shadow {
    next_at: Nanos,
    turn: usize,
    open: Option<Check>,
    /// The updates that wait for the check's snapshot; the memory serves the next check.
    held: Held,
}

struct Check {
    slot: Slot,
    request: u64,
    begun_at: Nanos,
    until: Nanos,
    /// The snapshot, once it is here.
    other: Option<Other>,
}

struct Other {
    book: Book,
    position: Position,
    bounds: Bounds,
}

impl Session {
    /// Begins the check that is due and gives up one whose snapshot did not come or whose book was made anew.
    pub(super) fn settle_shadow(&mut self, out: &mut Out) {
        if self.plan.shadow_every == 0 {
            return;
        }
        if self.shadow.open.as_ref().is_some_and(|check| check.until <= self.now || !self.is_checkable(check.slot)) {
            self.shadow.open = None;
        }
        let count = self.instruments.len();
        let live = (0..count).filter(|&slot| self.is_checkable(slot as Slot)).count();
        if live == 0 || self.shadow.open.is_some() || self.shadow.next_at > self.now {
            return;
        }
        let first = self.shadow.next_at == 0;
        let gap = self.plan.shadow_every / live as u64;
        self.shadow.next_at = self.now.saturating_add(gap / 2).saturating_add(self.rng.below(gap)).saturating_add(1);
        if first {
            return;
        }
        if self.fetches.len() >= FETCHES_MOST || self.fetch_after > self.now {
            self.shadow.next_at = self.fetch_after.max(self.now.saturating_add(LATER));
            return;
        }
        let turns = (1..=count).map(|step| (self.shadow.turn + step) % count);
        let Some(turn) = turns.into_iter().find(|&slot| self.is_checkable(slot as Slot)) else { return };
        if !self.may_fetch(self.plan.budgets.fetches.map(|weights| weights.snapshot), out) {
            // It is due with the very step that brings the grant, which is lost otherwise.
            self.shadow.next_at = self.now;
            return;
        }
        self.shadow.turn = turn;
        let Some((request, url)) = self.snapshot_request(turn as Slot) else { return };
        let until = self.now.saturating_add(self.plan.timing.snapshot_within);
        let (slot, begun_at) = (turn as Slot, self.now);
        self.shadow.held.clear();
        self.shadow.open = Some(Check { slot, request, begun_at, until, other: None });
        out.wishes.push(Wish::Fetch { request, url });
    }

    fn is_checkable(&self, slot: Slot) -> bool {
        let sync = &self.instruments[slot as usize].sync;
        sync.phase == Phase::Joined && sync.state == BookState::Live && self.plan.book.continuity != Continuity::None
    }

    /// When something about the check is due.
    pub(super) fn shadow_deadline(&self) -> Nanos {
        match &self.shadow.open {
            _ if self.plan.shadow_every == 0 => Nanos::MAX,
            Some(check) => check.until,
            None if self.awaits_fetch_grant() => Nanos::MAX,
            None if (0..self.instruments.len()).any(|slot| self.is_checkable(slot as Slot)) => self.shadow.next_at,
            None => Nanos::MAX,
        }
    }

    /// Takes the reply to the check's request; false: it is somebody else's.
    pub(super) fn shadow_reply(&mut self, reply: Reply<'_>, out: &mut Out) -> bool {
        let Reply { request, status, retry_after, body } = reply;
        let Some(mut check) = self.shadow.open.take_if(|check| check.request == request) else { return false };
        self.unsettled = true;
        if status != 200 {
            // No news of the book; a venue that asks for patience gets it.
            let _ = self.refused_fetch(status, retry_after);
            return true;
        }
        if !self.is_checkable(check.slot) {
            return true;
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        if self.decoder.decode_reply(body, &mut decoded).is_ok() {
            let book = decoded.events.iter().find_map(|event| match event {
                Event::Book(book) if book.snapshot => Some(book),
                _ => None,
            });
            let rows = book.and_then(|book| decoded.rows.get(book.rows.clone()));
            if let (Some(book), Some(rows)) = (book, rows) {
                check.other = self.other_book(&check, &book.chain, rows);
            }
        }
        self.decoded = decoded;
        if check.other.is_some() {
            self.shadow.open = Some(check);
            self.compare_shadow(out);
        }
        true
    }

    /// The snapshot as a book, carried on by what was kept; None where it cannot be aligned.
    fn other_book(&self, check: &Check, chain: &Chain, rows: &[Row]) -> Option<Other> {
        let depth = self.instruments[check.slot as usize].depth;
        let position = Position::after_snapshot(self.plan.book.rule(), chain)?;
        let mut other = Other {
            book: BookSync::empty_book(&self.plan.book, depth, (255, 255)),
            position,
            bounds: Bounds::default(),
        };
        other.book.load(rows, &mut Vec::new()).ok()?;
        other.bounds = Bounds::of(&other.book);
        let from = self.shadow.held.join(&position)?;
        for update in self.shadow.held.updates.get(from..)? {
            other.book.apply(self.shadow.held.rows.get(update.rows.clone())?, &mut Vec::new()).ok()?;
            other.position.accept(&update.chain);
        }
        Some(other)
    }

    /// Sees an update that the live book has just taken.
    pub(super) fn shadow_update(&mut self, slot: Slot, incoming: &Incoming<'_>, out: &mut Out) {
        let Some(check) = self.shadow.open.as_mut().filter(|check| check.slot == slot) else { return };
        let fits = match &mut check.other {
            None => {
                let (rule, chain) = (self.plan.book.rule(), incoming.chain);
                self.shadow.held.push(rule, chain, incoming.rows, None, incoming.ts_event) == Kept::Yes
            }
            Some(other) => match other.position.judge(&incoming.chain) {
                Verdict::Old => true,
                Verdict::Apply => {
                    other.position.accept(&incoming.chain);
                    other.book.apply(incoming.rows, &mut Vec::new()).is_ok()
                }
                Verdict::Missing { .. } | Verdict::Impossible => false,
            },
        };
        if fits {
            self.compare_shadow(out);
        } else {
            self.shadow.open = None;
        }
    }

    /// Compares where both books stand at one update id.
    fn compare_shadow(&mut self, out: &mut Out) {
        let Some(check) = &self.shadow.open else { return };
        let (Some(other), slot) = (&check.other, check.slot) else { return };
        let sync = &self.instruments[slot as usize].sync;
        if sync.joined_at >= check.begun_at {
            // The book was made anew meanwhile.
            self.shadow.open = None;
            return;
        }
        if other.position.last != sync.position.last {
            return;
        }
        let compared = compare(&sync.book, &other.book, [&sync.bounds, &other.bounds]);
        self.shadow.open = None;
        match compared {
            Ok(levels) => self.tell_agreement(slot, levels, out),
            Err(text) => self.fault(slot, BookState::Mismatch, Reason::ShadowMismatch, text.as_bytes(), out),
        }
    }

    /// The book is what an independent snapshot says; every update since it was joined, or last checked, was chained.
    fn tell_agreement(&mut self, slot: Slot, levels: u32, out: &mut Out) {
        let Stamp { at, venue } = self.stamp();
        let instrument = &mut self.instruments[slot as usize];
        let sync = &mut instrument.sync;
        let since = std::mem::replace(&mut sync.checked_at, at).max(self.steps.stamp(sync.joined_at));
        instrument.ledger.agreed(sync.position.last, at);
        out.record(&Coverage {
            ts_event: since,
            ts_recv: at,
            sequence: sync.position.last,
            last: sync.position.last,
            ts_end: at,
            r#ref: UNDEF_U64,
            instrument_id: instrument.id,
            venue,
            stream: Stream::Book as u8,
            cause: Reason::None as u8,
            flags: F_LAST,
            repaired_from: Repair::None as u8,
            quality: Quality::ShadowChecked as u8,
            state: sync.state as u8,
            count: levels,
        });
    }
}

/// How many levels are equal within what both know; else the first difference in words.
fn compare(ours: &Book, theirs: &Book, bounds: [&Bounds; 2]) -> Result<u32, String> {
    let mut compared = 0u32;
    for side in [Side::Bid, Side::Ask] {
        let known = |level: &BookLevel| bounds.iter().all(|bounds| bounds.holds(side, &level.price));
        let mut pairs = (ours.levels(side).take_while(known), theirs.levels(side).take_while(known));
        loop {
            match (pairs.0.next(), pairs.1.next()) {
                (None, None) => break,
                (Some(a), Some(b)) if a.price.cmp_value(&b.price).is_eq() && a.size.cmp_value(&b.size).is_eq() => {
                    compared = compared.saturating_add(1);
                }
                (a, b) => {
                    let text = |level: Option<BookLevel>| {
                        level.map_or("nothing".to_owned(), |level| format!("{} @ {}", level.size, level.price))
                    };
                    return Err(format!("{side:?} {compared}: ours {}, the snapshot's {}", text(a), text(b)));
                }
            }
        }
    }
    Ok(compared)
}
