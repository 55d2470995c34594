//! The joint of a session and its lane: what every driver (live, import, rebuild) does with an input.

use crate::clock::Nanos;
use crate::log::{LaneWriter, LogError};
use crate::record::{Kind, UNDEF_U64};
use crate::session::{journal, Input, Out, Session, Wish};

/// A session that writes into a lane. Inputs are journalled before they are taken; a commit makes the inputs and records
/// of a turn visible together and hands out the wishes, which may only then be carried out.
pub struct Engine {
    pub session: Session,
    pub lane: LaneWriter,
    out: Out,
}

impl Engine {
    pub fn new(session: Session, lane: LaneWriter) -> Self {
        let out = Out::new(lane.next_index());
        Self { session, lane, out }
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
        append_all(&mut self.lane, &mut self.out, at)?;
        self.lane.commit(at);
        wishes.append(&mut self.out.wishes);
        Ok(())
    }
}

/// Moves the records of a turn into the lane as batches of one kind, in their order. Where the lane takes no more, what it
/// did not take stays in `out`, so that going on later repeats nothing.
pub(super) fn append_all(lane: &mut LaneWriter, out: &mut Out, at: Nanos) -> Result<(), LogError> {
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
