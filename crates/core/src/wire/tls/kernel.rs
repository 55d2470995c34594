//! An established TLS connection whose records the kernel makes and opens: the socket is read and written in plain.
//!
//! rustls keeps what must outlive the handshake: the store of tickets and the next keys. What is not data comes as a
//! control record, which a plain read refuses with EIO and leaves in its place.

use super::super::error::{Cause, Phase};
use super::super::frames::FrameReader;
use super::super::transport::{receive, Received};
use super::control::{Act, Control, Fault};
use super::kernel_socket::{self as kernel, Cipher, Direction};
use super::stream::TlsStream;
use super::{cause, Encryption, Tls, TLS_1_3};
use rustix::io::Errno;
use rustix::net::{self, Shutdown};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::{AlertDescription, CipherSuite, ConnectionTrafficSecrets, ProtocolVersion, SupportedCipherSuite};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

/// Plain bytes of the largest record.
const RECORD_BYTES: usize = 1 << 14;
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// What this machine's kernel can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSupport {
    ciphers: Vec<(ProtocolVersion, &'static str)>,
    /// Whether a peer may renew its keys (Linux 6.14); else that ends the connection.
    pub rekeys: bool,
}

impl KernelSupport {
    /// Tries every version and cipher on connections to itself, about a millisecond. An error says what is missing.
    pub fn probe() -> Result<Self, String> {
        let mut support = Self { ciphers: Vec::new(), rekeys: false };
        let mut refusal = None;
        for version in [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2] {
            for cipher in kernel::CIPHERS {
                match try_cipher(version, cipher)? {
                    Ok(rekeys) => {
                        support.ciphers.push((version, cipher.name));
                        support.rekeys |= rekeys;
                    }
                    Err(error) => refusal = Some(error),
                }
            }
        }
        match refusal {
            Some(error) if support.ciphers.is_empty() => {
                Err(format!("the kernel's TLS takes no cipher ({error}): are its modules gcm and ctr loaded?"))
            }
            _ => Ok(support),
        }
    }

    fn takes(&self, version: ProtocolVersion, cipher: &Cipher) -> bool {
        self.ciphers.contains(&(version, cipher.name))
    }
}

/// Whether the kernel takes a key of this kind, and a second one; outside of that, why no attempt could be made.
fn try_cipher(version: ProtocolVersion, cipher: &Cipher) -> Result<Result<bool, Errno>, String> {
    let pair = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let socket = TcpStream::connect(listener.local_addr()?)?;
        Ok::<_, std::io::Error>((socket, listener))
    };
    let (socket, _listener) = pair().map_err(|error| format!("kernel TLS cannot be tried on loopback: {error}"))?;
    kernel::attach(socket.as_fd()).map_err(no_module)?;
    let key = cipher.blank_key(version);
    let set = |direction| kernel::set_key(socket.as_fd(), direction, &key);
    Ok(set(Direction::Send).and_then(|()| set(Direction::Receive)).map(|()| set(Direction::Receive).is_ok()))
}

fn no_module(error: Errno) -> String {
    match error {
        Errno::NOENT => "this kernel has no TLS, or its module is not loaded: `modprobe tls`".into(),
        error => format!("the kernel's TLS refuses a connection ({error})"),
    }
}

fn cipher_of(suite: SupportedCipherSuite) -> Option<&'static Cipher> {
    use CipherSuite::*;
    Some(match suite.suite() {
        TLS13_AES_128_GCM_SHA256 | TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => {
            &kernel::AES_128_GCM
        }
        TLS13_AES_256_GCM_SHA384 | TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 | TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => {
            &kernel::AES_256_GCM
        }
        TLS13_CHACHA20_POLY1305_SHA256
        | TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => &kernel::CHACHA20,
        _ => return None,
    })
}

/// Records that a suite's key may make.
fn records_max(suite: SupportedCipherSuite) -> u64 {
    match suite {
        SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
    }
}

/// Who goes on with the connection.
pub(in super::super) enum Handed {
    Kernel(Box<KernelStream>),
    /// It stays with rustls, which knows why.
    Back(Box<TlsStream>),
}

pub(in super::super) struct KernelStream {
    connection: KernelConnection<ClientConnectionData>,
    control: Control,
    encryption: Encryption,
    /// Told when the kernel refuses what the next connection would want again.
    tls: Tls,
    /// Records that were made with the present key at most, and how many may be.
    records: u64,
    records_max: u64,
    owes_key_update: bool,
    peer_closed: bool,
    failure: Option<Cause>,
}

impl KernelStream {
    /// Gives the keys of an established connection to the kernel. The stream stands between two records, and all that it
    /// has encrypted is sent. Until the keys leave rustls a refusal changes nothing.
    pub(in super::super) fn take_over(socket: BorrowedFd<'_>, mut stream: Box<TlsStream>) -> Result<Handed, Cause> {
        let tls = stream.tls().clone();
        let (version, suite) = (stream.connection().protocol_version(), stream.connection().negotiated_cipher_suite());
        let (Some(version), Some(suite)) = (version, suite) else {
            stream.stay("rustls names no cipher".into());
            return Ok(Handed::Back(stream));
        };
        let why = match (tls.kernel_support(), cipher_of(suite)) {
            (Err(why), _) => Err(why),
            (Ok(support), Some(cipher)) if support.takes(version, cipher) => {
                kernel::attach(socket).map(|()| (support.rekeys, cipher)).map_err(no_module)
            }
            (Ok(_), _) => Err(format!("the kernel does not know {:?}", suite.suite())),
        };
        let (rekeys, cipher) = match why {
            Ok(found) => found,
            Err(why) => {
                stream.stay(why);
                return Ok(Handed::Back(stream));
            }
        };
        let (secrets, connection) =
            stream.into_connection().dangerous_into_kernel_connection().map_err(|error| cause(&error))?;
        let version_name = if version == ProtocolVersion::TLSv1_3 { TLS_1_3 } else { "TLS 1.2" };
        let encryption = Encryption::Kernel { version: version_name, cipher: cipher.name, rekeys };
        let this = Self {
            connection,
            control: Control::new(version == ProtocolVersion::TLSv1_3),
            encryption,
            tls,
            records: secrets.tx.0,
            records_max: records_max(suite),
            owes_key_update: false,
            peer_closed: false,
            failure: None,
        };
        for (direction, (sequence, secrets)) in [(Direction::Send, secrets.tx), (Direction::Receive, secrets.rx)] {
            this.set_key(socket, direction, sequence, &secrets).map_err(|error| {
                let what = format!("the kernel refused the keys of TLS ({error})");
                this.tls.refuse_kernel(what.clone());
                Cause::Tls { what, hint: "reconnect: the next connection stays in user space" }
            })?;
        }
        Ok(Handed::Kernel(Box::new(this)))
    }

    fn set_key(
        &self,
        socket: BorrowedFd<'_>,
        direction: Direction,
        sequence: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Result<(), Errno> {
        let version = self.connection.protocol_version();
        let key = kernel::key(version, direction, sequence, secrets).ok_or(Errno::INVAL)?;
        kernel::set_key(socket, direction, &key)
    }

    pub(in super::super) fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// Bytes of TLS itself that wait to be sent.
    pub(in super::super) fn waiting_bytes(&self) -> usize {
        if self.owes_key_update {
            KEY_UPDATE.len()
        } else {
            0
        }
    }

    /// Sending is over; the next read tells why.
    pub(in super::super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// One plain read into the reader, or what stood in its way. A failure behind data is told by the next read.
    ///
    /// A kernel that renews keys says nothing in poll(2) while the peer's KeyUpdate waits behind data that was read. So there
    /// a read that did not fill its room goes on until nothing is left: one call more when the peer pauses, none under load.
    pub(in super::super) fn read(
        &mut self,
        socket: BorrowedFd<'_>,
        reader: &mut FrameReader,
        phase: Phase,
    ) -> Result<Received, Cause> {
        if let Some(cause) = self.failure.take() {
            return Err(cause);
        }
        if self.peer_closed {
            return Ok(Received::Ended);
        }
        let mut total = 0;
        loop {
            let room = reader.space().len();
            let more = match self.read_once(socket, reader, phase) {
                Ok(Received::Bytes(bytes)) => {
                    total += bytes;
                    self.encryption.renews_keys() && !self.peer_closed && bytes < room
                }
                result if total == 0 => return result,
                Ok(_) => false,
                Err(cause) => {
                    self.failure = Some(cause);
                    // Wakes the loop for the read that tells it.
                    let _ = net::shutdown(socket, Shutdown::Both);
                    false
                }
            };
            if !more {
                return Ok(Received::Bytes(total));
            }
        }
    }

    fn read_once(&mut self, socket: BorrowedFd<'_>, reader: &mut FrameReader, phase: Phase) -> Result<Received, Cause> {
        let space = reader.space();
        if space.is_empty() {
            return Ok(Received::Blocked);
        }
        match receive(socket, space) {
            Ok(0) => Ok(Received::Ended),
            Ok(bytes) => {
                reader.filled(bytes);
                self.control.data_came();
                Ok(Received::Bytes(bytes))
            }
            Err(Errno::IO) => self.read_control(socket, reader, phase),
            Err(error) => self.read_failure(socket, error, phase),
        }
    }

    /// Takes the control records that a plain read stopped at.
    fn read_control(
        &mut self,
        socket: BorrowedFd<'_>,
        reader: &mut FrameReader,
        phase: Phase,
    ) -> Result<Received, Cause> {
        let mut bytes = vec![0; RECORD_BYTES];
        let (bytes, record_type) = match kernel::receive_records(socket, &mut bytes) {
            Ok((received, record_type)) => (&bytes[..received.min(RECORD_BYTES)], record_type),
            Err(error) => return self.read_failure(socket, error, phase),
        };
        match record_type {
            None => return Ok(Received::Ended),
            Some(kernel::DATA) => {
                reader.append(bytes);
                return Ok(Received::Bytes(bytes.len()));
            }
            Some(record_type) => {
                let mut control = std::mem::take(&mut self.control);
                let taken = control.take(record_type, bytes, &mut |act| self.carry_out(socket, act));
                self.control = control;
                taken.map_err(|fault| self.end(socket, fault))?;
            }
        }
        Ok(Received::Bytes(0))
    }

    /// What a failed read means; the peer is told where it is at fault.
    fn read_failure(&mut self, socket: BorrowedFd<'_>, error: Errno, phase: Phase) -> Result<Received, Cause> {
        let (alert, what) = match error {
            Errno::AGAIN => return Ok(Received::Blocked),
            Errno::BADMSG => (AlertDescription::BadRecordMac, "a TLS record of the peer is damaged or forged"),
            Errno::MSGSIZE => (AlertDescription::RecordOverflow, "a TLS record of the peer is too large"),
            Errno::INVAL => (AlertDescription::DecodeError, "the peer sent something that is no TLS record"),
            error => return Err(Cause::Lost { phase, error: Some(error) }),
        };
        Err(self.end(socket, Fault::of_peer(alert, what)))
    }

    fn carry_out(&mut self, socket: BorrowedFd<'_>, act: Act<'_>) -> Result<(), Fault> {
        match act {
            Act::Ticket(body) => self
                .connection
                .handle_new_session_ticket(body)
                .map_err(|error| Fault { alert: Some(AlertDescription::DecodeError), cause: cause(&error) }),
            Act::NewKey { answer } => {
                let next = self.connection.update_rx_secret();
                self.renew(socket, Direction::Receive, next).map_err(|cause| Fault { alert: None, cause })?;
                self.owes_key_update |= answer;
                self.settle(socket);
                Ok(())
            }
            Act::RefuseRenegotiation => {
                // Where the kernel has no room for it the peer learns it from our silence.
                let _ = send_alert(socket, WARNING, AlertDescription::NoRenegotiation);
                Ok(())
            }
            Act::PeerClosed => {
                self.peer_closed = true;
                Ok(())
            }
        }
    }

    fn renew(
        &mut self,
        socket: BorrowedFd<'_>,
        direction: Direction,
        next: Result<(u64, ConnectionTrafficSecrets), rustls::Error>,
    ) -> Result<(), Cause> {
        let (sequence, secrets) = next.map_err(|error| cause(&error))?;
        self.set_key(socket, direction, sequence, &secrets).map_err(|error| {
            let cause = Cause::KeyRefused { error };
            self.tls.refuse_kernel(format!("{cause} on an earlier connection"));
            cause
        })
    }

    /// Sends what TLS itself owes the peer. False: no data may be sent before that could be.
    pub(in super::super) fn settle(&mut self, socket: BorrowedFd<'_>) -> bool {
        if self.failure.is_some() || !self.owes_key_update {
            return self.failure.is_none();
        }
        match kernel::send_record(socket, kernel::HANDSHAKE, &KEY_UPDATE) {
            Ok(sent) if sent == KEY_UPDATE.len() => {
                self.owes_key_update = false;
                self.records = 0;
                let next = self.connection.update_tx_secret();
                self.failure = self.renew(socket, Direction::Send, next).err();
                self.failure.is_none()
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // The socket is broken; the read tells how.
            _ => {
                self.owes_key_update = false;
                false
            }
        }
    }

    /// Counts the records of so many sent bytes. At the end of what its key may do TLS 1.3 renews it, and TLS 1.2 ends.
    pub(in super::super) fn count_sent(&mut self, bytes: usize) {
        self.records += 1 + (bytes / RECORD_BYTES) as u64;
        if self.records < self.records_max {
            return;
        }
        match self.connection.protocol_version() {
            ProtocolVersion::TLSv1_3 => self.owes_key_update = true,
            _ => self.failure = Some(Cause::Tls { what: "the TLS keys are used up".into(), hint: "reconnect" }),
        }
    }

    fn end(&mut self, socket: BorrowedFd<'_>, fault: Fault) -> Cause {
        if let Some(alert) = fault.alert {
            // The connection is over either way.
            let _ = send_alert(socket, FATAL, alert);
        }
        fault.cause
    }

    /// Tells the peer that nothing more comes from us, as far as the kernel takes it at once.
    pub(in super::super) fn close(&mut self, socket: BorrowedFd<'_>) {
        let _ = send_alert(socket, WARNING, AlertDescription::CloseNotify);
    }
}

fn send_alert(socket: BorrowedFd<'_>, level: u8, alert: AlertDescription) -> Result<usize, Errno> {
    kernel::send_record(socket, kernel::ALERT, &[level, alert.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_it_can_or_what_is_missing() {
        match KernelSupport::probe() {
            Ok(support) => assert!(!support.ciphers.is_empty()),
            Err(why) => assert!(why.contains("modprobe tls") || why.contains("takes no cipher"), "{why}"),
        }
    }

    #[test]
    fn every_suite_of_ours_has_its_cipher() {
        for suite in rustls::crypto::ring::ALL_CIPHER_SUITES {
            let cipher = cipher_of(*suite).expect("a suite without a cipher stays in user space unseen");
            let plain = format!("{:?}", suite.suite()).replace("_SHA256", "").replace("_SHA384", "");
            assert!(plain.replace('_', "-").ends_with(&cipher.name.to_uppercase()), "{plain} {}", cipher.name);
            assert!(records_max(*suite) > 1 << 20);
        }
    }
}
