//! Which pipe a symbol goes to.

use serde::Deserialize;

/// How symbols are dealt to pipes. A symbol always goes to the same pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharding {
    /// By a hash of the symbol: even over many symbols, whatever they are.
    Hash,
    /// By the alphabet: neighbouring symbols share a pipe.
    Alphabet,
}

/// Deals symbols to so many pipes.
#[derive(Clone, Copy, Debug)]
pub struct Dealer {
    sharding: Sharding,
    pipes: u64,
}

impl Dealer {
    /// `pipes` is at least 1.
    pub fn new(sharding: Sharding, pipes: usize) -> Self {
        Self { sharding, pipes: pipes.max(1) as u64 }
    }

    /// The pipe of a symbol, below the number of pipes.
    #[inline]
    pub fn pipe_of(&self, symbol: &[u8]) -> usize {
        let share = match self.sharding {
            Sharding::Hash => u64::from(hash(symbol)),
            Sharding::Alphabet => rank(symbol),
        };
        ((share * self.pipes) >> 32) as usize
    }
}

/// 32 bits of a symbol: for each eight bytes as a little-endian number, the last filled up with zeros,
/// `h = (h ^ number) * 0x9E3779B97F4A7C15; h ^= h >> 32`. Documented, so that workers can compute it too.
#[inline]
pub fn hash(symbol: &[u8]) -> u32 {
    let mut state = 0u64;
    for part in symbol.chunks(8) {
        let number = match part.first_chunk::<8>() {
            Some(whole) => u64::from_le_bytes(*whole),
            None => part.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)),
        };
        state = (state ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        state ^= state >> 32;
    }
    state as u32
}

/// The place of a symbol between 0 and 2^32 by its first three letters; what is no capital letter counts as the one before A.
fn rank(symbol: &[u8]) -> u64 {
    let letter = |at: usize| match symbol.get(at) {
        Some(byte @ b'A'..=b'Z') => u64::from(byte - b'A') + 1,
        Some(b'['..) => 26,
        _ => 0,
    };
    // The first letter is one of A to Z for nearly all, so that 26 and not 27 places are divided.
    let place = (letter(0).saturating_sub(1) * 27 + letter(1)) * 27 + letter(2);
    (place << 32) / (26 * 27 * 27)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_is_what_the_page_says() {
        assert_eq!(hash(b""), 0);
        let number = u64::from(b'A').wrapping_mul(0x9E37_79B9_7F4A_7C15);
        assert_eq!(hash(b"A"), (number ^ number >> 32) as u32);
    }

    #[test]
    fn six_thousand_symbols_are_dealt_evenly() {
        for pipes in [8, 31, 32, 79] {
            let dealer = Dealer::new(Sharding::Hash, pipes);
            let mut counts = vec![0; pipes];
            for number in 0..6000u32 {
                let letters: Vec<u8> = (0..4).map(|place| b'A' + (number / 26u32.pow(place) % 26) as u8).collect();
                counts[dealer.pipe_of(&letters)] += 1;
            }
            let most = counts.iter().max().unwrap();
            assert!(most * pipes < 6000 * 3 / 2, "{pipes}: {counts:?}");
        }
    }

    proptest! {
        #[test]
        fn every_symbol_has_a_pipe_and_the_alphabet_its_order(a in "[ -~]{0,20}", b in "[A-Z]{1,6}", c in "[A-Z]{1,6}", pipes in 1usize..200) {
            for sharding in [Sharding::Hash, Sharding::Alphabet] {
                prop_assert!(Dealer::new(sharding, pipes).pipe_of(a.as_bytes()) < pipes);
            }
            let dealer = Dealer::new(Sharding::Alphabet, pipes);
            let (first, last) = if b <= c { (b, c) } else { (c, b) };
            prop_assert!(dealer.pipe_of(first.as_bytes()) <= dealer.pipe_of(last.as_bytes()));
        }
    }
}
