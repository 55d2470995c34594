//! A book and its plain twin agree on any stream of messages: levels, changes, checksums.

use crate::twin::Twin;
use tickplant_core::book::{Book, Checksum, Spec};
use tickplant_core::decimal::Decimal;
use tickplant_core::event::Row;
use tickplant_core::record::Side;

/// Three bytes a row: the side and how it is written, the price, the size. Few prices, so that levels meet.
fn row(bytes: &[u8]) -> Row {
    let zeros = bytes[0] >> 1 & 3;
    let price = Decimal::new(i64::from(bytes[1] % 64) * 10i64.pow(zeros.into()), 1 + zeros);
    let size = Decimal::new(i64::from(bytes[2] >> 2) * 1000 + i64::from(bytes[2] >> 7), bytes[2] & 3);
    Row { side: if bytes[0] & 1 == 0 { Side::Bid } else { Side::Ask }, price, size, count: 0 }
}

/// The first byte says what book it is, the rest its messages of up to four rows.
pub fn take(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first() else { return };
    let rules = [Checksum::None, Checksum::Kraken, Checksum::Okx, Checksum::Bitfinex];
    let checksum = rules[usize::from(head >> 5 & 3)];
    let spec = Spec { depth: u32::from(head & 15), truncate: head & 16 != 0, checksum };
    let (mut book, mut twin, mut reader, mut changes) = (Book::new(spec), Twin::default(), Twin::default(), vec![]);
    for (index, message) in rest.chunks(12).enumerate() {
        let rows: Vec<Row> = message.chunks_exact(3).map(row).collect();
        changes.clear();
        if index == 0 {
            book.load(&rows, &mut changes).expect("sizes are not negative");
        } else {
            book.apply(&rows, &mut changes).expect("sizes are not negative");
        }
        twin.apply(&rows, &spec);
        reader.follow(&changes);
        assert!(reader == twin);
        for side in [Side::Bid, Side::Ask] {
            let levels: Vec<_> = book.levels(side).map(|level| (level.price, level.size)).collect();
            assert_eq!(levels, twin.best_first(side));
        }
        assert_eq!(book.checksum(), twin.checksum(checksum, (255, 255)));
    }
}
