//! The coverage ledger: how good each stream of each instrument was, from when to when, by the plant's receive clock.
//!
//! A COVERAGE record *paints* its interval over what was painted before; what nothing painted is not running. Each turn
//! writes the interval that ends (closed) and the one that begins (open: `ts_end` UNDEF), and at least every
//! [`Plan::coverage_every`] what is open is said again, so that a kill leaves little unsaid. A reader ends what is open
//! where the run ended: at the lane's last record, or before the STATUS (Plant, Restarted) with which a new run begins.
//!
//! What proved missing is painted back to the last message that proved good; what was filled later, or checked against an
//! independent snapshot, is painted over once more. `sequence` and `last` are the numbers at both ends of an interval; of
//! a gap, the first and last missing number.

use super::records::{self, Fact, Stamp};
use super::symbols::{Slot, NO_SLOT};
use super::types::{Connection, LastTrade, OpenHole, Out, StreamName};
use super::{Instrument, Session};
use crate::clock::Nanos;
use crate::record::*;

/// A whole round of saying again what is open is spread over so many ticks at most.
const TICKS_MOST: usize = 60;
/// Trade holes that are remembered at most so that what fills them can be painted; the oldest is forgotten first.
const HOLES_MOST: usize = 64;
const STREAMS: [StreamName; 3] = [StreamName::Book, StreamName::Trades, StreamName::Ticker];

/// The interval that a stream is in.
#[derive(Clone, Copy, Debug)]
struct Open {
    quality: Quality,
    cause: Reason,
    since: Nanos,
    first: u64,
    last: u64,
    /// Times that the venue's ticker agreed in it.
    agreements: u32,
}

/// One stream of one instrument.
#[derive(Clone, Copy, Debug)]
struct Track {
    open: Option<Open>,
    /// When the last good message came.
    heard_at: Nanos,
    /// Until then an independent source agrees: nothing is painted over it.
    agreed_at: Nanos,
    /// Missing numbers that the next gap is about.
    missing: Option<(u64, u64)>,
    /// A gap ended since the last message; the next one may prove that nothing was lost.
    doubted: bool,
}

const FRESH: Track = Track { open: None, heard_at: 0, agreed_at: 0, missing: None, doubted: false };

/// Trades that are missing, and the interval that was painted for them.
#[derive(Clone, Copy, Debug)]
struct TradeHole {
    first: u64,
    last: u64,
    since: Nanos,
    until: Nanos,
}

/// Where a stream turns to. `since` is back in time for what shows only later; `number` is the stream's last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) to: Option<(Quality, Reason)>,
    pub(super) since: Nanos,
    pub(super) number: u64,
}

/// The ledger of one instrument.
#[derive(Debug)]
pub(super) struct Ledger {
    is_kept: bool,
    instrument_id: u32,
    tracks: [Track; STREAMS.len()],
    holes: Vec<TradeHole>,
}

impl Ledger {
    pub(super) fn new(instrument_id: u32, is_kept: bool) -> Self {
        Self { is_kept, instrument_id, tracks: [FRESH; STREAMS.len()], holes: Vec::new() }
    }

    /// A good message of a stream has come.
    pub(super) fn heard(&mut self, stream: Stream, at: Nanos) {
        self.track(stream).heard_at = at;
    }

    pub(super) fn heard_at(&self, stream: Stream) -> Nanos {
        self.tracks[stream as usize - 1].heard_at
    }

    /// These numbers of the book's are missing, as its next or present gap tells.
    pub(super) fn missing(&mut self, first: u64, last: u64) {
        let track = self.track(Stream::Book);
        match &mut track.open {
            Some(open) if open.quality == Quality::Gap => {
                open.first = open.first.min(first);
                open.last = if open.last == UNDEF_U64 { last } else { open.last.max(last) };
            }
            _ => track.missing = Some((first, last)),
        }
    }

    /// An independent source has agreed up to now; its own record is written by who asked it.
    pub(super) fn agreed(&mut self, number: u64, at: Nanos) {
        let track = self.track(Stream::Book);
        track.agreed_at = at;
        if let Some(open) = track.open.as_mut().filter(|open| open.quality != Quality::Gap) {
            (open.since, open.first) = (at, number);
        }
    }

    /// The venue's ticker had the book's best levels.
    pub(super) fn ticker_agreed(&mut self) {
        if let Some(open) = &mut self.track(Stream::Book).open {
            open.agreements = open.agreements.saturating_add(1);
        }
    }

    fn track(&mut self, stream: Stream) -> &mut Track {
        &mut self.tracks[stream as usize - 1]
    }

    fn quality(&self, stream: Stream) -> Option<Quality> {
        self.tracks[stream as usize - 1].open.map(|open| open.quality)
    }

    /// Ends the interval that a stream is in and begins the next; a turn to the same quality is none.
    pub(super) fn turn(&mut self, stream: Stream, turn: Turn, stamp: Stamp, out: &mut Out) {
        if !self.is_kept || self.quality(stream) == turn.to.map(|(quality, _)| quality) {
            return;
        }
        let id = self.instrument_id;
        let is_gap = matches!(turn.to, Some((Quality::Gap, _)));
        let track = self.track(stream);
        let since = match track.open {
            // A gap has a length, so that even one inside of a single read is seen.
            Some(_) if is_gap => turn.since.max(track.agreed_at).min(stamp.at.saturating_sub(1)),
            _ => stamp.at,
        };
        if let Some(mut open) = track.open.take() {
            let mut repaired_from = Repair::None;
            if open.quality == Quality::Gap {
                track.doubted = true;
                let known = open.first != UNDEF_U64 && turn.number != UNDEF_U64 && open.first <= turn.number;
                if stream == Stream::Book && turn.to.is_some() {
                    repaired_from = Repair::Snapshot;
                    open.last = if known && open.last == UNDEF_U64 { turn.number } else { open.last };
                }
            } else {
                open.last = turn.number;
            }
            if since > open.since {
                write(out, stamp, id, stream, &open, since, repaired_from);
            }
        }
        let Some((quality, cause)) = turn.to else {
            let (cause, first, last) = (Reason::None, UNDEF_U64, UNDEF_U64);
            let off = Open { quality: Quality::Off, cause, since: stamp.at, first, last, agreements: 0 };
            return write(out, stamp, id, stream, &off, UNDEF_U64, Repair::None);
        };
        let after = if turn.number == UNDEF_U64 { UNDEF_U64 } else { turn.number.saturating_add(1) };
        let (first, last) = match (is_gap, track.missing.take()) {
            (false, _) => (turn.number, UNDEF_U64),
            (true, Some(missing)) => missing,
            (true, None) => (after, UNDEF_U64),
        };
        let open = Open { quality, cause, since, first, last, agreements: 0 };
        track.open = Some(open);
        write(out, stamp, id, stream, &open, UNDEF_U64, Repair::None);
    }

    /// Says again what is open, as closed up to now and open from now; a gap stays whole until it ends.
    fn say_again(&mut self, stream: Stream, number: u64, stamp: Stamp, out: &mut Out) {
        let id = self.instrument_id;
        let Some(open) = &mut self.track(stream).open else { return };
        if open.quality != Quality::Gap && stamp.at > open.since {
            write(out, stamp, id, stream, &Open { last: number, ..*open }, stamp.at, Repair::None);
            (open.since, open.first, open.agreements) = (stamp.at, number, 0);
        }
        write(out, stamp, id, stream, open, UNDEF_U64, Repair::None);
    }

    /// These trades are missing between the last one and now.
    pub(super) fn trade_hole(&mut self, ids: (u64, u64), cause: Reason, number: u64, stamp: Stamp, out: &mut Out) {
        let Some(quality) = self.quality(Stream::Trades) else { return };
        let track = self.track(Stream::Trades);
        let mut since = track.heard_at;
        if quality == Quality::Gap {
            // It has not quite ended: what is known of it now is said when it does.
            if let Some(open) = &mut track.open {
                (open.first, open.last, open.since) = (ids.0, ids.1, open.since.min(since));
            }
        } else {
            track.missing = Some(ids);
            self.turn(Stream::Trades, Turn { to: Some((Quality::Gap, cause)), since, number }, stamp, out);
            since = self.track(Stream::Trades).open.map_or(since, |open| open.since);
            let number = ids.1.saturating_add(u64::from(ids.1 != UNDEF_U64));
            let back = Turn { to: Some((quality, Reason::None)), since: stamp.at, number };
            self.turn(Stream::Trades, back, stamp, out);
        }
        self.track(Stream::Trades).doubted = false;
        if ids.0 != UNDEF_U64 {
            self.remember(TradeHole { first: ids.0, last: ids.1, since, until: stamp.at });
        }
    }

    /// An earlier run had the trades up to this one: a gap that is open already begins after it.
    pub(super) fn trades_left_off(&mut self, last: &LastTrade) {
        let track = self.track(Stream::Trades);
        track.heard_at = last.heard_at;
        if let Some(open) = track.open.as_mut().filter(|open| open.quality == Quality::Gap && open.first == UNDEF_U64) {
            open.first = last.id.saturating_add(1);
        }
    }

    /// An earlier run painted a gap, and this one fills it.
    pub(super) fn trades_left_open(&mut self, hole: &OpenHole) {
        let OpenHole { first, last, since, until, .. } = *hole;
        if self.is_kept && since != UNDEF_U64 {
            self.remember(TradeHole { first, last, since, until });
        }
    }

    fn remember(&mut self, hole: TradeHole) {
        if self.holes.len() == HOLES_MOST {
            self.holes.remove(0);
        }
        self.holes.push(hole);
    }

    /// The trade after the last known one has come: nothing was lost in between, whatever the connection did.
    pub(super) fn trade_next(&mut self, id: u64, replayed: bool, stamp: Stamp, out: &mut Out) {
        let (instrument_id, track) = (self.instrument_id, self.track(Stream::Trades));
        let Some(open) = track.open.filter(|open| track.doubted && open.quality != Quality::Gap) else { return };
        track.doubted = false;
        if track.heard_at > 0 && stamp.at > track.heard_at {
            let whole = Open { since: track.heard_at, first: id.saturating_sub(1), last: id, ..open };
            let from = if replayed { Repair::Replay } else { Repair::None };
            write(out, stamp, instrument_id, Stream::Trades, &whole, stamp.at, from);
            if let Some(open) = &mut track.open {
                (open.since, open.first) = (stamp.at, id);
            }
        }
    }

    /// These missing trades have come after all; a hole that is filled whole is painted over.
    pub(super) fn trades_filled(&mut self, (first, last): (u64, u64), from: Repair, stamp: Stamp, out: &mut Out) {
        let mut left = Vec::with_capacity(self.holes.len());
        for hole in std::mem::take(&mut self.holes) {
            if last < hole.first || hole.last < first {
                left.push(hole);
                continue;
            }
            let before = (hole.first < first).then(|| TradeHole { last: first - 1, ..hole });
            let after = (last < hole.last).then(|| TradeHole { first: last + 1, ..hole });
            if before.is_none() && after.is_none() && !left.iter().any(|other: &TradeHole| other.since == hole.since) {
                let (quality, cause) = (Quality::Complete, Reason::TradeIdGap);
                let whole =
                    Open { quality, cause, since: hole.since, first: hole.first, last: hole.last, agreements: 0 };
                write(out, stamp, self.instrument_id, Stream::Trades, &whole, hole.until, from);
            }
            left.extend(before.into_iter().chain(after));
        }
        self.holes = left;
    }
}

/// One record. `count` is how many numbers a gap lacks (0 where unknown); else how often the ticker agreed.
fn write(out: &mut Out, stamp: Stamp, id: u32, stream: Stream, open: &Open, ts_end: Nanos, repaired_from: Repair) {
    let known = open.first != UNDEF_U64 && open.last != UNDEF_U64;
    let count = match open.quality {
        Quality::Gap if known => open.last.saturating_sub(open.first).saturating_add(1),
        Quality::Gap => 0,
        _ => u64::from(open.agreements),
    };
    let state = match open.quality {
        Quality::Gap => BookState::Gap,
        Quality::Stale => BookState::Stale,
        Quality::Off => BookState::Closed,
        _ => BookState::Live,
    };
    out.record(&Coverage {
        ts_event: open.since,
        ts_recv: stamp.at,
        sequence: open.first,
        last: open.last,
        ts_end,
        r#ref: UNDEF_U64,
        instrument_id: id,
        venue: stamp.venue,
        stream: stream as u8,
        cause: open.cause as u8,
        flags: F_LAST,
        repaired_from: repaired_from as u8,
        quality: open.quality as u8,
        state: state as u8,
        count: u32::try_from(count).unwrap_or(u32::MAX),
    });
}

/// Whose turn it is to be said again, and when.
#[derive(Debug, Default)]
pub(super) struct Round {
    next_at: Nanos,
    slot: usize,
    /// The stamps leap ahead after this, and nothing has been said since. Whoever reads only the lane's end, by its times, is to
    /// find what is open behind the leap.
    leapt_at: Option<Nanos>,
}

impl Session {
    /// Tells that a run begins: what an earlier one left open ends before it.
    pub(super) fn begin_coverage(&mut self, out: &mut Out) {
        if self.plan.coverage_every > 0 {
            records::status(out, self.stamp(), &Fact::new(Subject::Plant, 0, 0, Reason::Restarted));
            self.round.next_at = self.now.saturating_add(self.round_tick());
        }
    }

    /// Takes up what trades, tickers and idle books have come to, and says again what is due.
    pub(super) fn settle_coverage(&mut self, out: &mut Out) {
        if self.plan.coverage_every == 0 {
            return;
        }
        for slot in 0..self.instruments.len() as Slot {
            for stream in STREAMS {
                self.cover(slot, stream, out);
            }
        }
        let leapt = self.round.leapt_at.is_some_and(|leapt_at| leapt_at < self.now);
        if self.round.next_at > self.now && !leapt {
            return;
        }
        let (stamp, count) = (self.stamp(), self.instruments.len());
        let ticks = if leapt { 1 } else { count.clamp(1, TICKS_MOST) };
        self.round.leapt_at = self.round.leapt_at.filter(|_| !leapt);
        for _ in 0..count.div_ceil(ticks) {
            self.round.slot = (self.round.slot + 1) % count.max(1);
            let Some(instrument) = self.instruments.get_mut(self.round.slot) else { break };
            for stream in [Stream::Book, Stream::Trades, Stream::Ticker] {
                let number = instrument.number(stream);
                instrument.ledger.say_again(stream, number, stamp, out);
            }
        }
        let tick = self.round_tick();
        let next_at = self.round.next_at.saturating_add(tick);
        self.round.next_at = if next_at > self.now { next_at } else { self.now.saturating_add(tick) };
    }

    /// The stamps leap ahead from now on.
    pub(super) fn coverage_leaps(&mut self) {
        self.round.leapt_at = Some(self.now);
    }

    pub(super) fn coverage_deadline(&self) -> Option<Nanos> {
        let next_at = self.round.leapt_at.unwrap_or(self.round.next_at);
        (self.plan.coverage_every > 0 && !self.is_drained()).then_some(next_at)
    }

    fn round_tick(&self) -> Nanos {
        (self.plan.coverage_every / self.instruments.len().clamp(1, TICKS_MOST) as u64).max(1)
    }

    fn cover(&mut self, slot: Slot, stream: StreamName, out: &mut Out) {
        if stream == StreamName::Book {
            let reason = self.instruments[slot as usize].sync.reason;
            return self.cover_book(slot, reason, out);
        }
        let (to, since) = match self.stream_quality(slot, stream) {
            Some((quality, cause, since)) => (Some((quality, cause)), since),
            None => (None, self.at),
        };
        let (stamp, instrument) = (self.stamp(), &mut self.instruments[slot as usize]);
        let stream = if stream == StreamName::Trades { Stream::Trades } else { Stream::Ticker };
        let number = instrument.number(stream);
        instrument.ledger.turn(stream, Turn { to, since, number }, stamp, out);
    }

    /// How good trades or tickers are, why, and since when where that lies back; None: they are not wanted.
    fn stream_quality(&self, slot: Slot, stream: StreamName) -> Option<(Quality, Reason, Nanos)> {
        let channel = self.best_channel(slot, stream)?;
        if self.draining || !self.intends(channel, slot) {
            return None;
        }
        let item = self.item(channel, if self.shapes[channel].whole { NO_SLOT } else { slot });
        let route = self.plan.channels[channel].route as Connection;
        let link = &self.links[route as usize];
        let is_proven = stream == StreamName::Trades && self.plan.trade_ids_consecutive;
        Some(match item.state {
            SubscriptionState::Active if link.state == ConnectionState::Stale => {
                (Quality::Stale, Reason::Silent, self.at)
            }
            SubscriptionState::Active if item.again => (Quality::Gap, item.reason, self.at),
            SubscriptionState::Active if is_proven => (Quality::Complete, Reason::None, self.at),
            SubscriptionState::Active => (Quality::Unproven, Reason::None, self.at),
            _ if link.is_open() => (Quality::Gap, item.reason, self.at),
            _ => (Quality::Gap, item.reason, self.last_seen(route)),
        })
    }

    /// The channel of a stream that says most of it: one that is active and well, where several lines have it.
    fn best_channel(&self, slot: Slot, stream: StreamName) -> Option<usize> {
        let mut channels =
            (0..self.plan.channels.len()).filter(|&channel| self.plan.channels[channel].stream == stream);
        let well = |&channel: &usize| {
            let item = self.item(channel, if self.shapes[channel].whole { NO_SLOT } else { slot });
            let route = self.plan.channels[channel].route;
            let is_stale = self.links[route].state == ConnectionState::Stale;
            item.state == SubscriptionState::Active && !item.again && !is_stale
        };
        let first = channels.clone().next();
        channels.find(well).or(first)
    }

    /// When a connection last gave a sign of life; now where it never did.
    pub(super) fn last_seen(&self, connection: Connection) -> Nanos {
        match self.links[connection as usize].last_seen {
            0 => self.at,
            at => self.steps.stamp(at),
        }
    }
}

impl Instrument {
    /// The last number of a stream that is held; UNDEF where there is none.
    fn number(&self, stream: Stream) -> u64 {
        match stream {
            Stream::Book => self.sync.number(),
            Stream::Trades => self.trades.last,
            _ => UNDEF_U64,
        }
    }
}
