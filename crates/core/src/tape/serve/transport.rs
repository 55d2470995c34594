//! A client's socket, plain or within TLS. Nothing here waits.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

/// The server's certificate and key out of one PEM file.
pub fn tls_config(path: &Path) -> Result<Arc<ServerConfig>, String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| wrong(error.to_string()))?;
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let chain: Result<Vec<_>, _> = certificates.collect();
    let chain = chain.map_err(|error| wrong(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| wrong(error.to_string()))?.with_no_client_auth();
    builder.with_single_cert(chain, key).map(Arc::new).map_err(|error| wrong(error.to_string()))
}

pub struct Transport {
    pub socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
}

impl Transport {
    pub fn new(socket: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let tls = tls.map(|config| ServerConnection::new(config.clone())).transpose().map_err(io::Error::other)?;
        Ok(Self { socket, tls: tls.map(Box::new) })
    }

    /// What came, or `WouldBlock`. 0 is the end.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(tls) = &mut self.tls else { return self.socket.read(room) };
            match tls.reader().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let state = tls.process_new_packets();
            // An alert tells the peer why, before we are gone.
            self.flush_tls()?;
            state.map_err(io::Error::other)?;
        }
    }

    /// Gives bytes to the kernel, as many as it takes, or `WouldBlock`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.socket.write(bytes);
        }
        if !self.flush_tls()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(tls) = &mut self.tls else { return Ok(0) };
        let taken = tls.writer().write(bytes)?;
        self.flush_tls()?;
        Ok(taken)
    }

    /// Ciphertext that the kernel did not take yet.
    pub fn has_pending(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether all is with the kernel.
    pub fn flush_tls(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
