//! A blocking client over the connection that the loops drive: for `doctor`, tools and tests, not for data.

use super::connection::{Options, Ready, WebSocket};
use super::error::{Cause, WireError};
use super::frames::Message;
use super::proxy::Proxy;
use super::url::Url;
use crate::clock::{Clock, Nanos, Rng, SystemClock};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

/// A message in its own memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Text(String),
    Binary(Vec<u8>),
}

/// A connection with the clock that it needs. Its user calls [`Client::turn`] until he has what he wants.
pub struct Client {
    pub socket: WebSocket,
    clock: SystemClock,
    pub messages: VecDeque<Received>,
    pub pongs: VecDeque<Vec<u8>>,
}

impl Client {
    /// Begins to connect to the addresses of the options.
    pub fn connect(options: Options) -> Result<Self, WireError> {
        let mut clock = SystemClock::new();
        let socket = WebSocket::connect(options, Rng::seed_from_system(), clock.now())?;
        Ok(Self { socket, clock, messages: VecDeque::new(), pongs: VecDeque::new() })
    }

    pub fn now(&mut self) -> Nanos {
        self.clock.now()
    }

    /// Begins to close; the end comes from [`Client::turn`].
    pub fn close(&mut self, code: u16, reason: &str) {
        self.socket.close(code, reason, self.clock.now());
    }

    /// Waits at most `wait` for the socket and takes what is there.
    pub fn turn(&mut self, wait: Nanos) -> Result<(), WireError> {
        let deadline = self.socket.deadline().unwrap_or(Nanos::MAX).saturating_sub(self.clock.now());
        let (readable, writable) = wait_ready(self.socket.fd(), self.socket.wants_write(), wait.min(deadline));
        let ready = self.socket.on_ready(readable, writable, self.clock.now())?;
        if !matches!(ready, Ready::Opened | Ready::Readable) {
            return Ok(());
        }
        self.socket.read()?;
        while let Some(message) = self.socket.next_message()? {
            match message {
                Message::Text(text) => {
                    self.messages.push_back(Received::Text(String::from_utf8_lossy(text).into_owned()));
                }
                Message::Binary(bytes) => self.messages.push_back(Received::Binary(bytes.to_vec())),
                Message::Pong(payload) => self.pongs.push_back(payload.to_vec()),
                Message::Ping(_) | Message::Close { .. } => {}
            }
        }
        Ok(())
    }
}

/// The addresses of the URL's host, or of the proxy. Asks the name server: never on a loop's thread.
pub fn resolve(url: &Url, proxy: Option<&Proxy>) -> Result<Vec<SocketAddr>, WireError> {
    let (host, port) = proxy.map_or((url.host.as_str(), url.port), |proxy| (proxy.host(), proxy.port()));
    match (host, port).to_socket_addrs().map(Vec::from_iter) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        _ => Err(WireError { place: url.place(), cause: Cause::NoAddress }),
    }
}

/// Whether the descriptor is readable and writable within `wait`; trouble counts as both. An interrupted wait is a short one.
pub fn wait_ready(fd: RawFd, writing: bool, wait: Nanos) -> (bool, bool) {
    // SAFETY: the caller holds the descriptor's owner for as long as this call lasts.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = if writing { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let mut fds = [PollFd::new(&fd, flags)];
    // Rounded up: a wait that ends just before its deadline would be followed by many short ones.
    let wait = Duration::from_nanos(wait.min(Nanos::MAX / 4) + 1);
    let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    if poll(&mut fds, Some(&timeout)).is_err() {
        return (false, false);
    }
    let is = |flag: PollFlags| fds[0].revents().intersects(flag | PollFlags::ERR | PollFlags::HUP);
    (is(PollFlags::IN), is(PollFlags::OUT))
}
