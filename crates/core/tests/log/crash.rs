//! Real SIGKILLs of a writing process while other processes read: nobody crashes, nothing changes, nothing committed is lost.
//!
//! `TICKPLANT_PROOF=1` kills 200 times, without it 25. The processes are this test binary again, in the role that the environment names.

use crate::common::{input, line, read_input, turn, until, LANE};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tickplant_core::clock::{Rng, MILLISECOND};
use tickplant_core::log::{
    wait, BatchView, JournalPosition, JournalReader, LaneReader, LaneWriter, LogDir, Options, Position, SyncPolicy,
};

const ROLE: &str = "TICKPLANT_CRASH_ROLE";
const INPUT_BYTES_MOST: u64 = 3000;

fn kills() -> u64 {
    if std::env::var_os("TICKPLANT_PROOF").is_some() {
        200
    } else {
        25
    }
}

fn options(dir: &Path) -> Options {
    Options {
        segment_bytes: 64 << 10,
        hot_bytes_max: 64 * (64 << 10),
        sync: SyncPolicy::Interval(5 * MILLISECOND),
        hot_root: Some(dir.join("hot")),
        ..Options::default()
    }
}

/// Records and inputs that the writer knew to be committed, as it last said before it died.
fn reported(dir: &Path) -> (u64, u64) {
    let bytes = fs::read(dir.join("report")).unwrap_or_default();
    let word = |at: usize| bytes.get(at..at + 8).map_or(0, |word| u64::from_le_bytes(word.try_into().unwrap()));
    (word(0), word(8))
}

/// The roles of the other processes; as a test of its own it does nothing.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (role, dir) = role.split_once('=').unwrap();
    match role {
        "writer" => write(Path::new(dir)),
        _ => follow(Path::new(dir)),
    }
}

fn start(role: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::role", "--nocapture"])
        .env(ROLE, format!("{role}={}", dir.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Writes turns until it is killed.
fn write(dir: &Path) {
    let log = LogDir::open(dir.join("log"), &options(dir)).unwrap();
    let mut writer = LaneWriter::open(&log, LANE, &options(dir)).unwrap();
    assert_eq!(writer.recovered().cut, None);
    assert_eq!(writer.recovered().pending_inputs, None);
    let mut inputs = JournalReader::open_in(&log, LANE, JournalPosition::End).unwrap().committed_index();
    let (records_before, inputs_before) = reported(dir);
    assert!(writer.next_index() >= records_before && inputs >= inputs_before, "committed and lost");
    let report = fs::OpenOptions::new().write(true).create(true).truncate(false).open(dir.join("report")).unwrap();
    let mut rng = Rng::new(writer.next_index());
    loop {
        if writer.has_room(32 << 10) {
            let count = rng.below(3);
            let batches: Vec<_> = (0..rng.below(4)).map(|_| 1 + rng.below(40) as usize).collect();
            turn(&mut writer, count, &batches, INPUT_BYTES_MOST, inputs).unwrap();
            inputs += count;
            let words = [writer.next_index().to_le_bytes(), inputs.to_le_bytes()].concat();
            report.write_at(&words, 0).unwrap();
        }
        std::thread::sleep(Duration::from_micros(rng.below(150)));
    }
}

/// Follows records and inputs until it is told to stop; fails at the first that is not what it must be.
fn follow(dir: &Path) {
    let log = LogDir::existing(dir.join("log")).unwrap();
    let mut records = LaneReader::open_in(&log, LANE, Position::First).unwrap();
    let mut journal = JournalReader::open_in(&log, LANE, JournalPosition::First).unwrap();
    let (mut index, mut number) = (0, 0);
    let mut held: Vec<(BatchView, Vec<[u8; 64]>)> = Vec::new();
    let stop = dir.join("stop");
    loop {
        let stops = stop.exists();
        while let Some(batch) = records.next().unwrap() {
            assert_eq!(batch.first_index(), index, "no gap, nothing twice");
            for found in batch.lines() {
                assert_eq!(found, &line(index));
                index += 1;
            }
            if held.len() < 2000 {
                held.push((batch.clone(), batch.lines().to_vec()));
            }
        }
        while let Some(found) = read_input(&mut journal) {
            assert_eq!(found, input(number, INPUT_BYTES_MOST));
            number += 1;
        }
        if stops {
            break;
        }
        wait(&[&records, &journal], Duration::from_millis(20));
    }
    assert!(held.iter().all(|(batch, copy)| batch.lines() == copy), "a record changed under its reader");
    fs::write(dir.join(format!("read-{}", std::process::id())), format!("{index} {number}")).unwrap();
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn killed_writers_lose_nothing_that_was_committed() {
    let root = PathBuf::from("/dev/shm");
    let root = if root.is_dir() { root } else { std::env::temp_dir() };
    let scratch = Scratch(tempfile::tempdir_in(root).unwrap().keep());
    let dir = scratch.0.as_path();
    let log = LogDir::open(dir.join("log"), &options(dir)).unwrap();
    let mut readers: Vec<_> = (0..2).map(|_| start("reader", dir)).collect();
    let mut rng = Rng::new(1);
    for kill in 0..kills() {
        let mut writer = start("writer", dir);
        // Most are killed at work, the others at any moment of their start.
        if rng.below(4) > 0 {
            let before = reported(dir);
            until("the writer works", || reported(dir) != before);
        }
        std::thread::sleep(Duration::from_millis(4 + rng.below(60)));
        assert!(writer.try_wait().unwrap().is_none(), "writer {kill} ended by itself");
        writer.kill().unwrap();
        writer.wait().unwrap();
        let (records, inputs) = reported(dir);
        if records + inputs > 0 {
            let reader = LaneReader::open_in(&log, LANE, Position::End).unwrap();
            let journal = JournalReader::open_in(&log, LANE, JournalPosition::End).unwrap();
            assert!(reader.committed_index() >= records && !reader.has_writer());
            // The journal's last commit may be the one that the next start makes up for.
            assert!(journal.committed_index() + 2 >= inputs);
        }
        for reader in &mut readers {
            assert!(reader.try_wait().unwrap().is_none(), "a reader ended by itself after kill {kill}");
        }
    }
    let mut writer = LaneWriter::open(&log, LANE, &options(dir)).unwrap();
    let (records, inputs) = reported(dir);
    assert!(writer.next_index() >= records && records > 1000 && inputs > 100, "{records} records, {inputs} inputs");
    let total = JournalReader::open_in(&log, LANE, JournalPosition::End).unwrap().committed_index();
    assert!(total >= inputs);
    writer.append(1, 1, &[line(writer.next_index())], 0, 0).unwrap();
    let end = writer.next_index();
    writer.commit(0);
    until("archived", || writer.archive_status().unsynced_bytes == 0);
    fs::write(dir.join("stop"), "").unwrap();
    for reader in &mut readers {
        assert!(reader.wait().unwrap().success(), "a reader failed");
        let read = fs::read_to_string(dir.join(format!("read-{}", reader.id()))).unwrap();
        assert_eq!(read, format!("{end} {total}"));
    }
    let run = writer.run();
    writer.close().unwrap();
    // And from the disk alone.
    let mut reader = LaneReader::open_in(&log, LANE, Position::First).unwrap();
    let mut index = 0;
    while let Some(batch) = reader.next().unwrap() {
        for found in batch.lines() {
            assert_eq!(found, &line(index));
            index += 1;
        }
    }
    assert_eq!(index, end);
    println!("{} kills in {run} runs: {end} records, {total} inputs, none lost", kills());
}
