//! A log's directory: `log.json`, the lanes and their locks, and where the hot files are.

use super::layout::{SegmentHead, LINE, LOG_VERSION};
use super::leftovers::{forget_owner, note_owner};
use super::{LogError, Options, StreamKind};
use crate::clock::Rng;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Mode of every file of a log. Its directories are made with 0700; one that exists keeps the mode that its maker gave it.
pub(crate) const OWNER_ONLY: u32 = 0o600;

/// What `log.json` holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    version: u32,
    pub(super) id: String,
    hot_root: PathBuf,
}

/// An open log directory.
#[derive(Clone, Debug)]
pub struct LogDir {
    path: PathBuf,
    id: String,
    hot: PathBuf,
}

impl LogDir {
    /// Opens a log for writing and makes it where there is none.
    ///
    /// A copy of a log must not share the original's hot files, so the hot directory names its owner; a copy gets an id of its own here.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, LogError> {
        options.check()?;
        let path = path.as_ref();
        make_dir(&path.join("lanes"))?;
        let path = fs::canonicalize(path).map_err(|error| LogError::io("resolve the log directory", path, error))?;
        let mut about = match read_about(&path)? {
            Some(about) => about,
            None => create_about(&path, options)?,
        };
        if let Some(root) = options.hot_root.as_ref().filter(|root| **root != about.hot_root) {
            if hot_dir(&about).exists() && owner_of(&hot_dir(&about)) == Some(identity(&path)?) {
                let fault = format!(
                    "hot_root = {} but this log has hot files in {}: start it once with that, close it, then move",
                    root.display(),
                    about.hot_root.display()
                );
                return Err(LogError::BadOptions { fault });
            }
            about.hot_root.clone_from(root);
            replace_about(&path, &about)?;
        }
        let owner = identity(&path)?;
        if owner_of(&hot_dir(&about)).is_some_and(|found| found != owner) {
            about.id = new_id();
            replace_about(&path, &about)?;
        }
        let hot = hot_dir(&about);
        Ok(Self { path, id: about.id, hot })
    }

    /// Makes the directory of a lane's hot files, and marks whose it is and, while what it gives is held, that somebody has it.
    pub(crate) fn claim_hot(&self, paths: &LanePaths) -> Result<HotClaim, LogError> {
        make_dir(&paths.hot)?;
        let owner = self.hot.join("owner");
        if owner_of(&self.hot).is_none() {
            write_whole(&owner, identity(&self.path)?.as_bytes())?;
        }
        note_owner(&self.hot, &self.path)?;
        let file = File::open(&owner).map_err(|error| LogError::io("open the mark of the owner", &owner, error))?;
        set_lock(&file, libc::F_RDLCK, TAKEN)
            .map_err(|error| LogError::io("lock the mark of the owner", &owner, error))?;
        Ok(HotClaim { _file: file })
    }

    /// Removes what is left when a lane's hot files are gone; the last lane takes the log's own directory along.
    pub(crate) fn release_hot(&self, paths: &LanePaths) {
        let _ = fs::remove_dir(&paths.hot);
        let is_lane_dir = |entry: fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        if fs::read_dir(&self.hot).is_ok_and(|entries| !entries.flatten().any(is_lane_dir)) {
            // A lane that is opened in between makes both anew.
            let _ = fs::remove_file(self.hot.join("owner"));
            forget_owner(&self.hot);
            let _ = fs::remove_dir(&self.hot);
        }
    }

    /// Opens a log that exists, for reading.
    pub fn existing(path: impl AsRef<Path>) -> Result<Self, LogError> {
        let not_a_log = || LogError::NotALog { path: path.as_ref().to_owned() };
        let path = fs::canonicalize(path.as_ref()).map_err(|_| not_a_log())?;
        let about = read_about(&path)?.ok_or_else(not_a_log)?;
        let mut hot = hot_dir(&about);
        let owner = identity(&path)?;
        if owner_of(&hot).is_some_and(|found| found != owner) {
            // These are the original's: a copy is an archive only, until a writer of its own starts.
            hot = path.join("no-hot-files");
        }
        Ok(Self { path, id: about.id, hot })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log's id, 16 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the hot files are.
    pub fn hot(&self) -> &Path {
        &self.hot
    }

    /// Names of its lanes, sorted.
    pub fn lanes(&self) -> Result<Vec<String>, LogError> {
        let dir = self.path.join("lanes");
        let entries = fs::read_dir(&dir).map_err(|error| LogError::io("list the lanes", &dir, error))?;
        let mut lanes: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_lane(name))
            .collect();
        lanes.sort();
        Ok(lanes)
    }

    /// The paths of one lane, which need not exist.
    pub(crate) fn lane(&self, lane: &str) -> Result<LanePaths, LogError> {
        if !is_lane(lane) {
            return Err(LogError::BadLane { lane: lane.to_owned() });
        }
        Ok(LanePaths { lane: lane.to_owned(), archive: self.path.join("lanes").join(lane), hot: self.hot.join(lane) })
    }
}

fn is_lane(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(known) && !name.starts_with('.')
}

fn hot_dir(about: &About) -> PathBuf {
    about.hot_root.join(format!("tickplant-{}", about.id))
}

fn new_id() -> String {
    format!("{:016x}", Rng::seed_from_system())
}

/// What tells a directory from its copies on this machine.
pub(super) fn identity(path: &Path) -> Result<String, LogError> {
    let about = fs::metadata(path).map_err(|error| LogError::io("look at the log directory", path, error))?;
    Ok(format!("{}:{}", about.dev(), about.ino()))
}

fn owner_of(hot: &Path) -> Option<String> {
    fs::read_to_string(hot.join("owner")).ok()
}

pub(super) fn read_about(path: &Path) -> Result<Option<About>, LogError> {
    let file = path.join("log.json");
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::io("read the log's description", &file, error)),
    };
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged = |_| LogError::damaged(&file, "log.json is not the description of a log");
    // The version first: a newer log's description may hold what we cannot read.
    let version = serde_json::from_slice::<Version>(&text).map_err(damaged)?.version;
    if version > LOG_VERSION {
        return Err(LogError::NewerVersion { path: file, found: version, known: LOG_VERSION });
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// Makes `log.json`. Of two processes that do so at once, one wins and both use what it wrote.
fn create_about(path: &Path, options: &Options) -> Result<About, LogError> {
    let hot_root = options.hot_root.clone().unwrap_or_else(|| PathBuf::from("/dev/shm"));
    let about = About { version: LOG_VERSION, id: new_id(), hot_root };
    let temporary = path.join(format!("log.json.{}", about.id));
    write_whole(&temporary, &as_json(&about))?;
    let linked = fs::hard_link(&temporary, path.join("log.json"));
    let _ = fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(LogError::io("write the log's description", &path.join("log.json"), error))
        }
        _ => read_about(path)?.ok_or_else(|| LogError::NotALog { path: path.to_owned() }),
    }
}

fn replace_about(path: &Path, about: &About) -> Result<(), LogError> {
    write_whole(&path.join("log.json"), &as_json(about))
}

fn as_json(about: &About) -> Vec<u8> {
    // Three plain fields; a path that is not UTF-8 is the only thing that could fail, and then an empty description is refused later.
    serde_json::to_vec_pretty(about).unwrap_or_default()
}

/// Writes a small file so that it is either the old or the new one at any time.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|error| LogError::io("write a file", path, error))
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(crate) fn make_dir(path: &Path) -> Result<(), LogError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| LogError::io("make a directory", path, error))
}

/// Where the files of one lane are.
#[derive(Clone, Debug)]
pub(crate) struct LanePaths {
    pub(crate) lane: String,
    pub(crate) archive: PathBuf,
    pub(crate) hot: PathBuf,
}

impl LanePaths {
    pub(crate) fn control(&self) -> PathBuf {
        self.hot.join("control")
    }

    /// Stands there between a clean close and the next start.
    pub(crate) fn closed(&self) -> PathBuf {
        self.archive.join("closed")
    }

    pub(crate) fn hot_segment(&self, stream: StreamKind, number: u64) -> PathBuf {
        self.hot.join(segment_name(stream, number))
    }

    pub(crate) fn archive_segment(&self, stream: StreamKind, number: u64) -> PathBuf {
        self.archive.join(segment_name(stream, number))
    }

    pub(crate) fn hot_numbers(&self, stream: StreamKind) -> Result<Vec<u64>, LogError> {
        numbers(&self.hot, stream)
    }

    pub(crate) fn archive_numbers(&self, stream: StreamKind) -> Result<Vec<u64>, LogError> {
        numbers(&self.archive, stream)
    }

    /// Takes the lane for this process until the lock is dropped or the process dies.
    pub(crate) fn lock(&self) -> Result<LaneLock, LogError> {
        let path = self.archive.join("lock");
        let failed = |error| LogError::io("lock the lane", &path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(OWNER_ONLY)
            .open(&path)
            .map_err(failed)?;
        // A child that the writer before was just starting holds a copy of its descriptor until it executes its program.
        let mut tries = 0..20;
        while !set_lock(&file, libc::F_WRLCK, TAKEN).map_err(failed)? {
            if tries.next().is_some() {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Err(LogError::InUse { lane: self.lane.clone(), pid: text.trim().parse().ok(), path });
        }
        let pid = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all_at(pid.as_bytes(), 0)).map_err(failed)?;
        Ok(LaneLock { file, path })
    }

    /// Whether a living writer has the lane's control page. Asking takes nothing, so it never gets into a writer's way.
    pub(crate) fn is_written(&self) -> bool {
        is_locked(&self.archive.join("lock"), WRITTEN)
    }
}

/// What is locked of a lane's file: a writer takes the lane, and then says that what its control page promises is its own word.
const TAKEN: libc::off_t = 0;
const WRITTEN: libc::off_t = 1;

/// Whether anybody has taken what this file stands for, alone or with others.
pub(super) fn is_taken(path: &Path) -> bool {
    is_locked(path, TAKEN)
}

fn is_locked(path: &Path, byte: libc::off_t) -> bool {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return false };
    let mut lock = lock_of(libc::F_WRLCK, byte);
    // SAFETY: the descriptor is open and the structure is valid for the call.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    asked == 0 && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// Held by every writer of a log that has hot files: a shared lock, so that whoever finds the files can ask if they are in use.
pub(crate) struct HotClaim {
    _file: File,
}

/// Held by a lane's writer. It is an open-file-description lock: as with flock it goes with the descriptor, and it can be asked for
/// without being taken.
pub(crate) struct LaneLock {
    file: File,
    path: PathBuf,
}

impl LaneLock {
    /// The control page is this writer's now: nothing in it is a dead one's promise.
    pub(crate) fn begin(&self) -> Result<(), LogError> {
        // Who has taken the lane finds it free.
        let locked = set_lock(&self.file, libc::F_WRLCK, WRITTEN);
        locked.map(drop).map_err(|error| LogError::io("lock the lane", &self.path, error))
    }
}

fn lock_of(kind: libc::c_int, byte: libc::off_t) -> libc::flock {
    // SAFETY: all zeros is a valid flock structure, without an owner.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_start = byte;
    lock.l_len = 1;
    lock
}

fn set_lock(file: &File, kind: libc::c_int, byte: libc::off_t) -> io::Result<bool> {
    let lock = lock_of(kind, byte);
    // SAFETY: the descriptor is open and the structure is valid for the call.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

fn segment_name(stream: StreamKind, number: u64) -> String {
    format!("{}-{number:012}.seg", stream.name())
}

/// Numbers of the segment files of a stream in a directory, ascending; none where the directory is not there.
fn numbers(dir: &Path, stream: StreamKind) -> Result<Vec<u64>, LogError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LogError::io("list segments", dir, error)),
    };
    let number = |name: String| -> Option<u64> {
        name.strip_prefix(stream.name())?.strip_prefix('-')?.strip_suffix(".seg")?.parse().ok()
    };
    let mut numbers: Vec<u64> =
        entries.flatten().filter_map(|entry| number(entry.file_name().into_string().ok()?)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads the head of a segment file; None where it is not there, not written yet or not intact.
pub(crate) fn segment_head(path: &Path, stream: StreamKind, number: u64) -> Option<SegmentHead> {
    let mut line = [0u8; LINE];
    File::open(path).ok()?.read_exact_at(&mut line, 0).ok()?;
    let head: SegmentHead = bytemuck::pod_read_unaligned(&line);
    head.is_intact(stream, number).then_some(head)
}
