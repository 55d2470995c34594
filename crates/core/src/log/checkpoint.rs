//! Checkpoint files: a position and the records that rebuild the state at it, in the batches of the log.
//!
//! A file is there whole or not at all: it is written under another name, synced and renamed. Its name carries what it is looked up by.

use super::dir::make_dir;
use super::layout::{walk, BatchHead, SegmentHead, LINE, LOG_VERSION, SEGMENT_MAGIC, TURN_END};
use super::{LogDir, LogError, StreamKind};
use crate::clock::Nanos;
use bytemuck::Zeroable;
use std::fs;
use std::path::{Path, PathBuf};

/// Records of one kind in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointBatch {
    pub kind: u16,
    pub layout: u16,
    pub lines: Vec<[u8; LINE]>,
}

/// The state of a lane's books after all records before `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Index of the first record that is not in it: reading on begins there.
    pub index: u64,
    /// Journal position that belongs to it.
    pub journal: u64,
    /// Receive time and running maximum of the event times at it.
    pub ts_recv: Nanos,
    pub ts_event_max: Nanos,
    pub batches: Vec<CheckpointBatch>,
}

/// A checkpoint file by what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointName {
    pub index: u64,
    pub ts_recv: Nanos,
    pub ts_event_max: Nanos,
    pub path: PathBuf,
}

/// The checkpoints of one lane.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
}

impl Checkpoints {
    pub fn open(log: &LogDir, lane: &str) -> Result<Self, LogError> {
        Ok(Self { dir: log.lane(lane)?.archive.join("checkpoints") })
    }

    /// Writes a checkpoint; when it returns the file is durable and found by [`Checkpoints::list`].
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<CheckpointName, LogError> {
        make_dir(&self.dir)?;
        let Checkpoint { index, ts_recv, ts_event_max, .. } = *checkpoint;
        let path = self.dir.join(format!("{index:020}-{ts_recv:020}-{ts_event_max:020}.seg"));
        super::dir::write_whole(&path, &encode(checkpoint))?;
        Ok(CheckpointName { index, ts_recv, ts_event_max, path })
    }

    /// All checkpoints, oldest first.
    pub fn list(&self) -> Result<Vec<CheckpointName>, LogError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(LogError::io("list checkpoints", &self.dir, error)),
        };
        let mut names: Vec<_> = entries.flatten().filter_map(|entry| parse_name(entry.path())).collect();
        names.sort_by_key(|name| name.index);
        Ok(names)
    }

    /// The newest intact checkpoint for which `holds` (its index or times are at or before what is looked for). Damaged ones are passed
    /// over: an older one and a longer replay give the same state.
    pub fn newest(&self, holds: impl Fn(&CheckpointName) -> bool) -> Result<Option<Checkpoint>, LogError> {
        for name in self.list()?.into_iter().rev().filter(holds) {
            match self.read(&name) {
                Err(LogError::Damaged { .. }) => {}
                read => return read.map(Some),
            }
        }
        Ok(None)
    }

    pub fn read(&self, name: &CheckpointName) -> Result<Checkpoint, LogError> {
        let bytes = fs::read(&name.path).map_err(|error| LogError::io("read a checkpoint", &name.path, error))?;
        decode(&bytes).ok_or_else(|| LogError::damaged(&name.path, "the checkpoint is not whole"))
    }

    /// Removes all but the newest `keep`.
    pub fn prune(&self, keep: usize) -> Result<(), LogError> {
        let names = self.list()?;
        for name in &names[..names.len().saturating_sub(keep)] {
            fs::remove_file(&name.path).map_err(|error| LogError::io("remove a checkpoint", &name.path, error))?;
        }
        Ok(())
    }
}

fn parse_name(path: PathBuf) -> Option<CheckpointName> {
    let name = Path::new(path.file_name()?).to_str()?.strip_suffix(".seg")?.to_owned();
    let mut numbers = name.split('-').map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (index, ts_recv, ts_event_max) = (next()?, next()?, next()?);
    Some(CheckpointName { index, ts_recv, ts_event_max, path })
}

/// The head's `number` is the journal position, its `segment_bytes` the length of the file.
fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let lines: usize = checkpoint.batches.iter().map(|batch| 1 + batch.lines.len()).sum();
    let mut bytes = Vec::with_capacity((1 + lines) * LINE);
    let head = SegmentHead {
        magic: SEGMENT_MAGIC,
        layout: LOG_VERSION as u16,
        stream: StreamKind::Checkpoint as u16,
        run: 0,
        number: checkpoint.journal,
        segment_bytes: ((1 + lines) * LINE) as u64,
        first_index: checkpoint.index,
        ts_recv: checkpoint.ts_recv,
        ts_event_max: checkpoint.ts_event_max,
        seed: 0,
        crc: 0,
    };
    bytes.extend_from_slice(bytemuck::bytes_of(&head.sealed()));
    let mut chain = 0;
    for (number, batch) in checkpoint.batches.iter().enumerate() {
        let mut head = BatchHead {
            kind: batch.kind,
            layout: batch.layout,
            count: batch.lines.len() as u32,
            journal: checkpoint.journal,
            ts_recv: checkpoint.ts_recv,
            ts_event_max: checkpoint.ts_event_max,
            bytes: (batch.lines.len() * LINE) as u32,
            flags: if number + 1 == checkpoint.batches.len() { TURN_END } else { 0 },
            ..BatchHead::zeroed()
        };
        head.crc = head.expected_crc(chain, batch.lines.as_flattened());
        chain = head.crc;
        bytes.extend_from_slice(bytemuck::bytes_of(&head));
        bytes.extend_from_slice(batch.lines.as_flattened());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Checkpoint> {
    let head: SegmentHead = bytemuck::pod_read_unaligned(bytes.get(..LINE)?);
    if !head.is_intact(StreamKind::Checkpoint, head.number) || head.segment_bytes != bytes.len() as u64 {
        return None;
    }
    let mut batches = Vec::new();
    let mut end = LINE;
    for found in walk(bytes, head.seed, true) {
        let start = found.offset + LINE;
        end = found.offset + found.head.stride();
        let (lines, rest) = bytes.get(start..start + found.head.bytes as usize)?.as_chunks();
        if !rest.is_empty() {
            return None;
        }
        batches.push(CheckpointBatch { kind: found.head.kind, layout: found.head.layout, lines: lines.to_vec() });
    }
    let SegmentHead { number: journal, first_index: index, ts_recv, ts_event_max, .. } = head;
    (end == bytes.len()).then_some(Checkpoint { index, journal, ts_recv, ts_event_max, batches })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Options;

    fn checkpoint(index: u64, batches: usize) -> Checkpoint {
        let batch =
            |number: usize| CheckpointBatch { kind: 2, layout: 1, lines: vec![[number as u8; LINE]; number + 1] };
        let batches = (0..batches).map(batch).collect();
        Checkpoint { index, journal: index * 10, ts_recv: index * 100, ts_event_max: index * 100 - 1, batches }
    }

    #[test]
    fn checkpoints_come_back_and_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { hot_root: Some(dir.path().join("hot")), ..Options::default() };
        let log = LogDir::open(dir.path().join("log"), &options).unwrap();
        let checkpoints = Checkpoints::open(&log, "kraken").unwrap();
        assert_eq!(checkpoints.list().unwrap(), []);
        for index in [30, 10, 20] {
            checkpoints.write(&checkpoint(index, index as usize / 10 - 1)).unwrap();
        }
        let newest = |index| checkpoints.newest(|name| name.index <= index).unwrap();
        assert_eq!(newest(9), None);
        assert_eq!(newest(10), Some(checkpoint(10, 0)));
        assert_eq!(newest(29), Some(checkpoint(20, 1)));
        assert_eq!(checkpoints.newest(|name| name.ts_recv < 3000).unwrap(), Some(checkpoint(20, 1)));
        let third = checkpoints.list().unwrap().pop().unwrap();
        let bytes = fs::read(&third.path).unwrap();
        for cut in 0..bytes.len() {
            fs::write(&third.path, &bytes[..cut]).unwrap();
            assert_eq!(newest(30).unwrap().index, 20, "a checkpoint cut at {cut} is passed over");
        }
        checkpoints.prune(1).unwrap();
        assert_eq!(checkpoints.list().unwrap().len(), 1);
    }
}
