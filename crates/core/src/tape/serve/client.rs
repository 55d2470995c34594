//! One client: its upgrade, its talk, and the trades that it is due, on a thread of its own that waits in `poll` only.

use super::ahead::Ahead;
use super::dialect::{Talk, CONNECTED, TOO_MANY};
use super::pace::Pace;
use super::transport::Transport;
use super::{wire, Shared, Source};
use crate::clock::{Clock, Nanos, SystemClock, MILLISECOND, SECOND};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use xxhash_rust::xxh3::xxh3_64;

/// What is rendered ahead of the socket: small enough to stay in the processor's cache, large enough for few writes.
const AHEAD_BYTES: usize = 256 << 10;
const AHEAD_TRADES: u64 = 100_000;
/// How soon a waiting client's thread sees that the server stops.
const STOP_WITHIN: Nanos = 100 * MILLISECOND;
/// How long a client has to leave after the last frame.
const LEAVE_WITHIN: Nanos = SECOND;

/// What a client was sent: frames that the kernel took whole.
#[derive(Debug, Default)]
pub struct Account {
    pub trades: AtomicU64,
    pub bytes: AtomicU64,
    pub frames: AtomicU64,
    /// The wrapping sum of every object's xxh3: the same for the same trades in any order.
    pub checksum: AtomicU64,
    /// From the first trade to the last so far, in ns.
    pub elapsed: AtomicU64,
    /// Everything was sent.
    pub complete: AtomicBool,
    pub gone: AtomicBool,
}

/// A frame that is rendered and not yet with the kernel whole.
pub(super) struct Rendered {
    pub(super) end: usize,
    trades: u64,
    bytes: u64,
    checksum: u64,
}

pub(super) struct Client<'a> {
    shared: &'a Shared,
    account: &'a Account,
    transport: Transport,
    clock: SystemClock,
    talk: Talk,
    incoming: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    rendered: std::collections::VecDeque<Rendered>,
    /// Where the trades of the frame that is rendered end.
    ends: Vec<usize>,
    upgraded: bool,
    /// The connection ends once `out` is with the kernel.
    closing: bool,
    /// The number of the next trade.
    next: u64,
    /// The moment that due times count from.
    started: Option<Nanos>,
}

impl Account {
    /// The kernel took this frame whole.
    fn credit(&self, frame: &Rendered) {
        self.trades.fetch_add(frame.trades, Relaxed);
        self.bytes.fetch_add(frame.bytes, Relaxed);
        self.frames.fetch_add(1, Relaxed);
        self.checksum.fetch_add(frame.checksum, Relaxed);
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(shared: &'a Shared, account: &'a Account, transport: Transport) -> Self {
        Self {
            shared,
            account,
            transport,
            clock: SystemClock::new(),
            talk: Talk::default(),
            incoming: Vec::new(),
            out: Vec::with_capacity(AHEAD_BYTES + (64 << 10)),
            sent: 0,
            rendered: std::collections::VecDeque::new(),
            ends: Vec::new(),
            upgraded: false,
            closing: false,
            next: 0,
            started: None,
        }
    }

    /// Serves until the client leaves, all is sent and a close was asked for, or the server stops.
    pub(super) fn run(&mut self) -> io::Result<()> {
        while !self.shared.stop.load(Relaxed) {
            if self.sent == self.out.len() && self.transport.flush_tls()? {
                if self.closing {
                    return self.leave();
                }
                self.out.clear();
                self.sent = 0;
                if let (Some(ahead), true, None) = (&self.shared.ahead, self.upgraded, self.started) {
                    if !self.send_ahead(ahead)? {
                        return Ok(());
                    }
                }
                self.render();
            }
            let wait = self.send()?;
            if !self.receive()? {
                return Ok(());
            }
            // An answer may have come up meanwhile: it is not waited with.
            if wait > 0 && (self.sent == self.out.len() || wait == STOP_WITHIN) {
                self.wait(wait)?;
            }
        }
        Ok(())
    }

    /// Sends what is rendered. Gives how long there is nothing to do, unless the socket says so; 0: go on.
    fn send(&mut self) -> io::Result<Nanos> {
        while self.sent < self.out.len() {
            match self.transport.write(&self.out[self.sent..]) {
                Ok(taken) => self.sent += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            self.credit();
        }
        if self.sent < self.out.len() || self.closing || self.transport.has_pending() {
            return Ok(STOP_WITHIN);
        }
        Ok(self.until_due().min(STOP_WITHIN))
    }

    /// Sends the tape that was rendered before; false where the server stops before that is done.
    fn send_ahead(&mut self, ahead: &Ahead) -> io::Result<bool> {
        self.started = Some(self.clock.now());
        let wait = || self.wait_for(PollFlags::OUT, STOP_WITHIN);
        let all = ahead.send(&self.transport.socket, &self.shared.stop, wait, |frame| self.account.credit(frame))?;
        if all {
            self.next = self.shared.end;
            self.credit();
        }
        Ok(all)
    }

    fn credit(&mut self) {
        while let Some(frame) = self.rendered.front().filter(|frame| frame.end <= self.sent) {
            self.account.credit(frame);
            self.rendered.pop_front();
        }
        if let Some(start) = self.started.filter(|_| !self.account.complete.load(Relaxed)) {
            self.account.elapsed.store(self.clock.now() - start, Relaxed);
            if self.next >= self.shared.end && self.rendered.is_empty() {
                self.account.complete.store(true, Relaxed);
            }
        }
    }

    /// ns until the next frame is due: 0 when it is.
    fn until_due(&mut self) -> Nanos {
        let Some(start) = self.started.filter(|_| self.next < self.shared.end) else { return STOP_WITHIN };
        match &self.shared.pace {
            Pace::Max => 0,
            Pace::Paced(_) => (start + self.shared.frame(self.next).1).saturating_sub(self.clock.now()),
        }
    }

    /// Renders the frames that are due, as many as fit.
    fn render(&mut self) {
        if self.started.is_none() {
            let now = self.clock.now();
            match self.talk.wanted.nothing() {
                true => return,
                false => self.start(now),
            }
        }
        let Some(start) = self.started else { return };
        let now = self.clock.now();
        // A client that wants none of the trades passes them by in pieces: it may unsubscribe, and the server may stop.
        let pause = self.next.saturating_add(AHEAD_TRADES);
        while self.next < self.shared.end.min(pause) && self.out.len() < AHEAD_BYTES {
            let (end, due) = self.shared.frame(self.next);
            if start + due > now {
                break;
            }
            self.render_frame(end, self.shared.stamp.then_some(start + due));
        }
        if self.next >= self.shared.end && self.shared.close && !self.closing {
            wire::append_frame(&mut self.out, wire::CLOSE, &1000u16.to_be_bytes());
            self.closing = true;
        }
    }

    /// The first trade: number 0 at this moment, or where the one market stands.
    fn start(&mut self, now: Nanos) {
        let began = if self.shared.one_market {
            let began = self.shared.market_start(now);
            self.next = match &self.shared.pace {
                Pace::Paced(profile) => profile.due(now.saturating_sub(began)),
                Pace::Max => self.shared.furthest.load(Relaxed),
            };
            began
        } else {
            now
        };
        self.started = Some(began);
    }

    fn render_frame(&mut self, end: u64, stamp: Option<Nanos>) {
        let (trades, source, wanted) = (self.next..end, &self.shared.source, &self.talk.wanted);
        self.next = end;
        self.shared.furthest.fetch_max(end, Relaxed);
        if wanted.all {
            let frame = append_frame(source, trades, stamp, &mut self.out, &mut self.ends);
            self.rendered.push_back(frame);
            return;
        }
        let wanted: Vec<u64> = trades.filter(|&index| wanted.symbols.contains(source.symbol(index))).collect();
        if wanted.is_empty() {
            return;
        }
        let frame = append_objects(&mut self.out, &mut self.ends, |out, ends| {
            for (place, &index) in wanted.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                source.append(index, stamp, out);
                ends.push(out.len());
            }
        });
        self.rendered.push_back(frame);
    }

    /// Takes what the client sent. False: it is gone.
    fn receive(&mut self) -> io::Result<bool> {
        let mut room = [0; 4096];
        loop {
            match self.transport.read(&mut room) {
                Ok(0) => return Ok(false),
                Ok(count) => self.incoming.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.incoming.len() > wire::REQUEST_BYTES_MOST {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the client sends too much"));
            }
        }
        if !self.upgraded && !self.incoming.is_empty() && !self.closing {
            self.upgrade();
        }
        while self.upgraded {
            let Some((opcode, payload)) = wire::take_frame(&mut self.incoming)? else { break };
            self.take(opcode, &payload);
        }
        Ok(true)
    }

    fn upgrade(&mut self) {
        match wire::upgrade(&self.incoming) {
            Ok(None) => {}
            Ok(Some((reply, taken))) => {
                self.incoming.drain(..taken);
                self.out.extend_from_slice(&reply);
                self.upgraded = true;
                if self.shared.over_limit() {
                    wire::append_frame(&mut self.out, wire::TEXT, TOO_MANY.as_bytes());
                    wire::append_frame(&mut self.out, wire::CLOSE, &1008u16.to_be_bytes());
                    self.closing = true;
                } else if self.shared.handshake {
                    wire::append_frame(&mut self.out, wire::TEXT, CONNECTED.as_bytes());
                } else {
                    self.talk.wanted.all = true;
                }
            }
            Err(why) => {
                self.out.extend_from_slice(&wire::refusal(why));
                self.closing = true;
            }
        }
    }

    fn take(&mut self, opcode: u8, payload: &[u8]) {
        match opcode {
            wire::TEXT => {
                let answer = self.talk.take(payload, self.shared.key.as_deref());
                wire::append_frame(&mut self.out, wire::TEXT, answer.text.as_bytes());
                self.closing |= answer.last;
            }
            wire::PING => wire::append_frame(&mut self.out, wire::PONG, payload),
            wire::CLOSE => {
                wire::append_frame(&mut self.out, wire::CLOSE, payload);
                self.closing = true;
            }
            // Pongs, and what a feed has no use for.
            _ => {}
        }
    }

    /// After our last frame: the client reads it and leaves, which closing at once could keep from it.
    fn leave(&mut self) -> io::Result<()> {
        self.transport.socket.shutdown(std::net::Shutdown::Write)?;
        let until = self.clock.now() + LEAVE_WITHIN;
        while self.clock.now() < until && self.receive()? {
            self.wait(STOP_WITHIN)?;
        }
        Ok(())
    }

    fn wait(&self, most: Nanos) -> io::Result<()> {
        let waiting = self.sent < self.out.len() || self.transport.has_pending();
        let writes = if waiting { PollFlags::OUT } else { PollFlags::empty() };
        self.wait_for(PollFlags::IN | writes, most)
    }

    fn wait_for(&self, what: PollFlags, most: Nanos) -> io::Result<()> {
        let mut watched = [PollFd::new(&self.transport.socket, what)];
        let timeout = Timespec { tv_sec: (most / 1_000_000_000) as i64, tv_nsec: (most % 1_000_000_000) as i64 };
        match poll(&mut watched, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Appends the frame of these trades.
pub(super) fn append_frame(
    source: &Source,
    trades: Range<u64>,
    stamp: Option<Nanos>,
    out: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Rendered {
    append_objects(out, ends, |out, ends| source.append_all(trades, stamp, out, ends))
}

/// Appends a frame of at least one object. `append` writes them with commas between and says where each ends.
fn append_objects(
    out: &mut Vec<u8>,
    ends: &mut Vec<usize>,
    append: impl FnOnce(&mut Vec<u8>, &mut Vec<usize>),
) -> Rendered {
    let frame = wire::begin_frame(out);
    out.push(b'[');
    let first = out.len();
    ends.clear();
    append(out, ends);
    let (trades, mut start, mut checksum) = (ends.len() as u64, first, 0u64);
    for &end in ends.iter() {
        checksum = checksum.wrapping_add(xxh3_64(&out[start..end]));
        start = end + 1;
    }
    // All but the commas.
    let bytes = (out.len() - first) as u64 - (trades - 1);
    out.push(b']');
    wire::end_frame(out, frame, wire::TEXT);
    Rendered { end: out.len(), trades, bytes, checksum }
}

#[cfg(test)]
mod tests;
