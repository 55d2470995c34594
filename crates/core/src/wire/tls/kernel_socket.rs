//! The four calls to a kernel that does TLS (Linux, Documentation/networking/tls.rst): everything unsafe of kernel TLS.

use rustix::io::Errno;
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use zeroize::Zeroizing;

/// From linux/tls.h, which neither libc nor rustix has.
const TLS_TX: libc::c_int = 1;
const TLS_RX: libc::c_int = 2;
const TLS_SET_RECORD_TYPE: libc::c_int = 1;
const TLS_GET_RECORD_TYPE: libc::c_int = 2;

/// A cipher as linux/tls.h numbers it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cipher {
    pub(super) name: &'static str,
    number: u16,
    key_bytes: usize,
    /// Of the twelve bytes of the nonce, those that never change.
    salt_bytes: usize,
}

pub(super) static AES_128_GCM: Cipher = Cipher { name: "AES-128-GCM", number: 51, key_bytes: 16, salt_bytes: 4 };
pub(super) static AES_256_GCM: Cipher = Cipher { name: "AES-256-GCM", number: 52, key_bytes: 32, salt_bytes: 4 };
pub(super) static CHACHA20: Cipher = Cipher { name: "ChaCha20-Poly1305", number: 54, key_bytes: 32, salt_bytes: 0 };
pub(super) static CIPHERS: [&Cipher; 3] = [&AES_128_GCM, &AES_256_GCM, &CHACHA20];

impl Cipher {
    /// A key of zeros, to try whether the kernel takes the cipher.
    pub(super) fn blank_key(&self, version: ProtocolVersion) -> Vec<u8> {
        let mut info = [u16::from(version).to_ne_bytes(), self.number.to_ne_bytes()].concat();
        info.resize(4 + NONCE_BYTES + self.key_bytes + 8, 0);
        info
    }
}

const NONCE_BYTES: usize = 12;

/// Types of records (RFC 8446, 5.1).
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Send,
    Receive,
}

/// Gives the connected socket to the kernel's TLS. Until keys are set it works as before. ENOENT: the kernel has no TLS.
pub(super) fn attach(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls")
}

/// Sets the key of a direction, or renews it (Linux 6.14 and TLS 1.3; older kernels refuse with EBUSY).
pub(super) fn set_key(socket: BorrowedFd<'_>, direction: Direction, key: &[u8]) -> Result<(), Errno> {
    set_option(socket, libc::SOL_TLS, if direction == Direction::Send { TLS_TX } else { TLS_RX }, key)
}

/// What the kernel takes as a key: `struct tls12_crypto_info_*`, which has no gaps. None for a cipher that it lacks.
///
/// Above TLS 1.2's AES-GCM the nonce is `iv xor sequence`, the kernel's as rustls'. TLS 1.2's AES-GCM instead sends eight
/// bytes of it with each record: rustls has sent `iv xor n` for each n below `sequence`, while the kernel counts upwards
/// from the one it is given. Given `iv` itself it would use the first nonce twice, which gives the key away; so it starts
/// behind the block of numbers that rustls can have touched.
pub(super) fn key(
    version: ProtocolVersion,
    direction: Direction,
    sequence: u64,
    secrets: &ConnectionTrafficSecrets,
) -> Option<Zeroizing<Vec<u8>>> {
    let (cipher, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20, key, iv),
        _ => return None,
    };
    let (salt, counted) = iv.as_ref().split_at_checked(cipher.salt_bytes)?;
    let mut iv = Zeroizing::new(counted.to_vec());
    if version == ProtocolVersion::TLSv1_2 && cipher.salt_bytes > 0 && direction == Direction::Send {
        let first = u64::from_be_bytes(counted.try_into().ok()?);
        let block = sequence.checked_next_power_of_two()? - 1;
        iv.copy_from_slice(&(first | block).wrapping_add(1).to_be_bytes());
    }
    let key = key.as_ref();
    let mut info = Zeroizing::new(Vec::with_capacity(64));
    info.extend(u16::from(version).to_ne_bytes());
    info.extend(cipher.number.to_ne_bytes());
    for part in [&iv[..], key, salt, &sequence.to_be_bytes()] {
        info.extend(part);
    }
    Some(info)
}

fn set_option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &[u8]) -> Result<(), Errno> {
    let bytes = value.len() as libc::socklen_t;
    // SAFETY: the descriptor is open for the call, and the kernel reads `bytes` bytes of a live slice.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), bytes) } as isize)?;
    Ok(())
}

/// Room for one control message of one byte, aligned as its head wants to be.
#[repr(C, align(8))]
struct ControlRoom([u8; 64]);

/// Sends one record of another type than data. EAGAIN where the kernel has no room.
pub(super) fn send_record(socket: BorrowedFd<'_>, record_type: u8, bytes: &[u8]) -> Result<usize, Errno> {
    let mut room = ControlRoom([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut head = message_head(&mut part, &mut room);
    // SAFETY: `head` points at `part` and at an aligned `room` that is larger than CMSG_SPACE(1), so that the first control
    // message and its one byte lie in it; sendmsg only reads, also from `bytes`, and all outlive the call.
    check(unsafe {
        head.msg_controllen = libc::CMSG_SPACE(1) as usize;
        let control = libc::CMSG_FIRSTHDR(&head);
        (*control).cmsg_level = libc::SOL_TLS;
        (*control).cmsg_type = TLS_SET_RECORD_TYPE;
        (*control).cmsg_len = libc::CMSG_LEN(1) as usize;
        libc::CMSG_DATA(control).write(record_type);
        libc::sendmsg(socket.as_raw_fd(), &head, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    })
}

/// Receives records of one type, and which; no type comes where the peer has ended.
pub(super) fn receive_records(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<u8>), Errno> {
    let mut room = ControlRoom([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut head = message_head(&mut part, &mut room);
    // SAFETY: the kernel writes at most `iov_len` bytes to `bytes` and `msg_controllen` bytes to `room`; both outlive the
    // call and nothing else refers to them during it.
    let received = check(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut head, libc::MSG_DONTWAIT) })?;
    let mut record_type = None;
    // SAFETY: the kernel has set `msg_controllen` to what it wrote into `room`; the macros walk within it, and a control
    // message of this level and type holds one byte.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(&head);
        while let Some(message) = control.as_ref() {
            if (message.cmsg_level, message.cmsg_type) == (libc::SOL_TLS, TLS_GET_RECORD_TYPE) {
                record_type = Some(libc::CMSG_DATA(control).read());
            }
            control = libc::CMSG_NXTHDR(&head, control);
        }
    }
    Ok((received, record_type))
}

fn message_head(part: &mut libc::iovec, room: &mut ControlRoom) -> libc::msghdr {
    // SAFETY: all zeros is a msghdr: null pointers and zero lengths.
    let mut head: libc::msghdr = unsafe { zeroed() };
    head.msg_iov = part;
    head.msg_iovlen = 1;
    head.msg_control = (room as *mut ControlRoom).cast();
    head.msg_controllen = size_of::<ControlRoom>();
    head
}

fn check(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::cipher::{AeadKey, Iv};
    use std::collections::HashSet;

    const IV: [u8; 12] = [1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe];

    fn gcm() -> ConnectionTrafficSecrets {
        let key = AeadKey::from([7; 32]);
        ConnectionTrafficSecrets::Aes256Gcm { key, iv: Iv::new(IV) }
    }

    #[test]
    fn a_key_lies_as_the_kernel_wants_it() {
        let info = key(ProtocolVersion::TLSv1_3, Direction::Send, 5, &gcm()).unwrap();
        let mut expected = vec![4, 3, 52, 0];
        expected.extend(&IV[4..]);
        expected.extend([7; 32]);
        expected.extend(&IV[..4]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(*info, expected);
        for (cipher, bytes) in CIPHERS.iter().zip([40, 56, 56]) {
            assert_eq!(cipher.blank_key(ProtocolVersion::TLSv1_2).len(), bytes, "{cipher:?}");
        }
        let chacha = ConnectionTrafficSecrets::Chacha20Poly1305 { key: AeadKey::from([9; 32]), iv: Iv::new(IV) };
        let info = key(ProtocolVersion::TLSv1_2, Direction::Send, 1, &chacha).unwrap();
        assert_eq!((info.len(), &info[..4], &info[4..16]), (56, &[3, 3, 54, 0][..], &IV[..]));
    }

    #[test]
    fn the_kernel_never_repeats_a_nonce_that_rustls_has_used() {
        let first = u64::from_be_bytes(IV[4..].try_into().unwrap());
        for sequence in 1..300 {
            let info = key(ProtocolVersion::TLSv1_2, Direction::Send, sequence, &gcm()).unwrap();
            let start = u64::from_be_bytes(info[4..12].try_into().unwrap());
            let mut used: HashSet<u64> = (0..sequence).map(|n| first ^ n).collect();
            assert!((0..1000).all(|n| used.insert(start.wrapping_add(n))), "{sequence}");
        }
        // What the peer counts from is its own affair: the kernel reads it from each record.
        let info = key(ProtocolVersion::TLSv1_2, Direction::Receive, 1, &gcm()).unwrap();
        assert_eq!(info[4..12], IV[4..]);
    }

    #[test]
    fn a_socket_without_kernel_tls_takes_no_key_and_no_record_type() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = std::os::fd::AsFd::as_fd(&a);
        assert!(attach(socket).is_err());
        assert!(set_key(socket, Direction::Receive, &[0; 56]).is_err());
        assert_eq!(receive_records(socket, &mut [0; 8]), Err(Errno::AGAIN));
    }
}
