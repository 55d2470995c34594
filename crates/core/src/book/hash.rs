//! The canonical state hash of a book: two plants, a replay or a user compare books in 8 bytes.
//!
//! The hash is xxh3 (64 bits, seed 0) over 19 bytes a level: first the bids, then the asks, each best first and at most
//! `depth` of them (0: all). A level's bytes are its side's letter (`B` or `A`), the price and the size, each as a mantissa
//! (i64, little-endian) and a scale (one byte). Prices and sizes stand by value: trailing zeros of the fraction are
//! removed, so that 10 at scale 2 equals 1 at scale 1, and zero is 0 at scale 0. Order counts are not part of it.

use super::{Book, Level};
use crate::record::Side;
use xxhash_rust::xxh3::Xxh3;

/// Bytes that one level gives.
const LEVEL_BYTES: usize = 19;
/// Levels that are written before the hash takes them: one call for many levels, on the stack.
const BLOCK_LEVELS: usize = 32;

/// The hash and how many levels of each side it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookHash {
    pub hash: u64,
    pub bid_levels: u32,
    pub ask_levels: u32,
}

/// The hash of a book's best `depth` levels a side; 0: of all.
pub fn hash_book(book: &Book, depth: u32) -> BookHash {
    let most = if depth == 0 { usize::MAX } else { depth as usize };
    let mut hasher = Xxh3::new();
    let bid_levels = feed(&mut hasher, Side::Bid, book.levels(Side::Bid).take(most));
    let ask_levels = feed(&mut hasher, Side::Ask, book.levels(Side::Ask).take(most));
    BookHash { hash: hasher.digest(), bid_levels, ask_levels }
}

fn feed(hasher: &mut Xxh3, side: Side, levels: impl Iterator<Item = Level>) -> u32 {
    let mut block = [0u8; LEVEL_BYTES * BLOCK_LEVELS];
    let (mut held, mut count) = (0, 0u32);
    for level in levels {
        if let Some((bytes, _)) = block.get_mut(held..).and_then(<[u8]>::split_first_chunk_mut) {
            *bytes = level_bytes(side, &level);
        }
        held += LEVEL_BYTES;
        count = count.saturating_add(1);
        if held == block.len() {
            hasher.update(&block);
            held = 0;
        }
    }
    hasher.update(&block[..held]);
    count
}

fn level_bytes(side: Side, level: &Level) -> [u8; LEVEL_BYTES] {
    let mut bytes = [0u8; LEVEL_BYTES];
    let (price, size) = (level.price.key(), level.size.key());
    bytes[0] = side as u8;
    bytes[1..9].copy_from_slice(&price.0.to_le_bytes());
    bytes[9] = price.1;
    bytes[10..18].copy_from_slice(&size.0.to_le_bytes());
    bytes[18] = size.1;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Spec;
    use crate::decimal::Decimal;
    use crate::event::Row;
    use xxhash_rust::xxh3::xxh3_64;

    fn book(rows: &[(Side, i64, u8, i64, u8)]) -> Book {
        let mut book = Book::new(Spec { depth: 0, truncate: false, checksum: crate::book::Checksum::None });
        let row = |&(side, price, price_scale, size, size_scale): &(Side, i64, u8, i64, u8)| Row {
            side,
            price: Decimal::new(price, price_scale),
            size: Decimal::new(size, size_scale),
            count: 0,
        };
        let rows: Vec<Row> = rows.iter().map(row).collect();
        book.load(&rows, &mut Vec::new()).expect("a book");
        book
    }

    /// The definition, word for word.
    fn plain(book: &Book, depth: usize) -> u64 {
        let mut bytes = Vec::new();
        for side in [Side::Bid, Side::Ask] {
            for level in book.levels(side).take(depth) {
                bytes.push(side as u8);
                for number in [level.price, level.size] {
                    let (mantissa, scale) = number.key();
                    bytes.extend_from_slice(&mantissa.to_le_bytes());
                    bytes.push(scale);
                }
            }
        }
        xxh3_64(&bytes)
    }

    #[test]
    fn the_hash_is_of_values_not_of_texts() {
        let (one, other) = (book(&[(Side::Bid, 10, 2, 500, 2)]), book(&[(Side::Bid, 1, 1, 5, 0)]));
        assert_eq!(hash_book(&one, 0), hash_book(&other, 0));
        let asks = book(&[(Side::Ask, 1, 1, 5, 0)]);
        assert_ne!(hash_book(&one, 0).hash, hash_book(&asks, 0).hash, "the side counts");
        assert_eq!(hash_book(&book(&[]), 0).hash, xxh3_64(b""), "an empty book has the hash of no bytes");
    }

    #[test]
    fn a_deep_book_is_hashed_in_blocks_as_in_one() {
        for levels in [1, 31, 32, 33, 64, 1000] {
            let rows: Vec<_> = (0..levels)
                .flat_map(|at| [(Side::Bid, 5000 - at, 1, at + 10, 1), (Side::Ask, 6000 + at, 1, at + 1, 3)])
                .collect();
            let book = book(&rows);
            assert_eq!(hash_book(&book, 0).hash, plain(&book, usize::MAX));
            assert_eq!(hash_book(&book, 10).hash, plain(&book, 10));
            assert_eq!(hash_book(&book, 10).bid_levels, levels.min(10) as u32);
        }
    }
}
