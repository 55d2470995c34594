//! A rustls server in user space that streams WebSocket frames, and our client at its other end.
//!
//! Shared by the ordinary tests (whatever the kernel can) and the guest of tests/ktls (a kernel that can).

use crc32fast::Hasher;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, Stream};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickplant_core::clock::MILLISECOND;
use tickplant_core::wire::blocking::{Client, Received};
use tickplant_core::wire::{handshake, Cause, Encryption, KernelTls, Options, Tls, Url};

pub const SUITES: [&str; 6] = [
    "TLS13_AES_128_GCM_SHA256",
    "TLS13_AES_256_GCM_SHA384",
    "TLS13_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
];
/// What the client sends when it opens and when the feed ends: several records, not one.
const ANSWER_BYTES: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A close frame, then close_notify.
    Close,
    /// close_notify alone.
    Notify,
    /// A fatal alert.
    Alert,
    /// A record that nobody has encrypted.
    Forged,
}

#[derive(Clone, Debug)]
pub struct Feed {
    pub bytes: usize,
    pub key_updates: usize,
    pub ending: Ending,
}

impl Default for Feed {
    fn default() -> Self {
        Self { bytes: 1 << 20, key_updates: 0, ending: Ending::Close }
    }
}

/// What both ends saw.
#[derive(Debug)]
pub struct Outcome {
    pub encryption: Encryption,
    pub cause: Cause,
    pub end: String,
    pub resumed: bool,
    /// Payload bytes of binary messages and their checksum.
    pub received: (usize, u32),
    sent: Option<(usize, u32)>,
}

impl Outcome {
    /// Every byte of the feed came, both ways, and the end was the server's close frame.
    pub fn check_whole(&self, feed: &Feed) {
        assert_eq!(Some(self.received), self.sent, "{}", self.end);
        assert!(self.received.0 >= feed.bytes, "{:?}", self.received);
        assert!(matches!(self.cause, Cause::Closed { by_us: false, code: Some(1000), .. }), "{}", self.end);
    }
}

pub struct Server {
    config: Arc<ServerConfig>,
    tls: Tls,
    explicit_nonces: bool,
    ca: tempfile::NamedTempFile,
}

impl Server {
    /// A server that speaks nothing but one suite, and the client's settings for it, kept over its connections.
    pub fn new(suite: &str, kernel: KernelTls) -> Self {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|known| format!("{:?}", known.suite()) == suite);
        assert_eq!(provider.cipher_suites.len(), 1, "{suite}");
        let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let versions = if suite.starts_with("TLS13") { [&rustls::version::TLS13] } else { [&rustls::version::TLS12] };
        let config = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&versions).unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let mut ca = tempfile::NamedTempFile::new().unwrap();
        ca.write_all(made.cert.pem().as_bytes()).unwrap();
        let tls = Tls::new(Some(ca.path().into())).with_kernel(kernel);
        let explicit_nonces = suite.starts_with("TLS_") && suite.contains("GCM");
        Self { config: Arc::new(config), tls, explicit_nonces, ca }
    }

    /// The server's settings, and the authority that a client of its own is to trust.
    #[allow(dead_code)] // the guest's router alone is such a client
    pub fn parts(&self) -> (Arc<ServerConfig>, &Path) {
        (self.config.clone(), self.ca.path())
    }

    /// One connection from its handshake to its end.
    pub fn run(&self, feed: &Feed) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (config, served) = (self.config.clone(), feed.clone());
        let server = std::thread::spawn(move || serve(&listener.accept().unwrap().0, config, &served));
        let mut outcome = receive(self.tls.clone(), address);
        let (sent, resumed, taken) = server.join().unwrap();
        (outcome.sent, outcome.resumed) = (sent.ok(), resumed);
        if self.explicit_nonces {
            check_nonces(&taken);
        }
        outcome
    }
}

fn receive(tls: Tls, address: SocketAddr) -> Outcome {
    let url = Url::parse(&format!("wss://localhost:{}/feed", address.port())).unwrap();
    let mut client = Client::connect(Options { tls, ..Options::new(url, vec![address]) }).unwrap();
    let answer = "x".repeat(ANSWER_BYTES);
    let (mut bytes, mut hasher, mut greeted) = (0, Hasher::new(), false);
    let (began, mut encryption) = (Instant::now(), Encryption::None);
    let error = loop {
        let turned = client.turn(100 * MILLISECOND);
        while let Some(message) = client.messages.pop_front() {
            match message {
                Received::Binary(payload) => {
                    bytes += payload.len();
                    hasher.update(&payload);
                }
                // A client that is over cannot answer any more, and says so itself.
                Received::Text(_) => drop(client.socket.send_text(&answer)),
            }
        }
        if client.socket.is_open() && !std::mem::replace(&mut greeted, true) {
            encryption = client.socket.encryption();
            client.socket.send_text(&answer).unwrap();
        }
        if let Err(error) = turned {
            break error;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "no end");
    };
    let end = error.to_string();
    Outcome { encryption, cause: error.cause, end, resumed: false, received: (bytes, hasher.finalize()), sent: None }
}

/// The server's socket, which remembers the ciphertext that came.
struct Tap<'a> {
    socket: &'a TcpStream,
    taken: Vec<u8>,
}

impl Read for Tap<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.socket.read(buffer)?;
        self.taken.extend(&buffer[..bytes]);
        Ok(bytes)
    }
}

impl Write for Tap<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was sent (an error where the client left before), whether the session was resumed, and the client's ciphertext.
fn serve(socket: &TcpStream, config: Arc<ServerConfig>, feed: &Feed) -> (io::Result<(usize, u32)>, bool, Vec<u8>) {
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut connection = ServerConnection::new(config).unwrap();
    let mut tap = Tap { socket, taken: Vec::new() };
    let sent = talk(&mut connection, &mut tap, feed);
    // The client's close is awaited: an end with bytes unread would be a reset.
    let _ = socket.shutdown(Shutdown::Write);
    let _ = io::copy(&mut tap, &mut io::sink());
    (sent, connection.handshake_kind() == Some(HandshakeKind::Resumed), tap.taken)
}

/// Answers the client's WebSocket handshake.
pub fn upgrade(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).map_err(|_| ErrorKind::InvalidData)?;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).ok_or(ErrorKind::InvalidData)?;
    let reply =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    stream.write_all(format!("{reply}{}\r\n\r\n", handshake::accept_of(key)).as_bytes())
}

fn talk(connection: &mut ServerConnection, tap: &mut Tap<'_>, feed: &Feed) -> io::Result<(usize, u32)> {
    let mut stream = Stream::new(connection, tap);
    upgrade(&mut stream)?;
    let sent = send_feed(&mut stream, feed)?;
    // A text asks for the client's last answer; the first came when it opened.
    stream.write_all(&[0x81, 1, b'?'])?;
    for _ in 0..2 {
        assert_eq!(read_frame(&mut stream)?, vec![b'x'; ANSWER_BYTES]);
    }
    match feed.ending {
        Ending::Close => {
            stream.write_all(&[0x88, 2, 3, 0xe8])?;
            assert_eq!(read_frame(&mut stream)?, [3, 0xe8]);
            stream.conn.send_close_notify();
        }
        Ending::Notify => stream.conn.send_close_notify(),
        // What the server is made to believe the client has sent: it refuses it with an alert.
        Ending::Alert => {
            stream.conn.read_tls(&mut &forged()[..])?;
            assert!(stream.conn.process_new_packets().is_err());
        }
        Ending::Forged => stream.sock.write_all(&forged())?,
    }
    while stream.conn.wants_write() {
        stream.conn.write_tls(stream.sock)?;
    }
    Ok(sent)
}

fn forged() -> Vec<u8> {
    [&[23, 3, 3, 0, 64][..], &[0x5a; 64]].concat()
}

/// Binary frames of odd sizes, with the keys renewed between them.
fn send_feed(stream: &mut Stream<'_, ServerConnection, Tap<'_>>, feed: &Feed) -> io::Result<(usize, u32)> {
    let (mut bytes, mut hasher, mut state) = (0, Hasher::new(), 1u64);
    let mut renewals = 0;
    while bytes < feed.bytes {
        if renewals < feed.key_updates && bytes >= (renewals + 1) * feed.bytes / (feed.key_updates + 1) {
            stream.conn.refresh_traffic_keys().map_err(io::Error::other)?;
            renewals += 1;
        }
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let length = (state >> 33) as usize % if state % 5 == 0 { 70_000 } else { 3_000 };
        let payload: Vec<u8> = (0..length).map(|n| (state >> (n % 57)) as u8).collect();
        stream.write_all(&frame(2, &payload))?;
        hasher.update(&payload);
        bytes += length;
    }
    Ok((bytes, hasher.finalize()))
}

/// A server's frame, the whole of a message.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ ..126 => frame.push(length as u8),
        length @ 126..0x10000 => frame.extend([[126].as_slice(), &(length as u16).to_be_bytes()].concat()),
        length => frame.extend([[127].as_slice(), &(length as u64).to_be_bytes()].concat()),
    }
    frame.extend(payload);
    frame
}

/// The payload of the client's next frame.
fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut length = [0; 8];
    let extended = match head[1] & 0x7f {
        126 => 2,
        127 => 8,
        short => {
            length[7] = short;
            0
        }
    };
    stream.read_exact(&mut length[8 - extended..])?;
    let mut mask = [0; 4];
    stream.read_exact(&mut mask)?;
    let mut payload = vec![0; u64::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload)?;
    payload.iter_mut().enumerate().for_each(|(index, byte)| *byte ^= mask[index % 4]);
    Ok(payload)
}

/// TLS 1.2's AES-GCM shows the counted part of each nonce: none may come twice, also where the kernel took over.
fn check_nonces(ciphertext: &[u8]) {
    let (mut rest, mut encrypted, mut nonces) = (ciphertext, false, Vec::new());
    while let [kind, _, _, high, low, behind @ ..] = rest {
        let (body, behind) = behind.split_at((usize::from(*high) << 8 | usize::from(*low)).min(behind.len()));
        if encrypted && body.len() >= 8 {
            nonces.push(body[..8].to_vec());
        }
        encrypted |= *kind == 20;
        rest = behind;
    }
    let count = nonces.len();
    nonces.sort();
    nonces.dedup();
    assert!(count > 4 && nonces.len() == count, "{count} records, {} nonces", nonces.len());
}
