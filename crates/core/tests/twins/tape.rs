//! Any frame: the router's scanner finds the objects that a plain walk over the bytes finds, and deals each to a pipe.

use tickplant_core::tape::scan::{kind_of, Kind, Objects};
use tickplant_core::tape::shard::{Dealer, Sharding};

/// The obvious twin: the objects of a frame byte by byte, and how many bytes belong to none.
fn walk(frame: &[u8]) -> (Vec<&[u8]>, u64) {
    let (mut objects, mut odd, mut at) = (Vec::new(), 0, 0);
    while at < frame.len() {
        if frame[at] != b'{' {
            odd += u64::from(!b",[] \t\r\n".contains(&frame[at]));
            at += 1;
            continue;
        }
        let (start, mut depth, mut quoted) = (at, 0, false);
        loop {
            match (frame.get(at), quoted) {
                (None, _) => return (objects, odd + (frame.len() - start) as u64),
                (Some(b'\\'), true) => at += 1,
                (Some(b'"'), _) => quoted = !quoted,
                (Some(b'{'), false) => depth += 1,
                (Some(b'}'), false) => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                objects.push(&frame[start..at]);
                break;
            }
        }
    }
    (objects, odd)
}

/// Both over one frame.
pub fn take(frame: &[u8]) {
    let mut found = Objects::new(frame);
    let mut bytes = Vec::new();
    for object in found.by_ref() {
        assert_eq!(kind_of(object.bytes), object.kind);
        if let Kind::Trade(symbol) | Kind::Other(symbol) = &object.kind {
            assert!(!symbol.is_empty());
            for sharding in [Sharding::Hash, Sharding::Alphabet] {
                assert!(Dealer::new(sharding, 31).pipe_of(symbol) < 31);
            }
        }
        bytes.push(object.bytes);
    }
    assert_eq!((bytes, found.odd_bytes()), walk(frame));
}
