//! A book at a moment, by either clock.

use super::checkpoint::{newest_before, restore_one};
use super::lines::stream_of;
use super::replica::Replica;
use crate::clock::Nanos;
use crate::log::{Checkpoints, LaneReader, LogDir, Position, ReadError};
use crate::record::{BookState, Kind, Level, Status, Subject, UNDEF_U64};
use std::collections::BTreeMap;

/// Which state is asked for. Both limits count where both are given; UNDEF is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The state after the last message whose running maximum of event times is at most this. A message without an event
    /// time has the maximum so far. Those before the venue's first one count where that does, else by their receive times.
    pub at: Nanos,
    /// What was known then: messages received after this do not count.
    pub known_at: Nanos,
}

impl Moment {
    /// Everything that there is.
    pub const LAST: Moment = Moment { at: UNDEF_U64, known_at: UNDEF_U64 };
}

/// Feeds a replica with the records of its instrument until the moment is passed.
#[derive(Debug)]
pub struct AsOf {
    replica: Replica,
    moment: Moment,
    /// Running maximum of the event times, also of messages that came before the first snapshot; 0 before the first.
    ts_event_max: Nanos,
    /// Receive time of the last record that counted.
    ts_recv: Nanos,
    /// What counts, and its receive time, where no event time comes that is not behind the moment.
    else_known: Option<(Replica, Nanos)>,
    done: bool,
}

impl AsOf {
    /// Goes on from `replica`, whose messages all lie before the moment.
    pub fn new(replica: Replica, moment: Moment) -> Self {
        let ts_event_max = replica.ts_event_max();
        Self { replica, moment, ts_event_max, ts_recv: 0, else_known: None, done: false }
    }

    fn passes(&mut self, ts_event: Nanos, ts_recv: Nanos) -> bool {
        if ts_event != UNDEF_U64 {
            self.ts_event_max = self.ts_event_max.max(ts_event);
        }
        if self.ts_event_max > self.moment.at || (ts_recv != UNDEF_U64 && ts_recv > self.moment.known_at) {
            return true;
        }
        if self.ts_event_max > 0 {
            self.else_known = None;
        } else if ts_recv > self.moment.at && self.else_known.is_none() {
            self.else_known = Some((self.replica.clone(), self.ts_recv));
        }
        false
    }

    /// Takes a LEVEL record of the instrument; gives false when it lies behind the moment, as all later ones do.
    pub fn level(&mut self, index: u64, line: &Level) -> bool {
        self.done |= self.passes(line.ts_event, line.ts_recv);
        if !self.done {
            self.replica.feed(index, line);
            self.ts_recv = line.ts_recv;
        }
        !self.done
    }

    /// Takes a STATUS record of the instrument: the state of its book counts.
    pub fn status(&mut self, line: &Status) -> bool {
        // A STATUS carries no time of the venue's own matching: only the receive clock can pass by it.
        self.done |= self.passes(UNDEF_U64, line.ts_recv);
        if !self.done && line.subject == Subject::Book as u8 {
            self.replica.set_state(line.current);
            self.ts_recv = line.ts_recv;
        }
        !self.done
    }

    /// Drops an unfinished message: the log was cut here.
    pub fn interrupt(&mut self) {
        self.replica.interrupt();
    }

    /// Records were lost: the book is unknown until its next snapshot.
    fn forget(&mut self) {
        self.replica.forget();
    }

    /// The book as it was, and the receive time of the last record that counted; 0 where none did.
    pub fn into_found(self) -> (Replica, Nanos) {
        self.else_known.unwrap_or((self.replica, self.ts_recv))
    }
}

/// A lane's book at a moment, and what chooses between lanes.
struct Found {
    replica: Replica,
    /// Receive time of the last record that counted.
    ts_recv: Nanos,
    /// The lane was written at the moment: it goes on behind it, or its writer lives.
    is_written: bool,
}

/// The book of one instrument at a moment and its lane: of the lane whose records say most lately. Of redundant lines one
/// whose book is live and that was written then stands for all. None where no lane knows of it.
pub fn book_at(
    log: &LogDir,
    instrument_id: u32,
    moment: Moment,
) -> Result<Option<(String, Replica)>, (String, ReadError)> {
    let mut streams: BTreeMap<String, (bool, Nanos, String, Replica)> = BTreeMap::new();
    let names = log.lanes().map_err(|error| (String::new(), error.into()))?;
    for lane in names {
        let found = book_of(log, &lane, instrument_id, moment).map_err(|error| (lane.clone(), error))?;
        if !found.replica.is_joined() {
            continue;
        }
        let stream = stream_of(&lane).to_owned();
        let is_proven = found.is_written && found.replica.state() == BookState::Live as u8;
        let best = streams.get(&stream);
        if best.is_none_or(|(proven, ts_recv, ..)| (is_proven, found.ts_recv) > (*proven, *ts_recv)) {
            streams.insert(stream, (is_proven, found.ts_recv, lane, found.replica));
        }
    }
    let newest = streams.into_values().rev().max_by_key(|(_, ts_recv, ..)| *ts_recv);
    Ok(newest.map(|(.., lane, replica)| (lane, replica)))
}

/// The book of one instrument in one lane at a moment: the newest checkpoint before it and a replay.
fn book_of(log: &LogDir, lane: &str, instrument_id: u32, moment: Moment) -> Result<Found, ReadError> {
    let mut reader = LaneReader::open_in(log, lane, Position::First)?;
    let end = reader.committed_index();
    let checkpoints = Checkpoints::open(log, lane)?;
    let mut replica = Replica::default();
    if let Some(checkpoint) = newest_before(&checkpoints, end, moment.at, moment.known_at)? {
        let restored = restore_one(&checkpoint, instrument_id);
        // A checkpoint knows the event times of its whole lane, of which this book may not have had any yet.
        if restored.ts_event_max() > 0 || restored.last().ts_recv <= moment.at {
            replica = restored;
            reader.seek_index(checkpoint.index)?;
        }
    }
    let ts_recv = if replica.is_joined() { replica.last().ts_recv } else { 0 };
    let mut as_of = AsOf { ts_recv, ..AsOf::new(replica, moment) };
    let mut is_written = false;
    while reader.next_index() < end {
        let batch = match reader.next() {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(ReadError::Lost { .. }) => {
                as_of.forget();
                continue;
            }
            Err(error) => return Err(error),
        };
        let lines = (batch.first_index()..end).zip(batch.lines());
        let goes_on = match Kind::from_number(batch.head().kind) {
            Some(Kind::Level) => lines
                .map(|(index, line)| (index, bytemuck::cast_ref::<_, Level>(line)))
                .filter(|(_, line)| line.instrument_id == instrument_id)
                .all(|(index, line)| as_of.level(index, line)),
            Some(Kind::Status) => lines
                .map(|(_, line)| bytemuck::cast_ref::<_, Status>(line))
                .filter(|line| line.instrument_id == instrument_id)
                .all(|line| as_of.status(line)),
            Some(Kind::Cut) => {
                as_of.interrupt();
                true
            }
            _ => true,
        };
        if !goes_on {
            is_written = true;
            break;
        }
    }
    let (replica, ts_recv) = as_of.into_found();
    Ok(Found { replica, ts_recv, is_written: is_written || reader.has_writer() })
}
