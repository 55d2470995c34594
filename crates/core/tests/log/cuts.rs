//! What a power cut leaves: archive files cut or changed at any byte give back exactly their intact prefix, marked, and go on.
//!
//! `TICKPLANT_PROOF=1` makes thousands of cuts, without it there are some hundreds.

use crate::common::{drain, line, Place, Twin};
use std::path::{Path, PathBuf};
use tickplant_core::clock::Rng;
use tickplant_core::log::layout::{walk, SegmentHead, ENTRY_CUT, TURN_END};
use tickplant_core::log::{JournalPosition, Position, ReadError};
use tickplant_core::record::{Kind, UNDEF_U64};

const SEGMENT: u64 = 16 << 10;

fn cuts() -> u64 {
    if std::env::var_os("TICKPLANT_PROOF").is_some() {
        6000
    } else {
        300
    }
}

/// One turn as it stands in the archive: positions behind its last byte in each stream.
#[derive(Clone, Copy, Debug)]
struct Turn {
    records_end: u64,
    journal_end: u64,
    lines: u64,
    inputs: u64,
}

/// A closed lane: what it holds and every byte of its archive.
struct Sample {
    place: Place,
    twin: Twin,
    files: Vec<(PathBuf, Vec<u8>)>,
    turns: Vec<Turn>,
}

impl Sample {
    fn new(seed: u64) -> Self {
        let place = Place::new();
        let mut writer = place.writer();
        let mut twin = Twin::default();
        let mut rng = Rng::new(seed);
        for _ in 0..60 {
            crate::common::until("archived", || writer.archive_status().unsynced_bytes < 4 * SEGMENT);
            let batches: Vec<_> = (0..1 + rng.below(3)).map(|_| 1 + rng.below(20) as usize).collect();
            twin.turn(&mut writer, 1 + rng.below(3), &batches, 900).unwrap();
        }
        writer.close().unwrap();
        let mut files = Vec::new();
        for stream in ["records", "journal"] {
            files.extend(place.archive(stream).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())));
        }
        let turns = turns(&files, &twin);
        Self { place, twin, files, turns }
    }

    /// Puts the archive back as it was and gives the last file of a stream.
    fn restore(&self, clean: bool) {
        let dir = self.place.lane_dir();
        let _ = std::fs::remove_dir_all(&dir);
        self.place.forget_memory();
        std::fs::create_dir_all(&dir).unwrap();
        for (path, bytes) in &self.files {
            std::fs::write(path, bytes).unwrap();
        }
        if clean {
            std::fs::write(dir.join("closed"), "1\n").unwrap();
        }
    }

    fn last(&self, stream: &str) -> &(PathBuf, Vec<u8>) {
        self.files.iter().rfind(|(path, _)| path.to_str().unwrap().contains(stream)).unwrap()
    }

    /// Opens the damaged lane and holds it against what must have been kept.
    fn check(&self, kept: Option<Turn>, records_cut: bool) {
        let kept = kept.unwrap_or(Turn { records_end: 0, journal_end: 0, lines: 0, inputs: 0 });
        let mut writer = self.place.writer();
        assert_eq!(writer.next_index(), kept.lines + 1, "the intact prefix and the mark");
        let cut = writer.recovered().cut.expect("a cut is told");
        assert_eq!((cut.index, cut.run), (kept.lines, writer.run()));
        if records_cut {
            assert!(cut.bytes_dropped > 0 || cut.position < self.turns.last().unwrap().records_end);
        }
        let new: Vec<_> = (kept.lines + 1..kept.lines + 4).map(line).collect();
        writer.input(9, 9, 9, 9, &[b"new"]).unwrap();
        writer.append(1, 1, &new, 0, 0).unwrap();
        writer.commit(0);
        for step in 0..2 {
            let batches = drain(&mut self.place.reader(Position::First)).unwrap();
            let (marks, others): (Vec<_>, Vec<_>) = batches.iter().partition(|(head, _)| head.kind == Kind::Cut as u16);
            assert_eq!(marks.len(), 1, "the mark stands once");
            assert_eq!(marks[0].0.first_index, kept.lines);
            assert_eq!(marks[0].1[0], bytemuck::cast::<_, [u8; 64]>(cut));
            let lines: Vec<_> = others.iter().flat_map(|(_, lines)| lines.iter().copied()).collect();
            assert!(lines[..kept.lines as usize] == self.twin.lines[..kept.lines as usize]);
            assert_eq!(&lines[kept.lines as usize..], new.as_slice());
            if step == 0 {
                writer.close().unwrap();
                writer = self.place.writer();
                assert_eq!(writer.recovered().cut, None, "what is marked is settled");
            }
        }
    }
}

/// Reads the ends of the turns out of undamaged files, with nothing of the recovery.
fn turns(files: &[(PathBuf, Vec<u8>)], twin: &Twin) -> Vec<Turn> {
    let ends = |stream: &str| {
        let mut ends = Vec::new();
        for (number, (_, bytes)) in files.iter().filter(|(path, _)| is_of(path, stream)).enumerate() {
            let head: SegmentHead = bytemuck::pod_read_unaligned(&bytes[..64]);
            let found = walk(bytes, head.seed, true).filter(|found| found.head.flags & TURN_END != 0);
            ends.extend(
                found.map(|found| number as u64 * SEGMENT + (found.offset + 64) as u64 + u64::from(found.head.bytes)),
            );
        }
        ends
    };
    let (records, journal) = (ends("records"), ends("journal"));
    assert_eq!((records.len(), journal.len()), (twin.turns.len(), twin.turns.len()));
    let turn = |((records_end, journal_end), &(lines, inputs)): ((u64, u64), &(usize, usize))| Turn {
        records_end,
        journal_end,
        lines: lines as u64,
        inputs: inputs as u64,
    };
    records.into_iter().zip(journal).zip(&twin.turns).map(turn).collect()
}

fn is_of(path: &Path, stream: &str) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with(stream)
}

fn position(file: &(PathBuf, Vec<u8>), byte: usize) -> u64 {
    let head: SegmentHead = bytemuck::pod_read_unaligned(&file.1[..64]);
    head.number * SEGMENT + byte as u64
}

#[test]
fn records_cut_at_any_byte_come_back_to_their_intact_prefix() {
    let sample = Sample::new(1);
    let file = sample.last("records");
    let mut rng = Rng::new(2);
    for number in 0..cuts() {
        let byte = rng.below(file.1.len() as u64) as usize;
        sample.restore(number % 5 == 0);
        std::fs::write(&file.0, &file.1[..byte]).unwrap();
        let at = position(file, byte);
        sample.check(sample.turns.iter().rfind(|turn| turn.records_end <= at).copied(), true);
    }
}

#[test]
fn a_changed_byte_ends_the_intact_prefix() {
    let sample = Sample::new(3);
    let file = sample.last("records");
    let mut rng = Rng::new(4);
    for _ in 0..cuts() / 3 {
        let byte = rng.below(file.1.len() as u64) as usize;
        sample.restore(false);
        let mut bytes = file.1.clone();
        bytes[byte] ^= 1 << rng.below(8);
        std::fs::write(&file.0, bytes).unwrap();
        let at = position(file, byte);
        sample.check(sample.turns.iter().rfind(|turn| turn.records_end <= at).copied(), true);
    }
}

#[test]
fn records_never_go_beyond_the_journal() {
    let sample = Sample::new(5);
    let file = sample.last("journal");
    let mut rng = Rng::new(6);
    for _ in 0..cuts() / 3 {
        let byte = rng.below(file.1.len() as u64) as usize;
        sample.restore(false);
        std::fs::write(&file.0, &file.1[..byte]).unwrap();
        let at = position(file, byte);
        let kept = sample.turns.iter().rfind(|turn| turn.journal_end <= at).copied();
        sample.check(kept, false);
        let inputs = kept.map_or(0, |turn| turn.inputs as usize);
        let mut journal = sample.place.journal(JournalPosition::First);
        for expected in &sample.twin.inputs[..inputs] {
            assert_eq!(crate::common::read_input(&mut journal).as_ref(), Some(expected));
        }
        assert_eq!(journal.next().unwrap().unwrap().kind, ENTRY_CUT);
        assert_eq!(journal.next().unwrap().unwrap().payload, b"new");
    }
}

#[test]
fn inputs_without_records_are_told_until_they_are_derived_again() {
    let sample = Sample::new(7);
    let file = sample.last("records");
    let end = sample.turns.last().unwrap();
    let (cut, kept) = (sample.turns.len() - 3, sample.turns[sample.turns.len() - 4]);
    sample.restore(false);
    let byte = sample.turns[cut].records_end - 1 - position(file, 0);
    std::fs::write(&file.0, &file.1[..byte as usize]).unwrap();
    for _ in 0..3 {
        // A writer that dies before it has derived them is told again.
        let writer = sample.place.writer();
        let pending = writer.recovered().pending_inputs.expect("inputs without records");
        let mut journal = sample.place.journal(JournalPosition::At(pending));
        let missing = &sample.twin.inputs[kept.inputs as usize..end.inputs as usize];
        for expected in missing {
            assert_eq!(crate::common::read_input(&mut journal).as_ref(), Some(expected));
        }
        assert!(crate::common::read_input(&mut journal).is_none());
    }
    let mut writer = sample.place.writer();
    let pending = writer.recovered().pending_inputs;
    writer.derive_from(pending);
    writer.append(1, 1, &[line(writer.next_index())], 0, 0).unwrap();
    writer.commit(0);
    let last = drain(&mut sample.place.reader(Position::First)).unwrap().pop().unwrap();
    assert_eq!(Some(last.0.journal), pending);
    writer.derive_from(None);
    drop(writer);
    assert_eq!(sample.place.writer().recovered().pending_inputs, None);
}

#[test]
fn a_whole_archive_without_a_clean_close_is_marked_too() {
    let sample = Sample::new(8);
    sample.restore(false);
    let writer = sample.place.writer();
    let cut = writer.recovered().cut.unwrap();
    assert_eq!((cut.bytes_dropped, cut.pending), (0, UNDEF_U64));
    assert_eq!(cut.index as usize, sample.twin.lines.len());
    drop(writer);
    sample.restore(true);
    assert_eq!(sample.place.writer().recovered().cut, None);
}

#[test]
fn readers_of_an_archive_alone_end_where_recovery_cuts() {
    let sample = Sample::new(9);
    let file = sample.last("records");
    let mut rng = Rng::new(10);
    for _ in 0..cuts() / 3 {
        let byte = rng.below(file.1.len() as u64) as usize;
        sample.restore(false);
        std::fs::write(&file.0, &file.1[..byte]).unwrap();
        let mut reader = sample.place.reader(Position::First);
        let read: usize = drain(&mut reader).unwrap().iter().map(|(_, lines)| lines.len()).sum();
        let writer = sample.place.writer();
        assert_eq!(read as u64 + 1, writer.next_index(), "cut at {byte} of {}", file.1.len());
        // The same reader finds the writer that came later, and its mark.
        assert_eq!(reader.next().unwrap().unwrap().head().kind, Kind::Cut as u16);
        assert!(reader.next().unwrap().is_none());
    }
}

#[test]
fn damage_in_the_middle_costs_its_readers_only_what_is_damaged() {
    let sample = Sample::new(11);
    let records: Vec<_> = sample.files.iter().filter(|(path, _)| is_of(path, "records")).collect();
    assert!(records.len() >= 3);
    let (path, bytes) = records[1];
    let next: SegmentHead = bytemuck::pod_read_unaligned(&records[2].1[..64]);
    let head: SegmentHead = bytemuck::pod_read_unaligned(&bytes[..64]);
    let mut rng = Rng::new(12);
    for _ in 0..cuts() / 3 {
        let byte = rng.below(bytes.len() as u64) as usize;
        sample.restore(true);
        std::fs::write(path, &bytes[..byte]).unwrap();
        let intact = walk(&bytes[..byte.max(64)], head.seed, true).last().filter(|_| byte >= 64);
        let first = intact.map_or(head.first_index, |found| found.head.end_index());
        let mut reader = sample.place.reader(Position::First);
        let (mut lines, mut lost) = (Vec::new(), Vec::new());
        loop {
            match reader.next() {
                Ok(Some(batch)) => lines.extend_from_slice(batch.lines()),
                Ok(None) => break,
                Err(ReadError::Lost { first, last }) => lost.push((first, last)),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(lost, [(first, next.first_index - 1)], "cut at {byte}");
        let (before, after) = (&sample.twin.lines[..first as usize], &sample.twin.lines[next.first_index as usize..]);
        assert!(lines == [before, after].concat());
        assert_eq!(sample.place.writer().next_index() as usize, sample.twin.lines.len(), "nothing is thrown away");
    }
}
