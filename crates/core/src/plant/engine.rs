//! The joint of a session and its lane: what every driver (live, import, rebuild) does with an input.

use crate::clock::Nanos;
use crate::log::{LaneWriter, LogError};
use crate::record::{Heartbeat, Kind, Layout, Level, Quote, Record, Trade, F_LAST, UNDEF_I64, UNDEF_U64};
use crate::session::{journal, Command, Input, LeftOff, Out, Session, Wish};
use serde::Serialize;

/// A session that writes into a lane. Inputs are journalled before they are taken; a commit makes the inputs and records
/// of a turn visible together and hands out the wishes, which may only then be carried out.
pub struct Engine {
    pub session: Session,
    pub lane: LaneWriter,
    out: Out,
    pub tallies: Tallies,
    /// Where earlier runs left the trades, for whoever starts a run.
    pub left_off: LeftOff,
}

/// Venue messages by what they told, and the last measured ping: counted where the records pass, once a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tallies {
    pub trade: u64,
    pub book: u64,
    pub ticker: u64,
    pub heartbeat: u64,
    /// Round trip of the last answered ping, in ns; None before the first.
    pub ping_ns: Option<u64>,
}

impl Tallies {
    /// Records of one kind. A venue message ends with F_LAST.
    fn count(&mut self, kind: u16, lines: &[[u8; 64]]) {
        if kind == Kind::Trade as u16 {
            self.trade += messages(&Trade::LAYOUT, lines);
        } else if kind == Kind::Level as u16 {
            self.book += messages(&Level::LAYOUT, lines);
        } else if kind == Kind::Quote as u16 {
            self.ticker += messages(&Quote::LAYOUT, lines);
        } else if kind == Kind::Heartbeat as u16 {
            self.heartbeat += lines.len() as u64;
            let mut pings = lines.iter().map(|line| bytemuck::cast_ref::<_, Heartbeat>(line).value);
            let last = pings.rfind(|&value| value != UNDEF_I64);
            self.ping_ns = last.and_then(|value| u64::try_from(value).ok()).or(self.ping_ns);
        }
    }
}

fn messages(layout: &Layout, lines: &[[u8; 64]]) -> u64 {
    let Some(flags) = layout.fields.iter().find(|field| field.name == "flags") else { return 0 };
    lines.iter().filter(|line| line[flags.offset] & F_LAST != 0).count() as u64
}

impl Engine {
    pub fn new(session: Session, lane: LaneWriter) -> Self {
        let out = Out::new(lane.next_index());
        Self { session, lane, out, tallies: Tallies::default(), left_off: LeftOff::default() }
    }

    /// What follows the start of a run, where anything is known of earlier ones.
    pub fn resume(&mut self) -> Option<Command> {
        let left_off = std::mem::take(&mut self.left_off);
        (!left_off.trades.is_empty()).then_some(Command::Resume(left_off))
    }

    /// Journals one input and lets the session take it. On an error the input was not taken.
    pub fn take(&mut self, at: Nanos, input: Input<'_>) -> Result<(), LogError> {
        let entry = journal::encode(&input);
        self.lane.input(entry.kind, entry.flags, entry.connection, at, &entry.parts())?;
        self.session.step(at, input, &mut self.out);
        Ok(())
    }

    /// Commits the turn and moves its wishes into `wishes`.
    pub fn commit(&mut self, at: Nanos, wishes: &mut Vec<Wish>) -> Result<(), LogError> {
        self.commit_then(at, wishes, || ())
    }

    /// As [`Engine::commit`]; `readable` is called once readers can see the turn, before any of them is woken.
    pub fn commit_then<T>(
        &mut self,
        at: Nanos,
        wishes: &mut Vec<Wish>,
        readable: impl FnOnce() -> T,
    ) -> Result<T, LogError> {
        append_all(&mut self.lane, &mut self.out, &mut self.tallies, at)?;
        let news = self.lane.publish(at);
        let said = readable();
        self.lane.ring(news);
        wishes.append(&mut self.out.wishes);
        Ok(said)
    }
}

/// Moves the records of a turn into the lane as batches of one kind, in their order. Where the lane takes no more, what it
/// did not take stays in `out`, so that going on later repeats nothing.
pub(super) fn append_all(
    lane: &mut LaneWriter,
    out: &mut Out,
    tallies: &mut Tallies,
    at: Nanos,
) -> Result<(), LogError> {
    let (mut runs, mut lines, mut result) = (0, 0, Ok(()));
    for run in &out.runs {
        let taken = &out.lines[lines..lines + run.count as usize];
        let ts_event_max = match run.kind < Kind::Blob as u16 {
            true => taken.iter().map(ts_event).fold(0, Nanos::max),
            false => 0,
        };
        result = lane.append(run.kind, run.layout, taken, at, ts_event_max);
        if result.is_err() {
            break;
        }
        tallies.count(run.kind, taken);
        runs += 1;
        lines += taken.len();
    }
    out.runs.drain(..runs);
    out.lines.drain(..lines);
    result
}

/// The event time of a record, 0 where the venue gave none (every 64-byte layout opens with it).
fn ts_event(line: &[u8; 64]) -> Nanos {
    let [a, b, c, d, e, f, g, h, ..] = *line;
    match u64::from_le_bytes([a, b, c, d, e, f, g, h]) {
        UNDEF_U64 => 0,
        time => time,
    }
}

#[cfg(test)]
mod tests;
