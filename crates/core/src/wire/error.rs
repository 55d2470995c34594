//! How a connection ends. Every end, also a wished one, is one [`WireError`].

use super::frames::FrameError;
use super::handshake::HandshakeError;
use crate::clock::{Nanos, SECOND};
use crate::record::Reason;
use rustix::io::Errno;
use std::fmt;
use std::net::SocketAddr;

/// What a connection was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// TCP.
    Connecting,
    /// `CONNECT` to the proxy.
    Proxy,
    Tls,
    /// The WebSocket handshake.
    Upgrade,
    Open,
    /// A close frame was sent or came; the peer's part is awaited.
    Closing,
    Closed,
}

/// The end of a connection: where and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// Scheme, host and port; no path, it may hold a secret.
    pub place: String,
    pub cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The address, a header, the proxy or the CA file is unusable: the same again will fail again.
    Setup(String),
    /// The name has no address.
    NoAddress,
    /// No TCP connection to the last of the addresses.
    Connect {
        address: SocketAddr,
        error: Errno,
    },
    /// A phase took longer than it may.
    Timeout {
        phase: Phase,
        after: Nanos,
    },
    Tls {
        what: String,
        hint: &'static str,
    },
    /// The peer renewed its key and this kernel takes no second one: all up to there was given out, what follows cannot be
    /// read. The next connection decrypts in user space: make it before this one is let go.
    KeyRefused {
        error: Errno,
    },
    Handshake(HandshakeError),
    Frame(FrameError),
    /// The close handshake took place, or we closed and the peer was silent (then without a code).
    Closed {
        by_us: bool,
        code: Option<u16>,
        text: String,
    },
    /// TCP ended without a close frame.
    Lost {
        phase: Phase,
        error: Option<Errno>,
    },
    /// The peer takes nothing in: so many bytes wait.
    Backlog {
        bytes: usize,
    },
    /// Something was to be sent on a connection that is not open. The connection itself goes on.
    NotOpen {
        phase: Phase,
    },
}

impl WireError {
    /// The word for it in STATUS records.
    pub fn reason(&self) -> Reason {
        match &self.cause {
            Cause::Setup(_) | Cause::NoAddress | Cause::Connect { .. } => Reason::ConnectFailed,
            Cause::Timeout { phase: Phase::Connecting, .. } => Reason::ConnectFailed,
            Cause::Timeout { phase: Phase::Tls, .. } | Cause::Tls { .. } | Cause::KeyRefused { .. } => {
                Reason::TlsFailed
            }
            Cause::Timeout { .. } | Cause::Backlog { .. } => Reason::Silent,
            Cause::Handshake(error) => error.reason(),
            Cause::Frame(_) => Reason::ProtocolError,
            Cause::Closed { by_us: true, .. } | Cause::NotOpen { .. } => Reason::Requested,
            Cause::Closed { .. } => Reason::PeerClosed,
            Cause::Lost { phase: Phase::Tls, .. } => Reason::TlsFailed,
            Cause::Lost { .. } => Reason::PeerClosed,
        }
    }

    /// How long the peer asks us to wait before the next try.
    pub fn retry_after(&self) -> Option<Nanos> {
        match &self.cause {
            Cause::Handshake(error) => error.retry_after(),
            _ => None,
        }
    }

    /// What happened, in one clause.
    pub fn what(&self) -> String {
        self.cause.to_string()
    }

    /// What a person can do about it; empty where there is nothing to do.
    pub fn hint(&self) -> &'static str {
        match &self.cause {
            Cause::Setup(_) => "correct the setting",
            Cause::NoAddress => "check the host's name and the name server",
            Cause::Connect { error: Errno::CONNREFUSED, .. } => "check host and port: nothing listens there",
            Cause::Connect { .. } | Cause::Timeout { phase: Phase::Connecting, .. } => {
                "check the host, the network and the firewall; set a proxy if this network wants one"
            }
            Cause::Timeout { .. } => "check the port, and ws:// against wss://",
            Cause::Tls { hint, .. } => hint,
            Cause::KeyRefused { .. } => {
                "reconnect at once: the next connection decrypts in user space; Linux 6.14 can do it"
            }
            Cause::Handshake(error) => error.hint(),
            Cause::Frame(FrameError::TooLarge { .. }) => {
                "set message_bytes_max higher if the venue sends such messages"
            }
            Cause::Lost { phase: Phase::Tls, .. } => "check the port, and ws:// against wss://",
            Cause::Backlog { .. } => "the peer or the network stands still: send less or reconnect",
            _ => "",
        }
    }
}

impl std::error::Error for WireError {}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.cause, self.place)?;
        match self.hint() {
            "" => Ok(()),
            hint => write!(f, ": {hint}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Setup(what) => f.write_str(what),
            Cause::NoAddress => f.write_str("the host's name has no address"),
            Cause::Connect { address, error } => write!(f, "no connection to {address}: {}", errno_text(*error)),
            Cause::Timeout { phase, after } => {
                write!(f, "{} took longer than {} s", phase.name(), *after as f64 / SECOND as f64)
            }
            Cause::Tls { what, .. } => f.write_str(what),
            Cause::KeyRefused { error } => {
                write!(f, "the peer renewed its TLS key, which the kernel refused: {}", errno_text(*error))
            }
            Cause::Handshake(error) => error.fmt(f),
            Cause::Frame(error) => write!(f, "illegal frame: {error}"),
            Cause::Closed { by_us, code, text } => {
                f.write_str(if *by_us { "closed by us" } else { "closed by the peer" })?;
                match code {
                    Some(code) if text.is_empty() => write!(f, " with code {code}"),
                    Some(code) => write!(f, " with code {code} {text:?}"),
                    None => f.write_str(" without a code"),
                }
            }
            Cause::Lost { phase, error } => {
                write!(f, "the peer ended the connection during {} without a close", phase.name())?;
                error.map_or(Ok(()), |error| write!(f, ": {}", errno_text(error)))
            }
            Cause::Backlog { bytes } => write!(f, "the peer takes nothing in, {bytes} bytes wait to be sent"),
            Cause::NotOpen { phase } => write!(f, "nothing can be sent during {}", phase.name()),
        }
    }
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Connecting => "the TCP connection",
            Phase::Proxy => "the proxy's CONNECT",
            Phase::Tls => "the TLS handshake",
            Phase::Upgrade => "the WebSocket handshake",
            Phase::Open => "the session",
            Phase::Closing => "the close",
            Phase::Closed => "nothing: it is closed",
        }
    }
}

/// The system's words for an error, without its number.
fn errno_text(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
