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
        append_all(&mut self.lane, &self.out, at)?;
        self.lane.commit(at);
        wishes.append(&mut self.out.wishes);
        self.out.clear();
        Ok(())
    }
}

/// Appends the records of a turn as batches of one kind, in their order.
pub(super) fn append_all(lane: &mut LaneWriter, out: &Out, at: Nanos) -> Result<(), LogError> {
    let mut from = 0;
    for run in &out.runs {
        let lines = &out.lines[from..from + run.count as usize];
        from += run.count as usize;
        let ts_event_max = match run.kind < Kind::Blob as u16 {
            true => lines.iter().map(ts_event).fold(0, Nanos::max),
            false => 0,
        };
        lane.append(run.kind, run.layout, lines, at, ts_event_max)?;
    }
    Ok(())
}

/// The event time of a record, 0 where the venue gave none (every 64-byte layout opens with it).
fn ts_event(line: &[u8; 64]) -> Nanos {
    let [a, b, c, d, e, f, g, h, ..] = *line;
    match u64::from_le_bytes([a, b, c, d, e, f, g, h]) {
        UNDEF_U64 => 0,
        time => time,
    }
}
