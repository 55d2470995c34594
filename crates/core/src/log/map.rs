//! Memory files: how they are made, filled with memory beforehand and mapped.

use super::dir::OWNER_ONLY;
use super::layout::LINE;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes that are filled with memory at once.
const FILL_BYTES: usize = 128 << 10;

/// A mapped file. It is unmapped when its last owner is gone, never under a view.
///
/// One thread of one process writes, others read: what makes that sound is the protocol, not the type. The writer only writes behind the
/// committed position and publishes it with a Release store; readers only look below a position that they took with an Acquire load.
pub(crate) struct Mapping {
    raw: MmapRaw,
    /// Kept of files that this process made, for [`Mapping::renew`].
    file: Option<File>,
}

/// What tells us that somebody wants a file while it is renewed. By default a process ignores it; nobody needs to be told.
const WANTED: i32 = libc::SIGURG;
/// `F_SETSIG` of `<fcntl.h>`.
const F_SETSIG: i32 = 10;

impl Mapping {
    /// Makes a file of `bytes` zero bytes whose memory is there already. A full file system is an error here, not a fault later.
    ///
    /// It is made in small parts with a call of `between` after each: filling a large file at once keeps a core in the kernel for
    /// milliseconds, which whoever shares it waits for.
    pub(crate) fn create(path: &Path, bytes: u64, between: impl Fn()) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
        let made = Self::fill(file, bytes, between);
        if made.is_err() {
            // The half-made file would only hold memory; the error of making it is the one to tell.
            let _ = std::fs::remove_file(path);
        }
        made
    }

    fn fill(file: File, bytes: u64, between: impl Fn()) -> io::Result<Self> {
        file.set_len(bytes)?;
        let raw = MmapRaw::map_raw(&file)?;
        for start in (0..raw.len()).step_by(FILL_BYTES) {
            let length = FILL_BYTES.min(raw.len() - start);
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), start as u64, length as u64)?;
            if raw.advise_range(memmap2::Advice::PopulateWrite, start, length).is_err() {
                // Linux before 5.14: touching each page does the same, only slower.
                for offset in (start..start + length).step_by(4096) {
                    // SAFETY: the offset is inside the mapping and nobody else knows the file yet; it is zero already.
                    unsafe { raw.as_mut_ptr().add(offset).write_volatile(0) };
                }
            }
            between();
        }
        Ok(Self { raw, file: Some(file) })
    }

    /// Makes this file a new one at `to`, where nobody else has it open or mapped: its memory is there already. False, and
    /// nothing was done, where somebody has it. Only its first line is zero: the writer follows each batch with an empty line.
    ///
    /// A write lease says whether somebody has: the kernel grants it on a file that is open only here, whatever process
    /// maps it, and holds up whoever opens it until the lease ends. Who found the file under its old name then finds a
    /// head of another number in it, which is as if it had been removed. The name goes first: what a crash leaves half
    /// made is a segment behind the last one, which the next start removes.
    pub(crate) fn renew(&self, from: &Path, to: &Path) -> io::Result<bool> {
        let Some(descriptor) = self.file.as_ref().map(AsRawFd::as_raw_fd) else { return Ok(false) };
        // SAFETY: calls about a descriptor that we own, without pointers.
        let lease = |kind: i32| unsafe { libc::fcntl(descriptor, libc::F_SETLEASE, kind) };
        // SAFETY: as above.
        if unsafe { libc::fcntl(descriptor, F_SETSIG, WANTED) } < 0 || lease(libc::F_WRLCK) < 0 {
            return Ok(false);
        }
        let renamed = std::fs::rename(from, to);
        if renamed.is_ok() {
            // SAFETY: while the lease stands nobody else has the file, and we hold no slice of it, as a segment is given up
            // by all of the writer's parts before it is renewed.
            unsafe { self.write(0, &[0; LINE]) };
        }
        lease(libc::F_UNLCK);
        renamed.map(|()| true)
    }

    /// Maps a file that a writer before us left.
    pub(crate) fn open_writable(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { raw: MmapRaw::map_raw(&file)?, file: None })
    }

    /// Maps a file as it is now; an empty file is an error of kind `UnexpectedEof`.
    pub(crate) fn open_read_only(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { raw: MmapOptions::new().map_raw_read_only(&file)?, file: None })
    }

    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    /// The first `length` bytes, or fewer where the file is shorter.
    ///
    /// # Safety
    /// No byte of them may change while the slice lives: they lie below the committed position.
    pub(crate) unsafe fn prefix(&self, length: usize) -> &[u8] {
        let length = length.min(self.raw.len());
        // SAFETY: the range is inside the mapping, which lives as long as the slice; the caller promises that it does not change.
        unsafe { std::slice::from_raw_parts(self.raw.as_ptr(), length) }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    /// The mapping is writable, the caller is its only writer, and the range lies behind the committed position.
    pub(crate) unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.raw.len()), "write outside of a segment");
        // SAFETY: the range was checked; the caller promises that nobody reads or writes it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.raw.as_mut_ptr().add(offset), bytes.len()) };
    }

    /// Fills everything from `offset` on with zeros. Same contract as [`Mapping::write`].
    ///
    /// # Safety
    /// As for [`Mapping::write`].
    pub(crate) unsafe fn clear_from(&self, offset: usize) {
        let length = self.raw.len().saturating_sub(offset);
        if length > 0 {
            // SAFETY: the range is inside the mapping; the caller promises that nobody reads or writes it.
            unsafe { self.raw.as_mut_ptr().add(offset).write_bytes(0, length) };
        }
    }
}

const _: () = assert!(4096 % LINE == 0);
