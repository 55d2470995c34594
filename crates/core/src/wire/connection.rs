//! A WebSocket client connection that an event loop drives: no thread, nothing blocks.
//!
//! The loop registers [`WebSocket::fd`] (level-triggered; for writing while [`WebSocket::wants_write`]), calls
//! [`WebSocket::on_ready`] when the socket is ready or [`WebSocket::deadline`] has come, and then, once open:
//!
//! ```text
//! Ready::Opened | Ready::Readable => {
//!     let ts_recv = clock.now();                  // once per read
//!     socket.read()?;                             // one read(2)
//!     while let Some(message) = socket.next_message()? { ... }   // in place, until none is left
//! }
//! ```
//!
//! Pings are answered before they are given out. Every end is one [`WireError`]; after it the same error comes again, and
//! dropping the object closes the socket.

use super::error::{Cause, Phase, WireError};
use super::frames::{self, FrameReader, Limits, Message, Outgoing, Place};
use super::handshake::{self, HandshakeError, Request};
use super::http;
use super::proxy::Proxy;
use super::tls::{Encryption, Tls};
use super::transport::{Received, Transport};
use super::url::Url;
use crate::clock::{Nanos, Rng, SECOND};
use rustix::io::Errno;
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// What a connection is made from.
#[derive(Clone, Debug)]
pub struct Options {
    pub url: Url,
    /// Addresses of the URL's host, or of the proxy where there is one; tried in this order.
    pub addresses: Vec<SocketAddr>,
    pub tls: Tls,
    pub proxy: Option<Proxy>,
    /// Further headers of the upgrade request.
    pub headers: Vec<(String, String)>,
    pub subprotocols: Vec<String>,
    pub limits: Limits,
    /// First size of the read buffer; at least what a handshake's reply may take.
    pub buffer_bytes: usize,
    /// The kernel's receive buffer; None leaves it to the system, which adapts it.
    pub receive_bytes: Option<usize>,
    /// Most bytes that may wait to be sent.
    pub send_bytes_max: usize,
    /// Time for TCP to one address.
    pub connect_within: Nanos,
    /// Time for everything up to the open connection.
    pub open_within: Nanos,
    /// Time that the peer has to answer our close, or to end TCP after both closes.
    pub close_within: Nanos,
}

impl Options {
    /// Everything else at its default.
    pub fn new(url: Url, addresses: Vec<SocketAddr>) -> Self {
        Self {
            url,
            addresses,
            tls: Tls::default(),
            proxy: None,
            headers: Vec::new(),
            subprotocols: Vec::new(),
            limits: Limits::default(),
            buffer_bytes: frames::BUFFER_BYTES,
            receive_bytes: None,
            send_bytes_max: 4 << 20,
            connect_within: 5 * SECOND,
            open_within: 15 * SECOND,
            close_within: 2 * SECOND,
        }
    }
}

/// What the loop is to do after [`WebSocket::on_ready`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Nothing; wait on.
    Pending,
    /// The next address is tried on a new socket: register [`WebSocket::fd`] anew.
    Moved,
    /// The handshake is done. Messages may have come with it: read and take them.
    Opened,
    /// Bytes are there: read and take the messages.
    Readable,
}

/// One connection. See the module's page.
pub struct WebSocket {
    options: Options,
    sender: Sender,
    reader: FrameReader,
    key: String,
    upgrade_request: Vec<u8>,
    /// Bytes that came right behind the handshake's reply and that no `read` has told of yet.
    came_early: bool,
    subprotocol: Option<String>,
    phase: Phase,
    /// Index of the next address to try.
    next_address: usize,
    /// When the present phase must be over, and when all must be open.
    deadline: Option<Nanos>,
    open_by: Nanos,
    /// The latest time that the loop told.
    now: Nanos,
    close_by_us: bool,
    peer_close: Option<(Option<u16>, String)>,
    end: Option<WireError>,
}

/// What writes: apart from the reader, so that a message can be answered while it stands in the reader's buffer.
struct Sender {
    transport: Transport,
    rng: Rng,
    frame: Vec<u8>,
    waiting_bytes_max: usize,
}

impl Sender {
    fn queue(&mut self, frame: Outgoing<'_>) -> Result<(), Cause> {
        let waiting = self.transport.waiting_bytes();
        if waiting > self.waiting_bytes_max {
            return Err(Cause::Backlog { bytes: waiting });
        }
        let mask = (self.rng.next_u64() as u32).to_le_bytes();
        self.frame.clear();
        frames::write_frame(&mut self.frame, frame, mask);
        self.transport.queue(&self.frame)
    }
}

impl WebSocket {
    /// Begins to connect. `seed` is for the handshake key and the masks. An error where not even a beginning can be made.
    pub fn connect(options: Options, seed: u64, now: Nanos) -> Result<Self, WireError> {
        let refused = |cause| WireError { place: options.url.place(), cause };
        let mut rng = Rng::new(seed);
        let key = handshake::new_key(&mut rng);
        if options.url.tls {
            options.tls.config().map_err(Cause::Setup).map_err(refused)?;
        }
        let request = Request { headers: &options.headers, subprotocols: &options.subprotocols };
        let upgrade_request =
            handshake::upgrade_request(&options.url, &key, &request).map_err(Cause::Setup).map_err(refused)?;
        let (transport, next_address) = open_next(&options, 0).map_err(refused)?;
        Ok(Self {
            sender: Sender { transport, rng, frame: Vec::new(), waiting_bytes_max: options.send_bytes_max },
            reader: FrameReader::new(options.limits, options.buffer_bytes.max(2 * http::HEAD_BYTES_MAX)),
            key,
            upgrade_request,
            came_early: false,
            subprotocol: None,
            phase: Phase::Connecting,
            next_address,
            deadline: Some(now + options.connect_within.min(options.open_within)),
            open_by: now + options.open_within,
            now,
            close_by_us: false,
            peer_close: None,
            end: None,
            options,
        })
    }

    /// The socket to wait on. It changes with [`Ready::Moved`] only.
    pub fn fd(&self) -> RawFd {
        self.sender.transport.fd()
    }

    /// Whether the loop is to wait for writability too.
    pub fn wants_write(&self) -> bool {
        self.phase == Phase::Connecting || self.sender.transport.waiting_bytes() > 0
    }

    /// When [`WebSocket::on_ready`] must be called at the latest.
    pub fn deadline(&self) -> Option<Nanos> {
        self.deadline
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The address that is tried or connected: the proxy's where there is one.
    pub fn address(&self) -> SocketAddr {
        self.sender.transport.address()
    }

    /// Who decrypts, and why not the kernel.
    pub fn encryption(&self) -> Encryption {
        self.sender.transport.encryption()
    }

    /// The subprotocol that the server chose.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Goes on with what the socket is ready for (an error or hang-up counts as both) and looks at the deadline.
    pub fn on_ready(&mut self, readable: bool, writable: bool, now: Nanos) -> Result<Ready, WireError> {
        self.check_end()?;
        self.now = now;
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return self.on_deadline();
        }
        if writable && self.phase != Phase::Connecting {
            self.sender.transport.flush();
        }
        match self.phase {
            Phase::Connecting if readable || writable => match self.sender.transport.is_connected() {
                Ok(true) => self.on_connected().map_err(|cause| self.fail(cause)),
                Ok(false) => Ok(Ready::Pending),
                Err(error) => self.try_next_address(error),
            },
            Phase::Proxy | Phase::Tls | Phase::Upgrade if readable => {
                self.on_handshake_bytes().map_err(|cause| self.fail(cause))
            }
            Phase::Open | Phase::Closing if readable => Ok(Ready::Readable),
            _ => Ok(Ready::Pending),
        }
    }

    /// One read(2) into the buffer; the number of new bytes, 0 where nothing was there. Then take the messages. Bytes that
    /// came with the handshake count as the first read: an end right behind them must not hide them.
    pub fn read(&mut self) -> Result<usize, WireError> {
        self.check_end()?;
        if std::mem::take(&mut self.came_early) {
            return Ok(self.reader.unread().len());
        }
        match self.sender.transport.read(&mut self.reader, self.phase) {
            Ok(Received::Bytes(bytes)) => Ok(bytes),
            Ok(Received::Blocked) => Ok(0),
            Ok(Received::Ended) => Err(self.fail(Cause::Lost { phase: self.phase, error: None })),
            Err(cause) => Err(self.fail(cause)),
        }
    }

    /// The next message of what was read, None when the next read is due. Pings are answered already. After the peer's
    /// close nothing more comes, and after our own nothing but the peer's.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, WireError> {
        self.check_end()?;
        let (opcode, place) = loop {
            if !matches!(self.phase, Phase::Open | Phase::Closing) || self.peer_close.is_some() {
                return Ok(None);
            }
            match self.reader.advance() {
                Ok(Some((opcode, _))) if self.phase == Phase::Closing && opcode != frames::CLOSE => {}
                Ok(Some(found)) => break found,
                Ok(None) => {
                    self.sender.transport.flush();
                    return Ok(None);
                }
                Err(error) => return Err(self.fail(Cause::Frame(error))),
            }
        };
        if opcode >= frames::CLOSE {
            self.answer(opcode, &place).map_err(|cause| self.fail(cause))?;
        }
        Ok(Some(self.reader.message_at(opcode, place)))
    }

    /// Sends a text message, or as much of it as the kernel takes now; the rest follows.
    pub fn send_text(&mut self, text: &str) -> Result<(), WireError> {
        self.send(Outgoing::Text(text))
    }

    pub fn send_binary(&mut self, payload: &[u8]) -> Result<(), WireError> {
        self.send(Outgoing::Binary(payload))
    }

    /// Sends a ping of at most 125 bytes; its pong comes as [`Message::Pong`].
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), WireError> {
        self.send(Outgoing::Ping(payload))
    }

    /// Sends a close frame and gives the peer [`Options::close_within`] for its own. A connection that is not open yet
    /// just ends. The end comes as an error with [`Cause::Closed`], from `read` or `on_ready`.
    pub fn close(&mut self, code: u16, reason: &str, now: Nanos) {
        self.now = now;
        self.close_by_us |= self.peer_close.is_none();
        match self.phase {
            Phase::Open => {
                // Where not even this fits in, the deadline ends it.
                let _ = self.sender.queue(Outgoing::Close(code, reason));
                self.sender.transport.flush();
                self.phase = Phase::Closing;
                self.deadline = Some(now + self.options.close_within);
            }
            Phase::Closing | Phase::Closed => {}
            _ => {
                self.phase = Phase::Closing;
                self.deadline = Some(now);
            }
        }
    }

    fn send(&mut self, frame: Outgoing<'_>) -> Result<(), WireError> {
        self.check_end()?;
        if self.phase != Phase::Open {
            return Err(self.error(Cause::NotOpen { phase: self.phase }));
        }
        self.sender.queue(frame).map_err(|cause| self.fail(cause))?;
        self.sender.transport.flush();
        Ok(())
    }

    /// Our side of a control frame.
    fn answer(&mut self, opcode: u8, place: &Place) -> Result<(), Cause> {
        match self.reader.message_at(opcode, place.clone()) {
            Message::Ping(payload) => self.sender.queue(Outgoing::Pong(payload)),
            Message::Close { code, reason } => {
                if self.phase == Phase::Open {
                    // Where it does not fit in, the peer has stopped listening anyway.
                    let _ = self.sender.queue(Outgoing::Close(code.unwrap_or(1000), ""));
                }
                self.peer_close = Some((code, reason.to_string()));
                self.sender.transport.flush();
                self.phase = Phase::Closing;
                self.deadline = Some(self.now + self.options.close_within);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_deadline(&mut self) -> Result<Ready, WireError> {
        let (phase, after) = match self.phase {
            Phase::Connecting if self.now < self.open_by => return self.try_next_address(Errno::TIMEDOUT),
            Phase::Connecting => return Err(self.fail_connect(Errno::TIMEDOUT)),
            Phase::Proxy | Phase::Upgrade => {
                // A refusal whose body never ends is still told as what it is.
                if let Err(cause) = self.parse_reply(true) {
                    if !matches!(cause, Cause::Handshake(HandshakeError::Ended)) {
                        return Err(self.fail(cause));
                    }
                }
                (self.phase, self.options.open_within)
            }
            phase => (phase, self.options.open_within),
        };
        Err(self.fail(Cause::Timeout { phase, after }))
    }

    fn try_next_address(&mut self, error: Errno) -> Result<Ready, WireError> {
        if self.next_address >= self.options.addresses.len() {
            return Err(self.fail_connect(error));
        }
        let (transport, next) = open_next(&self.options, self.next_address).map_err(|cause| self.fail(cause))?;
        self.sender.transport = transport;
        self.next_address = next;
        self.deadline = Some(self.open_by.min(self.now + self.options.connect_within));
        Ok(Ready::Moved)
    }

    fn fail_connect(&mut self, error: Errno) -> WireError {
        let address = self.address();
        self.fail(Cause::Connect { address, error })
    }

    fn on_connected(&mut self) -> Result<Ready, Cause> {
        self.deadline = Some(self.open_by);
        match &self.options.proxy {
            Some(proxy) => {
                let request = proxy.connect_request(&self.options.url);
                self.phase = Phase::Proxy;
                self.sender.transport.queue(&request)?;
                self.sender.transport.flush();
                Ok(Ready::Pending)
            }
            None => self.on_route(),
        }
    }

    /// The way to the server stands: TLS where it is wanted, else the upgrade.
    fn on_route(&mut self) -> Result<Ready, Cause> {
        match self.options.url.tls {
            true => {
                self.phase = Phase::Tls;
                self.sender.transport.start_tls(&self.options.tls, &self.options.url.host)?;
            }
            false => self.ask_upgrade()?,
        }
        Ok(Ready::Pending)
    }

    fn ask_upgrade(&mut self) -> Result<(), Cause> {
        self.phase = Phase::Upgrade;
        self.sender.transport.queue(&self.upgrade_request)?;
        self.sender.transport.flush();
        Ok(())
    }

    fn on_handshake_bytes(&mut self) -> Result<Ready, Cause> {
        let ended = match self.sender.transport.read(&mut self.reader, self.phase)? {
            Received::Ended if self.phase == Phase::Tls => return Err(Cause::Lost { phase: Phase::Tls, error: None }),
            Received::Ended => true,
            // A peer that answers without end is judged by what it said so far.
            Received::Bytes(_) => self.reader.unread().len() > http::HEAD_BYTES_MAX + http::SAMPLE_BYTES_MAX,
            Received::Blocked => return Ok(Ready::Pending),
        };
        match self.phase {
            Phase::Tls if self.sender.transport.is_established() => self.ask_upgrade().map(|()| Ready::Pending),
            Phase::Tls => Ok(Ready::Pending),
            _ => self.parse_reply(ended),
        }
    }

    /// Looks at the proxy's or the server's answer as far as it came.
    fn parse_reply(&mut self, ended: bool) -> Result<Ready, Cause> {
        if self.phase == Phase::Proxy {
            let Some(bytes) = handshake::parse_connect(self.reader.unread(), ended).map_err(Cause::Handshake)? else {
                return Ok(Ready::Pending);
            };
            self.reader.discard(bytes);
            return self.on_route();
        }
        let request = Request { headers: &self.options.headers, subprotocols: &self.options.subprotocols };
        let reply = handshake::parse_upgrade(self.reader.unread(), ended, &self.key, &request);
        let Some(accepted) = reply.map_err(Cause::Handshake)? else { return Ok(Ready::Pending) };
        self.reader.discard(accepted.bytes);
        self.came_early = !self.reader.unread().is_empty();
        self.subprotocol = accepted.subprotocol;
        self.phase = Phase::Open;
        self.deadline = None;
        Ok(Ready::Opened)
    }

    fn check_end(&self) -> Result<(), WireError> {
        self.end.clone().map_or(Ok(()), Err)
    }

    fn error(&self, cause: Cause) -> WireError {
        WireError { place: self.options.url.place(), cause }
    }

    /// Ends the connection. Once a close began, whatever ends it is that close.
    fn fail(&mut self, cause: Cause) -> WireError {
        let cause = match (&cause, self.peer_close.take()) {
            (Cause::Setup(_), _) => cause,
            (_, Some((code, text))) => Cause::Closed { by_us: self.close_by_us, code, text },
            (_, None) if self.close_by_us => Cause::Closed { by_us: true, code: None, text: String::new() },
            (_, None) => cause,
        };
        if let (Cause::Frame(error), Phase::Open) = (&cause, self.phase) {
            let _ = self.sender.queue(Outgoing::Close(error.close_code(), &error.to_string()));
        }
        self.sender.transport.shut();
        self.phase = Phase::Closed;
        self.deadline = None;
        let error = self.error(cause);
        self.end = Some(error.clone());
        error
    }
}

/// Begins a connection to the first address from `index` that lets itself be tried.
fn open_next(options: &Options, index: usize) -> Result<(Transport, usize), Cause> {
    let mut cause = Cause::NoAddress;
    for (index, &address) in options.addresses.iter().enumerate().skip(index) {
        match Transport::open(address, options.receive_bytes) {
            Ok(transport) => return Ok((transport, index + 1)),
            Err(error) => cause = Cause::Connect { address, error },
        }
    }
    Err(cause)
}
