//! The write end of one pipe: a staging area, written in pieces, and what happens when nobody reads.
//!
//! What is queued stands in this order: `front` (taken back from disk, or given again), the spill file, `staged`. The pipe
//! never blocks. Where it keeps what was written, a reader that died is followed by another, or by the other pipes: what its
//! pipe still held is given again, from the message on that holds the first unread byte.

mod kept;
mod remains;
mod spill;

use super::stats::PipeReport;
use kept::Kept;
pub use remains::Remains;
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
    kept: Option<Kept>,
    queue_bytes: usize,
    full: bool,
    /// Place in the stream of the next byte to be written; it goes back where bytes are given again.
    place: u64,
    /// Messages that begin before this place may have been read by somebody before.
    again_until: u64,
    /// What the pipe holds stands in the queue too.
    taken_back: bool,
    pub report: PipeReport,
}

impl Pipe {
    /// `queue_bytes` may be staged before the queue counts as full; at least one piece. `margin_bytes`: what is written is kept
    /// to be given again, so many read bytes with it; None keeps nothing.
    pub fn new(fd: OwnedFd, queue_bytes: usize, margin_bytes: Option<usize>) -> Self {
        Self {
            fd,
            staged: Vec::with_capacity(2 * PIECE_BYTES),
            start: 0,
            front: Vec::new(),
            front_start: 0,
            spill: None,
            kept: margin_bytes.map(Kept::new),
            queue_bytes: queue_bytes.max(PIECE_BYTES),
            full: false,
            place: 0,
            again_until: 0,
            taken_back: false,
            report: PipeReport::default(),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The pipe took not all at the last try: wait for POLLOUT.
    pub fn is_full(&self) -> bool {
        self.full && !self.report.broken && !self.report.down
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
        self.stage_over(message);
        Staged::Taken
    }

    /// Stages a message although the queue may be full.
    #[inline]
    pub fn stage_over(&mut self, message: &[u8]) {
        self.staged.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.staged.extend_from_slice(message);
        self.report.messages += 1;
        if self.staged.len() >= PIECE_BYTES && !self.full {
            self.flush();
        }
    }

    /// Stages a message that somebody may have read before.
    pub fn stage_again(&mut self, message: &[u8]) {
        self.stage_over(message);
        self.report.redelivered += 1;
        self.again_until = self.place + self.queued_bytes();
    }

    /// Stages a message of the router's own.
    pub fn stage_mark(&mut self, mark: &[u8]) {
        self.stage_over(mark);
        self.report.messages -= 1;
    }

    /// Puts a message of the router's own before all that is queued.
    pub fn put_first(&mut self, mark: &[u8]) {
        let mut front = (mark.len() as u32).to_le_bytes().to_vec();
        front.extend_from_slice(mark);
        self.again_until += front.len() as u64;
        front.extend_from_slice(&self.front[self.front_start..]);
        (self.front, self.front_start) = (front, 0);
    }

    /// Writes what the pipe takes now, in order.
    pub fn flush(&mut self) {
        if self.report.down {
            return;
        }
        self.full = false;
        while self.refill_front() {
            let taken = write(&self.fd, &self.front[self.front_start..]);
            let Some(bytes) = self.settle(taken) else { return };
            self.keep(bytes, |pipe| &pipe.front[pipe.front_start..]);
            self.front_start += bytes;
        }
        while self.start < self.staged.len() {
            let taken = write(&self.fd, &self.staged[self.start..]);
            let Some(bytes) = self.settle(taken) else { return };
            self.keep(bytes, |pipe| &pipe.staged[pipe.start..]);
            self.start += bytes;
        }
        self.staged.clear();
        self.start = 0;
    }

    /// Keeps the first `bytes` of what was written, where that is wished.
    #[inline]
    fn keep(&mut self, bytes: usize, written: impl Fn(&Self) -> &[u8]) {
        if let Some(mut kept) = self.kept.take() {
            kept.add(&written(self)[..bytes], || self.unread_bytes());
            self.kept = Some(kept);
        }
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
                self.place += bytes as u64;
                return Some(bytes);
            }
            Err(Errno::INTR) => return Some(0),
            Err(Errno::AGAIN) => self.full = true,
            Err(_) if self.kept.is_some() => self.hold(),
            Err(_) => self.break_off(),
        }
        None
    }

    /// The reader is gone and another is to come: nothing is written until then.
    pub fn hold(&mut self) {
        (self.report.down, self.full) = (true, true);
    }

    /// Nobody reads this pipe any more.
    fn break_off(&mut self) {
        (self.report.broken, self.report.down) = (true, false);
        (self.spill, self.kept) = (None, None);
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

    /// Takes what the last reader left in the pipe back to the head of the queue. How many messages, the first of all, may
    /// have been read before.
    pub fn take_back(&mut self) -> u64 {
        let unread = self.unread_bytes();
        let Some(kept) = &mut self.kept else { return 0 };
        let mut front = kept.take(unread);
        self.taken_back = true;
        self.again_until = self.again_until.max(self.place);
        self.place -= front.len() as u64;
        front.extend_from_slice(&self.front[self.front_start..]);
        (self.front, self.front_start) = (front, 0);
        let (mut at, mut count) = (0, 0);
        while self.place + (at as u64) < self.again_until {
            count += 1;
            let Some(end) = kept::message_end(&self.front, at) else { break };
            at = end;
        }
        count
    }

    /// Gives the queue to a new reader, through a new pipe. What the old pipe held must have been taken back.
    pub fn reopen(&mut self, fd: OwnedFd, again: u64) {
        self.fd = fd;
        (self.report.down, self.full, self.taken_back) = (false, false, false);
        self.report.restarts += 1;
        self.report.redelivered += again;
        self.flush();
    }

    /// The queue, for other pipes to take over: after [`Pipe::take_back`]. This pipe is at its end.
    pub fn surrender(&mut self) -> Remains {
        let front = std::mem::take(&mut self.front).split_off(self.front_start);
        let staged = std::mem::take(&mut self.staged).split_off(self.start);
        let remains = Remains::new(front, self.spill.take(), staged, self.again_until.saturating_sub(self.place));
        self.break_off();
        remains
    }

    /// Place in the stream up to which it was read.
    pub fn read_to(&self) -> u64 {
        self.place.saturating_sub(self.unread_bytes())
    }

    /// Bytes in the pipe that nobody has read yet. It works on the write end.
    pub fn unread_bytes(&self) -> u64 {
        if self.taken_back {
            return 0;
        }
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
        let mut pipe = Pipe::new(writer, PIECE_BYTES, None);
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
        let mut pipe = Pipe::new(writer, 0, None);
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

    /// A pipe that kept what it wrote, part of it read, part unread, part on disk and part staged; what was sent, what was read.
    fn half_read(folder: &Path) -> (Pipe, Vec<Vec<u8>>, Vec<u8>) {
        let (reader, writer, _) = open(64 << 10).unwrap();
        let mut pipe = Pipe::new(writer, PIECE_BYTES, Some(1));
        let mut sent = Vec::new();
        for number in 0..5000u32 {
            let message = vec![number as u8; 60 + number as usize % 90];
            while pipe.stage(&message) == Staged::Full {
                pipe.spill(folder).unwrap();
            }
            sent.push(message);
        }
        let got = read_some(&reader, 12_345);
        drop(reader);
        pipe.flush();
        assert!(pipe.report.down && !pipe.is_full() && pipe.queued_bytes() > 0);
        (pipe, sent, got)
    }

    /// Messages that were read whole, but for the last one of which a byte was read.
    fn sure(got: &[u8]) -> usize {
        let mut at = 0;
        (0..)
            .take_while(|_| kept::message_end(got, at).filter(|&end| end < got.len()).map(|end| at = end).is_some())
            .count()
    }

    #[test]
    fn a_new_reader_begins_with_the_message_of_which_the_old_one_had_the_last_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pipe, sent, got) = half_read(folder.path());
        let again = pipe.take_back();
        assert_eq!(
            (pipe.take_back(), pipe.unread_bytes()),
            (again, 0),
            "a restart that failed takes nothing back twice"
        );
        let (reader, writer, _) = open(64 << 10).unwrap();
        pipe.put_first(b"mark");
        pipe.reopen(writer, again);
        let mut stream = Vec::new();
        while pipe.queued_bytes() + pipe.unread_bytes() > 0 {
            stream.extend(read_some(&reader, 40_000));
            pipe.flush();
        }
        let found = messages(&stream);
        assert_eq!((&found[0][..], &found[1..]), (&b"mark"[..], &sent[sure(&got)..]));
        let told: usize = found[1..=again as usize].iter().map(|message| message.len() + 4).sum();
        let read: usize = sent[..sure(&got)].iter().map(|message| message.len() + 4).sum();
        // All that the old pipe took and that was not surely read, to the end of the message that it took last.
        assert!((64 << 10..(64 << 10) + 300).contains(&(told + read)), "{told} {read}");
    }

    #[test]
    fn a_surrendered_queue_is_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (mut pipe, sent, got) = half_read(folder.path());
        let again = pipe.take_back();
        let mut remains = pipe.surrender();
        let (mut found, mut marked) = (Vec::new(), 0);
        while let Some(next) = remains.next_message().unwrap() {
            marked += u64::from(next.again);
            found.push(next.message.to_vec());
        }
        assert_eq!((&found[..], marked), (&sent[sure(&got)..], again));
        assert!(pipe.report.broken && pipe.queued_bytes() == 0);
    }

    #[test]
    fn a_refused_size_is_halved() {
        let (_reader, _writer, room) = open(2 << 30).unwrap();
        assert!((64 << 10..=2 << 30).contains(&room), "{room}");
    }
}
