#![no_main]
//! Any bytes in any split: the frame reader gives what its plain twin gives.

#[path = "../../crates/core/tests/twins/frames.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| frames::compare(data));
