//! The server's side of WebSocket (RFC 6455), as small as a feed needs it: the upgrade, frames out, small frames in.

use base64::Engine;
use std::io;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// No client of a feed sends more at once.
pub const REQUEST_BYTES_MOST: usize = 64 << 10;
pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Answers an upgrade whose head has come whole: the reply and the bytes that the head took. `None`: more must come.
pub fn upgrade(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let taken = match request.parse(bytes).map_err(|_| "this is not HTTP")? {
        httparse::Status::Complete(taken) => taken,
        httparse::Status::Partial if bytes.len() < REQUEST_BYTES_MOST => return Ok(None),
        httparse::Status::Partial => return Err("the request's head is too long"),
    };
    let key = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"));
    let key = key.ok_or("this is no WebSocket upgrade: a Sec-WebSocket-Key is missing")?;
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.value);
    hash.update(GUID);
    let accept = base64::engine::general_purpose::STANDARD.encode(hash.digest().bytes());
    let reply = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Ok(Some((reply.into_bytes(), taken)))
}

/// The reply to what is no upgrade.
pub fn refusal(why: &str) -> Vec<u8> {
    format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{why}", why.len()).into_bytes()
}

/// Appends a whole frame.
pub fn append_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let start = begin_frame(out);
    out.extend_from_slice(payload);
    end_frame(out, start, opcode);
}

/// Leaves room for the head of a frame whose payload is appended next; [`end_frame`] fills it in.
pub fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    start
}

/// Writes the head of the frame that began at `start`.
pub fn end_frame(out: &mut Vec<u8>, start: usize, opcode: u8) {
    let length = out.len() - start - 4;
    let first = 0x80 | opcode;
    match length {
        // Most frames of a tape have the four bytes that were left; the others move their payload.
        126..=65_535 => {
            let [high, low] = (length as u16).to_be_bytes();
            out[start..start + 4].copy_from_slice(&[first, 126, high, low]);
        }
        0..=125 => {
            out[start..start + 2].copy_from_slice(&[first, length as u8]);
            out.drain(start + 2..start + 4);
        }
        _ => {
            let mut head = [first, 127, 0, 0, 0, 0, 0, 0, 0, 0];
            head[2..].copy_from_slice(&(length as u64).to_be_bytes());
            out.splice(start..start + 4, head);
        }
    }
}

/// Takes the next frame of a client off `bytes`: its opcode and unmasked payload. `None`: more must come.
pub fn take_frame(bytes: &mut Vec<u8>) -> io::Result<Option<(u8, Vec<u8>)>> {
    let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let [first, second, ..] = bytes[..] else { return Ok(None) };
    if first & 0x80 == 0 || second & 0x80 == 0 {
        return wrong("a client's frame must be whole and masked");
    }
    let (length, head) = match (second & 0x7f, &bytes[2..]) {
        (126, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
        (126, _) => return Ok(None),
        (127, _) => return wrong("a client's frame is too long"),
        (short, _) => (usize::from(short), 2),
    };
    let Some(frame) = bytes.get(head..head + 4 + length) else { return Ok(None) };
    let (mask, masked) = frame.split_at(4);
    let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    bytes.drain(..head + 4 + length);
    Ok(Some((first & 0x0f, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_upgrade_of_the_rfc() {
        let request = b"GET /stocks HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nrest";
        let (reply, taken) = upgrade(request).unwrap().unwrap();
        assert!(String::from_utf8(reply).unwrap().contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert_eq!(taken, request.len() - 4);
        assert!(upgrade(&request[..40]).unwrap().is_none());
        assert!(upgrade(b"GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(upgrade(b"\x16\x03\x01\x00").is_err());
    }

    #[test]
    fn hostile_frames_are_errors_and_short_ones_wait() {
        assert!(take_frame(&mut vec![0x81, 0x05]).is_err());
        assert!(take_frame(&mut vec![0x01, 0x85]).is_err());
        assert!(take_frame(&mut vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
        assert!(take_frame(&mut vec![0x81]).unwrap().is_none());
        assert!(take_frame(&mut vec![0x81, 0xfe, 1]).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn heads_say_the_length(length in prop_oneof![0usize..300, 65_000usize..66_000], before in 0usize..3) {
            let mut out = vec![7; before];
            append_frame(&mut out, TEXT, &vec![b'x'; length]);
            let frame = &out[before..];
            let (said, head) = match frame[1] {
                126 => (u64::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
                127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()), 10),
                short => (u64::from(short), 2),
            };
            prop_assert_eq!((frame[0], said as usize, frame.len()), (0x81, length, head + length));
            prop_assert!(out[..before].iter().all(|&byte| byte == 7));
        }

        #[test]
        fn a_clients_frame_comes_back(payload in proptest::collection::vec(any::<u8>(), 0..400), mask in any::<[u8; 4]>()) {
            let mut bytes = vec![0x81];
            match payload.len() {
                short @ 0..=125 => bytes.push(0x80 | short as u8),
                long => { bytes.push(0xfe); bytes.extend((long as u16).to_be_bytes()); }
            }
            bytes.extend(mask);
            bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
            bytes.push(0x81);
            prop_assert_eq!(take_frame(&mut bytes).unwrap(), Some((TEXT, payload)));
            prop_assert_eq!(bytes, vec![0x81]);
        }
    }
}
