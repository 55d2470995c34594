//! The frame reader against its plain twin: a parser that takes one byte at a time and knows nothing of buffers.

use proptest::prelude::*;
use tickplant_core::wire::frames::{apply_mask, is_close_code, write_frame, FrameError, Outgoing};
use tickplant_core::wire::{FrameReader, Limits, Message};

const LIMIT: usize = 300;

/// A message in its own memory.
#[derive(Clone, Debug, PartialEq)]
enum Plain {
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

type Seen = (Vec<Plain>, Option<FrameError>);

fn by_twin(bytes: &[u8]) -> Seen {
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
fn by_reader(bytes: &[u8], sizes: &[usize], appended: bool) -> Seen {
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

/// One frame, mostly legal: any opcode, lengths around the borders, now and then a wrong form.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![6 => Just(1u8), 3 => Just(2), 4 => Just(0), 2 => Just(9), 1 => Just(10), 1 => Just(8), 1 => 0u8..16];
    let length = prop_oneof![8 => 0usize..20, 2 => 120usize..130, 1 => 250usize..310];
    let text = prop_oneof![Just("a"), Just("\u{20ac}"), Just("\u{1f600}"), Just("\u{e9}")];
    let form = prop_oneof![30 => Just(0u8), 1 => Just(1), 1 => Just(2), 1 => Just(3), 1 => Just(4)];
    (opcode, length, text, form, prop::bool::weighted(0.7)).prop_map(|(opcode, length, text, form, last)| {
        let mut payload: Vec<u8> = text.bytes().cycle().take(length).collect();
        if opcode == 8 && length > 1 {
            payload[..2].copy_from_slice(&(990 + length as u16).to_be_bytes());
        }
        let last = last || opcode >= 8 && form != 1;
        let mut frame = vec![opcode | if last { 0x80 } else { 0 } | if form == 2 { 0x20 } else { 0 }];
        match length {
            0..=125 if form == 3 => frame.extend([126, 0, length as u8]),
            0..=125 => frame.push(length as u8 | if form == 4 { 0x80 } else { 0 }),
            _ => frame.extend([126, (length >> 8) as u8, length as u8]),
        }
        frame.extend(payload);
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_gives_what_the_twin_gives(
        frames in prop::collection::vec(frame(), 0..30),
        sizes in prop::collection::vec(prop_oneof![1usize..4, 1usize..5000], 1..8),
        appended: bool,
    ) {
        let bytes = frames.concat();
        prop_assert_eq!(by_reader(&bytes, &sizes, appended), by_twin(&bytes));
    }

    #[test]
    fn legal_messages_come_out_as_they_went_in(
        messages in prop::collection::vec((any::<String>(), prop::collection::vec(0usize..40, 0..4), any::<bool>()), 0..20),
        sizes in prop::collection::vec(1usize..200, 1..4),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (text, cuts, ping) in &messages {
            let mut rest: &[u8] = &text.as_bytes()[..text.len().min(LIMIT) & !3];
            if std::str::from_utf8(rest).is_err() {
                rest = b"";
            }
            expected.push(Plain::Text(rest.to_vec()));
            let mut opcode = 1;
            for &cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                bytes.extend([opcode, part.len() as u8]);
                bytes.extend(part);
                (rest, opcode) = (after, 0);
                if *ping {
                    bytes.extend(b"\x89\x01p");
                    expected.insert(expected.len() - 1, Plain::Ping(b"p".to_vec()));
                }
            }
            bytes.push(0x80 | opcode);
            match rest.len() {
                0..=125 => bytes.push(rest.len() as u8),
                length => bytes.extend([126, (length >> 8) as u8, length as u8]),
            }
            bytes.extend(rest);
        }
        prop_assert_eq!(by_reader(&bytes, &sizes, false), (expected, None));
    }

    #[test]
    fn hostile_bytes_give_what_the_twin_gives(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x81), Just(0x01), Just(0x80), Just(0), Just(126), Just(127)], 0..600),
        sizes in prop::collection::vec(1usize..100, 1..4),
    ) {
        prop_assert_eq!(by_reader(&bytes, &sizes, false), by_twin(&bytes));
    }

    #[test]
    fn what_is_sent_is_what_unmasking_gives(payload in prop::collection::vec(any::<u8>(), 0..70_000), mask: [u8; 4], kind in 0..4) {
        let text: String = payload.iter().map(|&byte| char::from(byte)).collect();
        let (opcode, sent, frame) = match kind {
            0 => (1, text.as_bytes(), Outgoing::Text(&text)),
            1 => (2, &payload[..], Outgoing::Binary(&payload)),
            2 => (9, &payload[..payload.len().min(125)], Outgoing::Ping(&payload)),
            _ => (10, &payload[..payload.len().min(125)], Outgoing::Pong(&payload)),
        };
        let mut out = Vec::new();
        write_frame(&mut out, frame, mask);
        let head = match sent.len() { 0..=125 => 2, 126..=0xffff => 4, _ => 10 };
        prop_assert_eq!(out[0], 0x80 | opcode);
        prop_assert_eq!(&out[head..head + 4], &mask);
        prop_assert_eq!(out[1] & 0x80, 0x80);
        out[1] &= 0x7f;
        out.drain(head..head + 4);
        apply_mask(&mut out[head..], mask);
        prop_assert_eq!(&out[head..], sent);
        // Without its mask it is a frame as a server sends it.
        let mut reader = FrameReader::new(Limits { check_text: false, ..Limits::default() }, 0);
        reader.append(&out);
        prop_assert!(matches!(reader.next_message(), Ok(Some(_))));
        prop_assert!(reader.unread().is_empty());
    }
}
