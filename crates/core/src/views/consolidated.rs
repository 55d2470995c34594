//! The best bid and offer over several books: only those that are LIVE set it.

use crate::book::Level as BookLevel;
use std::collections::BTreeMap;

/// A book's best levels.
pub(super) type Sides = [Option<BookLevel>; 2];

/// The best level of a side and the instrument that sets it.
pub(super) type Best = [Option<(BookLevel, u32)>; 2];

/// The books of all lanes of one reader, by lane and instrument, while they are LIVE.
#[derive(Debug, Default)]
pub struct Consolidated {
    live: BTreeMap<(usize, u32), Sides>,
    last: Best,
}

impl Consolidated {
    /// Takes a book's best levels, None where it is not LIVE; gives the best of all where that changed.
    pub(super) fn set(&mut self, lane: usize, instrument_id: u32, sides: Option<Sides>) -> Option<Best> {
        match sides {
            Some(sides) => self.live.insert((lane, instrument_id), sides),
            None => self.live.remove(&(lane, instrument_id)),
        };
        let best = self.best();
        (best != self.last).then(|| {
            self.last = best;
            best
        })
    }

    /// Forgets the books of a lane, as they were lost.
    pub(super) fn forget(&mut self, lane: usize) {
        self.live.retain(|&(other, _), _| other != lane);
        self.last = self.best();
    }

    /// Of equal prices the larger size is the better, of equal sizes the first instrument.
    fn best(&self) -> Best {
        let mut best: Best = [None, None];
        for (&(_, id), sides) in &self.live {
            for (side, level) in sides.iter().enumerate() {
                let Some(level) = level else { continue };
                let is_better = best[side].is_none_or(|(held, _)| {
                    let price = match side {
                        0 => level.price.cmp_value(&held.price),
                        _ => held.price.cmp_value(&level.price),
                    };
                    price.then(level.size.cmp_value(&held.size)).is_gt()
                });
                if is_better {
                    best[side] = Some((*level, id));
                }
            }
        }
        best
    }
}
