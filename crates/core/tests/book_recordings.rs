//! Books against the checksums that OKX and Bitget sent while they did. Skipped, saying so on stderr, where the
//! recordings are not at hand. Their decoders do not exist yet: what the frames say is read here.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use support::recording;
use tickplant_core::book::{Book, Checksum, Proof, Spec};
use tickplant_core::decimal::Decimal;
use tickplant_core::event::Row;
use tickplant_core::record::Side;

const SPEC: Spec = Spec { depth: 0, truncate: false, checksum: Checksum::Okx };

fn rows(data: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    for (side, key) in [(Side::Bid, "bids"), (Side::Ask, "asks")] {
        for level in data[key].as_array().unwrap() {
            let number = |at: usize| Decimal::parse(level[at].as_str().unwrap().as_bytes()).unwrap();
            rows.push(Row { side, price: number(0), size: number(1), count: 0 });
        }
    }
    rows
}

/// Checksums passed and failed over a recording.
fn prove(name: &str) -> Option<(usize, usize)> {
    let (mut books, mut passed, mut failed) = (BTreeMap::<String, Book>::new(), 0, 0);
    for line in recording(name)?.filter(|line| line.first().is_some_and(u8::is_ascii_digit)) {
        let start = line.iter().position(|&byte| byte == b'{');
        let Some(Ok(frame)) = start.map(|start| serde_json::from_slice::<Value>(&line[start..])) else { continue };
        if frame["arg"]["channel"] != "books" || frame["data"].is_null() {
            continue;
        }
        let symbol = frame["arg"]["instId"].as_str().unwrap().to_owned();
        let book = books.entry(symbol).or_insert_with(|| Book::new(SPEC));
        for data in frame["data"].as_array().unwrap() {
            let (rows, mut changes) = (rows(data), Vec::new());
            match frame["action"] == "snapshot" {
                true => book.load(&rows, &mut changes).unwrap(),
                false => book.apply(&rows, &mut changes).unwrap(),
            }
            let theirs = data["checksum"].as_i64().unwrap();
            match book.prove(Some(theirs as u32)) {
                Proof::Passed => passed += 1,
                _ => failed += 1,
            }
        }
    }
    Some((passed, failed))
}

#[test]
fn okx_and_bitget_check_out() {
    if let Some(counts) = prove("cryptofeed/OKX.ws.1.0.gz") {
        assert_eq!(counts, (290, 0));
    }
    if let Some(counts) = prove("cryptofeed/BITGET.ws.1.0.gz") {
        assert_eq!(counts, (443, 0));
    }
}
