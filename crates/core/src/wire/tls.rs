//! TLS with rustls: which authorities are trusted, and a connection that decrypts straight from one read.
//!
//! There is no way to turn verification off: a venue whose certificate is not public is given with its CA file.

use super::error::Cause;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Bytes of one read. It must hold the largest handshake message that rustls takes (64 KiB).
const INCOMING_BYTES: usize = 256 << 10;

/// The trusted authorities: Mozilla's, the machine's own, and those of a CA file. Loaded at the first use, shared by clones.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    ca: Option<PathBuf>,
    config: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

impl Tls {
    /// `ca`: a PEM file with further authorities.
    pub fn new(ca: Option<PathBuf>) -> Self {
        Self { ca, config: Arc::default() }
    }

    /// The configuration. Reads files the first time: the control thread calls it before the loop does.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        self.config.get_or_init(|| client_config(self.ca.as_deref())).clone()
    }
}

fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // A machine without a store, or with a broken certificate in it, still has Mozilla's.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let wrong = |why: String| format!("CA file {}: {why}", path.display());
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
        let mut count = 0;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(wrong("no PEM certificate in it".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// One TLS connection without a socket: ciphertext in and out as bytes.
pub(super) struct TlsStream {
    connection: UnbufferedClientConnection,
    /// Ciphertext that is not yet a whole record (or handshake message).
    incoming: Box<[u8]>,
    filled: usize,
    established: bool,
    peer_closed: bool,
}

impl TlsStream {
    pub(super) fn new(tls: &Tls, host: &str) -> Result<Self, Cause> {
        let config = tls.config().map_err(Cause::Setup)?;
        let name = ServerName::try_from(host.to_string());
        let name = name.map_err(|_| Cause::Setup(format!("{host:?} is no name that a certificate can have")))?;
        let connection = UnbufferedClientConnection::new(config, name).map_err(|error| cause(&error))?;
        let incoming = vec![0; INCOMING_BYTES].into_boxed_slice();
        Ok(Self { connection, incoming, filled: 0, established: false, peer_closed: false })
    }

    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// The peer said that nothing more comes.
    pub(super) fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Where the next ciphertext is read to; [`TlsStream::filled`] says how much came.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.incoming[self.filled..]
    }

    pub(super) fn filled(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Takes all whole records: handshake bytes to send are appended to `out`, decrypted bytes are given to `plain`.
    pub(super) fn pump(&mut self, out: &mut Vec<u8>, plain: &mut dyn FnMut(&[u8])) -> Result<(), Cause> {
        self.turn(out, Sending::Nothing, plain)
    }

    /// Encrypts bytes and appends them to `out`. Only once established.
    pub(super) fn encrypt(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Cause> {
        self.turn(out, Sending::Data(bytes), plain)
    }

    /// Tells the peer that nothing more comes from us.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
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

/// rustls' error in words for a person: which name, which reason, what to do.
pub(super) fn cause(error: &rustls::Error) -> Cause {
    let (what, hint) = match error {
        rustls::Error::InvalidCertificate(error) => (certificate_text(error), certificate_hint(error)),
        rustls::Error::InvalidMessage(_) => {
            ("the peer does not speak TLS".to_string(), "check the port, and ws:// against wss://")
        }
        rustls::Error::AlertReceived(alert) => (
            format!("the peer refused TLS with the alert {alert:?}"),
            "check the host's name and that the server speaks TLS 1.2 or 1.3",
        ),
        rustls::Error::PeerIncompatible(why) => {
            (format!("the peer's TLS is too old or too different: {why:?}"), "the server must speak TLS 1.2 or 1.3")
        }
        error => (format!("TLS failed: {error}"), "check the server; reconnect"),
    };
    Cause::Tls { what, hint }
}

fn certificate_text(error: &CertificateError) -> String {
    match error {
        CertificateError::NotValidForName => "the certificate is for another name".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("the certificate is not for {} but for {}", expected.to_str(), presented.join(", "))
        }
        CertificateError::UnknownIssuer => "the certificate is signed by no authority that is trusted here".into(),
        error => format!("the certificate is not valid: {error}"),
    }
}

fn certificate_hint(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "use the name that the certificate is for"
        }
        CertificateError::UnknownIssuer => "give the file of its authority with `ca`",
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "check this machine's clock, then the server's certificate",
        _ => "check the server's certificate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_ca_file_is_told_with_its_path() {
        let missing = Tls::new(Some("/nowhere/ca.pem".into())).config().unwrap_err();
        assert!(missing.contains("/nowhere/ca.pem"), "{missing}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty = Tls::new(Some(file.path().into())).config().unwrap_err();
        assert!(empty.contains("no PEM certificate"), "{empty}");
        assert!(Tls::default().config().is_ok());
    }

    #[test]
    fn a_name_that_no_certificate_can_have_is_refused() {
        assert!(matches!(TlsStream::new(&Tls::default(), "a b"), Err(Cause::Setup(_))));
    }
}
