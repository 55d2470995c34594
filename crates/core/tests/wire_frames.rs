//! The frame reader against its plain twin, over made streams.

use frames::{by_reader, by_twin, Plain, LIMIT};
use proptest::prelude::*;
use tickplant_core::wire::frames::{apply_mask, write_frame, Outgoing};
use tickplant_core::wire::{FrameReader, Limits};

#[path = "twins/frames.rs"]
mod frames;

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
