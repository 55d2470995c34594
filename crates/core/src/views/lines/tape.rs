//! One instrument's trades and tickers out of several lines: the first copy of each counts.

use super::given::Given;
use super::{Chain, BOUNDS};
use crate::arbiter::{Arbiter, Place, Release, Seen, Span};
use crate::clock::Nanos;
use crate::log::BatchView;
use crate::record::{
    BookState, Gap, Layout, Quote, Reason, Record, Repair, Stream, Trade, F_ALTERED, F_BACKFILL, F_LAST, UNDEF_U64,
};
use std::collections::VecDeque;

/// Holes that are remembered, so that what fills them late is given. The oldest is forgotten first.
const HOLES_MOST: usize = 64;

type Ids = (u64, u64);

pub(super) struct Tape {
    chains: Vec<Chain>,
    ids: Arbiter<(usize, BatchView)>,
    /// Trades without ids that grow.
    loose: Seen,
    /// GAPs of lines that were not given yet: another line may have what is missing.
    untold: VecDeque<(usize, BatchView)>,
    /// Holes that were given, by the line that told them, and what is still missing of them.
    told: VecDeque<(usize, Ids)>,
    missing: Vec<Ids>,
    quotes: Seen,
    quote_newest: u64,
}

impl Tape {
    pub fn new(lines: usize, chain: Chain) -> Self {
        Self {
            chains: vec![chain; lines],
            ids: Arbiter::new(lines, BOUNDS),
            loose: Seen::new(lines),
            untold: VecDeque::new(),
            told: VecDeque::new(),
            missing: Vec::new(),
            quotes: Seen::new(lines),
            quote_newest: 0,
        }
    }

    pub fn waits(&self) -> bool {
        self.ids.deadline().is_some()
    }

    /// Takes a TRADE of a line, the one record of `part`.
    pub fn trade(&mut self, line: usize, trade: &Trade, part: &BatchView, now: Nanos, given: &mut Given) {
        let id = trade.r#ref;
        if !super::is_in_order(trade.venue, id) || trade.flags & F_ALTERED != 0 {
            let said = Trade { ts_recv: 0, flags: 0, ..*trade };
            if self.loose.is_news(line, crate::event::hash_id(said.bytes())) {
                given.push(line, part);
            }
            return;
        }
        if trade.flags & F_BACKFILL != 0 {
            if self.fills(id) {
                given.push(line, part);
            }
            return;
        }
        let Some(span) = Span::new(self.chains[line].first(id), id) else { return };
        self.chains[line] = Chain::After(id);
        self.ids.set_up(line, true);
        match self.ids.offer(now, line, span, || (line, part.clone())) {
            Place::Next => given.push(line, part),
            // One that comes too late to be held still fills the hole that was told.
            Place::Old if self.fills(id) => given.push(line, part),
            Place::Old | Place::Held => {}
        }
        self.release(now, given);
    }

    /// Takes a GAP of a line's trades, the one record of `part`; `alone`: no other line is there.
    pub fn gap(&mut self, line: usize, gap: &Gap, part: &BatchView, alone: bool, given: &mut Given) {
        if gap.sequence == UNDEF_U64 || gap.last == UNDEF_U64 {
            if alone {
                given.push(line, part);
            }
            return;
        }
        if self.told.iter().any(|&(by, hole)| by == line && overlap(hole, (gap.sequence, gap.last)).is_some()) {
            // What became of a hole that was told.
            given.push(line, part);
            return;
        }
        if gap.repaired_from == 0 {
            self.chains[line] = Chain::Broken;
            push_bounded(&mut self.untold, (line, part.clone()));
        }
    }

    /// Time has passed, or lines are out: what waited for that.
    pub fn settle(&mut self, now: Nanos, out: &[bool], given: &mut Given) {
        for (line, _) in out.iter().enumerate().filter(|(_, out)| **out) {
            self.ids.set_up(line, false);
        }
        self.release(now, given);
    }

    fn release(&mut self, now: Nanos, given: &mut Given) {
        let mut unsaid = Vec::new();
        while let Some(release) = self.ids.release(now) {
            match release {
                Release::Next((line, part)) => {
                    unsaid.drain(..).for_each(|ids| self.tell_unsaid(ids, line, &part, given));
                    given.push(line, &part);
                }
                Release::Missing { first, last } => self.tell((first, last), &mut unsaid, given),
            }
        }
    }

    /// Gives what the lines said of ids that no line brought; of some of them none may have said anything.
    fn tell(&mut self, hole: Ids, unsaid: &mut Vec<Ids>, given: &mut Given) {
        let mut from = hole.0;
        loop {
            let rest = |(_, part): &(usize, BatchView)| {
                let gap: &Gap = bytemuck::cast_ref(part.lines().first()?);
                overlap((gap.sequence, gap.last), (from, hole.1)).filter(|_| from <= hole.1)
            };
            let Some((ids, by, part)) =
                self.untold.iter().filter_map(|told| Some((rest(told)?, told.0, &told.1))).min_by_key(|found| found.0)
            else {
                break;
            };
            unsaid.extend((from < ids.0).then(|| (from, ids.0 - 1)));
            if let Some(gap) = part.lines().first().map(bytemuck::cast_ref::<_, Gap>) {
                push_gap(gap, ids, by, part, given);
            }
            push_bounded(&mut self.told, (by, ids));
            self.missing.push(ids);
            from = ids.1.saturating_add(1);
        }
        unsaid.extend((from <= hole.1).then_some((from, hole.1)));
        let surplus = self.missing.len().saturating_sub(HOLES_MOST);
        self.missing.drain(..surplus);
        self.untold.retain(|(_, part)| {
            part.lines().first().is_some_and(|line| bytemuck::cast_ref::<_, Gap>(line).last > hole.1)
        });
    }

    /// Gives a GAP of ids that lie between what different lines brought, which no line knew to be missing: one ended
    /// before another began. `part` is the trade behind them.
    fn tell_unsaid(&mut self, ids: Ids, line: usize, part: &BatchView, given: &mut Given) {
        let Some(trade) = part.lines().first().map(bytemuck::cast_ref::<_, Trade>) else { return };
        let gap = Gap {
            ts_event: UNDEF_U64,
            ts_recv: trade.ts_recv,
            sequence: ids.0,
            last: ids.1,
            ts_end: trade.ts_event,
            r#ref: UNDEF_U64,
            instrument_id: trade.instrument_id,
            venue: trade.venue,
            stream: Stream::Trades as u8,
            cause: Reason::TradeIdGap as u8,
            flags: F_LAST,
            repaired_from: Repair::None as u8,
            reserved: 0,
            state: BookState::Gap as u8,
            count: 0,
        };
        push_gap(&gap, ids, line, part, given);
        push_bounded(&mut self.told, (line, ids));
        self.missing.push(ids);
    }

    /// Whether an id is missing; from now on it is not.
    fn fills(&mut self, id: u64) -> bool {
        let Some(at) = self.missing.iter().position(|hole| (hole.0..=hole.1).contains(&id)) else { return false };
        let (first, last) = self.missing.swap_remove(at);
        self.missing.extend((first < id).then(|| (first, id - 1)));
        self.missing.extend((id < last).then(|| (id + 1, last)));
        true
    }

    /// Whether a QUOTE says something new.
    pub fn is_news(&mut self, line: usize, quote: &Quote) -> bool {
        let said = Quote { ts_recv: 0, ..*quote };
        let order = [quote.sequence, quote.ts_event].into_iter().find(|&number| number != UNDEF_U64);
        let newest = order.is_none_or(|number| number >= self.quote_newest);
        let news = self.quotes.is_news(line, crate::event::hash_id(said.bytes())) && newest;
        if let Some(number) = order.filter(|_| news) {
            self.quote_newest = number;
        }
        news
    }

    /// A new run of a line begins.
    pub fn restart(&mut self, line: usize) {
        self.chains[line] = Chain::Broken;
        self.ids.set_up(line, false);
        self.quote_newest = 0;
    }

    /// Records of a line were lost to this reader.
    pub fn lost(&mut self, line: usize) {
        self.chains[line] = Chain::Unknown;
    }
}

/// Gives a GAP cut to these ids in place of `part`.
fn push_gap(gap: &Gap, ids: Ids, line: usize, part: &BatchView, given: &mut Given) {
    let count = u32::try_from(ids.1 - ids.0 + 1).unwrap_or(u32::MAX);
    let gap = Gap { sequence: ids.0, last: ids.1, count, ..*gap };
    let Layout { kind, number, .. } = Gap::LAYOUT;
    given.push_made(line, part, (kind as u16, number), vec![*gap.bytes()]);
}

fn overlap(a: Ids, b: Ids) -> Option<Ids> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 <= both.1).then_some(both)
}

fn push_bounded<T>(row: &mut VecDeque<T>, item: T) {
    if row.len() >= HOLES_MOST {
        row.pop_front();
    }
    row.push_back(item);
}
