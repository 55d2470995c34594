//! Any frame: the router's scanner finds the objects that a plain walk over the bytes finds, and deals each to a pipe.
#![no_main]

#[path = "../../crates/core/tests/twins/tape.rs"]
mod tape;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| tape::take(frame));
