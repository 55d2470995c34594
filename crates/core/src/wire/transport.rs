//! One non-blocking TCP socket, plain or with TLS: one read a call, output that waits its turn.
//!
//! TLS begins with rustls; where the kernel takes over, the socket is from then on read and written as a plain one.

use super::error::{Cause, Phase};
use super::frames::FrameReader;
use super::tls::{Encryption, Handed, KernelStream, Tls, TlsStream};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

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

/// Who makes and opens the records.
enum Security {
    Plain,
    UserSpace(Box<TlsStream>),
    Kernel(Box<KernelStream>),
}

pub(super) struct Transport {
    socket: OwnedFd,
    address: SocketAddr,
    security: Security,
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
                Ok(Self { socket, address, security: Security::Plain, out: Vec::new(), sent: 0, broken: false })
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
        self.security = Security::UserSpace(stream);
        self.flush();
        Ok(())
    }

    /// TLS stands, or is not used.
    pub(super) fn is_established(&self) -> bool {
        !matches!(&self.security, Security::UserSpace(tls) if !tls.is_established())
    }

    pub(super) fn encryption(&self) -> Encryption {
        match &self.security {
            Security::Plain => Encryption::None,
            Security::UserSpace(tls) => tls.encryption(),
            Security::Kernel(tls) => tls.encryption().clone(),
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting_bytes(&self) -> usize {
        let owed = if let Security::Kernel(tls) = &self.security { tls.waiting_bytes() } else { 0 };
        self.out.len() - self.sent + owed
    }

    /// Takes bytes over; they go out with [`Transport::flush`].
    pub(super) fn queue(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        match &mut self.security {
            Security::Plain | Security::Kernel(_) => self.out.extend_from_slice(bytes),
            // Every whole record was taken when it was read, so none can be met here.
            Security::UserSpace(tls) => {
                tls.encrypt(bytes, &mut self.out, &mut |_| debug_assert!(false, "a record was left"))?;
            }
        }
        Ok(())
    }

    /// Sends what the kernel takes now. A failure shows in the next read.
    pub(super) fn flush(&mut self) {
        while self.may_send() && self.sent < self.out.len() {
            match net::send(&self.socket, &self.out[self.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(bytes) => {
                    self.sent += bytes;
                    if let Security::Kernel(tls) = &mut self.security {
                        tls.count_sent(bytes);
                    }
                }
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

    /// Whether data may be sent: what the kernel's TLS itself owes the peer goes first.
    fn may_send(&mut self) -> bool {
        let Security::Kernel(tls) = &mut self.security else { return !self.broken };
        let settled = self.broken || tls.settle(self.socket.as_fd());
        if tls.has_failed() && !self.broken {
            self.broken = true;
            // Wakes the reader, which tells the failure.
            let _ = net::shutdown(&self.socket, Shutdown::Both);
        }
        settled && !self.broken
    }

    /// One read(2), straight into the reader (plain, or TLS in the kernel) or decrypted into it (TLS in user space).
    pub(super) fn read(&mut self, reader: &mut FrameReader, phase: Phase) -> Result<Received, Cause> {
        self.hand_over()?;
        let space = match &mut self.security {
            Security::Kernel(tls) => return tls.read(self.socket.as_fd(), reader, phase),
            Security::Plain => reader.space(),
            Security::UserSpace(tls) if tls.is_peer_closed() => return Ok(Received::Ended),
            Security::UserSpace(tls) => tls.space(),
        };
        if space.is_empty() {
            return Ok(Received::Blocked);
        }
        let received = match receive(self.socket.as_fd(), space) {
            Ok(0) => return Ok(Received::Ended),
            Ok(bytes) => bytes,
            Err(Errno::AGAIN) => return Ok(Received::Blocked),
            Err(error) => return Err(Cause::Lost { phase, error: Some(error) }),
        };
        let Security::UserSpace(tls) = &mut self.security else {
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
        result?;
        self.hand_over()?;
        Ok(Received::Bytes(plain_bytes))
    }

    /// Gives established TLS to the kernel where that is wished: between two records, with nothing encrypted left to send.
    /// Where something is left, the next read tries again.
    fn hand_over(&mut self) -> Result<(), Cause> {
        let waiting = self.waiting_bytes() > 0 || self.broken;
        self.security = match std::mem::replace(&mut self.security, Security::Plain) {
            Security::UserSpace(tls) if !waiting && tls.is_between_records() => {
                match KernelStream::take_over(self.socket.as_fd(), tls)? {
                    Handed::Kernel(tls) => Security::Kernel(tls),
                    Handed::Back(tls) => Security::UserSpace(tls),
                }
            }
            security => security,
        };
        Ok(())
    }

    /// Says that nothing more comes from us, as far as the kernel takes it at once.
    pub(super) fn shut(&mut self) {
        match &mut self.security {
            Security::UserSpace(tls) if tls.is_established() => {
                tls.close(&mut self.out);
                self.flush();
            }
            Security::Kernel(_) => {
                self.flush();
                if let Security::Kernel(tls) = &mut self.security {
                    tls.close(self.socket.as_fd());
                }
            }
            _ => self.flush(),
        }
        // The socket is given up either way.
        let _ = net::shutdown(&self.socket, Shutdown::Write);
    }
}

/// One read(2) that does not wait.
pub(super) fn receive(socket: BorrowedFd<'_>, space: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match net::recv(socket, &mut *space, RecvFlags::DONTWAIT) {
            Ok((_, bytes)) => return Ok(bytes),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
