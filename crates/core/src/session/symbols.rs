//! From a symbol on the wire to an instrument's slot: an open table keyed by xxh3, the same on every machine.

use xxhash_rust::xxh3::xxh3_64;

/// The slot of an instrument: its index in the session. Slots are never reused.
pub type Slot = u32;

/// Marks an empty place, and in requests the whole connection. One less than the largest number, so that it can stand in a
/// range.
pub const NO_SLOT: Slot = Slot::MAX - 1;

#[derive(Debug, Default)]
pub struct Symbols {
    /// A power of two places, at most half of them taken, so that a probe ends soon and always.
    places: Vec<(u64, Slot)>,
    names: Vec<Box<[u8]>>,
}

impl Symbols {
    /// The slot of a symbol, exactly as the venue spells it.
    pub fn find(&self, symbol: &[u8]) -> Option<Slot> {
        if self.places.is_empty() {
            return None;
        }
        let hash = xxh3_64(symbol);
        let mut place = hash as usize & (self.places.len() - 1);
        loop {
            let (kept, slot) = self.places[place];
            if slot == NO_SLOT {
                return None;
            }
            if kept == hash && *self.names[slot as usize] == *symbol {
                return Some(slot);
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }

    /// Gives the next slot to a symbol that is not in the table.
    pub fn add(&mut self, symbol: &[u8]) -> Slot {
        let slot = self.names.len() as Slot;
        self.names.push(symbol.into());
        if self.names.len() * 2 > self.places.len() {
            let wanted = (self.names.len() * 4).next_power_of_two();
            self.places = vec![(0, NO_SLOT); wanted];
            for slot in 0..self.names.len() as Slot {
                self.put(xxh3_64(&self.names[slot as usize]), slot);
            }
        } else {
            self.put(xxh3_64(symbol), slot);
        }
        slot
    }

    fn put(&mut self, hash: u64, slot: Slot) {
        let mut place = hash as usize & (self.places.len() - 1);
        while self.places[place].1 != NO_SLOT {
            place = (place + 1) & (self.places.len() - 1);
        }
        self.places[place] = (hash, slot);
    }

    /// Calls `found` for every symbol that stands as a whole word in the text, in the venue's spelling or in lower case: who a
    /// message that could not be read may have been about.
    pub fn mentioned(&self, text: &[u8], mut found: impl FnMut(Slot)) {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.:".contains(byte);
        for token in text.split(|byte| !word(byte)).filter(|token| !token.is_empty()) {
            let slot = self.find(token).or_else(|| self.find(&token.to_ascii_uppercase()));
            if let Some(slot) = slot {
                found(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_is_found_and_no_other() {
        let mut symbols = Symbols::default();
        assert_eq!(symbols.find(b"BTC/USD"), None);
        for number in 0..1000 {
            assert_eq!(symbols.add(format!("S{number}/USD").as_bytes()), number);
        }
        for number in 0..1000 {
            assert_eq!(symbols.find(format!("S{number}/USD").as_bytes()), Some(number));
            assert_eq!(symbols.find(format!("S{number}/EUR").as_bytes()), None);
        }
    }

    #[test]
    fn only_whole_words_are_mentioned() {
        let mut symbols = Symbols::default();
        symbols.add(b"BTC/USD");
        symbols.add(b"BTCUSDT");
        let mut slots = Vec::new();
        symbols.mentioned(br#"{"a":"WBTC/USD","b":"BTC/USD","s":"btcusdt@depth","#, |slot| slots.push(slot));
        assert_eq!(slots, [0, 1]);
    }
}
