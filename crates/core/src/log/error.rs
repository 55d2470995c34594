//! Why the log refused or failed.

use super::control::ArchiveState;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Every message says what, where and what to do.
#[derive(Debug)]
pub enum LogError {
    /// The operating system refused something.
    Io { what: &'static str, path: PathBuf, error: io::Error },
    /// Another writer holds the lane.
    InUse { lane: String, pid: Option<u32>, path: PathBuf },
    /// The log was written by a newer tickplant.
    NewerVersion { path: PathBuf, found: u32, known: u32 },
    /// There is no log here.
    NotALog { path: PathBuf },
    /// A name that cannot be a lane's.
    BadLane { lane: String },
    /// Settings that cannot work.
    BadOptions { fault: String },
    /// An instrument name that cannot be registered.
    BadName { name: String },
    /// The memory for new data is used up; nothing of the refused call was taken. It ends when the archiver gets on.
    Full { lane: String, hot_bytes: u64, disk: &'static str },
    /// The lane was opened without a journal.
    NoJournal { lane: String },
    /// A file is not what it must be, in a way that no crash explains.
    Damaged { path: PathBuf, what: &'static str },
    /// The lane could not be closed with everything archived in time; its hot files stay and the next start archives them.
    Unarchived { lane: String, lag_bytes: u64, state: ArchiveState },
}

impl LogError {
    pub(crate) fn io(what: &'static str, path: &Path, error: io::Error) -> Self {
        LogError::Io { what, path: path.to_owned(), error }
    }

    pub(crate) fn damaged(path: &Path, what: &'static str) -> Self {
        LogError::Damaged { path: path.to_owned(), what }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Io { what, path, error } if error.raw_os_error() == Some(libc::ENOSPC) => write!(
                out,
                "cannot {what} at {}: the file system is full; free space there, or for hot files choose a larger tmpfs \
                 (log.hot_root) or smaller segments (log.segment_bytes)",
                path.display()
            ),
            LogError::Io { what, path, error } => write!(
                out,
                "cannot {what} at {}: {error}; check that the path exists and that this user may use it",
                path.display()
            ),
            LogError::InUse { lane, pid, path } => {
                write!(out, "lane {lane} is in use by ")?;
                match pid {
                    Some(pid) => write!(out, "process {pid}")?,
                    None => write!(out, "another writer")?,
                }
                write!(out, " ({}): stop that process, or use another lane or log directory", path.display())
            }
            LogError::NewerVersion { path, found, known } => write!(
                out,
                "{} is of log version {found}, this tickplant knows up to {known}: upgrade tickplant, or use another log directory",
                path.display()
            ),
            LogError::NotALog { path } => {
                write!(out, "{} is no log (no log.json): check the path, or record into it first", path.display())
            }
            LogError::BadLane { lane } => {
                write!(out, "lane name {lane:?}: use 1 to 64 of a-z A-Z 0-9 _ - and ., not beginning with a point")
            }
            LogError::BadOptions { fault } => write!(out, "log settings: {fault}"),
            LogError::BadName { name } => {
                write!(out, "instrument name {name:?}: use SYMBOL.VENUE, up to 200 bytes without spaces or control characters")
            }
            LogError::Full { lane, hot_bytes, disk } => write!(
                out,
                "lane {lane} is full: {hot_bytes} bytes in memory wait for the archive ({disk}); free space on its disk, it goes \
                 on by itself; or raise log.hot_bytes_max"
            ),
            LogError::NoJournal { lane } => write!(out, "lane {lane} was opened without a journal: open it with journal = true"),
            LogError::Damaged { path, what } => write!(
                out,
                "{} is damaged: {what}; move it aside or restore it from a copy, then try again",
                path.display()
            ),
            LogError::Unarchived { lane, lag_bytes, state } => {
                write!(out, "lane {lane} was closed with {lag_bytes} bytes not yet archived (")?;
                match state {
                    ArchiveState::Ok => write!(out, "the disk took nothing for seconds")?,
                    ArchiveState::DiskFull { .. } => write!(out, "the disk is full")?,
                    ArchiveState::Failed { errno, .. } => write!(out, "{}", io::Error::from_raw_os_error(*errno))?,
                }
                write!(out, "): they stay in memory and the next start archives them; do not reboot before that")
            }
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
