//! One non-blocking TCP socket, plain or with TLS: one read a call, output that waits its turn.

use super::error::{Cause, Phase};
use super::frames::FrameReader;
use super::tls::{Tls, TlsStream};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes are new in the reader; 0 where only TLS itself got something.
    Bytes(usize),
    /// Nothing is there.
    Blocked,
    /// The peer sends nothing more.
    Ended,
}

pub(super) struct Transport {
    socket: OwnedFd,
    address: SocketAddr,
    tls: Option<Box<TlsStream>>,
    out: Vec<u8>,
    sent: usize,
    /// Writing failed. Reading still goes on, for the peer may have said why before it left.
    broken: bool,
}

impl Transport {
    /// Begins a connection. `receive_bytes` is the kernel's receive buffer, where it is not left to the system.
    pub(super) fn open(address: SocketAddr, receive_bytes: Option<usize>) -> Result<Self, Errno> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        // A message must not wait for the acknowledgement of the one before.
        net::sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(bytes) = receive_bytes {
            net::sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        }
        match net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {
                Ok(Self { socket, address, tls: None, out: Vec::new(), sent: 0, broken: false })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether TCP stands by now.
    pub(super) fn is_connected(&self) -> Result<bool, Errno> {
        net::sockopt::socket_error(&self.socket)??;
        match net::getpeername(&self.socket) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins TLS on the connected socket.
    pub(super) fn start_tls(&mut self, tls: &Tls, host: &str) -> Result<(), Cause> {
        let mut stream = Box::new(TlsStream::new(tls, host)?);
        stream.pump(&mut self.out, &mut |_| ())?;
        self.tls = Some(stream);
        self.flush();
        Ok(())
    }

    /// TLS stands, or is not used.
    pub(super) fn is_established(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_established())
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Takes bytes over; they go out with [`Transport::flush`].
    pub(super) fn queue(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        match &mut self.tls {
            None => self.out.extend_from_slice(bytes),
            // Every whole record was taken when it was read, so none can be met here.
            Some(tls) => tls.encrypt(bytes, &mut self.out, &mut |_| debug_assert!(false, "a record was left"))?,
        }
        Ok(())
    }

    /// Sends what the kernel takes now. A failure shows in the next read.
    pub(super) fn flush(&mut self) {
        while self.sent < self.out.len() && !self.broken {
            match net::send(&self.socket, &self.out[self.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(bytes) => self.sent += bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.broken = true,
            }
        }
        if self.broken || self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        } else if self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// One read(2), straight into the reader (plain) or decrypted into it (TLS).
    pub(super) fn read(&mut self, reader: &mut FrameReader, phase: Phase) -> Result<Received, Cause> {
        let space = match &mut self.tls {
            None => reader.space(),
            Some(tls) if tls.is_peer_closed() => return Ok(Received::Ended),
            Some(tls) => tls.space(),
        };
        if space.is_empty() {
            return Ok(Received::Blocked);
        }
        let received = loop {
            match net::recv(&self.socket, &mut *space, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Ok(Received::Ended),
                Ok((_, bytes)) => break bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Blocked),
                Err(error) => return Err(Cause::Lost { phase, error: Some(error) }),
            }
        };
        let Some(tls) = &mut self.tls else {
            reader.filled(received);
            return Ok(Received::Bytes(received));
        };
        tls.filled(received);
        let mut plain_bytes = 0;
        let result = tls.pump(&mut self.out, &mut |plain| {
            plain_bytes += plain.len();
            reader.append(plain);
        });
        self.flush();
        result.map(|()| Received::Bytes(plain_bytes))
    }

    /// Says that nothing more comes from us, as far as the kernel takes it at once.
    pub(super) fn shut(&mut self) {
        if let Some(tls) = self.tls.as_mut().filter(|tls| tls.is_established()) {
            tls.close(&mut self.out);
        }
        self.flush();
        // The socket is given up either way.
        let _ = net::shutdown(&self.socket, Shutdown::Write);
    }
}
