//! What the archiver writes to: the machine's disk, or a simulated one that is slow, full or torn at a crash.

use super::super::dir::{sync_dir, OWNER_ONLY};
use crate::clock::{monotonic, Rng};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A place for archive files.
pub trait Disk: Send + Sync {
    /// Opens a file for writing. Where there is none it is made, and its name is durable before this returns: whatever the sync policy,
    /// a power cut leaves every segment's file, if only empty.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
}

/// One archive file, written from its start to its end; after a failed sync a part may be written again with the same bytes.
pub trait DiskFile: Send {
    /// Writes some of `bytes` at `offset` and says how many.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// The machine's file systems.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

struct RealFile(File);

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
                sync_dir(path.parent().unwrap_or(Path::new(".")))?;
                file
            }
            opened => opened?,
        };
        Ok(Box::new(RealFile(file)))
    }
}

impl DiskFile for RealFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        FileExt::write_at(&self.0, bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// A disk in memory that does what it is told: it fills up, slows down, refuses, and forgets what was not synced when it crashes.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<SimState>>,
}

#[derive(Default)]
struct SimState {
    files: BTreeMap<PathBuf, SimFile>,
    /// None: endless.
    capacity: Option<u64>,
    write_fault: Option<i32>,
    sync_fault: Option<i32>,
    delay: Duration,
}

#[derive(Default)]
struct SimFile {
    bytes: Vec<u8>,
    /// Bytes that a crash cannot take.
    synced: usize,
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, SimState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that fit on the disk from now on, over all files.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Error numbers that every write and every sync gives from now on.
    pub fn set_faults(&self, write: Option<i32>, sync: Option<i32>) {
        let mut state = self.state();
        (state.write_fault, state.sync_fault) = (write, sync);
    }

    /// How long every write and sync takes from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Bytes on the disk.
    pub fn used(&self) -> u64 {
        self.state().files.values().map(|file| file.bytes.len() as u64).sum()
    }

    /// Power is cut: writes what the disk then holds to the real files of the same names. Synced bytes are there; of the others a random
    /// part is, in which random blocks never arrived.
    pub fn crash(&self, rng: &mut Rng) -> io::Result<()> {
        for (path, file) in &self.state().files {
            let unsynced = (file.bytes.len() - file.synced) as u64;
            let kept = file.synced + rng.below(unsynced + 1) as usize;
            let mut bytes = file.bytes[..kept].to_vec();
            for block in bytes[file.synced..].chunks_mut(512) {
                if rng.below(8) == 0 {
                    block.fill(0);
                }
            }
            std::fs::write(path, bytes)?;
        }
        Ok(())
    }

    fn wait(&self) {
        // In pieces: a delay that is taken back ends those that are under way.
        let began = monotonic();
        while u128::from(monotonic() - began) < self.state().delay.as_nanos() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct SimHandle {
    disk: SimDisk,
    path: PathBuf,
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.state().files.entry(path.to_owned()).or_default();
        Ok(Box::new(SimHandle { disk: self.clone(), path: path.to_owned() }))
    }
}

impl DiskFile for SimHandle {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.disk.wait();
        let used = self.disk.used();
        let mut state = self.disk.state();
        if let Some(errno) = state.write_fault {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let free = state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used));
        let file = state.files.entry(self.path.clone()).or_default();
        let offset = offset as usize;
        let over = file.bytes.len().saturating_sub(offset) as u64;
        let now = (bytes.len() as u64).min(free.saturating_add(over)) as usize;
        if now == 0 && !bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let length = file.bytes.len().max(offset + now);
        file.bytes.resize(length, 0);
        file.bytes[offset..offset + now].copy_from_slice(&bytes[..now]);
        Ok(now)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.wait();
        let mut state = self.disk.state();
        let fault = state.sync_fault;
        let file = state.files.entry(self.path.clone()).or_default();
        if let Some(errno) = fault {
            // As Linux does it: what could not be written is dropped from the cache and the next sync says that all is well.
            let synced = file.synced;
            file.bytes[synced..].fill(0);
            return Err(io::Error::from_raw_os_error(errno));
        }
        file.synced = file.bytes.len();
        Ok(())
    }
}
