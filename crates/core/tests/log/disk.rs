//! Disks that are full, slow, refuse or forget; and writers that die with their memory left.

use crate::common::{line, until, Place, Twin, LANE};
use std::sync::Arc;
use std::time::Duration;
use tickplant_core::clock::Rng;
use tickplant_core::log::{
    ArchiveState, JournalPosition, LaneReader, LaneWriter, LogError, Position, ReadError, RealDisk, SimDisk, SyncPolicy,
};

fn writer_on(place: &Place, disk: &SimDisk) -> LaneWriter {
    LaneWriter::open_on(&place.log(), LANE, &place.options, Arc::new(disk.clone())).unwrap()
}

/// Appends turns until the lane is full because the disk is; each turn is wholly in or wholly out.
fn fill(twin: &mut Twin, writer: &mut LaneWriter) -> LogError {
    let mut refused = 0;
    for _ in 0..100_000 {
        match twin.turn(writer, 1, &[30], 500) {
            Ok(()) => refused = 0,
            // What was written before the disk was full still makes room in memory, so that one refusal is not the end.
            Err(error) if refused == 300 => return error,
            Err(_) => {
                let is_full = matches!(writer.archive_status().state, ArchiveState::DiskFull { .. });
                refused = if is_full { refused + 1 } else { 0 };
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    panic!("never full");
}

fn assert_recovers(twin: &mut Twin, writer: &mut LaneWriter, hot_bytes_max: u64) {
    let error = fill(twin, writer);
    assert!(matches!(error, LogError::Full { .. }), "{error}");
    assert!(error.to_string().contains("goes on by itself"), "{error}");
    until(
        "the disk is told full",
        || matches!(writer.archive_status().state, ArchiveState::DiskFull { since } if since > 0),
    );
    let status = writer.archive_status();
    assert!(status.lag_bytes > 0 && status.hot_bytes <= hot_bytes_max, "{status:?}");
    assert!(!writer.has_room(16 << 10));
    // What must be said when it is full can be said, though a turn like those that filled it cannot.
    assert!(matches!(twin.turn(writer, 1, &[30], 500), Err(LogError::Full { .. })));
    writer.use_reserve(true);
    twin.turn(writer, 1, &[2], 100).unwrap();
    writer.use_reserve(false);
}

#[test]
fn a_full_simulated_disk_is_told_and_recovers() {
    let place = Place::new();
    let disk = SimDisk::default();
    disk.set_capacity(Some(100_000));
    let mut writer = writer_on(&place, &disk);
    let mut twin = Twin::default();
    assert_recovers(&mut twin, &mut writer, place.options.hot_bytes_max);
    assert_eq!(disk.used(), 100_000, "filled to the last byte");
    twin.assert_suffix(&mut place.reader(Position::Index(twin.lines.len() as u64 - 20)), twin.lines.len() - 20);
    disk.set_capacity(None);
    until("well again", || writer.archive_status().state == ArchiveState::Ok && writer.archive_status().lag_bytes == 0);
    until("room again", || writer.has_room(10_000));
    twin.turn(&mut writer, 2, &[40], 500).unwrap();
    writer.close().unwrap();
    disk.crash(&mut Rng::new(1)).unwrap();
    twin.assert_suffix(&mut place.reader(Position::First), 0);
    twin.assert_inputs(&mut place.journal(JournalPosition::First), 0);
}

#[test]
fn a_failed_sync_writes_again_from_memory() {
    let place = Place::new();
    let disk = SimDisk::default();
    let mut writer = writer_on(&place, &disk);
    let mut twin = Twin::default();
    disk.set_faults(None, Some(libc::EIO));
    twin.turn(&mut writer, 3, &[100, 100], 500).unwrap();
    let is_told =
        |writer: &LaneWriter| matches!(writer.archive_status().state, ArchiveState::Failed { errno: libc::EIO, .. });
    until("the failure is told", || is_told(&writer));
    disk.set_faults(Some(libc::EROFS), None);
    until("the other failure is told", || {
        matches!(writer.archive_status().state, ArchiveState::Failed { errno: libc::EROFS, .. })
    });
    disk.set_faults(None, None);
    until("all is synced", || writer.archive_status().unsynced_bytes == 0);
    disk.crash(&mut Rng::new(2)).unwrap();
    drop(writer);
    place.forget_memory();
    twin.assert_suffix(&mut place.reader(Position::First), 0);
    twin.assert_inputs(&mut place.journal(JournalPosition::First), 0);
}

#[test]
fn a_slow_disk_is_behind_and_holds_nobody_up() {
    let mut place = Place::new();
    place.options.hot_bytes_max = 256 * place.options.segment_bytes;
    let disk = SimDisk::default();
    let delay = Duration::from_secs(100);
    disk.set_delay(delay);
    let mut writer = writer_on(&place, &disk);
    let mut twin = Twin::default();
    let start = std::time::Instant::now();
    for _ in 0..200 {
        twin.turn(&mut writer, 1, &[50], 200).unwrap();
    }
    assert!(start.elapsed() < delay, "200 turns did not wait for one write");
    assert!(writer.archive_status().lag_bytes > 100 * 64);
    twin.assert_suffix(&mut place.reader(Position::First), 0);
    disk.set_delay(Duration::ZERO);
    writer.close().unwrap();
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_nothing_else() {
    for seed in 0..40 {
        let mut place = Place::new();
        let mut rng = Rng::new(seed);
        place.options.sync =
            [SyncPolicy::None, SyncPolicy::Interval(1_000_000), SyncPolicy::Always][(seed % 3) as usize];
        let disk = SimDisk::default();
        let mut writer = writer_on(&place, &disk);
        let (mut twin, mut synced) = (Twin::default(), 0);
        for _ in 0..10 + rng.below(60) {
            let inputs = rng.below(3);
            if writer.has_room(20_000) {
                twin.turn(&mut writer, inputs, &[1 + rng.below(30) as usize], 600).unwrap();
            }
            if rng.below(4) == 0 {
                std::thread::sleep(Duration::from_micros(rng.below(4000)));
            }
            if writer.archive_status().unsynced_bytes == 0 {
                synced = twin.turns.len();
            }
        }
        disk.crash(&mut rng).unwrap();
        drop(writer);
        place.forget_memory();
        let writer = LaneWriter::open_on(&place.log(), LANE, &place.options, Arc::new(RealDisk)).unwrap();
        let kept = writer.recovered().cut.map_or(writer.next_index(), |cut| cut.index) as usize;
        assert!(twin.turns.iter().any(|&(lines, _)| lines == kept) || kept == 0, "whole turns only, seed {seed}");
        let safe = twin.turns[..synced].last().map_or(0, |&(lines, _)| lines);
        assert!(kept >= safe, "seed {seed}: {kept} records kept, {safe} were synced");
        let (mut reader, mut at, mut lost) = (place.reader(Position::Index(0)), 0, 0);
        while at < kept {
            match reader.next() {
                Ok(batch) => {
                    let batch = batch.expect("what is kept is readable");
                    assert_eq!(batch.first_index(), at as u64, "seed {seed}");
                    assert!(batch.lines() == &twin.lines[at..at + batch.lines().len()], "seed {seed}");
                    at += batch.lines().len();
                }
                Err(ReadError::Lost { first, last }) => {
                    assert_eq!(first, at as u64);
                    (at, lost) = (last as usize + 1, lost + 1);
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(
            lost == 0 || place.options.sync == SyncPolicy::None,
            "only without any sync can a hole be left, seed {seed}"
        );
    }
}

#[test]
fn a_dead_writer_loses_its_uncommitted_tail_and_nothing_else() {
    let place = Place::new();
    place.log();
    let mut live = place.reader(Position::First);
    let (mut twin, mut read) = (Twin::default(), 0);
    let mut rng = Rng::new(3);
    for run in 1..60 {
        let mut writer = place.writer();
        assert_eq!((writer.run(), writer.recovered()), (run, Default::default()));
        assert_eq!(writer.next_index(), twin.lines.len() as u64);
        for _ in 0..rng.below(5) {
            if writer.has_room(20_000) {
                twin.turn(&mut writer, rng.below(3), &[1 + rng.below(60) as usize], 3000).unwrap();
            }
        }
        twin.assert_suffix(&mut live, read);
        read = twin.lines.len();
        // Inputs and records of a turn that is never committed, over the end of a segment at times.
        if writer.has_room(40_000) {
            writer.input(1, 1, 1, 1, &[&vec![0xEE; rng.below(20_000) as usize]]).unwrap();
            writer.append(1, 1, &vec![[0xEE; 64]; rng.below(300) as usize], 0, 0).unwrap();
        }
        if rng.below(2) == 0 {
            until("archived", || writer.archive_status().lag_bytes == 0);
        }
    }
    twin.assert_inputs(&mut place.journal(JournalPosition::First), 0);
    twin.assert_suffix(&mut place.reader(Position::First), 0);
    place.writer().close().unwrap();
    twin.assert_suffix(&mut place.reader(Position::First), 0);
    twin.assert_suffix(&mut live, read);
}

#[test]
fn an_archive_file_that_is_not_the_memory_is_written_again() {
    let place = Place::new();
    let mut writer = place.writer();
    let mut twin = Twin::default();
    twin.turn(&mut writer, 2, &[100], 500).unwrap();
    until("archived", || writer.archive_status().unsynced_bytes == 0);
    drop(writer);
    std::fs::write(&place.archive("records")[0], [7; 5000]).unwrap();
    place.writer().close().unwrap();
    twin.assert_suffix(&mut place.reader(Position::First), 0);
}

/// A small tmpfs that is unmounted when dropped.
struct Mount(std::path::PathBuf);

impl Mount {
    /// None where this user may not mount.
    fn new(path: std::path::PathBuf, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let option = format!("size={bytes}");
        let mut command = std::process::Command::new("mount");
        let made = command
            .args(["-t", "tmpfs", "-o", &option, "tmpfs"])
            .arg(&path)
            .stderr(std::process::Stdio::null())
            .status();
        made.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_file_system_is_told_and_recovers() {
    let mut place = Place::new();
    let Some(mount) = Mount::new(place.dir.path().join("disk"), 1 << 20) else {
        eprintln!("skipped: mounting a small tmpfs is not permitted here");
        return;
    };
    let filler = mount.0.join("filler");
    std::fs::write(&filler, vec![1; 700 << 10]).unwrap();
    place.options.hot_bytes_max = 20 * place.options.segment_bytes;
    let log = tickplant_core::log::LogDir::open(mount.0.join("log"), &place.options).unwrap();
    let mut writer = LaneWriter::open(&log, LANE, &place.options).unwrap();
    let mut twin = Twin::default();
    assert_recovers(&mut twin, &mut writer, place.options.hot_bytes_max);
    let open = |from| LaneReader::open_in(&log, LANE, from).unwrap();
    twin.assert_suffix(&mut open(Position::First), 0);
    std::fs::remove_file(filler).unwrap();
    until("well again", || writer.archive_status().state == ArchiveState::Ok && writer.archive_status().lag_bytes == 0);
    until("room again", || writer.has_room(10_000));
    twin.turn(&mut writer, 1, &[10], 100).unwrap();
    writer.close().unwrap();
    twin.assert_suffix(&mut open(Position::First), 0);
    assert!(!log.hot().exists(), "a clean close gives the memory back");
}

#[test]
fn a_full_memory_file_system_is_an_error_and_no_fault() {
    let mut place = Place::new();
    let Some(mount) = Mount::new(place.dir.path().join("memory"), 512 << 10) else {
        eprintln!("skipped: mounting a small tmpfs is not permitted here");
        return;
    };
    place.options.hot_root = Some(mount.0.clone());
    place.options.hot_bytes_max = 1 << 30;
    let disk = SimDisk::default();
    disk.set_capacity(Some(0));
    let mut writer = writer_on(&place, &disk);
    let mut twin = Twin::default();
    assert!(matches!(fill(&mut twin, &mut writer), LogError::Full { .. }));
    twin.assert_suffix(&mut place.reader(Position::First), 0);
    let refused = LaneWriter::open(&place.log(), "other", &place.options).err().expect("no memory for another lane");
    assert!(refused.to_string().contains("larger tmpfs"), "{refused}");
    drop(writer);
    let mut writer = LaneWriter::open_on(&place.log(), LANE, &place.options, Arc::new(disk.clone())).unwrap();
    disk.set_capacity(None);
    until("room again", || writer.has_room(10_000) && writer.archive_status().lag_bytes == 0);
    assert_eq!(writer.next_index() as usize, twin.lines.len());
    writer.append(1, 1, &[line(0)], 0, 0).unwrap();
    writer.close().unwrap();
}

/// Every directory and file of the log and of its memory, with its mode.
fn modes(dir: &std::path::Path, found: &mut Vec<(std::path::PathBuf, bool, u32)>) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let about = entry.metadata().unwrap();
        found.push((entry.path(), about.is_dir(), about.permissions().mode() & 0o777));
        if about.is_dir() {
            modes(&entry.path(), found);
        }
    }
}

#[test]
fn a_log_is_made_for_its_owner_alone() {
    let place = Place::new();
    let mut writer = place.writer();
    tickplant_core::log::Registry::open(&place.log()).unwrap().assign("BTC/USD.KRAKEN").unwrap();
    Twin::default().turn(&mut writer, 2, &[400], 500).unwrap();
    until("archived", || writer.archive_status().unsynced_bytes == 0);
    let mut found = Vec::new();
    modes(place.dir.path(), &mut found);
    assert!(found.len() > 12, "{found:?}");
    for (path, is_dir, mode) in found {
        assert_eq!(mode, if is_dir { 0o700 } else { 0o600 }, "{}", path.display());
    }
}
