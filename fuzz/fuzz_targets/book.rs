//! A book and its plain twin agree on any stream of messages: levels, changes, checksums.
#![no_main]

#[path = "../../crates/core/tests/twins/book.rs"]
mod book;
#[path = "../../crates/core/tests/twin/mod.rs"]
mod twin;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| book::take(bytes));
