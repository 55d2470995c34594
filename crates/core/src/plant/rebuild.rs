//! Records derived again from a lane's journal.
//!
//! Records are a function of the journal, so a second run over it must give the same bytes. `rebuild` proves that of a
//! lane; `derive_pending` writes what a power cut took from the records but not from the journal.

use super::engine::{append_all, Tallies};
use crate::clock::Nanos;
use crate::event::Decode;
use crate::log::{
    layout, BatchView, Entry, JournalPosition, JournalReader, LaneReader, LaneWriter, LogDir, Position, ReadError,
};
use crate::record::{Kind, RECORD_BYTES};
use crate::session::{journal, Input, Out, Plan, Session};
use serde::Serialize;

/// Gives the decoder of a plan; None: it is not to be had here (a user's class).
pub type Decoders<'a> = &'a dyn Fn(&Plan) -> Option<Box<dyn Decode>>;

/// What a rebuild found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    pub inputs: u64,
    /// Starts of a plant in the journal.
    pub runs: u64,
    /// Lines that are the same, and the index of the first that is not (or that only one side has).
    pub same: u64,
    pub first_difference: Option<u64>,
}

/// The machine run again over journal entries.
struct Replay<'a> {
    decoders: Decoders<'a>,
    session: Option<Session>,
    out: Out,
    inputs: u64,
    runs: u64,
}

impl<'a> Replay<'a> {
    fn new(decoders: Decoders<'a>) -> Self {
        Self { decoders, session: None, out: Out::default(), inputs: 0, runs: 0 }
    }

    /// Takes one entry; its records are in `out` afterwards. `next_index` is where they stand in the lane.
    fn take(&mut self, entry: &Entry<'_>, next_index: u64) -> Result<&[[u8; RECORD_BYTES]], String> {
        self.out.clear();
        self.out.next_index = next_index;
        if entry.kind == layout::ENTRY_CUT {
            return Ok(&[]);
        }
        let input =
            journal::decode(entry.kind, entry.flags, entry.connection, entry.payload).map_err(|e| e.to_string())?;
        if let Input::Start { plan, seed } = input {
            let plan: Plan = serde_json::from_slice(plan).map_err(|error| format!("the journal's plan: {error}"))?;
            let decoder = (self.decoders)(&plan).ok_or_else(|| format!("there is no decoder {} here", plan.decoder))?;
            self.session = Some(Session::new(decoder, plan, seed));
            self.runs += 1;
        }
        self.inputs += 1;
        if let Some(session) = &mut self.session {
            session.step(entry.stamp, input, &mut self.out);
        }
        Ok(&self.out.lines)
    }
}

/// The lines that stand in a lane, one by one, without the marks that recovery wrote.
struct Standing {
    reader: LaneReader,
    batch: Option<(BatchView, usize)>,
}

impl Standing {
    /// The next line's index and bytes; None at the end.
    fn next(&mut self) -> Result<Option<(u64, [u8; RECORD_BYTES])>, ReadError> {
        loop {
            if let Some((batch, at)) = &mut self.batch {
                if let Some(line) = batch.lines().get(*at) {
                    *at += 1;
                    return Ok(Some((batch.first_index() + *at as u64 - 1, *line)));
                }
            }
            match self.reader.next()? {
                None => return Ok(None),
                Some(batch) if batch.head().kind == Kind::Cut as u16 => self.batch = None,
                Some(batch) => self.batch = Some((batch, 0)),
            }
        }
    }
}

/// Derives a lane's records again from its whole journal and compares them with what stands there.
pub fn rebuild(log: &LogDir, lane: &str, decoders: Decoders<'_>) -> Result<Rebuilt, String> {
    let text = |error: ReadError| error.to_string();
    let mut inputs = JournalReader::open_in(log, lane, JournalPosition::First).map_err(text)?;
    let reader = LaneReader::open_in(log, lane, Position::First).map_err(text)?;
    let mut standing = Standing { reader, batch: None };
    let mut replay = Replay::new(decoders);
    let mut found = Rebuilt::default();
    let mut next = standing.next().map_err(text)?;
    'entries: while let Some(entry) = inputs.next().map_err(text)? {
        let index = next.map_or(found.same, |(index, _)| index);
        for line in replay.take(&entry, index)? {
            match next {
                Some((_, stands)) if stands == *line => found.same += 1,
                _ => {
                    found.first_difference = Some(next.map_or(found.same, |(index, _)| index));
                    break 'entries;
                }
            }
            next = standing.next().map_err(text)?;
        }
    }
    if found.first_difference.is_none() {
        found.first_difference = next.map(|(index, _)| index);
    }
    (found.inputs, found.runs) = (replay.inputs, replay.runs);
    Ok(found)
}

/// Writes the records of inputs that the journal has and the records lack, as recovery found them. Gives how many.
pub fn derive_pending(log: &LogDir, lane: &mut LaneWriter, name: &str, decoders: Decoders<'_>) -> Result<u64, String> {
    let Some(position) = lane.recovered().pending_inputs else { return Ok(0) };
    let text = |error: ReadError| error.to_string();
    let mut pending = JournalReader::open_in(log, name, JournalPosition::At(position)).map_err(text)?;
    let mut remaining = 0;
    while pending.next().map_err(text)?.is_some() {
        remaining += 1;
    }
    let first_pending = pending.committed_index().saturating_sub(remaining);
    let (start, before) = last_start(log, name, first_pending)?;
    let mut inputs = JournalReader::open_in(log, name, JournalPosition::Index(start)).map_err(text)?;
    let mut replay = Replay::new(decoders);
    let mut derived = 0;
    lane.derive_from(Some(position));
    for at in 0u64.. {
        let Some(entry) = inputs.next().map_err(text)? else { break };
        let stamp: Nanos = entry.stamp;
        replay.take(&entry, lane.next_index())?;
        if at < before {
            continue;
        }
        derived += replay.out.lines.len() as u64;
        append_all(lane, &mut replay.out, &mut Tallies::default(), stamp).map_err(|error| error.to_string())?;
    }
    lane.commit(lane.ts_recv());
    lane.derive_from(None);
    Ok(derived)
}

/// The entry with which the run began that the pending inputs belong to, and how many entries lie between the two.
fn last_start(log: &LogDir, lane: &str, first_pending: u64) -> Result<(u64, u64), String> {
    let mut inputs = JournalReader::open_in(log, lane, JournalPosition::First).map_err(|error| error.to_string())?;
    let mut start = 0;
    for index in 0..=first_pending {
        match inputs.next().map_err(|error| error.to_string())? {
            Some(entry) if entry.kind == journal::kind::START => start = index,
            Some(_) => {}
            None => break,
        }
    }
    Ok((start, first_pending - start))
}
