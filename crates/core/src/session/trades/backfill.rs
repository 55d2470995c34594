//! Trades that were missed, fetched over HTTP: each hole is asked for page by page, the oldest first.
//!
//! The live tape is not held up: a trade after a hole is written when it comes, with the hole's GAP before it, and what is
//! fetched follows where its reply came, marked `F_BACKFILL`, with the event times of then. Only ids that lie in a hole are
//! written, so no trade is written twice whichever way it comes first. What a page brings is told by a GAP repaired from REST,
//! what stays missing by a GAP with the reason why.
//!
//! One page is under way at a time, within the address's budget, and none while the venue asks for patience. A page that fails
//! is asked for again after a back-off, [`TRIES_MOST`] times.

use super::TradeStream;
use crate::clock::{Nanos, MILLISECOND, SECOND};
use crate::event::{Event, TradeEvent};
use crate::record::{BookState, Reason, Repair, Rung, Stream, Subject, F_BACKFILL, UNDEF_U64};
use crate::session::records::{self, Fact};
use crate::session::subscriptions::expand;
use crate::session::symbols::Slot;
use crate::session::types::{BackfillPlan, LastTrade, LeftOff, OpenHole, Out, Reply, Wish};
use crate::session::{Instrument, Session};
use std::collections::{BTreeMap, VecDeque};

/// How long a hole waits to be fetched: what comes late or by a replay needs no request, and venues serve their newest trades
/// over HTTP a little later than on the socket.
const FETCH_AFTER: Nanos = SECOND;
/// Failures in a row after which what is missing stays so.
const TRIES_MOST: u32 = 5;
/// Holes that wait at most; what comes beyond stays missing, as its GAP says.
const JOBS_MOST: usize = 256;
/// How far the times of fetched trades may lie outside of their neighbours': venues print them rounded.
const TIME_SLACK: Nanos = SECOND;
/// How much earlier than the trade before a hole is asked for where the venue goes by time, for the same reason.
const SINCE_SLACK: Nanos = MILLISECOND;

/// What is to be fetched of one hole.
#[derive(Clone, Debug)]
pub(in crate::session) struct Job {
    slot: Slot,
    /// The first and last id that are still to be asked for.
    next: u64,
    last: u64,
    /// Event times of the trades before `next` and after `last`.
    ts_before: Nanos,
    ts_end: Nanos,
    /// Failures in a row.
    tries: u32,
    /// Trades that were asked for.
    asked: u32,
    due_at: Nanos,
}

impl Job {
    pub(super) fn new((next, last): (u64, u64), (ts_before, ts_end): (Nanos, Nanos)) -> Self {
        Self { slot: 0, next, last, ts_before, ts_end, tries: 0, asked: 0, due_at: 0 }
    }

    /// Whether a trade can have happened between the two that enclose the hole.
    fn encloses(&self, trade: &TradeEvent) -> bool {
        let known = |time: Nanos| time != UNDEF_U64;
        let early = known(self.ts_before) && trade.ts_event.saturating_add(TIME_SLACK) < self.ts_before;
        let late = known(self.ts_end) && trade.ts_event > self.ts_end.saturating_add(TIME_SLACK);
        !(known(trade.ts_event) && (early || late))
    }
}

/// A page that is under way.
#[derive(Debug)]
struct Page {
    request: u64,
    until: Nanos,
    job: Job,
}

/// What a session has to fetch of trades that were missed.
#[derive(Debug, Default)]
pub(in crate::session) struct Backfill {
    jobs: VecDeque<Job>,
    page: Option<Page>,
    /// The last trades of earlier runs and what they were fetching, for instruments that are held later.
    known: BTreeMap<u32, LastTrade>,
    open: Vec<OpenHole>,
}

impl Backfill {
    /// Lets an instrument's trades begin where an earlier run left them, if none has come in this one. What that run was
    /// fetching is fetched anew where the plan has it `fetched`.
    fn resume(&mut self, slot: Slot, instrument: &mut Instrument, fetched: bool, now: Nanos) {
        let known = self.known.get(&instrument.id);
        let Some(last) = known.filter(|_| instrument.trades.last == UNDEF_U64) else { return };
        instrument.trades = TradeStream::resumed(last);
        instrument.ledger.trades_left_off(last);
        let open = self.open.extract_if(.., |hole| hole.instrument_id == instrument.id).collect::<Vec<_>>();
        for hole in open {
            instrument.trades.holes.push((hole.first, hole.last));
            instrument.ledger.trades_left_open(&hole);
            let job = Job::new((hole.first, hole.last), (hole.ts_event, hole.ts_end));
            self.want(slot, fetched.then_some(job), now);
        }
    }

    pub(super) fn want(&mut self, slot: Slot, job: Option<Job>, now: Nanos) {
        if let Some(job) = job.filter(|_| self.jobs.len() < JOBS_MOST) {
            self.jobs.push_back(Job { slot, due_at: now.saturating_add(FETCH_AFTER), ..job });
        }
    }

    /// A hole has just come.
    pub(super) fn is_wanted(&self, now: Nanos) -> bool {
        self.jobs.back().is_some_and(|job| job.due_at == now.saturating_add(FETCH_AFTER))
    }
}

impl Session {
    /// Takes over where earlier runs left the trades.
    pub(in crate::session) fn resume_trades(&mut self, left_off: &LeftOff) {
        self.backfill.known.extend(left_off.trades.iter().map(|trade| (trade.instrument_id, *trade)));
        self.backfill.open.extend(&left_off.holes);
        (0..self.instruments.len() as Slot).for_each(|slot| self.resume_instrument(slot));
    }

    pub(in crate::session) fn resume_instrument(&mut self, slot: Slot) {
        let instrument = &mut self.instruments[slot as usize];
        self.backfill.resume(slot, instrument, self.plan.backfill.is_some(), self.now);
    }

    /// Asks for the page whose turn it is and gives up one that did not come.
    pub(in crate::session) fn settle_backfill(&mut self, out: &mut Out) {
        if let Some(page) = self.backfill.page.take_if(|page| page.until <= self.now) {
            self.page_failed(page.job, Reason::FetchFailed, None, b"the trades did not come", out);
        }
        if self.backfill.jobs.is_empty() {
            return;
        }
        let Some(plan) = self.plan.backfill.clone() else { return };
        while self.backfill.page.is_none() && !self.draining && self.fetch_after <= self.now {
            let due = self.backfill.jobs.iter().position(|job| job.due_at <= self.now);
            let Some(mut job) = due.and_then(|index| self.backfill.jobs.remove(index)) else { return };
            let instrument = &self.instruments[job.slot as usize];
            let missing = instrument.trades.missing(job.next, job.last);
            let (Some(first), Some(last)) = (missing.first(), missing.last()) else { continue };
            if instrument.holders == 0 {
                continue;
            }
            (job.next, job.last) = (first.0, last.1);
            // Where the venue goes by time, a hole whose beginning has none cannot be asked for.
            if job.ts_before == UNDEF_U64 && plan.url.contains("{since}") {
                self.give_up(job.slot, (job.next, job.last), (job.ts_before, job.ts_end), Reason::NotKept, out);
            } else if job.asked >= plan.trades_most {
                self.give_up(job.slot, (job.next, job.last), (job.ts_before, job.ts_end), Reason::TooMuch, out);
            } else if !self.may_fetch(self.plan.budgets.fetches.map(|weights| weights.trades), out) {
                self.backfill.jobs.push_front(job);
                return;
            } else {
                self.fetch_page(job, &plan, out);
            }
        }
    }

    /// The next time at which [`Session::settle_backfill`] has something to do.
    pub(in crate::session) fn backfill_deadline(&self) -> Option<Nanos> {
        if let Some(page) = &self.backfill.page {
            return Some(page.until);
        }
        let due = self.backfill.jobs.iter().map(|job| job.due_at).min()?;
        (!self.draining && !self.awaits_fetch_grant()).then(|| due.max(self.fetch_after))
    }

    fn fetch_page(&mut self, job: Job, plan: &BackfillPlan, out: &mut Out) {
        let count = (job.last - job.next).saturating_add(1).min(u64::from(plan.page.min(plan.trades_most)));
        let since = job.ts_before.saturating_sub(SINCE_SLACK);
        let instrument = &self.instruments[job.slot as usize];
        let url = expand(&plan.url, |name| match name {
            "symbol" => Some((&*instrument.symbol).into()),
            "rest_symbol" => Some((&*instrument.rest_symbol).into()),
            "first" => Some(job.next.to_string().into()),
            "end" => Some(job.next.saturating_add(count).to_string().into()),
            "count" => Some(count.to_string().into()),
            "since" => Some(since.to_string().into()),
            _ => None,
        });
        if job.asked == 0 && job.tries == 0 {
            let mut fact =
                Fact::new(Subject::Recovery, instrument.rung as u8, Rung::Backfill as u8, Reason::TradeIdGap);
            (fact.instrument_id, fact.sequence, fact.detail) = (instrument.id, job.next, Stream::Trades as u64);
            fact.value = i64::try_from(job.last - job.next).unwrap_or(i64::MAX).saturating_add(1);
            records::status(out, self.stamp(), &fact);
        }
        let (request, until) = (self.next_id, self.now.saturating_add(self.plan.timing.snapshot_within));
        self.next_id += 1;
        let asked = job.asked.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.backfill.page = Some(Page { request, until, job: Job { asked, ..job } });
        out.wishes.push(Wish::Fetch { request, url });
    }

    /// Takes a reply where it is a page's; false where it is not.
    pub(in crate::session) fn backfill_reply(&mut self, reply: Reply<'_>, out: &mut Out) -> bool {
        let Reply { request, status, retry_after, body } = reply;
        let Some(page) = self.backfill.page.take_if(|page| page.request == request) else { return false };
        self.unsettled = true;
        let mut job = page.job;
        if status != 200 {
            let reason = self.refused_fetch(status, retry_after);
            // These will say the same again.
            let last_word = matches!(status, 400 | 401 | 404 | 410 | 451);
            job.tries = if last_word { TRIES_MOST } else { job.tries };
            let reason = if last_word { Reason::Refused } else { reason };
            self.page_failed(job, reason, retry_after, body, out);
            return true;
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        decoded.clear();
        let read = self.decoder.decode_reply(body, &mut decoded);
        let mut trades: Vec<&TradeEvent> = decoded.events.iter().filter_map(trade_of).collect();
        let foreign = trades.len() < decoded.events.len() || trades.iter().any(|trade| trade.id_is_hash);
        trades.sort_by_key(|trade| trade.id);
        trades.dedup_by_key(|trade| trade.id);
        let within = |trade: &&&TradeEvent| job.next <= trade.id && trade.id <= job.last;
        if read.is_err() || foreign || trades.iter().filter(within).any(|trade| !job.encloses(trade)) {
            self.page_failed(job, Reason::BadMessage, None, body, out);
        } else {
            self.take_page(job, &trades, body, out);
        }
        self.decoded = decoded;
        true
    }

    /// A page of trades, by ascending ids.
    fn take_page(&mut self, mut job: Job, trades: &[&TradeEvent], body: &[u8], out: &mut Out) {
        let page = self.plan.backfill.as_ref().map_or(0, |plan| plan.page as usize);
        match trades.last() {
            Some(newest) if newest.id >= job.next => {
                let reached = newest.id.min(job.last);
                let from = trades.partition_point(|trade| trade.id < job.next);
                let to = trades.partition_point(|trade| trade.id <= job.last);
                self.write_page(job.slot, &trades[from..to], out);
                let (span, times) = ((job.next, reached), (job.ts_before, job.ts_end));
                self.give_up(job.slot, span, times, Reason::NotKept, out);
                let before = trades[from..to].last().map_or(UNDEF_U64, |trade| trade.ts_event);
                job.ts_before = if before == UNDEF_U64 { job.ts_before } else { before };
                job.tries = 0;
                if reached < job.last {
                    (job.next, job.due_at) = (reached + 1, self.now);
                    self.backfill.jobs.push_front(job);
                }
            }
            // A venue that goes by time has filled the page with what we have.
            Some(newest) if trades.len() >= page && newest.ts_event > job.ts_before => {
                (job.ts_before, job.due_at) = (newest.ts_event, self.now);
                self.backfill.jobs.push_front(job);
            }
            _ => self.page_failed(job, Reason::NotKept, None, body, out),
        }
    }

    /// Writes those of a page that are missing, as one message, and what that fills.
    fn write_page(&mut self, slot: Slot, trades: &[&TradeEvent], out: &mut Out) {
        let stamp = self.stamp();
        let instrument = &mut self.instruments[slot as usize];
        let mut runs: Vec<(&TradeEvent, &TradeEvent)> = Vec::new();
        let mut written = None;
        for trade in trades {
            if !instrument.trades.fill(trade.id) {
                instrument.counters.duplicates += 1;
                continue;
            }
            written = Some(out.lines.len());
            records::trade(out, stamp, instrument.id, trade, BookState::Live, F_BACKFILL);
            instrument.counters.trades += 1;
            instrument.counters.trades_backfilled += 1;
            instrument.counters.records += 1;
            match runs.last_mut() {
                Some(run) if run.1.id.saturating_add(1) == trade.id => run.1 = trade,
                _ => runs.push((trade, trade)),
            }
        }
        written.into_iter().for_each(|line| records::end_message(out, line));
        for (first, last) in runs {
            let ids = (first.id, last.id);
            instrument.ledger.trades_filled(ids, Repair::Rest, stamp, out);
            instrument.counters.records += 1;
            let times = (first.ts_event, last.ts_event);
            records::gap(out, stamp, &instrument.trade_hole(ids, Reason::TradeIdGap, times, Repair::Rest));
        }
    }

    /// A page could not be had: it is told, and asked for again later, or given up.
    fn page_failed(&mut self, mut job: Job, reason: Reason, retry_after: Option<Nanos>, sample: &[u8], out: &mut Out) {
        job.tries = job.tries.saturating_add(1);
        let again = job.tries < TRIES_MOST;
        let mut fact = Fact { text: sample, ..Fact::new(Subject::Instrument, 0, 0, reason) };
        (fact.instrument_id, fact.detail) = (self.instruments[job.slot as usize].id, Stream::Trades as u64);
        fact.sequence = job.next;
        if again {
            let wait = self.plan.timing.backoff().wait(&mut self.rng, job.tries - 1).max(retry_after.unwrap_or(0));
            job.due_at = self.now.saturating_add(wait);
            fact.value = self.told(job.due_at);
        }
        records::status(out, self.stamp(), &fact);
        if again {
            self.backfill.jobs.push_back(job);
        } else {
            self.give_up(job.slot, (job.next, job.last), (job.ts_before, job.ts_end), reason, out);
        }
    }

    /// Tells what stays missing between two ids, and why.
    fn give_up(&mut self, slot: Slot, (first, last): (u64, u64), times: (Nanos, Nanos), cause: Reason, out: &mut Out) {
        let stamp = self.stamp();
        let instrument = &mut self.instruments[slot as usize];
        for ids in instrument.trades.missing(first, last) {
            instrument.counters.records += 1;
            records::gap(out, stamp, &instrument.trade_hole(ids, cause, times, Repair::None));
        }
    }
}

fn trade_of(event: &Event) -> Option<&TradeEvent> {
    match event {
        Event::Trade(trade) => Some(trade),
        _ => None,
    }
}
