//! Memory files and whose they are. A log that is deleted after its plant was killed leaves its memory files behind, for ever: nobody
//! opens that log again. They are found by what a writer notes beside them: the log's path and the mount namespace that the path is of.

use super::dir::{identity, is_taken, read_about, write_whole};
use super::LogError;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A log and a hot root of this name were made to be thrown away: only the process that made them ever opens them.
pub const THROWN_AWAY: &str = "tickplant-thrown-away-";
const NOTE: &str = "log";
const PREFIX: &str = "tickplant-";

/// What stands beside the memory files of a log.
#[derive(Serialize, Deserialize)]
struct Note {
    path: PathBuf,
    /// A path says nothing in another container.
    mounts: PathBuf,
}

/// Whose the memory files of a log are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HotOwner {
    /// A writer has them now.
    Running,
    /// The log is there and nobody writes: its next writer takes over what its last one left.
    Stopped,
    /// The log is gone: nobody will ever read them.
    Gone,
    /// They are another container's, so that its log cannot be seen from here.
    Elsewhere,
    /// Nothing says whose they are: an older tickplant made them, or they may not be read.
    Unknown,
}

/// The memory files of one log.
#[derive(Clone, Debug, Serialize)]
pub struct HotDir {
    pub path: PathBuf,
    /// Memory that they take.
    pub bytes: u64,
    /// Where their log is, or was.
    pub log: Option<PathBuf>,
    pub owner: HotOwner,
}

/// Notes beside the memory files in `hot` that they are those of the log at `path`.
pub(super) fn note_owner(hot: &Path, path: &Path) -> Result<(), LogError> {
    let note = Note { path: path.to_owned(), mounts: mounts() };
    // A path that is not UTF-8 cannot be noted: its files are of an unknown owner then, which nobody removes.
    let text = serde_json::to_vec(&note).unwrap_or_default();
    if fs::read(hot.join(NOTE)).is_ok_and(|found| found == text) {
        return Ok(());
    }
    write_whole(&hot.join(NOTE), &text)
}

/// Takes the note away, when the memory files are gone.
pub(super) fn forget_owner(hot: &Path) {
    let _ = fs::remove_file(hot.join(NOTE));
}

/// The memory files below a hot root (`/dev/shm`) of every log, sorted by path.
pub fn hot_dirs(root: &Path) -> Result<Vec<HotDir>, LogError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(|error| LogError::io("list the memory files", root, error))?.flatten() {
        let path = entry.path();
        if is_thrown_away(&path) {
            let inner: Vec<PathBuf> = fs::read_dir(&path).into_iter().flatten().flatten().map(|at| at.path()).collect();
            found.extend(inner.iter().filter(|path| is_hot_dir(path)).map(|path| look_at(path)));
        } else if is_hot_dir(&path) {
            found.push(look_at(&path));
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Removes the memory files of a log that is gone, and a thrown-away log with them. False: they are not of one.
pub fn remove_hot_dir(path: &Path) -> Result<bool, LogError> {
    let found = look_at(path);
    if !is_hot_dir(path) || found.owner != HotOwner::Gone {
        return Ok(false);
    }
    fs::remove_dir_all(path).map_err(|error| LogError::io("remove memory files", path, error))?;
    let thrown_away = [path.parent(), found.log.as_deref()];
    for directory in thrown_away.into_iter().flatten().filter(|directory| is_thrown_away(directory)) {
        let _ = fs::remove_dir_all(directory);
    }
    Ok(true)
}

fn look_at(path: &Path) -> HotDir {
    let note: Option<Note> = fs::read(path.join(NOTE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let (owner, log) = owner_of(path, note);
    HotDir { path: path.to_owned(), bytes: bytes_below(path), log, owner }
}

fn owner_of(hot: &Path, note: Option<Note>) -> (HotOwner, Option<PathBuf>) {
    let Some(Note { path, mounts: theirs }) = note else { return (HotOwner::Unknown, None) };
    if is_taken(&hot.join("owner")) {
        return (HotOwner::Running, Some(path));
    }
    if theirs != mounts() {
        return (HotOwner::Elsewhere, Some(path));
    }
    if hot.parent().is_some_and(is_thrown_away) {
        return (HotOwner::Gone, Some(path));
    }
    let Ok(wanted) = fs::read_to_string(hot.join("owner")) else { return (HotOwner::Unknown, Some(path)) };
    let id = hot.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_prefix(PREFIX));
    let is_it = |at: &Path| identity(at).is_ok_and(|found| found == wanted) && may_be_log(at, id);
    // A log that was renamed where it stands is still that log.
    let neighbours = path.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    let places = std::iter::once(path.clone()).chain(neighbours.map(|entry| entry.path()));
    match places.into_iter().find(|at| is_it(at)) {
        Some(at) => (HotOwner::Stopped, Some(at)),
        None => (HotOwner::Gone, Some(path)),
    }
}

/// The id settles it, since a new directory may get the number of one that was removed. A description that cannot be read settles nothing.
fn may_be_log(path: &Path, id: Option<&str>) -> bool {
    match read_about(path) {
        Ok(about) => about.is_some_and(|about| Some(about.id.as_str()) == id),
        Err(_) => true,
    }
}

fn is_thrown_away(path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(THROWN_AWAY))
}

/// Whether it has the name that [`super::LogDir`] gives: `tickplant-` and 16 hexadecimal digits.
fn is_hot_dir(path: &Path) -> bool {
    let id = path.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_prefix(PREFIX));
    id.is_some_and(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// The memory that the files below a directory take. Lanes are one level deep.
fn bytes_below(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, found)| if found.is_dir() { bytes_below(&path) } else { found.blocks() * 512 })
        .sum()
}

/// Names the mount namespace of this process, which is what a path is of.
fn mounts() -> PathBuf {
    fs::read_link("/proc/self/ns/mnt").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LaneWriter, LogDir, Options};

    struct Place {
        dir: tempfile::TempDir,
        root: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("hot");
            Self { dir, root }
        }

        fn writer(&self, log: &str) -> LaneWriter {
            let options = Options { hot_root: Some(self.root.clone()), segment_bytes: 1 << 16, ..Options::default() };
            let log = LogDir::open(self.dir.path().join(log), &options).unwrap();
            LaneWriter::open(&log, "one", &options).unwrap()
        }

        fn only(&self) -> HotDir {
            let mut found = hot_dirs(&self.root).unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            found.remove(0)
        }
    }

    #[test]
    fn the_owner_is_running_then_stopped_then_gone() {
        let place = Place::new();
        let log = place.dir.path().join("log");
        let writer = place.writer("log");
        let running = place.only();
        assert_eq!((running.owner, running.log.as_deref()), (HotOwner::Running, Some(log.as_path())));
        assert!(running.bytes >= 2 << 16, "{running:?}");
        assert!(!remove_hot_dir(&running.path).unwrap());
        // Dropped without a close it leaves what a killed one leaves.
        drop(writer);
        assert_eq!(place.only().owner, HotOwner::Stopped);
        let renamed = place.dir.path().join("renamed");
        fs::rename(&log, &renamed).unwrap();
        let stopped = place.only();
        assert_eq!((stopped.owner, stopped.log), (HotOwner::Stopped, Some(renamed.clone())));
        assert!(!remove_hot_dir(&running.path).unwrap());
        // A log at the same place is another one.
        fs::remove_dir_all(&renamed).unwrap();
        fs::create_dir(&log).unwrap();
        assert_eq!(place.only().owner, HotOwner::Gone);
        assert!(remove_hot_dir(&running.path).unwrap());
        assert!(hot_dirs(&place.root).unwrap().is_empty());
    }

    #[test]
    fn a_clean_end_leaves_nothing() {
        let place = Place::new();
        let writer = place.writer("log");
        writer.close().unwrap();
        assert!(hot_dirs(&place.root).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_known_is_left_alone() {
        let place = Place::new();
        drop(place.writer("log"));
        let path = place.only().path;
        fs::remove_dir_all(place.dir.path().join("log")).unwrap();
        let note = fs::read_to_string(path.join(NOTE)).unwrap();
        fs::write(path.join(NOTE), note.replace("mnt:[", "mnt:[9")).unwrap();
        assert_eq!(place.only().owner, HotOwner::Elsewhere);
        fs::remove_file(path.join(NOTE)).unwrap();
        assert_eq!(place.only().owner, HotOwner::Unknown);
        assert!(!remove_hot_dir(&path).unwrap());
        // Nor is anything that does not bear the name.
        assert!(!remove_hot_dir(place.dir.path()).unwrap());
        assert!(path.exists() && place.dir.path().exists());
    }

    #[test]
    fn what_was_thrown_away_goes_with_its_log() {
        let mut place = Place::new();
        let outer = place.root.clone();
        place.root = outer.join(format!("{THROWN_AWAY}x"));
        let log = format!("{THROWN_AWAY}y");
        let writer = place.writer(&log);
        assert_eq!(hot_dirs(&outer).unwrap()[0].owner, HotOwner::Running);
        drop(writer);
        let found = hot_dirs(&outer).unwrap();
        assert_eq!(found[0].owner, HotOwner::Gone);
        assert!(remove_hot_dir(&found[0].path).unwrap());
        assert!(!place.root.exists() && !place.dir.path().join(log).exists() && outer.exists());
    }
}
