//! Trades: continuity by consecutive ids, replays that fill holes, duplicates that are dropped and counted; [`backfill`]
//! fetches what is missing.

mod backfill;

pub(super) use backfill::Backfill;

use super::records::{self, Hole, Stamp};
use super::types::Out;
use super::{Instrument, Session, Told};
use crate::clock::Nanos;
use crate::event::{Event, TradeEvent};
use crate::record::{BookState, Reason, Repair, Stream, UNDEF_U64};
use crate::session::symbols::Slot;
use crate::session::types::{Connection, LastTrade, StreamName};
use backfill::Job;

/// Holes that are remembered at most, so that trades that come late or again can fill them. The oldest is forgotten first.
const HOLES_MOST: usize = 64;
/// So many known ids in a row without a new one: the venue has begun to count anew.
const RESTART_AFTER: u32 = 100;
/// So many trades in a row below the largest id and later than its trade: that id was never true, or the venue has begun
/// to count anew.
const LATER_MOST: u32 = 3;

/// What the ids make of one trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The next one, or the first that we see.
    Next,
    /// These ids (inclusive) are missing before it.
    After { first: u64, last: u64 },
    /// It fills a hole.
    Fills,
    /// We have it.
    Duplicate,
    /// The venue counts anew.
    Restart,
}

/// One instrument's trade stream.
#[derive(Debug)]
pub(super) struct TradeStream {
    /// The largest id so far; UNDEF before the first.
    pub(super) last: u64,
    ts_last: Nanos,
    holes: Vec<(u64, u64)>,
    duplicates_in_row: u32,
    later_in_row: u32,
    /// It was unsubscribed: what is missing until the next trade was not wanted.
    pub(super) left: bool,
    /// `last` is of an earlier run: what is missing until the next trade was missed while nothing ran.
    resumed: bool,
    /// The newest hole, which may be fetched.
    wanted: Option<Job>,
}

impl TradeStream {
    pub(super) fn new() -> Self {
        Self {
            last: UNDEF_U64,
            ts_last: UNDEF_U64,
            holes: Vec::new(),
            duplicates_in_row: 0,
            later_in_row: 0,
            left: false,
            resumed: false,
            wanted: None,
        }
    }

    /// The stream where an earlier run left it.
    fn resumed(last: &LastTrade) -> Self {
        Self { last: last.id, ts_last: last.ts_event, resumed: true, ..Self::new() }
    }

    /// What is still missing between two ids (inclusive), as spans of ids, ascending.
    fn missing(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let within = self.holes.iter().map(|&(from, to)| (from.max(first), to.min(last)));
        let mut spans: Vec<_> = within.filter(|(from, to)| from <= to).collect();
        spans.sort_unstable();
        spans
    }

    /// Whether a trade of a smaller id is what comes next all the same, being later than the trade of the largest
    /// (`before`): ids go with time. After an earlier run one such trade tells, since the venue began anew while nothing ran.
    /// Else it takes [`LATER_MOST`] in a row: what came between them and an id that was never true filled its hole.
    fn began_anew(&mut self, trade: &TradeEvent, before: Nanos) -> bool {
        let dated = before != UNDEF_U64 && trade.ts_event != UNDEF_U64;
        let later = dated && trade.id <= self.last && trade.ts_event > before;
        self.later_in_row = if later { self.later_in_row + 1 } else { 0 };
        later && (self.resumed || self.later_in_row >= LATER_MOST)
    }

    /// Places a trade by its consecutive id and remembers it.
    pub(super) fn place(&mut self, id: u64, replayed: bool) -> Place {
        let place = if self.last == UNDEF_U64 || id == self.last.saturating_add(1) {
            Place::Next
        } else if id > self.last {
            let (first, last) = (self.last.saturating_add(1), id - 1);
            self.holes.push((first, last));
            Place::After { first, last }
        } else if self.fill(id) {
            Place::Fills
        } else if !replayed && self.duplicates_in_row + 1 >= RESTART_AFTER {
            self.holes.clear();
            Place::Restart
        } else {
            Place::Duplicate
        };
        if self.holes.len() > HOLES_MOST {
            self.holes.remove(0);
        }
        match place {
            Place::Duplicate => self.duplicates_in_row += u32::from(!replayed),
            Place::Fills => self.duplicates_in_row = 0,
            _ => {
                self.duplicates_in_row = 0;
                self.last = id;
            }
        }
        place
    }

    /// Whether an id lies in a hole that was told.
    pub(super) fn is_missing(&self, id: u64) -> bool {
        self.holes.iter().any(|&(first, last)| first <= id && id <= last)
    }

    fn begin_anew(&mut self, id: u64) -> Place {
        self.holes.clear();
        self.later_in_row = 0;
        self.last = id;
        Place::Restart
    }

    /// Takes an id out of the holes; false where it is in none.
    fn fill(&mut self, id: u64) -> bool {
        let Some(index) = self.holes.iter().position(|&(first, last)| first <= id && id <= last) else { return false };
        let (first, last) = self.holes[index];
        match (id == first, id == last) {
            (true, true) => {
                self.holes.remove(index);
            }
            (true, false) => self.holes[index].0 += 1,
            (false, true) => self.holes[index].1 -= 1,
            (false, false) => {
                self.holes[index].1 = id - 1;
                self.holes.insert(index + 1, (id + 1, last));
            }
        }
        true
    }
}

/// Ids that were filled one after the other, told in one GAP.
#[derive(Clone, Copy, Debug)]
struct Filled {
    first: u64,
    last: u64,
    ts_event: Nanos,
    ts_end: Nanos,
    from: Repair,
}

impl Session {
    /// Takes the trades of one instrument that stand together in a frame from `events[0]` on; gives how many it took.
    pub(super) fn on_trades(
        &mut self,
        connection: Connection,
        events: &[Event],
        told: Told<'_>,
        out: &mut Out,
    ) -> usize {
        let Some(Event::Trade(head)) = events.first() else { return 1 };
        let symbol = told.text(&head.symbol);
        let same = |event: &Event| matches!(event, Event::Trade(trade) if told.text(&trade.symbol) == symbol && trade.snapshot == head.snapshot);
        let count = events.iter().take_while(|event| same(event)).count();
        let Some(slot) = self.receive(connection, StreamName::Trades, symbol, out) else { return count };
        if !head.snapshot {
            self.beat(connection, slot, StreamName::Trades, head.ts_event, out);
            self.traded(connection, out);
            if self.is_redundant() {
                self.merge_trades(connection, slot, &events[..count], out);
                return count;
            }
        }
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(0..count);
        if head.snapshot && self.plan.trade_ids_consecutive {
            // Some venues replay the newest first; records and holes go by id.
            order.sort_by_key(|&index| match &events[index] {
                Event::Trade(trade) => trade.id,
                _ => 0,
            });
        }
        self.write_trades(slot, order.iter().map(|&index| &events[index]), out);
        self.order = order;
        self.advance_trades(slot, out);
        count
    }

    pub(super) fn write_trades<'a>(&mut self, slot: Slot, events: impl Iterator<Item = &'a Event>, out: &mut Out) {
        let stamp = self.stamp();
        let consecutive = self.plan.trade_ids_consecutive;
        let instrument = &mut self.instruments[slot as usize];
        let mut written = None;
        let mut filled: Option<Filled> = None;
        let first_ever = instrument.trades.last == UNDEF_U64;
        let before = instrument.counters.trades;
        let mut open = false;
        for event in events {
            let Event::Trade(trade) = event else { continue };
            let state = instrument.place_trade(trade, consecutive, first_ever, stamp, &mut filled, out);
            if self.plan.backfill.is_some() && instrument.trades.wanted.is_some() {
                self.backfill.want(slot, instrument.trades.wanted.take(), self.now);
            }
            if let Some(state) = state {
                written = Some(out.lines.len());
                records::trade(out, stamp, instrument.id, trade, state, 0);
                instrument.counters.trades += 1;
                instrument.counters.records += 1;
            }
            // A replay is one message, however the venue cuts it, since its trades may have been put in order.
            open = trade.snapshot || !trade.last;
            if !open {
                instrument.counters.messages += 1;
                written.take().into_iter().for_each(|line| records::end_message(out, line));
            }
        }
        // The rest of a message that is about other instruments is theirs.
        instrument.counters.messages += u64::from(open);
        written.into_iter().for_each(|line| records::end_message(out, line));
        instrument.tell_filled(stamp, &mut filled, out);
        // What is known already proves nothing of what came after it.
        if instrument.counters.trades > before {
            instrument.ledger.heard(Stream::Trades, stamp.at);
        }
        self.unsettled |= self.backfill.is_wanted(self.now);
    }
}

impl Instrument {
    /// Judges one trade and tells holes; the state that its record carries, or None where it is dropped.
    fn place_trade(
        &mut self,
        trade: &TradeEvent,
        consecutive: bool,
        first_ever: bool,
        stamp: Stamp,
        filled: &mut Option<Filled>,
        out: &mut Out,
    ) -> Option<BookState> {
        let before = std::mem::replace(&mut self.trades.ts_last, trade.ts_event);
        if !consecutive || trade.id_is_hash {
            // Without an order of ids a replay is told from news only by its time.
            let known = trade.snapshot && before != UNDEF_U64 && trade.ts_event <= before;
            if known {
                self.trades.ts_last = before;
                self.counters.duplicates += 1;
            }
            return (!known).then_some(BookState::Live);
        }
        let before_id = self.trades.last;
        let place = match self.trades.began_anew(trade, before) {
            true => self.trades.begin_anew(trade.id),
            false => self.trades.place(trade.id, trade.snapshot),
        };
        let refilled = match place {
            Place::Fills => true,
            // What a replay brings beyond the last known trade was missed while nobody was subscribed.
            Place::Next | Place::After { .. } => trade.snapshot && !first_ever,
            _ => false,
        };
        let mut hole = None;
        match place {
            Place::After { first, last } if self.trades.left => hole = Some((first, last, Reason::Unsubscribed)),
            Place::After { first, last } if self.trades.resumed => hole = Some((first, last, Reason::Restarted)),
            Place::After { first, last } => hole = Some((first, last, Reason::TradeIdGap)),
            Place::Restart => hole = Some((UNDEF_U64, UNDEF_U64, Reason::Restarted)),
            Place::Duplicate => {
                self.trades.ts_last = before;
                self.counters.duplicates += 1;
                return None;
            }
            Place::Fills => self.trades.ts_last = before,
            Place::Next => self.ledger.trade_next(trade.id, trade.snapshot, stamp, out),
        }
        (self.trades.left, self.trades.resumed) = (false, false);
        if let Some((first, last, cause)) = hole {
            self.tell_filled(stamp, filled, out);
            self.counters.gaps += u64::from(cause != Reason::Unsubscribed);
            self.ledger.trade_hole((first, last), cause, before_id, stamp, out);
            self.counters.records += 1;
            records::gap(out, stamp, &self.trade_hole((first, last), cause, (before, trade.ts_event), Repair::None));
            let fetched = cause != Reason::Unsubscribed && first != UNDEF_U64;
            self.trades.wanted = fetched.then(|| Job::new((first, last), (before, trade.ts_event)));
        }
        if refilled {
            let from = if trade.snapshot { Repair::Replay } else { Repair::Late };
            match filled {
                Some(run) if run.last.saturating_add(1) == trade.id && run.from == from => {
                    (run.last, run.ts_end) = (trade.id, trade.ts_event);
                }
                _ => {
                    self.tell_filled(stamp, filled, out);
                    let (ts_event, ts_end) = (trade.ts_event, trade.ts_event);
                    *filled = Some(Filled { first: trade.id, last: trade.id, ts_event, ts_end, from });
                }
            }
        }
        Some(if hole.is_some() { BookState::Gap } else { BookState::Live })
    }

    /// Tells what was filled in the meantime as a GAP that is repaired.
    fn tell_filled(&mut self, stamp: Stamp, filled: &mut Option<Filled>, out: &mut Out) {
        if let Some(run) = filled.take() {
            self.counters.records += 1;
            let times = (run.ts_event, run.ts_end);
            self.ledger.trades_filled((run.first, run.last), run.from, stamp, out);
            records::gap(out, stamp, &self.trade_hole((run.first, run.last), Reason::TradeIdGap, times, run.from));
        }
    }

    fn trade_hole(&self, ids: (u64, u64), cause: Reason, times: (Nanos, Nanos), repaired_from: Repair) -> Hole {
        Hole {
            instrument_id: self.id,
            stream: Stream::Trades,
            first: ids.0,
            last: ids.1,
            cause,
            ts_event: times.0,
            ts_end: times.1,
            repaired_from,
            state: if repaired_from == Repair::None { BookState::Gap } else { BookState::Live },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_what_is_missing_late_or_known() {
        let mut stream = TradeStream::new();
        assert_eq!(stream.place(10, false), Place::Next);
        assert_eq!(stream.place(11, false), Place::Next);
        assert_eq!(stream.place(11, false), Place::Duplicate);
        assert_eq!(stream.place(15, false), Place::After { first: 12, last: 14 });
        assert_eq!(stream.place(13, false), Place::Fills);
        assert_eq!(stream.place(13, false), Place::Duplicate);
        assert_eq!(stream.place(12, true), Place::Fills);
        assert_eq!(stream.place(14, true), Place::Fills);
        assert!(stream.holes.is_empty());
        assert_eq!(stream.place(16, false), Place::Next);
    }

    #[test]
    fn ids_that_begin_anew_are_noticed() {
        let mut stream = TradeStream::new();
        stream.place(1_000_000, false);
        let places: Vec<_> = (1..=RESTART_AFTER as u64).map(|id| stream.place(id, false)).collect();
        assert_eq!(places.last(), Some(&Place::Restart));
        assert_eq!(stream.place(u64::from(RESTART_AFTER) + 1, false), Place::Next);
    }
}
