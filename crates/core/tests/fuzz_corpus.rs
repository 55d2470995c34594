//! What the fuzzer found stays right: every target's body on every input of its packed corpus.

mod twin;
mod twins;

use std::collections::BTreeMap;
use std::path::PathBuf;
use twins::{book, decode, frames, handshake, tape};

type Body = fn(&[u8]);

const BODIES: [(&str, Body); 9] = [
    ("book", book::take),
    ("decode_binance", |frame| decode::take("binance", frame)),
    ("decode_binance_usdm", |frame| decode::take("binance_usdm", frame)),
    ("decode_coinbase", |frame| decode::take("coinbase", frame)),
    ("decode_kraken", |frame| decode::take("kraken", frame)),
    ("decode_kraken_v1", |frame| decode::take("kraken_v1", frame)),
    ("tape_scan", tape::take),
    ("wire_frames", frames::compare),
    ("wire_handshake", handshake::take),
];

fn fuzz(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(folder)
}

/// A packed corpus: each input behind its length, a little-endian u16 (see `fuzz/corpus.py`).
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let packed = std::fs::read(fuzz("corpus").join(format!("{target}.packed"))).unwrap();
    let (mut inputs, mut rest) = (vec![], packed.as_slice());
    while let Some((length, more)) = rest.split_first_chunk() {
        let (input, more) = more.split_at(usize::from(u16::from_le_bytes(*length)));
        inputs.push(input.to_vec());
        rest = more;
    }
    assert!(rest.is_empty(), "{target}: half a length at the end");
    inputs
}

#[test]
fn what_the_fuzzer_found_stays_right() {
    for (target, body) in BODIES {
        let inputs = inputs(target);
        assert!(inputs.len() > 10, "{target} has only {} inputs", inputs.len());
        inputs.iter().for_each(|input| body(input));
    }
}

#[test]
fn every_target_is_replayed() {
    let names = std::fs::read_dir(fuzz("fuzz_targets")).unwrap();
    let targets: BTreeMap<_, _> = names.map(|name| (name.unwrap().path().with_extension(""), ())).collect();
    let targets: Vec<_> = targets.keys().filter_map(|path| path.file_name()?.to_str()).collect();
    assert_eq!(targets, BODIES.map(|(target, _)| target));
}
