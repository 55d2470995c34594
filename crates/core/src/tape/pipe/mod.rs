//! The write end of one pipe: a staging area, written in pieces, and what happens when nobody reads.
//!
//! What is queued stands in this order: `front` (taken back from disk), the spill file, `staged`. The pipe never blocks.

mod spill;

use super::stats::PipeReport;
use rustix::io::Errno;
use spill::Spill;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// A pipe is written when so much is staged, or at the end of a read.
pub const PIECE_BYTES: usize = 64 << 10;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staged {
    Taken,
    /// The queue is full: spill, wait or drop.
    Full,
}

/// One pipe as the router sees it.
pub struct Pipe {
    fd: OwnedFd,
    staged: Vec<u8>,
    start: usize,
    front: Vec<u8>,
    front_start: usize,
    spill: Option<Spill>,
    queue_bytes: usize,
    full: bool,
    pub report: PipeReport,
}

impl Pipe {
    /// `queue_bytes` may be staged before the queue counts as full; at least one piece.
    pub fn new(fd: OwnedFd, queue_bytes: usize) -> Self {
        Self {
            fd,
            staged: Vec::with_capacity(2 * PIECE_BYTES),
            start: 0,
            front: Vec::new(),
            front_start: 0,
            spill: None,
            queue_bytes: queue_bytes.max(PIECE_BYTES),
            full: false,
            report: PipeReport::default(),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The pipe took not all at the last try: wait for POLLOUT.
    pub fn is_full(&self) -> bool {
        self.full && !self.report.broken
    }

    /// Bytes that wait here.
    pub fn queued_bytes(&self) -> u64 {
        let spilled = self.spill.as_ref().map_or(0, Spill::bytes);
        (self.staged.len() - self.start + self.front.len() - self.front_start) as u64 + spilled
    }

    /// Stages one message behind its length. To a pipe that nobody reads any more everything is dropped.
    #[inline]
    pub fn stage(&mut self, message: &[u8]) -> Staged {
        if self.report.broken {
            self.report.dropped += 1;
            return Staged::Taken;
        }
        if self.full && self.staged.len() - self.start >= self.queue_bytes {
            return Staged::Full;
        }
        self.staged.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.staged.extend_from_slice(message);
        self.report.messages += 1;
        if self.staged.len() >= PIECE_BYTES && !self.full {
            self.flush();
        }
        Staged::Taken
    }

    /// Writes what the pipe takes now, in order.
    pub fn flush(&mut self) {
        self.full = false;
        while self.refill_front() {
            let taken = write(&self.fd, &self.front[self.front_start..]);
            let Some(bytes) = self.settle(taken) else { return };
            self.front_start += bytes;
        }
        while self.start < self.staged.len() {
            let taken = write(&self.fd, &self.staged[self.start..]);
            let Some(bytes) = self.settle(taken) else { return };
            self.start += bytes;
        }
        self.staged.clear();
        self.start = 0;
    }

    /// Whether bytes that come before the staged ones wait in `front`, taken from the disk where it is empty.
    fn refill_front(&mut self) -> bool {
        if self.front_start < self.front.len() {
            return true;
        }
        let Some(spill) = self.spill.as_mut().filter(|spill| spill.bytes() > 0) else { return false };
        self.front_start = 0;
        match spill.take(&mut self.front, PIECE_BYTES) {
            Ok(()) => true,
            Err(error) => {
                // The file is ours and has no name: only a failing disk brings this about, and the stream has a hole then.
                eprintln!("tickplant route: a spill file cannot be read, {} bytes are lost: {error}", spill.bytes());
                self.break_off();
                false
            }
        }
    }

    /// Counts what a write gave; None where nothing more can be written now.
    fn settle(&mut self, taken: Result<usize, Errno>) -> Option<usize> {
        match taken {
            Ok(bytes) => {
                self.report.written_bytes += bytes as u64;
                return Some(bytes);
            }
            Err(Errno::INTR) => return Some(0),
            Err(Errno::AGAIN) => self.full = true,
            Err(_) => self.break_off(),
        }
        None
    }

    /// Nobody reads this pipe any more.
    fn break_off(&mut self) {
        self.report.broken = true;
        self.spill = None;
        for bytes in [&mut self.front, &mut self.staged] {
            *bytes = Vec::new();
        }
        (self.start, self.front_start) = (0, 0);
    }

    /// Moves what is staged to disk, in a file in `folder`. On an error everything stays where it was.
    pub fn spill(&mut self, folder: &Path) -> io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::new(folder)?),
        };
        spill.put(&self.staged[self.start..])?;
        self.report.spilled_bytes += (self.staged.len() - self.start) as u64;
        self.staged.clear();
        self.start = 0;
        Ok(())
    }

    /// Bytes in the pipe that nobody has read yet. It works on the write end.
    pub fn unread_bytes(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.fd).unwrap_or(0)
    }
}

fn write(fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    rustix::io::write(fd, bytes)
}

/// A pipe with as much room as the kernel allows, from `bytes` halved until it agrees; the read end, the write end, the room.
/// Only the write end never blocks: the read end belongs to a worker.
pub fn open(bytes: usize) -> io::Result<(OwnedFd, OwnedFd, usize)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK)?;
    let mut wanted = bytes;
    while wanted > rustix::pipe::fcntl_getpipe_size(&write)?
        && rustix::pipe::fcntl_setpipe_size(&write, wanted).is_err()
    {
        wanted /= 2;
    }
    let room = rustix::pipe::fcntl_getpipe_size(&write)?;
    Ok((read, write, room))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_some(fd: &OwnedFd, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let count = rustix::io::read(fd, &mut bytes).unwrap();
        bytes.truncate(count);
        bytes
    }

    /// All messages of a byte stream of `[length][message]`.
    fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let (message, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            found.push(message.to_vec());
            bytes = rest;
        }
        found
    }

    #[test]
    fn a_slow_reader_gets_every_message_in_order_through_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer, room) = open(64 << 10).unwrap();
        assert!(room <= 64 << 10);
        let mut pipe = Pipe::new(writer, PIECE_BYTES);
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for number in 0..20_000u32 {
            let message = vec![number as u8; 60 + number as usize % 90];
            while pipe.stage(&message) == Staged::Full {
                pipe.spill(folder.path()).unwrap();
            }
            sent.push(message);
            if number % 1000 == 0 {
                // The read end blocks where there is nothing.
                pipe.flush();
                got.extend(read_some(&reader, 30_001));
                pipe.flush();
            }
        }
        assert!(pipe.report.spilled_bytes > 1 << 20);
        while pipe.queued_bytes() > 0 || pipe.unread_bytes() > 0 {
            got.extend(read_some(&reader, 50_000));
            pipe.flush();
        }
        assert_eq!(messages(&got), sent);
        assert_eq!(pipe.report.written_bytes, got.len() as u64);
    }

    #[test]
    fn a_full_queue_says_so_and_a_reader_that_left_breaks_the_pipe() {
        let (reader, writer, room) = open(64 << 10).unwrap();
        let mut pipe = Pipe::new(writer, 0);
        let mut taken = 0;
        while pipe.stage(&[1; 1000]) == Staged::Taken {
            taken += 1;
        }
        assert!(pipe.is_full());
        let bytes = taken * 1004;
        assert!(bytes >= room + PIECE_BYTES && bytes < room + 2 * PIECE_BYTES, "{bytes}");
        assert_eq!(pipe.unread_bytes() + pipe.queued_bytes(), bytes as u64);
        drop(reader);
        pipe.flush();
        assert!(pipe.report.broken && pipe.queued_bytes() == 0);
        assert_eq!((pipe.stage(b"late"), pipe.report.dropped), (Staged::Taken, 1));
    }

    #[test]
    fn a_refused_size_is_halved() {
        let (_reader, _writer, room) = open(2 << 30).unwrap();
        assert!((64 << 10..=2 << 30).contains(&room), "{room}");
    }
}
