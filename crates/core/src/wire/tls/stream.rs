//! TLS in user space: ciphertext in and out as bytes, decrypted straight from one read.

use super::super::error::Cause;
use super::{cause, Encryption, Tls};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError};

/// Bytes of one read. It must hold the largest handshake message that rustls takes (64 KiB).
const INCOMING_BYTES: usize = 256 << 10;
const HEAD_BYTES: usize = 5;

/// One TLS connection without a socket: ciphertext in and out as bytes.
pub(in super::super) struct TlsStream {
    tls: Tls,
    connection: UnbufferedClientConnection,
    /// Ciphertext that is not yet a whole record (or handshake message).
    incoming: Box<[u8]>,
    filled: usize,
    established: bool,
    peer_closed: bool,
    /// A record was wrong. rustls must not see it again: it would panic over its second alert in a debug build.
    failed: bool,
    /// Where the kernel shall take over: how far the present record came.
    boundary: Option<Boundary>,
    /// Why it shall not.
    why: String,
}

/// Follows the heads of records. The kernel takes over between two records, so none of the next may have been read.
#[derive(Debug, Default)]
struct Boundary {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    body_bytes: usize,
}

impl Boundary {
    fn missing_bytes(&self) -> usize {
        if self.head_bytes < HEAD_BYTES {
            HEAD_BYTES - self.head_bytes
        } else {
            self.body_bytes
        }
    }

    fn is_between_records(&self) -> bool {
        self.head_bytes == 0
    }

    /// Takes at most the missing bytes.
    fn take(&mut self, bytes: &[u8]) {
        if self.head_bytes == HEAD_BYTES {
            self.body_bytes = self.body_bytes.saturating_sub(bytes.len());
        } else {
            for (place, byte) in self.head[self.head_bytes..].iter_mut().zip(bytes) {
                *place = *byte;
                self.head_bytes += 1;
            }
            self.body_bytes = u16::from_be_bytes([self.head[3], self.head[4]]).into();
        }
        if self.head_bytes == HEAD_BYTES && self.body_bytes == 0 {
            self.head_bytes = 0;
        }
    }
}

impl TlsStream {
    pub(in super::super) fn new(tls: &Tls, host: &str) -> Result<Self, Cause> {
        let config = tls.config().map_err(Cause::Setup)?;
        let name = ServerName::try_from(host.to_string());
        let name = name.map_err(|_| Cause::Setup(format!("{host:?} is no name that a certificate can have")))?;
        let connection = UnbufferedClientConnection::new(config, name).map_err(|error| cause(&error))?;
        let incoming = vec![0; INCOMING_BYTES].into_boxed_slice();
        let why = tls.kernel_support().err().unwrap_or_default();
        let boundary = why.is_empty().then(Boundary::default);
        Ok(Self {
            tls: tls.clone(),
            connection,
            incoming,
            filled: 0,
            established: false,
            peer_closed: false,
            failed: false,
            boundary,
            why,
        })
    }

    pub(in super::super) fn is_established(&self) -> bool {
        self.established
    }

    /// The peer said that nothing more comes.
    pub(in super::super) fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Where the next ciphertext is read to; [`TlsStream::filled`] says how much came. No further than the record's end where
    /// the kernel is to take over behind it.
    pub(in super::super) fn space(&mut self) -> &mut [u8] {
        let space = &mut self.incoming[self.filled..];
        let bytes = self.boundary.as_ref().map_or(usize::MAX, Boundary::missing_bytes).min(space.len());
        &mut space[..bytes]
    }

    pub(in super::super) fn filled(&mut self, bytes: usize) {
        if let Some(boundary) = &mut self.boundary {
            boundary.take(&self.incoming[self.filled..self.filled + bytes]);
        }
        self.filled += bytes;
    }

    /// Whether the kernel can take over now: all that was read is used up, rustls joins no message, and the peer goes on.
    pub(in super::super) fn is_between_records(&self) -> bool {
        let between = self.boundary.as_ref().is_some_and(Boundary::is_between_records);
        between && self.established && self.filled == 0 && !self.peer_closed
    }

    /// The connection stays in user space.
    pub(super) fn stay(&mut self, why: String) {
        self.boundary = None;
        self.why = why;
    }

    pub(in super::super) fn encryption(&self) -> Encryption {
        let why = if self.why.is_empty() { "the handshake is not over" } else { &self.why };
        Encryption::UserSpace { why: why.into() }
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    pub(super) fn connection(&self) -> &UnbufferedClientConnection {
        &self.connection
    }

    pub(super) fn into_connection(self) -> UnbufferedClientConnection {
        self.connection
    }

    /// Takes all whole records: handshake bytes to send are appended to `out`, decrypted bytes are given to `plain`.
    pub(in super::super) fn pump(&mut self, out: &mut Vec<u8>, plain: &mut dyn FnMut(&[u8])) -> Result<(), Cause> {
        self.turn(out, Sending::Nothing, plain)
    }

    /// Encrypts bytes and appends them to `out`. Only once established.
    pub(in super::super) fn encrypt(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Cause> {
        self.turn(out, Sending::Data(bytes), plain)
    }

    /// Tells the peer that nothing more comes from us.
    pub(in super::super) fn close(&mut self, out: &mut Vec<u8>) {
        if self.failed {
            return;
        }
        // The connection is over either way; a failure here changes nothing.
        let _ = self.turn(out, Sending::Close, &mut |_| ());
    }

    fn turn(&mut self, out: &mut Vec<u8>, sending: Sending<'_>, plain: &mut dyn FnMut(&[u8])) -> Result<(), Cause> {
        let mut used = 0;
        loop {
            let status = self.connection.process_tls_records(&mut self.incoming[used..self.filled]);
            used += status.discard;
            match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|error| cause(&error))?;
                        used += record.discard;
                        plain(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(out, |room| match data.encode(room) {
                        Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
                        written => Ok(written.unwrap_or(0)),
                    });
                }
                // The bytes are in `out`, which is sent in order: as good as transmitted.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    self.established = true;
                    let mut exhausted = false;
                    append(out, |room| {
                        let written = match sending {
                            Sending::Nothing => Ok(0),
                            Sending::Data(bytes) => traffic.encrypt(bytes, room),
                            Sending::Close => traffic.queue_close_notify(room),
                        };
                        match written {
                            Err(EncryptError::InsufficientSize(size)) => Err(size.required_size),
                            Err(EncryptError::EncryptExhausted) => {
                                exhausted = true;
                                Ok(0)
                            }
                            Ok(bytes) => Ok(bytes),
                        }
                    });
                    if exhausted {
                        return Err(Cause::Tls { what: "the TLS keys are used up".into(), hint: "reconnect" });
                    }
                    break;
                }
                Ok(_) => break,
                Err(error) => {
                    self.failed = true;
                    self.alert(out);
                    return Err(cause(&error));
                }
            }
        }
        self.incoming.copy_within(used..self.filled, 0);
        self.filled -= used;
        match self.filled < self.incoming.len() {
            true => Ok(()),
            false => {
                Err(Cause::Tls { what: "a TLS message is too large".into(), hint: "the peer does not speak sound TLS" })
            }
        }
    }

    /// After a fault rustls holds an alert that tells the peer why; it goes out with the last flush.
    fn alert(&mut self, out: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(&mut []).state {
            append(out, |room| match data.encode(room) {
                Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
                written => Ok(written.unwrap_or(0)),
            });
        }
    }
}

#[derive(Clone, Copy)]
enum Sending<'a> {
    Nothing,
    Data(&'a [u8]),
    Close,
}

/// Appends what `write` puts into the room it is given; it says how much it wrote, or how much room it needs.
fn append(out: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
    let start = out.len();
    let mut room = 0;
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => return out.truncate(start + written),
            // A writer that asks for no more than it has would never end.
            Err(needed) if needed <= room => return out.truncate(start),
            Err(needed) => room = needed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_no_certificate_can_have_is_refused() {
        assert!(matches!(TlsStream::new(&Tls::default(), "a b"), Err(Cause::Setup(_))));
    }

    proptest! {
        /// Reading no more than what is missing stops exactly at each end of a record, however the bytes come.
        #[test]
        fn the_boundary_is_found_whatever_the_cuts(lengths in prop::collection::vec(0usize..600, 0..8), cuts in prop::collection::vec(1usize..400, 1..20)) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for length in lengths {
                bytes.extend([23, 3, 3]);
                bytes.extend((length as u16).to_be_bytes());
                bytes.extend(vec![0xff; length]);
                ends.push(bytes.len());
            }
            let (mut boundary, mut at, mut cuts) = (Boundary::default(), 0, cuts.into_iter().cycle());
            while at < bytes.len() {
                prop_assert_eq!(boundary.is_between_records(), ends.contains(&at));
                let read = boundary.missing_bytes().min(cuts.next().unwrap_or(1)).min(bytes.len() - at);
                prop_assert!(read > 0);
                boundary.take(&bytes[at..at + read]);
                at += read;
            }
            prop_assert!(boundary.is_between_records());
        }
    }
}
