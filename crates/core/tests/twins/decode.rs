//! What must hold of a decoder whatever the frame: both of its ways judge it alike, and never panic.

use tickplant_core::event::{Decoded, Event};
use tickplant_core::venues::{decoder, tolerant_decoder};

/// Both ways of a decoder on one frame, and the same bytes as a reply: equal judgements, spans inside the frame.
pub fn take(venue: &str, frame: &[u8]) {
    let (mut strict, mut tolerant) = (Decoded::default(), Decoded::default());
    let known = "a venue of ours";
    let result = decoder(venue).expect(known).decode(frame, &mut strict);
    assert_eq!(result, tolerant_decoder(venue).expect(known).decode(frame, &mut tolerant));
    if result.is_ok() {
        assert_eq!(strict.events, tolerant.events);
        assert_eq!(strict.rows, tolerant.rows);
        check(frame, &strict);
    }
    let mut reply = Decoded::default();
    if decoder(venue).expect(known).decode_reply(frame, &mut reply).is_ok() {
        check(frame, &reply);
    }
}

/// Rows and texts stand where their events say.
fn check(frame: &[u8], out: &Decoded) {
    for event in &out.events {
        let spans = match event {
            Event::Book(book) => {
                assert!(out.rows.get(book.rows.clone()).is_some());
                vec![&book.symbol]
            }
            Event::Trade(trade) => vec![&trade.symbol],
            Event::Quote(quote) => vec![&quote.symbol],
            Event::Definition(text) => vec![&text.symbol, &text.base, &text.quote, &text.text],
            Event::Answer(answer) => {
                [Some(&answer.channel), Some(&answer.symbol), answer.refusal.as_ref()].into_iter().flatten().collect()
            }
            Event::AuthFailed { text } | Event::Maintenance { text } | Event::Error { text } => vec![text],
            Event::Ping { reply } => vec![reply],
            Event::Heartbeat { symbol, .. } | Event::Trading { symbol, .. } => vec![symbol],
            Event::Welcome { .. } => vec![],
        };
        assert!(spans.into_iter().all(|span| frame.get(span.clone()).is_some()));
    }
}
