//! The opening handshake (RFC 6455, section 4) and the `CONNECT` of a proxy (RFC 9110, 9.3.6), without a socket.

use super::http::ReplyHead;
use super::url::Url;
use crate::clock::{Nanos, Rng};
use crate::record::Reason;
use base64::prelude::{Engine, BASE64_STANDARD};
use std::fmt;

/// Why a handshake came to nothing. Each knows its reason for the log and how long the peer asks us to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// The peer answered in HTTP, but not with what was asked for.
    Refused(Box<Refusal>),
    /// The peer does not speak HTTP/1.1 correctly.
    Malformed { what: String },
    /// 101, but `Sec-WebSocket-Accept` is not the answer to our key: something between answers from a cache.
    WrongAccept { got: Option<String> },
    /// 101, but without the `Upgrade` and `Connection` headers.
    NotUpgraded,
    /// The server chose an extension or subprotocol that was not asked for.
    NotAsked { what: &'static str, got: String },
    /// The peer closed before its reply was whole.
    Ended,
}

/// A reply that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `CONNECT` of a proxy, or the upgrade.
    pub by_proxy: bool,
    pub status: u16,
    pub phrase: String,
    pub retry_after: Option<Nanos>,
    pub location: Option<String>,
    /// `Content-Type` and the body's beginning.
    pub content_type: String,
    pub sample: String,
}

impl HandshakeError {
    pub fn reason(&self) -> Reason {
        match self {
            HandshakeError::Refused(refusal) => match refusal.status {
                // 418 is what Binance answers to an address that went on after 429.
                429 | 418 => Reason::RateLimited,
                401 if !refusal.by_proxy => Reason::AuthFailed,
                _ => Reason::HandshakeRefused,
            },
            HandshakeError::Ended => Reason::PeerClosed,
            _ => Reason::ProtocolError,
        }
    }

    pub fn retry_after(&self) -> Option<Nanos> {
        match self {
            HandshakeError::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// The status of the peer's reply, where there was one that refused.
    pub fn status(&self) -> Option<u16> {
        match self {
            HandshakeError::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }
}

impl std::error::Error for HandshakeError {}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Refused(refusal) => refusal.fmt(f),
            HandshakeError::Malformed { what } => write!(f, "the peer does not speak HTTP/1.1: {what}"),
            HandshakeError::WrongAccept { got } => {
                write!(f, "Sec-WebSocket-Accept {:?} does not answer our key", got.as_deref().unwrap_or_default())
            }
            HandshakeError::NotUpgraded => write!(f, "status 101 without Upgrade: websocket and Connection: Upgrade"),
            HandshakeError::NotAsked { what, got } => {
                write!(f, "the server chose {what} {got:?}, which was not asked for")
            }
            HandshakeError::Ended => write!(f, "the peer closed the connection before its handshake reply"),
        }
    }
}

impl HandshakeError {
    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            HandshakeError::Refused(refusal) => refusal.hint(),
            HandshakeError::Malformed { .. } => "check the port, and ws:// against wss://",
            HandshakeError::WrongAccept { .. } => "a cache or proxy answers in the server's place",
            HandshakeError::NotUpgraded | HandshakeError::NotAsked { .. } => {
                "check the address: this is no sound WebSocket server"
            }
            HandshakeError::Ended => "check the port, the path, and ws:// against wss://",
        }
    }
}

impl Refusal {
    fn hint(&self) -> &'static str {
        match self.status {
            407 => "set the proxy's user and password in its address",
            _ if self.by_proxy => "the proxy cannot or may not reach this address",
            401 => "check the credentials",
            403 | 451 => "this address, region or header is not allowed there",
            404 => "check the path of the address",
            418 | 429 => "too many attempts from this address: the next one waits",
            300..=399 => "set the address to where it points",
            500..=599 => "the venue has trouble: the next try waits",
            _ => "check that this is a WebSocket address",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answered {} {}",
            if self.by_proxy { "the proxy" } else { "the server" },
            self.status,
            self.phrase
        )?;
        if let Some(wait) = self.retry_after {
            write!(f, ", retry after {} s", wait / crate::clock::SECOND)?;
        }
        if let Some(location) = &self.location {
            write!(f, ", to {location}")?;
        }
        if !self.sample.is_empty() {
            write!(f, ", {}: {:?}", self.content_type, self.sample)?;
        }
        Ok(())
    }
}

/// What the upgrade request asks for.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    pub headers: &'a [(String, String)],
    pub subprotocols: &'a [String],
}

/// The reply was good: its head's length and the subprotocol that the server chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub bytes: usize,
    pub subprotocol: Option<String>,
}

/// A fresh `Sec-WebSocket-Key`.
pub fn new_key(rng: &mut Rng) -> String {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
    bytes[8..].copy_from_slice(&rng.next_u64().to_le_bytes());
    BASE64_STANDARD.encode(bytes)
}

/// The `Sec-WebSocket-Accept` that answers a key (RFC 6455, 4.2.2).
pub fn accept_of(key: &str) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(hash.digest().bytes())
}

/// The upgrade request. An error names the header that cannot be sent.
pub fn upgrade_request(url: &Url, key: &str, request: &Request<'_>) -> Result<Vec<u8>, String> {
    let mut text = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n",
        url.target,
        url.host_header(),
    );
    if !request.subprotocols.is_empty() {
        check_header("Sec-WebSocket-Protocol", &request.subprotocols.join(""))?;
        text.push_str(&format!("Sec-WebSocket-Protocol: {}\r\n", request.subprotocols.join(", ")));
    }
    if !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
        text.push_str(concat!("User-Agent: tickplant/", env!("CARGO_PKG_VERSION"), "\r\n"));
    }
    for (name, value) in request.headers {
        check_header(name, value)?;
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    Ok(text.into_bytes())
}

/// Headers that the handshake itself sets may not be given: two of them would be a smuggled request.
fn check_header(name: &str, value: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("header name {name:?} is not allowed by HTTP"));
    }
    if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
        return Err(format!("the value of header {name} holds a line break or control character"));
    }
    let ours =
        ["host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"];
    match ours.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        true => Err(format!("header {name} is set by the handshake itself; leave it out")),
        false => Ok(()),
    }
}

/// Looks at what the server answered so far: None while more is needed. `ended`: no more will come.
pub fn parse_upgrade(
    bytes: &[u8],
    ended: bool,
    key: &str,
    request: &Request<'_>,
) -> Result<Option<Accepted>, HandshakeError> {
    let Some(head) = reply_with_status(bytes, ended, false, |status| status == 101)? else { return Ok(None) };
    if !head.has_word("upgrade", "websocket") || !head.has_word("connection", "upgrade") {
        return Err(HandshakeError::NotUpgraded);
    }
    if head.header("sec-websocket-accept") != Some(accept_of(key).as_str()) {
        return Err(HandshakeError::WrongAccept { got: head.header("sec-websocket-accept").map(str::to_string) });
    }
    if let Some(got) = head.header("sec-websocket-extensions").filter(|got| !got.is_empty()) {
        return Err(HandshakeError::NotAsked { what: "extension", got: got.to_string() });
    }
    let subprotocol = head.header("sec-websocket-protocol").map(str::to_string);
    match subprotocol {
        Some(got) if !request.subprotocols.contains(&got) => Err(HandshakeError::NotAsked { what: "subprotocol", got }),
        subprotocol => Ok(Some(Accepted { bytes: head.bytes, subprotocol })),
    }
}

/// Looks at what a proxy answered to `CONNECT` so far: the length of its head when the tunnel stands.
pub fn parse_connect(bytes: &[u8], ended: bool) -> Result<Option<usize>, HandshakeError> {
    let head = reply_with_status(bytes, ended, true, |status| (200..300).contains(&status))?;
    Ok(head.map(|head| head.bytes))
}

/// The head of a reply with a wanted status. Any other is a refusal, told once a sample of its body is here.
fn reply_with_status(
    bytes: &[u8],
    ended: bool,
    by_proxy: bool,
    wanted: impl Fn(u16) -> bool,
) -> Result<Option<ReplyHead>, HandshakeError> {
    let head = match ReplyHead::parse(bytes).map_err(|what| HandshakeError::Malformed { what })? {
        Some(head) if wanted(head.status) => return Ok(Some(head)),
        Some(head) => head,
        None if ended => return Err(HandshakeError::Ended),
        None => return Ok(None),
    };
    let (sample, more) = head.body_sample(bytes.get(head.bytes..).unwrap_or_default());
    if more && !ended {
        return Ok(None);
    }
    Err(HandshakeError::Refused(Box::new(Refusal {
        by_proxy,
        status: head.status,
        phrase: head.reason.clone(),
        retry_after: head.retry_after(),
        location: head.header("location").map(|text| super::http::sample(text.as_bytes())),
        content_type: head.header("content-type").unwrap_or_default().to_string(),
        sample,
    })))
}
