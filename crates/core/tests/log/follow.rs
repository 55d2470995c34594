//! What is appended is what is read: from every position, over every roll, from memory and from the archive.

use crate::common::{line, until, Place, Twin, LANE};
use proptest::prelude::*;
use std::time::Duration;
use tickplant_core::clock::SystemClock;
use tickplant_core::log::{
    wait, JournalPosition, LaneReader, LaneWriter, LogDir, LogError, MergedReader, Options, Position, ReadError,
};

/// Turns of up to three inputs and up to four batches; some batches and inputs are larger than a segment.
fn turns() -> impl Strategy<Value = Vec<(u64, Vec<usize>, u64)>> {
    let batch = prop_oneof![8 => 1..40usize, 1 => 200..600usize];
    let bytes = prop_oneof![8 => 0..400u64, 1 => 10_000..60_000u64];
    prop::collection::vec((0..4u64, prop::collection::vec(batch, 0..4), bytes), 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_that_joins_anywhere_gets_the_same_suffix(turns in turns()) {
        let mut place = Place::new();
        place.options.hot_bytes_max = 64 * place.options.segment_bytes;
        let mut writer = place.writer();
        let mut twin = Twin::default();
        let mut live = place.reader(Position::First);
        let mut read = 0;
        for (inputs, batches, bytes_most) in &turns {
            // The largest turn takes a third of the memory: the archiver has to be on time.
            until("archived", || writer.archive_status().hot_bytes <= place.options.hot_bytes_max / 2 + 2 * (16 << 10));
            twin.turn(&mut writer, *inputs, batches, *bytes_most).unwrap();
            let lag = live.committed_index() - live.next_index();
            prop_assert_eq!(lag, (twin.lines.len() - read) as u64);
            twin.assert_suffix(&mut live, read);
            read = twin.lines.len();
        }
        // While it is written and partly archived; after a clean close; and by a writer that goes on.
        for step in 0..2 {
            for index in 0..=twin.lines.len() {
                twin.assert_suffix(&mut place.reader(Position::Index(index as u64)), index);
            }
            for number in 0..=twin.inputs.len() {
                twin.assert_inputs(&mut place.journal(JournalPosition::Index(number as u64)), number);
            }
            if step == 0 {
                writer.close().unwrap();
                writer = place.writer();
                prop_assert_eq!(writer.recovered().cut, None);
                prop_assert_eq!(writer.next_index(), twin.lines.len() as u64);
            }
        }
        twin.turn(&mut writer, 1, &[3], 10).unwrap();
        twin.assert_suffix(&mut live, read);
        let beyond = LaneReader::open(place.path(), LANE, Position::Index(twin.lines.len() as u64 + 1));
        prop_assert!(matches!(beyond, Err(ReadError::Beyond { .. })), "a cursor beyond the end is refused");
    }
}

#[test]
fn times_are_found() {
    let place = Place::new();
    let mut writer = place.writer();
    let mut twin = Twin::default();
    for count in 1..60 {
        twin.turn(&mut writer, 1, &[count, 5], 300).unwrap();
    }
    for time in (0..=*twin.times.last().unwrap() + 2).step_by(7) {
        let expected = twin.times.iter().position(|&at| at >= time).unwrap_or(twin.lines.len());
        let mut reader = place.reader(Position::Time(time));
        twin.assert_suffix(&mut reader, expected);
    }
}

#[test]
fn the_journal_stands_at_turn_ends() {
    let place = Place::new();
    let mut writer = place.writer();
    let mut twin = Twin::default();
    let mut ends = vec![(0, 0)];
    for count in 0..60 {
        twin.turn(&mut writer, 1 + count % 3, &[2], 2000).unwrap();
        ends.push((writer.journal_position(), twin.inputs.len()));
    }
    let mut reader = place.reader(Position::First);
    let mut turn = 0;
    while let Some(batch) = reader.next().unwrap() {
        turn += 1;
        assert_eq!(batch.head().journal, ends[turn].0, "a batch carries the position behind its inputs");
    }
    for (position, number) in ends {
        twin.assert_inputs(&mut place.journal(JournalPosition::At(position)), number);
    }
}

#[test]
fn nothing_is_seen_before_the_commit() {
    let place = Place::new();
    let mut writer = place.writer();
    let mut reader = place.reader(Position::First);
    writer.input(1, 2, 3, 4, &[b"input"]).unwrap();
    writer.append(1, 1, &[line(0)], 1, 1).unwrap();
    assert!(reader.next().unwrap().is_none());
    assert!(place.journal(JournalPosition::First).next().unwrap().is_none());
    writer.commit(5);
    assert_eq!(reader.watermark(), 5);
    assert_eq!(reader.next().unwrap().unwrap().lines(), [line(0)]);
    assert_eq!(place.journal(JournalPosition::First).next().unwrap().unwrap().payload, b"input");
}

#[test]
fn a_writer_that_was_killed_asleep_wrote_no_longer_than_it_lived() {
    let place = Place::new();
    let clock = SystemClock::new();
    let asleep = |place: &Place| {
        let mut writer = place.writer();
        writer.append(1, 1, &[line(0)], 1, 1).unwrap();
        writer.commit(5);
        writer.begin_idle(clock.offset());
        writer
    };
    let writer = asleep(&place);
    let reader = place.reader(Position::First);
    assert!(reader.written_until().unwrap() > 5, "asleep, it promises what its clock says");
    drop(writer);
    assert_eq!(reader.written_until(), Some(5));
    let mut writer = place.writer();
    assert_eq!(reader.written_until(), Some(5), "the next one promises nothing yet");
    writer.commit(7);
    writer.close().unwrap();
    assert_eq!(reader.written_until(), None);
}

#[test]
fn a_view_outlives_its_segment() {
    let mut place = Place::new();
    place.options.archive = false;
    let mut writer = place.writer();
    let mut twin = Twin::default();
    twin.turn(&mut writer, 0, &[10], 0).unwrap();
    let mut reader = place.reader(Position::First);
    let held = reader.next().unwrap().unwrap();
    let hot = place.log().hot().join(LANE).join("records-000000000000.seg");
    until("the first segment is unlinked", || {
        twin.turn(&mut writer, 0, &[50], 0).unwrap();
        !hot.exists()
    });
    assert_eq!(held.lines(), &twin.lines[..10]);
    twin.assert_suffix(&mut reader, 10);
}

#[test]
fn a_late_reader_is_told_what_it_lost() {
    let mut place = Place::new();
    place.options.archive = false;
    place.options.journal = false;
    let mut writer = place.writer();
    let mut slow = place.reader(Position::First);
    let mut twin = Twin::default();
    twin.turn(&mut writer, 0, &[7], 0).unwrap();
    assert_eq!(slow.next().unwrap().unwrap().lines().len(), 7);
    let hot = place.log().hot().join(LANE).join("records-000000000002.seg");
    until("three segments are unlinked", || {
        match twin.turn(&mut writer, 0, &[40], 0) {
            Ok(()) | Err(LogError::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        twin.lines.len() > 1000 && !hot.exists()
    });
    // The slow reader still has the first segment: it reads that to its end and is then told.
    let (mut at, mut lost) = (7, None);
    loop {
        match slow.next() {
            Ok(Some(batch)) => {
                assert_eq!(batch.lines(), &twin.lines[at as usize..at as usize + batch.lines().len()]);
                at = batch.head().end_index();
            }
            Ok(None) => break,
            Err(ReadError::Lost { first, last }) => {
                assert_eq!(first, at);
                assert!(lost.replace(last).is_none(), "told once");
                at = last + 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(at as usize, twin.lines.len());
    let lost = lost.expect("something was lost");
    let mut late = place.reader(Position::Index(20));
    assert!(matches!(late.next(), Err(ReadError::Lost { first: 20, last }) if last >= lost));
}

#[test]
fn lanes_are_locked_and_named() {
    let place = Place::new();
    let writer = place.writer();
    let log = place.log();
    let refused = LaneWriter::open(&log, LANE, &place.options).err().unwrap();
    assert!(matches!(&refused, LogError::InUse { pid: Some(pid), .. } if *pid == std::process::id()));
    assert!(refused.to_string().contains("stop that process"), "{refused}");
    assert!(place.reader(Position::First).has_writer());
    drop(writer);
    assert!(!place.reader(Position::First).has_writer());
    drop(place.writer());
    for bad in ["", "..", "a/b", ".x", "ä"] {
        assert!(matches!(LaneWriter::open(&log, bad, &place.options), Err(LogError::BadLane { .. })), "{bad}");
    }
    assert_eq!(log.lanes().unwrap(), [LANE]);
}

#[test]
fn a_newer_log_is_refused_with_the_way_out() {
    let place = Place::new();
    place.log();
    let file = place.path().join("log.json");
    std::fs::write(&file, r#"{"version": 2, "shape": "unknown"}"#).unwrap();
    let error = LogDir::open(place.path(), &place.options).unwrap_err();
    assert!(matches!(error, LogError::NewerVersion { found: 2, known: 1, .. }));
    assert!(error.to_string().contains("upgrade tickplant"), "{error}");
    let error = LaneReader::open(place.path(), LANE, Position::First).err().unwrap();
    assert!(error.to_string().contains("upgrade tickplant"), "{error}");
    let missing = LogDir::existing(place.dir.path().join("nothing")).unwrap_err();
    assert!(matches!(missing, LogError::NotALog { .. }));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let place = Place::new();
    for (segment_bytes, hot_bytes_max) in [(1000, 1 << 20), (16 << 10, 5 * (16 << 10)), (2 << 30, 64 << 30)] {
        let options = Options { segment_bytes, hot_bytes_max, ..place.options.clone() };
        assert!(matches!(LogDir::open(place.path(), &options), Err(LogError::BadOptions { .. })));
    }
}

#[test]
fn a_copy_of_a_log_leaves_the_original_alone() {
    let place = Place::new();
    let mut writer = place.writer();
    let mut twin = Twin::default();
    twin.turn(&mut writer, 1, &[100], 10).unwrap();
    until("archived", || writer.archive_status().unsynced_bytes == 0);
    let copy = place.dir.path().join("copy");
    let status = std::process::Command::new("cp").arg("-r").arg(place.path()).arg(&copy).status().unwrap();
    assert!(status.success());
    twin.assert_suffix(&mut LaneReader::open(&copy, LANE, Position::First).unwrap(), 0);
    let log = LogDir::open(&copy, &place.options).unwrap();
    assert_ne!(log.id(), place.log().id());
    let mut other = LaneWriter::open(&log, LANE, &place.options).unwrap();
    other.append(1, 1, &[[9; 64]], 0, 0).unwrap();
    other.commit(0);
    twin.turn(&mut writer, 1, &[10], 10).unwrap();
    twin.assert_suffix(&mut place.reader(Position::First), 0);
}

#[test]
fn a_waiting_reader_is_woken_by_any_lane() {
    let place = Place::new();
    let log = place.log();
    let open = |lane: &str| LaneWriter::open(&log, lane, &place.options).unwrap();
    let (mut one, mut two) = (open("one"), open("two"));
    let read = |lane: &str| LaneReader::open_in(&log, lane, Position::First).unwrap();
    let (mut first, mut second) = (read("one"), read("two"));
    assert!(!wait(&[&first, &second], Duration::from_millis(5)), "nothing comes");
    for writes_first in [true, false] {
        let thread = std::thread::spawn(move || {
            let woken = wait(&[&first, &second], Duration::from_secs(10));
            let got = (first.next().unwrap().is_some(), second.next().unwrap().is_some());
            (woken, got, first, second)
        });
        for lane in ["one", "two"] {
            let control = log.hot().join(lane).join("control");
            until("both lanes know of the sleeper", || std::fs::read(&control).unwrap()[..4] != [0; 4]);
        }
        let writer = if writes_first { &mut one } else { &mut two };
        writer.append(1, 1, &[line(0)], 0, 0).unwrap();
        writer.commit(0);
        let (woken, got, one_back, two_back) = thread.join().unwrap();
        (first, second) = (one_back, two_back);
        assert!(woken);
        assert_eq!(got, (writes_first, !writes_first));
    }
}

#[test]
fn a_merge_does_not_depend_on_when_it_is_read() {
    let place = Place::new();
    let log = place.log();
    let mut writers: Vec<_> =
        ["a", "b", "c"].iter().map(|lane| LaneWriter::open(&log, lane, &place.options).unwrap()).collect();
    let mut live = MergedReader::open_all(&log, Position::First).unwrap();
    let mut seen: Vec<(String, u64, u64)> = Vec::new();
    let take = |merged: &mut MergedReader, seen: &mut Vec<(String, u64, u64)>| {
        while let Some((lane, batch)) = merged.next().unwrap() {
            seen.push((lane.to_owned(), batch.head().ts_recv, batch.first_index()));
        }
    };
    let mut rng = tickplant_core::clock::Rng::new(5);
    for time in 0..400u64 {
        // Each lane is at its own time; a watermark says how far.
        let writer = &mut writers[rng.below(3) as usize];
        let at = time - rng.below(time.min(3) + 1);
        if rng.below(3) > 0 {
            writer.append(1, 1, &[[time as u8; 64]], at, at).unwrap();
        }
        let promise = writer.ts_recv();
        writer.commit(promise);
        take(&mut live, &mut seen);
        if let Some((_, last, _)) = seen.last() {
            assert!(writers.iter().all(|writer| writer.ts_recv() >= *last), "given before every lane was that far");
        }
    }
    let before = seen.len();
    assert!(before > 100, "a merge goes on while its lanes are written");
    writers.remove(1).close().unwrap();
    // A writer that is dropped is one that died: it holds nobody up.
    drop(writers);
    take(&mut live, &mut seen);
    assert!(seen.len() > before);
    let mut later = Vec::new();
    take(&mut MergedReader::open_all(&log, Position::First).unwrap(), &mut later);
    assert_eq!(seen, later);
    assert!(seen.is_sorted_by_key(|(lane, time, index)| (*time, lane.clone(), *index)));
}
