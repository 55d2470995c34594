//! The frame reader's plain twin: a parser that takes one byte at a time and knows nothing of buffers, and the drivers that
//! hold the two together. Property tests and the fuzz target share them.

use tickplant_core::wire::frames::{is_close_code, FrameError};
use tickplant_core::wire::{FrameReader, Limits, Message};

pub const LIMIT: usize = 300;

/// A message in its own memory.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Message<'_>> for Plain {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(bytes) => Plain::Text(bytes.to_vec()),
            Message::Binary(bytes) => Plain::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Plain::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Plain::Pong(bytes.to_vec()),
            Message::Close { code, reason } => Plain::Close(code, reason.to_string()),
        }
    }
}

/// RFC 6455, 5.2, word for word: collects the bytes of one frame, then judges it.
#[derive(Default)]
struct Twin {
    frame: Vec<u8>,
    open: Option<(u8, Vec<u8>)>,
}

impl Twin {
    fn take(&mut self, byte: u8) -> Result<Option<Plain>, FrameError> {
        self.frame.push(byte);
        if self.frame.len() < 2 {
            return Ok(None);
        }
        let (first, second) = (self.frame[0], self.frame[1]);
        let opcode = first & 15;
        if first & 0x70 > 0 {
            return Err(FrameError::ReservedBits { bits: first >> 4 & 7 });
        }
        if ![0, 1, 2, 8, 9, 10].contains(&opcode) {
            return Err(FrameError::UnknownOpcode { opcode });
        }
        if second >= 128 {
            return Err(FrameError::MaskedFrame);
        }
        if opcode >= 8 && first < 128 {
            return Err(FrameError::FragmentedControl { opcode });
        }
        if opcode >= 8 && second > 125 {
            return Err(FrameError::OversizedControl { opcode });
        }
        let head = match second {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        if self.frame.len() < head {
            return Ok(None);
        }
        let mut length = u64::from(second);
        if head > 2 {
            length = self.frame[2..head].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        }
        if head == 4 && length < 126 || head == 10 && length < 65536 {
            return Err(FrameError::NonMinimalLength { length });
        }
        match (opcode, &self.open) {
            (0, None) => return Err(FrameError::ContinuationWithoutStart),
            (1 | 2, Some(_)) => return Err(FrameError::InterleavedData { opcode }),
            _ => {}
        }
        let before = if opcode == 0 { self.open.as_ref().unwrap().1.len() as u64 } else { 0 };
        if opcode < 8 && length.saturating_add(before) > LIMIT as u64 {
            return Err(FrameError::TooLarge { length: length.saturating_add(before), limit: LIMIT });
        }
        if (self.frame.len() - head) as u64 != length {
            return Ok(None);
        }
        let payload = self.frame.split_off(head);
        self.frame.clear();
        self.judge(opcode, first >= 128, payload)
    }

    fn judge(&mut self, opcode: u8, last: bool, payload: Vec<u8>) -> Result<Option<Plain>, FrameError> {
        match opcode {
            0 => self.open.as_mut().unwrap().1.extend(payload),
            1 | 2 => self.open = Some((opcode, payload)),
            8 if payload.is_empty() => return Ok(Some(Plain::Close(None, String::new()))),
            8 if payload.len() == 1 => return Err(FrameError::CloseLength),
            8 => {
                let code = u16::from(payload[0]) << 8 | u16::from(payload[1]);
                if !is_close_code(code) {
                    return Err(FrameError::CloseCode { code });
                }
                let reason = String::from_utf8(payload[2..].to_vec()).map_err(|_| FrameError::CloseReason)?;
                return Ok(Some(Plain::Close(Some(code), reason)));
            }
            9 => return Ok(Some(Plain::Ping(payload))),
            _ => return Ok(Some(Plain::Pong(payload))),
        }
        if !last {
            return Ok(None);
        }
        match self.open.take().unwrap() {
            (1, text) => match String::from_utf8(text) {
                Ok(text) => Ok(Some(Plain::Text(text.into_bytes()))),
                Err(error) => Err(FrameError::InvalidText { valid_up_to: error.utf8_error().valid_up_to() }),
            },
            (_, bytes) => Ok(Some(Plain::Binary(bytes))),
        }
    }
}

pub type Seen = (Vec<Plain>, Option<FrameError>);

pub fn by_twin(bytes: &[u8]) -> Seen {
    let (mut twin, mut seen) = (Twin::default(), Vec::new());
    // An empty frame is whole with its head, so judge after each byte.
    for &byte in bytes {
        match twin.take(byte) {
            Ok(message) => seen.extend(message),
            Err(error) => return (seen, Some(error)),
        }
    }
    (seen, None)
}

/// Gives the reader pieces of these sizes (repeated) and takes messages after each.
pub fn by_reader(bytes: &[u8], sizes: &[usize], appended: bool) -> Seen {
    let mut reader = FrameReader::new(Limits { message_bytes_max: LIMIT, check_text: true }, 0);
    let (mut seen, mut rest) = (Vec::new(), bytes);
    for &size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let space = reader.space();
        assert!(!space.is_empty(), "a reader whose messages were taken has room");
        let count = size.clamp(1, rest.len().min(space.len()));
        if appended {
            reader.append(&rest[..count]);
        } else {
            space[..count].copy_from_slice(&rest[..count]);
            reader.filled(count);
        }
        rest = &rest[count..];
        loop {
            match reader.next_message() {
                Ok(Some(message)) => seen.push(message.into()),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

/// Both over bytes whose first two say how the rest is split. Panics where they differ.
#[allow(dead_code)]
pub fn compare(data: &[u8]) {
    let [first, second, bytes @ ..] = data else { return };
    let sizes = [usize::from(*first) + 1, usize::from(*second) * 16 + 1];
    let expected = by_twin(bytes);
    for appended in [false, true] {
        assert_eq!(by_reader(bytes, &sizes, appended), expected);
    }
}
