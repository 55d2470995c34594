#![no_main]
//! Any bytes as an address, a handshake reply or a proxy's reply: no panic.

#[path = "../../crates/core/tests/twins/handshake.rs"]
mod handshake;

libfuzzer_sys::fuzz_target!(|data: &[u8]| handshake::take(data));
