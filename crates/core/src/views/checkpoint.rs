//! Checkpoints of a lane's books, and getting from one to a place in the lane.
//!
//! A checkpoint holds, for each instrument whose snapshot was seen, one STATUS record (subject Book; `current` is the state, `value` the lane
//! index of the last record that counts, `detail` the running maximum of its event times) and the book as a snapshot of LEVEL
//! records, all numbers at their wire scales.

use super::{Replica, Views};
use crate::book::Level as BookLevel;
use crate::clock::Nanos;
use crate::log::{
    BatchHead, BatchView, Checkpoint, CheckpointBatch, CheckpointName, Checkpoints, LaneReader, LogDir, LogError,
    Position, ReadError,
};
use crate::record::{
    Action, Kind, Level, Record, Side, Status, Subject, F_LAST, F_SNAPSHOT, RECORD_BYTES, UNDEF_I64, UNDEF_U64,
};
use bytemuck::Zeroable;

/// Takes a batch of the lane into the books without giving rows; `until` is the index behind the last record that counts.
pub fn prime_batch(views: &mut Views, batch: &BatchView, until: u64) {
    let head = batch.head();
    if head.kind == Kind::Cut as u16 {
        views.interrupt();
    }
    let lines = (batch.first_index()..until).zip(batch.lines());
    match Kind::from_number(head.kind) {
        Some(Kind::Level) => lines.for_each(|(index, line)| views.prime(index, bytemuck::cast_ref(line))),
        Some(Kind::Trade) => lines.for_each(|(_, line)| views.prime_trade(bytemuck::cast_ref(line))),
        Some(Kind::Status) => lines.for_each(|(_, line)| views.prime_status(bytemuck::cast_ref(line))),
        _ => {}
    }
}

/// Fills `views` with the books as they are before the record at `index`, and leaves `reader` there (or at the first kept record, if that is
/// later). A book whose snapshot is no longer kept stays unknown.
pub fn prime(log: &LogDir, views: &mut Views, reader: &mut LaneReader, index: u64) -> Result<(), ReadError> {
    let committed = reader.committed_index();
    let index = index.min(committed);
    let checkpoint = Checkpoints::open(log, reader.lane())?.newest(|name| name.index <= index)?;
    match &checkpoint {
        Some(checkpoint) => reader.seek_index(restore(checkpoint, views))?,
        None => *reader = LaneReader::open_in(log, reader.lane(), Position::First)?,
    }
    advance(views, reader, index)
}

/// Takes the records from where `reader` stands up to the one at `index` into the books.
pub fn advance(views: &mut Views, reader: &mut LaneReader, index: u64) -> Result<(), ReadError> {
    while reader.next_index() < index {
        match reader.next() {
            Ok(Some(batch)) => prime_batch(views, &batch, index),
            Ok(None) => break,
            Err(ReadError::Lost { .. }) => views.forget(),
            Err(error) => return Err(error),
        }
    }
    if reader.next_index() > index {
        // The last batch goes on behind the index; or the index is no longer kept, and then the next read says so.
        reader.seek_index(index)?;
    }
    Ok(())
}

/// After a loss: goes to the oldest checkpoint at or behind where the reader stands, if there is one, and gives its index.
pub fn recover(log: &LogDir, views: &mut Views, reader: &mut LaneReader) -> Result<Option<u64>, ReadError> {
    views.forget();
    let (next, committed) = (reader.next_index(), reader.committed_index());
    let checkpoints = Checkpoints::open(log, reader.lane())?;
    for name in checkpoints.list()?.iter().filter(|name| (next..=committed).contains(&name.index)) {
        if let Ok(checkpoint) = checkpoints.read(name) {
            let index = restore(&checkpoint, views);
            reader.seek_index(index)?;
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Loads a checkpoint's books; gives the index at which reading goes on.
pub fn restore(checkpoint: &Checkpoint, views: &mut Views) -> u64 {
    for (kind, line) in lines(checkpoint) {
        if kind == Kind::Level as u16 {
            views.prime(checkpoint.index, bytemuck::cast_ref(line));
        }
    }
    for (kind, line) in lines(checkpoint) {
        if kind == Kind::Status as u16 {
            let status: &Status = bytemuck::cast_ref(line);
            views.replica_mut(status.instrument_id).restore(status.current, status.value as u64, status.detail);
            views.restored(status.instrument_id);
        }
    }
    checkpoint.index
}

/// The book of one instrument in a checkpoint; one that waits for its snapshot where it has none.
pub fn restore_one(checkpoint: &Checkpoint, instrument_id: u32) -> Replica {
    let mut views = Views::new(0, false);
    let mut one = checkpoint.clone();
    for batch in &mut one.batches {
        // Both kinds keep the instrument at the same place.
        batch.lines.retain(|line| bytemuck::cast_ref::<_, Level>(line).instrument_id == instrument_id);
    }
    restore(&one, &mut views);
    views.replica_mut(instrument_id).clone()
}

fn lines(checkpoint: &Checkpoint) -> impl Iterator<Item = (u16, &[u8; RECORD_BYTES])> {
    checkpoint.batches.iter().flat_map(|batch| batch.lines.iter().map(|line| (batch.kind, line)))
}

/// The newest checkpoint that lies wholly before a moment of either clock and whose records the lane still vouches for.
pub fn newest_before(
    checkpoints: &Checkpoints,
    committed: u64,
    at: Nanos,
    known_at: Nanos,
) -> Result<Option<Checkpoint>, LogError> {
    checkpoints
        .newest(|name: &CheckpointName| name.index <= committed && name.ts_event_max <= at && name.ts_recv <= known_at)
}

/// The books as a checkpoint before the record at `index`; `head` is the last batch's. None while a message is unfinished.
pub fn checkpoint(views: &Views, index: u64, head: &BatchHead) -> Option<Checkpoint> {
    if views.replicas().any(|(_, replica)| replica.is_unfinished()) {
        return None;
    }
    let mut statuses = CheckpointBatch { kind: Kind::Status as u16, layout: Status::LAYOUT.number, lines: Vec::new() };
    let mut levels = CheckpointBatch { kind: Kind::Level as u16, layout: Level::LAYOUT.number, lines: Vec::new() };
    for (_, replica) in views.replicas().filter(|(_, replica)| replica.is_joined()) {
        statuses.lines.push(*status(replica).bytes());
        snapshot(replica, &mut levels.lines);
    }
    let (ts_recv, ts_event_max) = (head.ts_recv, head.ts_event_max);
    Some(Checkpoint { index, journal: head.journal, ts_recv, ts_event_max, batches: vec![statuses, levels] })
}

fn status(replica: &Replica) -> Status {
    let last = replica.last();
    Status {
        ts_event: last.ts_event,
        ts_recv: last.ts_recv,
        sequence: last.sequence,
        value: replica.index() as i64,
        detail: replica.ts_event_max(),
        r#ref: UNDEF_U64,
        instrument_id: last.instrument_id,
        venue: last.venue,
        subject: Subject::Book as u8,
        previous: replica.state(),
        current: replica.state(),
        state: replica.state(),
        ..Status::zeroed()
    }
}

/// Appends the book as a snapshot of LEVEL records, with the numbers and times of its last message.
pub(super) fn snapshot(replica: &Replica, lines: &mut Vec<[u8; RECORD_BYTES]>) {
    let last = Level { flags: F_SNAPSHOT, aux: 0, price_scale: 0, size_scale: 0, ..*replica.last() };
    let (clear, none) = (Action::Clear as u8, Side::None as u8);
    lines.push(*Level { action: clear, side: none, price: UNDEF_I64, size: UNDEF_I64, ..last }.bytes());
    for side in [Side::Bid, Side::Ask] {
        let add = |level: BookLevel| Level {
            action: Action::Add as u8,
            side: side as u8,
            price: level.price.mantissa,
            price_scale: level.price.scale,
            size: level.size.mantissa,
            size_scale: level.size.scale,
            aux: level.count,
            ..last
        };
        lines.extend(replica.book().levels(side).map(|level| *add(level).bytes()));
    }
    if let Some(line) = lines.last_mut() {
        bytemuck::cast_mut::<_, Level>(line).flags |= F_LAST;
    }
}
