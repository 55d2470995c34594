//! WebSocket frames (RFC 6455, section 5) without a socket: bytes in, whole messages out, in place.
//!
//! [`FrameReader`] holds one large buffer. The driver reads into [`FrameReader::space`], says how much came with
//! [`FrameReader::filled`] and takes messages until there is none. An unfragmented message is a slice of that buffer: no copy,
//! no allocation. Fragments are joined in a second, reused buffer. The buffer grows only for a frame that is larger than it,
//! by doubling as bytes really come, up to the message limit, and goes back to its first size when it is empty.

use std::fmt;
use std::ops::Range;

/// First size of the read buffer, in bytes. Untouched pages of it cost no memory.
pub const BUFFER_BYTES: usize = 1 << 20;
/// Default largest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Largest payload of a control frame (RFC 6455, 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Largest head that a server's frame can have: 2 bytes and a 64-bit length.
const HEAD_BYTES_MAX: usize = 10;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// What a reader allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message (and frame), in payload bytes.
    pub message_bytes_max: usize,
    /// Text messages must be UTF-8. A router that only passes bytes on may leave it to its readers. Close reasons are
    /// always checked: they are shown to people.
    pub check_text: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes_max: MESSAGE_BYTES_MAX, check_text: true }
    }
}

/// One whole message or control frame. Slices live in the reader until it is asked for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8 where [`Limits::check_text`] is set.
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The peer's close; no code where it gave none. After it nothing is read any more.
    Close {
        code: Option<u16>,
        reason: &'a str,
    },
}

/// A frame that RFC 6455 forbids, or that is over our limit. The connection cannot go on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// RSV1-3 are set although no extension was agreed.
    ReservedBits {
        bits: u8,
    },
    UnknownOpcode {
        opcode: u8,
    },
    /// A server must not mask.
    MaskedFrame,
    FragmentedControl {
        opcode: u8,
    },
    OversizedControl {
        opcode: u8,
    },
    ContinuationWithoutStart,
    /// A new data frame while a fragmented message is open.
    InterleavedData {
        opcode: u8,
    },
    /// A length in more bytes than it needs.
    NonMinimalLength {
        length: u64,
    },
    /// The frame, or the fragments together, exceed the limit.
    TooLarge {
        length: u64,
        limit: usize,
    },
    /// A text message is not UTF-8.
    InvalidText {
        valid_up_to: usize,
    },
    /// A close frame with one byte.
    CloseLength,
    /// A close code that must not be sent.
    CloseCode {
        code: u16,
    },
    /// A close reason is not UTF-8.
    CloseReason,
}

impl FrameError {
    /// The code of the close frame that tells the peer (RFC 6455, 7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            FrameError::TooLarge { .. } => 1009,
            FrameError::InvalidText { .. } | FrameError::CloseReason => 1007,
            _ => 1002,
        }
    }
}

impl std::error::Error for FrameError {}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::ReservedBits { bits } => write!(f, "reserved bits {bits:#05b} are set without an extension"),
            FrameError::UnknownOpcode { opcode } => write!(f, "opcode {opcode:#x} is not defined"),
            FrameError::MaskedFrame => write!(f, "the server masked a frame"),
            FrameError::FragmentedControl { opcode } => write!(f, "control frame {opcode:#x} is fragmented"),
            FrameError::OversizedControl { opcode } => {
                write!(f, "control frame {opcode:#x} is longer than {CONTROL_BYTES_MAX} bytes")
            }
            FrameError::ContinuationWithoutStart => write!(f, "a continuation frame continues nothing"),
            FrameError::InterleavedData { opcode } => {
                write!(f, "data frame {opcode:#x} begins inside a fragmented message")
            }
            FrameError::NonMinimalLength { length } => write!(f, "length {length} is not in its shortest form"),
            FrameError::TooLarge { length, limit } => {
                write!(f, "a message of {length} bytes exceeds the limit of {limit}")
            }
            FrameError::InvalidText { valid_up_to } => write!(f, "a text message is not UTF-8 at byte {valid_up_to}"),
            FrameError::CloseLength => write!(f, "a close frame has one byte"),
            FrameError::CloseCode { code } => write!(f, "close code {code} must not be sent"),
            FrameError::CloseReason => write!(f, "a close reason is not UTF-8"),
        }
    }
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug)]
struct Head {
    opcode: u8,
    last: bool,
    bytes: usize,
    payload: usize,
}

/// Reads the frames of a server. See the module's page.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Box<[u8]>,
    first_bytes: usize,
    start: usize,
    end: usize,
    /// Fragments of the open message, and its opcode while one is open.
    joined: Vec<u8>,
    joining: Option<u8>,
    limits: Limits,
    failed: Option<FrameError>,
}

impl FrameReader {
    /// `buffer_bytes` is the first size of the read buffer (at least 4 KiB is taken).
    pub fn new(limits: Limits, buffer_bytes: usize) -> Self {
        let first_bytes = buffer_bytes.max(4096);
        Self {
            buffer: zeroed(first_bytes),
            first_bytes,
            start: 0,
            end: 0,
            joined: Vec::new(),
            joining: None,
            limits,
            failed: None,
        }
    }

    /// Room to read into. Empty only when whole messages that were not taken fill the buffer: take them first.
    pub fn space(&mut self) -> &mut [u8] {
        self.make_room();
        &mut self.buffer[self.end..]
    }

    /// `bytes` of the room that [`FrameReader::space`] gave were written.
    pub fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.buffer.len());
    }

    /// Takes bytes that had to be copied anyway (decrypted ones), whatever their number.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.buffer.len() - self.end < bytes.len() {
            self.make_room();
        }
        if self.buffer.len() - self.end < bytes.len() {
            self.grow((self.end + bytes.len()).next_power_of_two());
        }
        self.buffer[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// What was read and not taken, for what stands before the first frame (the replies of a handshake).
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Drops the first `bytes` of [`FrameReader::unread`].
    pub fn discard(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// The next whole message, None until more bytes come. After an error it gives the same error for ever.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, FrameError> {
        let found = self.advance()?;
        Ok(found.map(|(opcode, place)| self.message_at(opcode, place)))
    }

    /// Walks up to the end of the next whole message and says where it stands until the reader is used again.
    pub(super) fn advance(&mut self) -> Result<Option<(u8, Place)>, FrameError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.walk().inspect_err(|error| self.failed = Some(*error)),
        }
    }

    /// The message that [`FrameReader::advance`] found.
    pub(super) fn message_at(&self, opcode: u8, place: Place) -> Message<'_> {
        match place {
            Place::Buffer(range) => message(opcode, &self.buffer[range]),
            Place::Joined => message(opcode, &self.joined),
        }
    }

    fn walk(&mut self) -> Result<Option<(u8, Place)>, FrameError> {
        loop {
            let Some(head) = parse_head(self.unread())? else { return Ok(None) };
            self.check_turn(&head)?;
            let payload = self.start + head.bytes;
            let Some(end) = payload.checked_add(head.payload).filter(|&end| end <= self.end) else { return Ok(None) };
            match (head.opcode, head.last) {
                (CONTINUATION, last) => {
                    self.joined.extend_from_slice(&self.buffer[payload..end]);
                    self.start = end;
                    if let (true, Some(opcode)) = (last, self.joining) {
                        self.joining = None;
                        self.check_payload(opcode, &self.joined)?;
                        return Ok(Some((opcode, Place::Joined)));
                    }
                }
                (opcode, false) => {
                    self.open_joined(opcode, payload..end);
                    self.start = end;
                }
                (opcode, true) => {
                    self.check_payload(opcode, &self.buffer[payload..end])?;
                    self.start = end;
                    return Ok(Some((opcode, Place::Buffer(payload..end))));
                }
            }
        }
    }

    /// Whether a frame with this head may come now, and fits.
    fn check_turn(&self, head: &Head) -> Result<(), FrameError> {
        let mut length = head.payload as u64;
        match (head.opcode, self.joining) {
            (CONTINUATION, None) => return Err(FrameError::ContinuationWithoutStart),
            (CONTINUATION, Some(_)) => length = length.saturating_add(self.joined.len() as u64),
            (opcode @ (TEXT | BINARY), Some(_)) => return Err(FrameError::InterleavedData { opcode }),
            _ => {}
        }
        if length > self.limits.message_bytes_max as u64 && head.opcode < CLOSE {
            return Err(FrameError::TooLarge { length, limit: self.limits.message_bytes_max });
        }
        Ok(())
    }

    fn check_payload(&self, opcode: u8, payload: &[u8]) -> Result<(), FrameError> {
        match opcode {
            TEXT if self.limits.check_text => std::str::from_utf8(payload)
                .map(|_| ())
                .map_err(|error| FrameError::InvalidText { valid_up_to: error.valid_up_to() }),
            CLOSE => check_close(payload),
            _ => Ok(()),
        }
    }

    /// Begins a fragmented message. The joined buffer of an exceptionally large one before is given back.
    fn open_joined(&mut self, opcode: u8, range: Range<usize>) {
        self.joining = Some(opcode);
        self.joined.clear();
        self.joined.shrink_to(self.first_bytes);
        self.joined.extend_from_slice(&self.buffer[range]);
    }

    /// Moves what is unread to the front; each byte is moved at most once a read, and a frame in its place not at all.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > self.first_bytes {
                self.buffer = zeroed(self.first_bytes);
            }
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            if let Ok(Some(head)) = parse_head(self.unread()) {
                let whole = head.bytes.saturating_add(head.payload).min(self.limits.message_bytes_max + HEAD_BYTES_MAX);
                if whole > self.buffer.len() {
                    self.grow(whole.min(self.buffer.len() * 2));
                }
            }
        }
    }

    fn grow(&mut self, bytes: usize) {
        let mut larger = zeroed(bytes);
        larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
        self.buffer = larger;
    }
}

/// Where a whole message stands.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Buffer(Range<usize>),
    Joined,
}

/// Zeroed memory straight from the allocator: its pages stay untouched until they are read into.
fn zeroed(bytes: usize) -> Box<[u8]> {
    vec![0; bytes].into_boxed_slice()
}

/// The head of the first frame, None while it is not whole. What the head alone forbids is refused.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, FrameError> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let opcode = first & 0x0f;
    if first & 0x70 != 0 {
        return Err(FrameError::ReservedBits { bits: (first >> 4) & 7 });
    }
    if matches!(opcode, 3..=7 | 11..) {
        return Err(FrameError::UnknownOpcode { opcode });
    }
    if second & 0x80 != 0 {
        return Err(FrameError::MaskedFrame);
    }
    let last = first & 0x80 != 0;
    if opcode >= CLOSE && !last {
        return Err(FrameError::FragmentedControl { opcode });
    }
    if opcode >= CLOSE && usize::from(*second) > CONTROL_BYTES_MAX {
        return Err(FrameError::OversizedControl { opcode });
    }
    let (bytes, length, least) = match second {
        127 => match rest.first_chunk::<8>() {
            Some(length) => (10, u64::from_be_bytes(*length), 1 << 16),
            None => return Ok(None),
        },
        126 => match rest.first_chunk::<2>() {
            Some(length) => (4, u64::from(u16::from_be_bytes(*length)), 126),
            None => return Ok(None),
        },
        length => (2, u64::from(*length), 0),
    };
    if length < least {
        return Err(FrameError::NonMinimalLength { length });
    }
    // A length beyond the address space is over any limit; `check_turn` refuses it.
    Ok(Some(Head { opcode, last, bytes, payload: usize::try_from(length).unwrap_or(usize::MAX) }))
}

fn check_close(payload: &[u8]) -> Result<(), FrameError> {
    match payload {
        [] => Ok(()),
        [_] => Err(FrameError::CloseLength),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_close_code(code) {
                return Err(FrameError::CloseCode { code });
            }
            std::str::from_utf8(reason).map(|_| ()).map_err(|_| FrameError::CloseReason)
        }
    }
}

/// Codes that may stand in a close frame: RFC 6455, 7.4, and IANA's registry (1012-1014).
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The message of a payload that was checked.
fn message(opcode: u8, payload: &[u8]) -> Message<'_> {
    match (opcode, payload) {
        (TEXT, _) => Message::Text(payload),
        (PING, _) => Message::Ping(payload),
        (PONG, _) => Message::Pong(payload),
        (CLOSE, [high, low, reason @ ..]) => Message::Close {
            code: Some(u16::from_be_bytes([*high, *low])),
            reason: std::str::from_utf8(reason).unwrap_or_default(),
        },
        (CLOSE, _) => Message::Close { code: None, reason: "" },
        _ => Message::Binary(payload),
    }
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// At most [`CONTROL_BYTES_MAX`] bytes; the rest is cut off.
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The reason is cut at a character so that it fits.
    Close(u16, &'a str),
}

/// Appends one unfragmented frame, masked with `mask` as a client must (RFC 6455, 5.3).
pub fn write_frame(out: &mut Vec<u8>, frame: Outgoing<'_>, mask: [u8; 4]) {
    let control = |payload: &'_ [u8]| payload.len().min(CONTROL_BYTES_MAX);
    match frame {
        Outgoing::Text(text) => write_masked(out, TEXT, &[text.as_bytes()], mask),
        Outgoing::Binary(payload) => write_masked(out, BINARY, &[payload], mask),
        Outgoing::Ping(payload) => write_masked(out, PING, &[&payload[..control(payload)]], mask),
        Outgoing::Pong(payload) => write_masked(out, PONG, &[&payload[..control(payload)]], mask),
        Outgoing::Close(code, reason) => {
            let mut length = reason.len().min(CONTROL_BYTES_MAX - 2);
            while !reason.is_char_boundary(length) {
                length -= 1;
            }
            write_masked(out, CLOSE, &[&code.to_be_bytes(), &reason.as_bytes()[..length]], mask);
        }
    }
}

fn write_masked(out: &mut Vec<u8>, opcode: u8, parts: &[&[u8]], mask: [u8; 4]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(0x80 | opcode);
    match length {
        0..=125 => out.push(0x80 | length as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let payload = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    apply_mask(&mut out[payload..], mask);
}

/// Masks or unmasks in place: the operation is its own inverse.
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], limits: Limits) -> (Vec<String>, Option<FrameError>) {
        let mut reader = FrameReader::new(limits, 0);
        reader.append(bytes);
        let mut seen = Vec::new();
        loop {
            match reader.next_message() {
                Ok(Some(message)) => seen.push(format!("{message:?}")),
                Ok(None) => return (seen, None),
                Err(error) => return (seen, Some(error)),
            }
        }
    }

    fn refusal(bytes: &[u8]) -> FrameError {
        read_all(bytes, Limits { message_bytes_max: 1000, check_text: true }).1.expect("must be refused")
    }

    #[test]
    fn each_illegal_frame_has_its_own_error() {
        assert_eq!(refusal(&[0xc1, 0]), FrameError::ReservedBits { bits: 4 });
        assert_eq!(refusal(&[0x83, 0]), FrameError::UnknownOpcode { opcode: 3 });
        assert_eq!(refusal(&[0x8b, 0]), FrameError::UnknownOpcode { opcode: 11 });
        assert_eq!(refusal(&[0x81, 0x80]), FrameError::MaskedFrame);
        assert_eq!(refusal(&[0x09, 0]), FrameError::FragmentedControl { opcode: PING });
        assert_eq!(refusal(&[0x89, 126]), FrameError::OversizedControl { opcode: PING });
        assert_eq!(refusal(&[0x88, 127]), FrameError::OversizedControl { opcode: CLOSE });
        assert_eq!(refusal(&[0x80, 0]), FrameError::ContinuationWithoutStart);
        assert_eq!(refusal(&[0x01, 0, 0x81, 0]), FrameError::InterleavedData { opcode: TEXT });
        assert_eq!(refusal(&[0x81, 126, 0, 125]), FrameError::NonMinimalLength { length: 125 });
        assert_eq!(refusal(&[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255]), FrameError::NonMinimalLength { length: 65535 });
        assert_eq!(refusal(&[0x81, 126, 3, 233]), FrameError::TooLarge { length: 1001, limit: 1000 });
        let endless = [0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(refusal(&endless), FrameError::TooLarge { length: u64::MAX, limit: 1000 });
        assert_eq!(refusal(&[0x81, 3, b'a', 0xc3, 0x28]), FrameError::InvalidText { valid_up_to: 1 });
        assert_eq!(refusal(&[0x01, 1, 0xc3, 0x80, 1, 0x28]), FrameError::InvalidText { valid_up_to: 0 });
        assert_eq!(refusal(&[0x88, 1, 3]), FrameError::CloseLength);
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            let [high, low] = code.to_be_bytes();
            assert_eq!(refusal(&[0x88, 2, high, low]), FrameError::CloseCode { code });
        }
        assert_eq!(refusal(&[0x88, 3, 3, 232, 0xff]), FrameError::CloseReason);
    }

    #[test]
    fn the_limit_holds_for_the_fragments_together() {
        let mut bytes = vec![0x02, 126, 1, 244];
        bytes.extend([0; 500]);
        bytes.extend([0x00, 126, 1, 244]);
        bytes.extend([0; 500]);
        bytes.extend([0x80, 1]);
        assert_eq!(refusal(&bytes), FrameError::TooLarge { length: 1001, limit: 1000 });
    }

    #[test]
    fn control_frames_stand_between_fragments() {
        let bytes =
            [0x01, 2, 0xe2, 0x82, 0x89, 1, b'p', 0x00, 0, 0x8a, 0, 0x80, 1, 0xac, 0x88, 5, 3, 232, b'b', b'y', b'e'];
        let (seen, error) = read_all(&bytes, Limits::default());
        assert_eq!(error, None);
        let euro = Message::Text("\u{20ac}".as_bytes());
        let close = Message::Close { code: Some(1000), reason: "bye" };
        assert_eq!(seen, [Message::Ping(b"p"), Message::Pong(b""), euro, close].map(|m| format!("{m:?}")));
    }

    #[test]
    fn text_may_go_unchecked_and_an_error_stays() {
        let limits = Limits { check_text: false, ..Limits::default() };
        assert_eq!(read_all(&[0x81, 1, 0xff], limits), (vec![format!("{:?}", Message::Text(&[0xff]))], None));
        let mut reader = FrameReader::new(Limits::default(), 0);
        reader.append(&[0x81, 1, 0xff]);
        assert_eq!(reader.next_message(), Err(FrameError::InvalidText { valid_up_to: 0 }));
        reader.append(&[0x81, 0]);
        assert_eq!(reader.next_message(), Err(FrameError::InvalidText { valid_up_to: 0 }));
    }

    #[test]
    fn the_buffer_grows_for_one_large_frame_and_goes_back() {
        let payload = vec![7u8; 100_000];
        let mut bytes = vec![0x82, 127];
        bytes.extend((payload.len() as u64).to_be_bytes());
        bytes.extend(&payload);
        let mut reader = FrameReader::new(Limits::default(), 4096);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let space = reader.space();
            let count = space.len().min(rest.len());
            assert!(count > 0);
            space[..count].copy_from_slice(&rest[..count]);
            reader.filled(count);
            rest = &rest[count..];
            assert!(reader.buffer.len() <= bytes.len());
            if !rest.is_empty() {
                assert_eq!(reader.next_message(), Ok(None));
            }
        }
        assert_eq!(reader.next_message(), Ok(Some(Message::Binary(&payload))));
        assert_eq!(reader.space().len(), 4096);
    }

    #[test]
    fn a_claimed_length_alone_takes_no_memory() {
        let mut reader = FrameReader::new(Limits::default(), 4096);
        reader.append(&[0x82, 127, 0, 0, 0, 0, 0, 255, 255, 255]);
        assert_eq!(reader.next_message(), Ok(None));
        reader.space();
        assert_eq!(reader.buffer.len(), 4096);
    }

    #[test]
    fn sent_frames_are_masked_and_control_frames_fit() {
        let mut out = Vec::new();
        write_frame(&mut out, Outgoing::Text("hello"), [1, 2, 3, 4]);
        assert_eq!(out[..6], [0x81, 0x85, 1, 2, 3, 4]);
        apply_mask(&mut out[6..], [1, 2, 3, 4]);
        assert_eq!(&out[6..], b"hello");
        out.clear();
        write_frame(&mut out, Outgoing::Close(1000, &"\u{20ac}".repeat(100)), [0; 4]);
        assert_eq!((out[1], out.len()), (0x80 | 125, 6 + 125));
        out.clear();
        write_frame(&mut out, Outgoing::Binary(&[0; 70_000]), [0; 4]);
        assert_eq!(out[..10], [0x82, 0xff, 0, 0, 0, 0, 0, 1, 17, 112]);
    }
}
