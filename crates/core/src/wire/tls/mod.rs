//! TLS with rustls: which authorities are trusted, and who decrypts after the handshake.
//!
//! - [`stream`]: rustls in user space, straight from one read; every handshake is made by it;
//! - [`kernel`]: the kernel, where it can and is wished; [`control`] is what a peer says besides data then, and
//!   [`kernel_socket`] the calls.
//!
//! There is no way to turn verification off: a venue whose certificate is not public is given with its CA file.

mod control;
mod kernel;
mod kernel_socket;
mod stream;

use super::error::Cause;
pub use kernel::KernelSupport;
pub(super) use kernel::{Handed, KernelStream};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
pub(super) use stream::TlsStream;

/// Whether the kernel decrypts after the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelTls {
    #[default]
    Off,
    /// Where the kernel can; [`Encryption`] says what came of it.
    Auto,
}

/// Who encrypts a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// No TLS, or not yet.
    None,
    /// rustls, and why not the kernel.
    UserSpace { why: String },
    /// The kernel; `rekeys`: it lets the peer renew its keys.
    Kernel { version: &'static str, cipher: &'static str, rekeys: bool },
}

impl Encryption {
    fn renews_keys(&self) -> bool {
        matches!(self, Encryption::Kernel { version: TLS_1_3, rekeys: true, .. })
    }
}

const TLS_1_3: &str = "TLS 1.3";

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encryption::None => f.write_str("no TLS"),
            Encryption::UserSpace { why } => write!(f, "TLS in user space ({why})"),
            Encryption::Kernel { version, cipher, rekeys } => {
                write!(
                    f,
                    "TLS in the kernel ({version}, {cipher}{})",
                    if *rekeys { "" } else { ", no renewal of keys" }
                )
            }
        }
    }
}

/// The trusted authorities: Mozilla's, the machine's own, and those of a CA file. Loaded at the first use, shared by clones.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    ca: Option<PathBuf>,
    kernel: KernelTls,
    shared: Arc<Shared>,
}

/// What clones have in common.
#[derive(Debug, Default)]
struct Shared {
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
    support: OnceLock<Result<KernelSupport, String>>,
    /// The kernel failed a connection: why the next ones stay in user space.
    refused: OnceLock<String>,
    told: AtomicBool,
}

impl Tls {
    /// `ca`: a PEM file with further authorities.
    pub fn new(ca: Option<PathBuf>) -> Self {
        Self { ca, ..Self::default() }
    }

    /// The same authorities with another wish about the kernel; what was found out so far is not kept.
    pub fn with_kernel(self, kernel: KernelTls) -> Self {
        Self { ca: self.ca, kernel, shared: Arc::default() }
    }

    /// The configuration. Reads files and tries the kernel the first time: the control thread calls it before the loop does.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let _ = self.kernel_support();
        self.shared.config.get_or_init(|| client_config(self.ca.as_deref(), self.kernel)).clone()
    }

    /// Why connections of these settings stay in user space although the kernel is wished: told once, to whoever asks first.
    pub fn take_kernel_notice(&self) -> Option<String> {
        let why = self.kernel_support().err().filter(|_| self.kernel == KernelTls::Auto)?;
        (!self.shared.told.swap(true, Ordering::Relaxed)).then_some(why)
    }

    fn kernel_support(&self) -> Result<&KernelSupport, String> {
        match (self.kernel, self.shared.refused.get()) {
            (KernelTls::Off, _) => Err("kernel TLS is off".into()),
            (KernelTls::Auto, Some(why)) => Err(why.clone()),
            (KernelTls::Auto, None) => {
                self.shared.support.get_or_init(KernelSupport::probe).as_ref().map_err(String::clone)
            }
        }
    }

    /// The kernel failed a connection in a way that it would fail the next: those stay in user space.
    fn refuse_kernel(&self, why: String) {
        let _ = self.shared.refused.set(why);
    }
}

fn client_config(ca: Option<&Path>, kernel: KernelTls) -> Result<Arc<ClientConfig>, String> {
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
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // The kernel needs the keys; without it they stay inside rustls.
    config.enable_secret_extraction = kernel == KernelTls::Auto;
    Ok(Arc::new(config))
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
    fn the_kernel_is_asked_only_where_it_is_wished_and_its_absence_is_told_once() {
        let off = Tls::default();
        assert_eq!((off.take_kernel_notice(), off.kernel_support()), (None, Err("kernel TLS is off".into())));
        assert!(!off.config().unwrap().enable_secret_extraction);
        let auto = Tls::default().with_kernel(KernelTls::Auto);
        assert!(auto.config().unwrap().enable_secret_extraction);
        let known = auto.kernel_support().is_ok();
        assert_eq!((auto.take_kernel_notice().is_none(), auto.clone().take_kernel_notice()), (known, None));
        auto.refuse_kernel("it refused".into());
        assert_eq!(auto.clone().kernel_support(), Err("it refused".into()));
    }
}
