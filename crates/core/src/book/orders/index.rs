//! Where an order lies, by its id: an open table of eight bytes an order, of which the orders keep the ids.
//!
//! An entry is 32 bits of the id's hash and the order's place. A probe reads entries that lie side by side, most often one;
//! whose hash fits is asked for its id, which an order that is looked for is about to be read for anyway. With ids that the
//! venue chose so that they collide it gets slow and stays right. Nothing iterates over it.

/// Entries of the smallest table.
const ENTRIES_LEAST: usize = 64;
const EMPTY: u64 = 0;

#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// A power of two of them; the upper half is the hash, the lower one more than the place.
    entries: Vec<u64>,
    /// What a hash is shifted by for the entry where its probe begins.
    shift: u32,
    length: usize,
}

/// Ids are often counted up or made of parts: both halves count, and the product's upper half depends on all of them.
#[inline]
fn hash(id: u64) -> u32 {
    ((id ^ (id >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

impl Index {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn clear(&mut self) {
        self.entries.fill(EMPTY);
        self.length = 0;
    }

    /// The entry where the probe for a hash begins.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        (hash >> self.shift) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.entries.len() - 1)
    }

    /// Asks for the memory that [`Index::find`] is about to read.
    #[inline]
    pub fn prefetch(&self, id: u64) {
        if let Some(entry) = self.entries.get(self.home(hash(id))) {
            super::slab::prefetch(entry);
        }
    }

    /// The place of the first entry of an id's hash: the order's where it is there, most likely.
    #[inline]
    pub fn likely(&self, id: u64) -> Option<u32> {
        self.find(id, |_| true)
    }

    /// The place of an id, of which `is` says whether it lies at a place.
    #[inline]
    pub fn find(&self, id: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.entry(id, is).map(|at| self.entries[at] as u32 - 1)
    }

    #[inline]
    fn entry(&self, id: u64, is: impl Fn(u32) -> bool) -> Option<usize> {
        let hash = hash(id);
        let mut at = self.home(hash);
        // There is always an empty entry, but in a table of none.
        loop {
            match self.entries.get(at) {
                None | Some(&EMPTY) => return None,
                Some(&entry) if (entry >> 32) as u32 == hash && is(entry as u32 - 1) => return Some(at),
                Some(_) => at = self.after(at),
            }
        }
    }

    /// Puts an id in that is not there.
    #[inline]
    pub fn insert(&mut self, id: u64, place: u32) {
        if self.length * 4 >= self.entries.len() * 3 {
            self.grow();
        }
        self.length += 1;
        self.put(u64::from(hash(id)) << 32 | (u64::from(place) + 1));
    }

    #[inline]
    fn put(&mut self, entry: u64) {
        let mut at = self.home((entry >> 32) as u32);
        while self.entries[at] != EMPTY {
            at = self.after(at);
        }
        self.entries[at] = entry;
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.entries.len() * 2).max(ENTRIES_LEAST);
        self.shift = 32 - size.ilog2();
        let before = std::mem::replace(&mut self.entries, vec![EMPTY; size]);
        before.into_iter().filter(|&entry| entry != EMPTY).for_each(|entry| self.put(entry));
    }

    /// Takes an id out that lies at `place`.
    #[inline]
    pub fn remove(&mut self, id: u64, place: u32) {
        let Some(mut hole) = self.entry(id, |at| at == place) else { return };
        self.length -= 1;
        // What stands behind it and would not be found past the hole moves into it.
        let mut at = hole;
        loop {
            at = self.after(at);
            let entry = self.entries[at];
            if entry == EMPTY {
                break;
            }
            let home = self.home((entry >> 32) as u32);
            let mask = self.entries.len() - 1;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Ids that come and go, also such whose hashes begin at one entry or are equal, against a map.
        #[test]
        fn index_and_map_agree(acts in prop::collection::vec((0u64..400, any::<bool>(), 0u8..3), 0..600)) {
            let (mut index, mut twin) = (Index::default(), BTreeMap::new());
            // The place of an id is told by the twin, as the orders tell theirs.
            let mut ids: Vec<u64> = Vec::new();
            for (number, add, family) in acts {
                let id = match family {
                    0 => number,
                    1 => number << 40,
                    // Both halves alike: what is hashed has an upper half only, and few hashes come out.
                    _ => (number % 7) << 32 | (number % 7),
                };
                let found = index.find(id, |at| ids[at as usize] == id);
                prop_assert_eq!(found, twin.get(&id).copied());
                match found {
                    None if add => {
                        let place = ids.len() as u32;
                        ids.push(id);
                        index.insert(id, place);
                        twin.insert(id, place);
                    }
                    Some(place) if !add => {
                        index.remove(id, place);
                        twin.remove(&id);
                    }
                    _ => {}
                }
                prop_assert_eq!(index.len(), twin.len());
            }
            for (&id, &place) in &twin {
                prop_assert_eq!(index.find(id, |at| ids[at as usize] == id), Some(place));
            }
            index.clear();
            prop_assert!(twin.keys().all(|&id| index.find(id, |_| true).is_none()));
        }
    }
}
