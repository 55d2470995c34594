//! Whoever has only a copy of the archive, as on another machine, reads what is there and goes on with what comes.

use crate::common::{until, Place, Twin, LANE};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use tickplant_core::log::{LaneReader, Position};

/// Brings the copy of a log up to date as a file system shared by two machines does: what is there stays, files grow.
fn grow(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            grow(&entry.path(), &target);
        } else {
            let bytes = std::fs::read(entry.path()).unwrap();
            let mut file = OpenOptions::new().create(true).append(true).open(&target).unwrap();
            let length = file.metadata().unwrap().len() as usize;
            file.write_all(&bytes[length.min(bytes.len())..]).unwrap();
        }
    }
}

/// A segment grows and is left between two looks.
#[test]
fn an_archive_that_grows_over_a_segments_end_is_followed() {
    let place = Place::new();
    let (mut writer, mut twin) = (place.writer(), Twin::default());
    let copy = place.dir.path().join("copy");
    let mut follow = |counts: &[usize]| {
        twin.turn(&mut writer, 1, counts, 10).unwrap();
        until("archived", || writer.archive_status().unsynced_bytes == 0);
        grow(&place.path(), &copy);
        twin.lines.len()
    };
    let first = follow(&[100]);
    let mut reader = LaneReader::open(&copy, LANE, Position::First).unwrap();
    let mut read = 0;
    while let Some(batch) = reader.next().unwrap() {
        read += batch.lines().len();
    }
    assert_eq!(read, first);
    // A segment has room for 254 lines.
    follow(&[100, 100, 100]);
    twin.assert_suffix(&mut reader, first);
}
