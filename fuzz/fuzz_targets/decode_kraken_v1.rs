//! A frame of this venue is judged alike by its strict scanner and by the tolerant reader, and never panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|frame: &[u8]| tickplant_fuzz::decode("kraken_v1", frame));
