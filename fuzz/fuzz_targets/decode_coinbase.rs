//! A frame of this venue is judged alike by its strict scanner and by the tolerant reader, and never panics.
#![no_main]

#[path = "../../crates/core/tests/twins/decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| decode::take("coinbase", frame));
