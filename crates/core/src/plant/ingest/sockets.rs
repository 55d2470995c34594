//! What a loop does with its connections: one read of each that is ready, every message in it taken, and their beginning and end.

use super::Loop;
use crate::clock::{Clock, Nanos};
use crate::log::LogError;
use crate::record::Reason;
use crate::session::{Command, Connection, Input};
use crate::wire::{Cause, Limits, Message, Options, Ready, Url, WebSocket, WireError};
use rustix::event::epoll;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

impl Loop {
    pub(super) fn on_socket(&mut self, connection: Connection, readable: bool, writable: bool) -> Result<(), LogError> {
        let at = self.clock.now();
        let frames = self.counters.frames;
        if let Some(end) = self.read_socket(connection, readable, writable, at)? {
            self.on_end(connection, &end, at)?;
        }
        let readable_at = self.settle(at)?;
        let messages = self.counters.frames - frames;
        if messages > 0 {
            self.counters.took(messages, at, readable_at);
        }
        Ok(())
    }

    /// One read of a socket and every message in it. Gives the connection's end, where it ended.
    pub(super) fn read_socket(
        &mut self,
        connection: Connection,
        readable: bool,
        writable: bool,
        at: Nanos,
    ) -> Result<Option<WireError>, LogError> {
        let Some(socket) = self.lines.get_mut(usize::from(connection)).and_then(|line| line.socket.as_mut()) else {
            return Ok(None);
        };
        let ready = match socket.on_ready(readable, writable, at) {
            Ok(Ready::Pending | Ready::Moved) => return Ok(None),
            Ok(ready) => ready,
            Err(end) => return Ok(Some(end)),
        };
        if ready == Ready::Opened {
            self.engine.take(at, Input::Opened { connection })?;
        }
        self.counters.reads += 1;
        match socket.read() {
            Ok(bytes) => self.counters.bytes += bytes as u64,
            Err(end) => return Ok(Some(end)),
        }
        if self.engine.session.takes_batches() {
            let mut frames: Vec<Vec<u8>> = Vec::new();
            let end = loop {
                match socket.next_message() {
                    Ok(Some(Message::Text(payload) | Message::Binary(payload))) => frames.push(payload.to_vec()),
                    Ok(Some(Message::Pong(payload))) => self.engine.take(at, Input::Pong { connection, payload })?,
                    Ok(Some(Message::Ping(_))) => self.engine.take(at, Input::PeerPing { connection })?,
                    Ok(Some(Message::Close { .. })) => {}
                    Ok(None) => break None,
                    Err(end) => break Some(end),
                }
            };
            self.counters.frames += frames.len() as u64;
            self.engine.session.prepare(&frames);
            for payload in &frames {
                self.engine.take(at, Input::Frame { connection, payload })?;
            }
            return Ok(end);
        }
        loop {
            let input = match socket.next_message() {
                Ok(Some(Message::Text(payload) | Message::Binary(payload))) => {
                    self.counters.frames += 1;
                    Input::Frame { connection, payload }
                }
                Ok(Some(Message::Pong(payload))) => Input::Pong { connection, payload },
                Ok(Some(Message::Ping(_))) => Input::PeerPing { connection },
                Ok(Some(Message::Close { .. })) => continue,
                Ok(None) => return Ok(None),
                Err(end) => return Ok(Some(end)),
            };
            self.engine.take(at, input)?;
        }
    }

    /// A connection ended: the socket goes, the session hears why.
    pub(super) fn on_end(&mut self, connection: Connection, end: &WireError, at: Nanos) -> Result<(), LogError> {
        let line = &mut self.lines[usize::from(connection)];
        line.socket = None;
        line.watched = None;
        let reason = line.closing.take().unwrap_or_else(|| end.reason());
        let detail = end.to_string();
        let input = Input::Closed { connection, reason, detail: detail.as_bytes(), retry_after: end.retry_after() };
        self.engine.take(at, input)
    }

    pub(super) fn on_grant(
        &mut self,
        connection: Connection,
        addresses: &[SocketAddr],
        at: Nanos,
    ) -> Result<(), LogError> {
        self.engine.take(at, Input::Command(Command::Granted { connection }))?;
        let seed = self.rng.next_u64();
        let attempt = self.lines.get_mut(usize::from(connection)).map(|line| {
            self.counters.reconnects += u64::from(std::mem::replace(&mut line.tried, true));
            let url = Url::parse(&line.url)
                .map_err(|what| WireError { place: line.url.clone(), cause: Cause::Setup(what) })?;
            let mut limits = Limits::default();
            limits.message_bytes_max = self.options.message_bytes_max.unwrap_or(limits.message_bytes_max);
            let (tls, proxy, close_within) = (self.tls.clone(), self.proxy.clone(), self.close_within);
            WebSocket::connect(
                Options { tls, proxy, limits, close_within, ..Options::new(url, addresses.to_vec()) },
                seed,
                at,
            )
        });
        match attempt {
            Some(Ok(socket)) => self.lines[usize::from(connection)].socket = Some(socket),
            Some(Err(end)) => self.on_end(connection, &end, at)?,
            None => {}
        }
        Ok(())
    }

    /// The control thread could not get an address.
    pub(super) fn on_refusal(&mut self, connection: Connection, detail: &str, at: Nanos) -> Result<(), LogError> {
        let reason = Reason::ConnectFailed;
        self.engine.take(at, Input::Closed { connection, reason, detail: detail.as_bytes(), retry_after: None })
    }

    /// Brings epoll to what the socket wants. A closed descriptor has left epoll by itself.
    pub(super) fn watch(&mut self, connection: usize) -> Result<(), LogError> {
        let line = &mut self.lines[connection];
        let wanted = line.socket.as_ref().map(|socket| (socket.fd(), socket.wants_write()));
        let Some((fd, writable)) = wanted.filter(|_| wanted != line.watched) else { return Ok(()) };
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, writable);
        // SAFETY: the descriptor belongs to the socket that `line` owns, which outlives this call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let data = epoll::EventData::new_u64(connection as u64);
        let known = line.watched.is_some_and(|(watched, _)| Some(watched) == wanted.map(|(fd, _)| fd));
        let done = match known {
            true => epoll::modify(&self.epoll, fd, data, flags),
            false => epoll::add(&self.epoll, fd, data, flags),
        };
        line.watched = wanted;
        done.map_err(|error| LogError::Io { what: "watch a socket", path: PathBuf::new(), error: error.into() })
    }

    pub(super) fn socket(&mut self, connection: Connection) -> Option<&mut WebSocket> {
        self.lines.get_mut(usize::from(connection))?.socket.as_mut()
    }

    pub(super) fn url(&self, connection: Connection) -> String {
        self.lines.get(usize::from(connection)).map(|line| line.url.clone()).unwrap_or_default()
    }
}
