//! Which pipe a symbol goes to.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How symbols are dealt to pipes. A symbol always goes to the same pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharding {
    /// By a hash of the symbol: even over many symbols, whatever they are.
    Hash,
    /// By the alphabet: neighbouring symbols share a pipe.
    Alphabet,
    /// By a map of symbols; those that it does not name by hash.
    File,
}

/// Deals symbols to so many pipes.
#[derive(Clone, Debug)]
pub struct Dealer {
    sharding: Sharding,
    pipes: u64,
    map: Map,
    /// For each pipe that failed, the pipes that lived then; empty while none failed.
    heirs: Vec<Vec<usize>>,
}

impl Dealer {
    /// `pipes` is at least 1.
    pub fn new(sharding: Sharding, pipes: usize) -> Self {
        Self { sharding, pipes: pipes.max(1) as u64, map: Map::default(), heirs: Vec::new() }
    }

    /// The same with a map of symbols to pipes, which are below the number of pipes.
    pub fn with_map(mut self, homes: &BTreeMap<String, usize>) -> Self {
        self.map = Map::new(homes, self.pipes as usize);
        self
    }

    /// The pipe of a symbol, below the number of pipes.
    #[inline]
    pub fn pipe_of(&self, symbol: &[u8]) -> usize {
        self.pipe_within(symbol, symbol.len())
    }

    /// The pipe of the symbol that the first `length` bytes of `text` are: the more stands behind it, the sooner it is known.
    #[inline]
    pub fn pipe_within(&self, text: &[u8], length: usize) -> usize {
        let symbol = text.get(..length).unwrap_or(text);
        let home = match self.sharding {
            Sharding::Hash => self.share(u64::from(hash_within(text, length))),
            Sharding::Alphabet => self.share(rank(symbol)),
            Sharding::File => {
                let hash = hash_within(text, length);
                self.map.find(symbol, hash).unwrap_or_else(|| self.share(u64::from(hash)))
            }
        };
        if self.heirs.is_empty() {
            return home;
        }
        self.heir_of(home, symbol)
    }

    /// The pipe of a place between 0 and 2^32.
    #[inline]
    fn share(&self, place: u64) -> usize {
        ((place * self.pipes) >> 32) as usize
    }

    /// Deals the symbols of a pipe to those that live, for ever. Symbols of other pipes stay where they are.
    pub fn fail_over(&mut self, pipe: usize, living: Vec<usize>) {
        self.heirs.resize(self.pipes as usize, Vec::new());
        self.heirs[pipe] = living;
    }

    /// An heir lived when the pipe failed, so whoever follows failed later: this ends.
    #[cold]
    fn heir_of(&self, mut pipe: usize, symbol: &[u8]) -> usize {
        while !self.heirs[pipe].is_empty() {
            let heirs = &self.heirs[pipe];
            // Another part of the hash than the one that led here, and another one for each pipe.
            let spread = (u64::from(hash(symbol)) << 16 | pipe as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            pipe = heirs[((spread * heirs.len() as u64) >> 32) as usize];
        }
        pipe
    }
}

/// Symbols and their pipes: an open table, at most half full, searched from the symbol's hash on.
#[derive(Clone, Debug, Default)]
struct Map {
    slots: Vec<Option<(Box<[u8]>, usize)>>,
}

impl Map {
    fn new(homes: &BTreeMap<String, usize>, pipes: usize) -> Self {
        let mut slots = vec![None; (2 * homes.len()).next_power_of_two()];
        for (symbol, &pipe) in homes {
            let mask = slots.len() - 1;
            let mut at = hash(symbol.as_bytes()) as usize & mask;
            while slots[at].is_some() {
                at = (at + 1) & mask;
            }
            slots[at] = Some((symbol.as_bytes().into(), pipe.min(pipes - 1)));
        }
        Self { slots }
    }

    #[inline]
    fn find(&self, symbol: &[u8], hash: u32) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        // It is half empty, so this ends.
        while let Some((name, pipe)) = &self.slots[at] {
            if **name == *symbol {
                return Some(*pipe);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

/// 32 bits of a symbol: for each eight bytes as a little-endian number, the last filled up with zeros,
/// `h = (h ^ number) * 0x9E3779B97F4A7C15; h ^= h >> 32`. Documented, so that workers can compute it too.
#[inline]
pub fn hash(symbol: &[u8]) -> u32 {
    symbol.chunks(8).fold(0, |state, part| mixed(state, number(part))) as u32
}

/// The hash of the first `length` bytes of `text`. Symbols of one to eight letters come in no order that a processor could
/// guess, so that it must not matter how long they are.
#[inline]
fn hash_within(text: &[u8], length: usize) -> u32 {
    match text.first_chunk::<8>() {
        Some(eight) if (1..=8).contains(&length) => {
            let number = u64::from_le_bytes(*eight) & (u64::MAX >> (64 - 8 * length));
            mixed(0, number) as u32
        }
        _ => hash(text.get(..length).unwrap_or(text)),
    }
}

#[inline]
fn mixed(state: u64, number: u64) -> u64 {
    let state = (state ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    state ^ state >> 32
}

/// Up to eight bytes as a little-endian number: of two loads that may overlap, where there are four or more.
#[inline]
fn number(part: &[u8]) -> u64 {
    match (part.first_chunk::<4>(), part.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            let shift = 8 * (part.len() - 4);
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << shift
        }
        _ => part.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)),
    }
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

    #[test]
    fn the_symbols_of_a_failed_pipe_go_to_all_others_and_nothing_else_moves() {
        let symbols: Vec<String> = (0..4000).map(|number| format!("S{number}")).collect();
        let mut dealer = Dealer::new(Sharding::Hash, 5);
        let homes = |dealer: &Dealer| symbols.iter().map(|text| dealer.pipe_of(text.as_bytes())).collect::<Vec<_>>();
        let mut living: Vec<usize> = (0..5).collect();
        for failed in [3, 0, 4] {
            let before = homes(&dealer);
            living.retain(|&pipe| pipe != failed);
            dealer.fail_over(failed, living.clone());
            let after = homes(&dealer);
            for (&old, &new) in before.iter().zip(&after) {
                assert!(living.contains(&new) && (old == failed || old == new));
            }
            let gained = |heir| before.iter().zip(&after).filter(|pair| *pair == (&failed, &heir)).count();
            let most = living.iter().map(|&heir| gained(heir)).max().unwrap();
            let least = living.iter().map(|&heir| gained(heir)).min().unwrap();
            assert!(least > 0 && most < 2 * least, "{failed}: {least} to {most}");
        }
    }

    proptest! {
        /// The plain twin is the map itself.
        #[test]
        fn a_map_decides_for_the_symbols_that_it_names(
            homes in prop::collection::btree_map("[A-D]{0,5}", 0usize..7, 0..80), asked in prop::collection::vec("[A-D]{0,5}", 0..80)
        ) {
            let (dealer, plain) = (Dealer::new(Sharding::File, 7).with_map(&homes), Dealer::new(Sharding::Hash, 7));
            for symbol in homes.keys().chain(&asked) {
                let wanted = homes.get(symbol).copied().unwrap_or_else(|| plain.pipe_of(symbol.as_bytes()));
                prop_assert_eq!(dealer.pipe_of(symbol.as_bytes()), wanted);
            }
        }

        #[test]
        fn what_stands_behind_a_symbol_does_not_matter(symbol in "[A-Z.]{0,20}", behind in "[\",a-z0-9]{0,20}") {
            let text = format!("{symbol}{behind}");
            prop_assert_eq!(hash_within(text.as_bytes(), symbol.len()), hash(symbol.as_bytes()));
        }

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
