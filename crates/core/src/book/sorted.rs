//! Sorted levels: one side of a book, in chunks of a sorted vector, the best level at the end of the last chunk.
//!
//! Nearly all changes fall near the touch, so they move the few levels behind them in one chunk. A book of some hundred
//! levels is one chunk, a plain sorted vector; a full-depth book of 50,000 is some hundred chunks behind a short list of
//! bounds that stays in the nearest cache. What was measured against it stands in bench/record.

use crate::decimal::Decimal;
use crate::record::Side;
use std::cmp::Ordering;

/// A chunk of this many levels is split in two; one of an eighth of it joins its neighbour where both together stay below
/// half. examples/book_bench.rs holds other sizes against it.
const CHUNK_LEVELS: usize = 128;
/// Chunks that became empty and are kept for the next split.
const SPARE_CHUNKS_MOST: usize = 8;
/// Dropped levels that may stand at the head of the first chunk before what is behind them moves up. A book of few levels
/// that is cut after each message moves them once in so many drops, and stays in few cache lines.
const DEAD_MOST: usize = 24;
/// Levels next to the touch that are compared one by one before the search halves: most changes fall on them, and a
/// straight run is predicted better than halving.
const NEAR: usize = 8;

/// What stands in a side of a book: something with a price.
pub(super) trait Priced: Copy {
    fn price(&self) -> Decimal;
}

/// Where a level stands or would stand: its chunk and its place in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    chunk: usize,
    at: usize,
}

/// The levels of one side. Only the bench gives another chunk size.
#[derive(Clone, Debug)]
pub(super) struct Sorted<T, const LEVELS: usize = CHUNK_LEVELS> {
    side: Side,
    /// Worst first, never without a chunk; no chunk is empty but the only one.
    chunks: Vec<Vec<T>>,
    /// Every level of a chunk is at its bound or nearer to the touch, and farther out than the next bound. The first
    /// chunk takes all that is farther out than the second bound: its own bound means nothing.
    bounds: Vec<Decimal>,
    spare: Vec<Vec<T>>,
    /// Levels at the head of the first chunk that were cut and count no more.
    dead: usize,
    length: usize,
}

impl<T: Priced, const LEVELS: usize> Sorted<T, LEVELS> {
    pub fn new(side: Side) -> Self {
        Self { side, chunks: vec![Vec::new()], bounds: vec![Decimal::ZERO], spare: Vec::new(), dead: 0, length: 0 }
    }

    pub fn side(&self) -> Side {
        self.side
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn clear(&mut self) {
        // The memory serves the next snapshot.
        self.spare.extend(self.chunks.drain(1..));
        self.spare.iter_mut().for_each(Vec::clear);
        self.bounds.truncate(1);
        self.chunks[0].clear();
        (self.dead, self.length) = (0, 0);
    }

    pub fn best_first(&self) -> impl Iterator<Item = &T> + Clone {
        // The dead ones come last of all.
        self.chunks.iter().rev().flat_map(|chunk| chunk.iter().rev()).take(self.length)
    }

    pub fn best(&self) -> Option<&T> {
        self.chunks.last().filter(|_| self.length > 0).and_then(|chunk| chunk.last())
    }

    /// The level of a rank, the best of which is 0.
    #[inline]
    pub fn at_rank(&self, mut rank: usize) -> Option<&T> {
        if rank >= self.length {
            return None;
        }
        for chunk in self.chunks.iter().rev() {
            if let Some(at) = chunk.len().checked_sub(rank + 1) {
                return chunk.get(at);
            }
            rank -= chunk.len();
        }
        None
    }

    /// Where a price stands, or where it would stand.
    #[inline]
    pub fn find(&self, price: &Decimal) -> Result<Place, Place> {
        let last = self.chunks.len() - 1;
        if last > 0 && self.nearer(&self.bounds[last], price).is_lt() {
            // The first chunk whose successor's bound is nearer than the price.
            let chunk = self.bounds[1..last].partition_point(|bound| self.nearer(price, bound).is_le());
            return self.find_in(chunk, self.chunks[chunk].len(), price);
        }
        let levels = &self.chunks[last];
        let standing = &levels[if last == 0 { self.dead } else { 0 }..];
        for (rank, level) in standing.iter().rev().take(NEAR).enumerate() {
            match self.nearer(&level.price(), price) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Place { chunk: last, at: levels.len() - 1 - rank }),
                Ordering::Greater => return Err(Place { chunk: last, at: levels.len() - rank }),
            }
        }
        self.find_in(last, levels.len() - standing.len().min(NEAR), price)
    }

    fn find_in(&self, chunk: usize, end: usize, price: &Decimal) -> Result<Place, Place> {
        let start = if chunk == 0 { self.dead } else { 0 };
        // Worst first: what is farther out than the price comes before it.
        let found = self.chunks[chunk][start..end].binary_search_by(|level| self.nearer(price, &level.price()));
        found.map(|at| Place { chunk, at: start + at }).map_err(|at| Place { chunk, at: start + at })
    }

    /// Less where `a` is nearer to the touch than `b`.
    #[inline]
    pub fn nearer(&self, a: &Decimal, b: &Decimal) -> Ordering {
        if self.side == Side::Ask {
            a.cmp_value(b)
        } else {
            b.cmp_value(a)
        }
    }

    /// Levels that are nearer to the touch; counted no further than `most`.
    #[inline]
    pub fn rank(&self, place: Place, most: usize) -> usize {
        self.ahead(place.chunk, self.chunks[place.chunk].len() - place.at - 1, most)
    }

    #[inline]
    fn ahead(&self, chunk: usize, in_chunk: usize, most: usize) -> usize {
        let mut rank = in_chunk;
        for nearer in self.chunks[chunk + 1..].iter().rev() {
            if rank >= most {
                break;
            }
            rank += nearer.len();
        }
        rank
    }

    /// The rank that a level would have at a place where none is.
    #[inline]
    pub fn rank_before(&self, place: Place, most: usize) -> usize {
        self.ahead(place.chunk, self.chunks[place.chunk].len() - place.at, most)
    }

    #[inline]
    pub fn get(&self, place: Place) -> &T {
        &self.chunks[place.chunk][place.at]
    }

    /// The changes take places as [`Sorted::find`] gave them, and no other change between.
    #[inline]
    pub fn get_mut(&mut self, place: Place) -> &mut T {
        &mut self.chunks[place.chunk][place.at]
    }

    #[inline]
    pub fn insert(&mut self, place: Place, level: T) {
        self.length += 1;
        let levels = &mut self.chunks[place.chunk];
        levels.insert(place.at, level);
        if levels.len() >= LEVELS {
            if place.chunk == 0 && self.dead > 0 {
                return self.bury();
            }
            // What grows at its end, as in a snapshot, is left fuller.
            let at = if place.at + 1 == levels.len() { LEVELS * 3 / 4 } else { LEVELS / 2 };
            self.split(place.chunk, at);
        }
    }

    #[inline]
    pub fn remove(&mut self, place: Place) -> T {
        self.length -= 1;
        let levels = &mut self.chunks[place.chunk];
        let level = levels.remove(place.at);
        let standing = levels.len() - if place.chunk == 0 { self.dead } else { 0 };
        if standing < LEVELS / 8 && self.chunks.len() > 1 {
            self.bury();
            self.join(place.chunk);
        }
        level
    }

    /// What stands in the first chunk moves to its head.
    fn bury(&mut self) {
        self.chunks[0].drain(..self.dead);
        self.dead = 0;
    }

    fn split(&mut self, chunk: usize, at: usize) {
        let mut nearer = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(LEVELS));
        nearer.extend(self.chunks[chunk].drain(at..));
        self.bounds.insert(chunk + 1, nearer[0].price());
        self.chunks.insert(chunk + 1, nearer);
    }

    /// Joins a chunk of few levels with the one farther out (the first with the next), unless that is too full. An empty
    /// one goes in any case.
    fn join(&mut self, chunk: usize) {
        let into = chunk.saturating_sub(1);
        let together = self.chunks[into].len() + self.chunks[into + 1].len();
        if together > LEVELS / 2 && !self.chunks[chunk].is_empty() {
            return;
        }
        let mut nearer = self.chunks.remove(into + 1);
        self.bounds.remove(into + 1);
        self.chunks[into].append(&mut nearer);
        if self.spare.len() < SPARE_CHUNKS_MOST {
            self.spare.push(nearer);
        }
    }

    /// Puts a level in that is nearer to the touch than all.
    pub fn push_best(&mut self, level: T) {
        let chunk = self.chunks.len() - 1;
        self.insert(Place { chunk, at: self.chunks[chunk].len() }, level);
    }

    pub fn pop_best(&mut self) -> Option<T> {
        let chunk = self.chunks.len() - 1;
        (self.length > 0).then(|| self.remove(Place { chunk, at: self.chunks[chunk].len() - 1 }))
    }

    /// Drops the worst levels but the best `depth`, the outermost first. Nothing that stays is moved for each of them.
    pub fn cut(&mut self, depth: usize, mut dropped: impl FnMut(T)) {
        let mut excess = self.length.saturating_sub(depth);
        self.length -= excess;
        let mut gone = 0;
        for chunk in &self.chunks {
            let standing = &chunk[if gone == 0 { self.dead } else { 0 }..];
            standing.iter().take(excess).copied().for_each(&mut dropped);
            if excess < standing.len() || gone + 1 == self.chunks.len() {
                break;
            }
            excess -= standing.len();
            gone += 1;
        }
        if gone > 0 {
            self.dead = 0;
            self.bounds.drain(..gone);
            for mut chunk in self.chunks.drain(..gone) {
                chunk.clear();
                if self.spare.len() < SPARE_CHUNKS_MOST {
                    self.spare.push(chunk);
                }
            }
        }
        self.dead += excess;
        if self.dead > DEAD_MOST {
            self.bury();
        }
    }

    /// Replaces everything by these levels, in any order; of equal prices the last wins. Those that `keep` refuses are
    /// left out afterwards: a zero size that comes last is no level.
    pub fn load(&mut self, levels: impl DoubleEndedIterator<Item = T>, keep: impl Fn(&T) -> bool, depth: usize) {
        self.clear();
        let mut refused = false;
        // From the last, so that what is there already came later. Snapshots come best first: each level goes to the end.
        for level in levels.rev() {
            if let Err(place) = self.find(&level.price()) {
                refused |= !keep(&level);
                self.insert(place, level);
            }
        }
        if refused {
            self.retain(keep);
        }
        self.cut(depth, drop);
    }

    fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.bury();
        self.chunks.iter_mut().for_each(|chunk| chunk.retain(&keep));
        for chunk in (0..self.chunks.len()).rev() {
            if self.chunks[chunk].is_empty() && self.chunks.len() > 1 {
                self.spare.push(self.chunks.remove(chunk));
                self.bounds.remove(chunk);
            }
        }
        self.length = self.chunks.iter().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    impl Priced for i64 {
        fn price(&self) -> Decimal {
            Decimal::new(*self, 0)
        }
    }

    fn check(sorted: &Sorted<i64>, twin: &BTreeSet<i64>) {
        let own: Vec<i64> = sorted.best_first().copied().collect();
        let theirs: Vec<i64> = match sorted.side() {
            Side::Ask => twin.iter().copied().collect(),
            _ => twin.iter().rev().copied().collect(),
        };
        assert_eq!(own, theirs);
        assert_eq!(sorted.len(), twin.len());
        assert!(sorted.chunks.len() == 1 || sorted.chunks.iter().all(|chunk| !chunk.is_empty()));
        assert_eq!(sorted.chunks.len(), sorted.bounds.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Thousands of levels that come and go, in runs, so that chunks split, join and empty.
        #[test]
        fn any_history_keeps_the_order(
            ask in any::<bool>(),
            start in prop::collection::vec(0i64..3000, 0..800),
            runs in prop::collection::vec(
                (0i64..3000, 1i64..300, any::<bool>(), any::<bool>(), prop::option::weighted(0.3, 0usize..900)),
                1..25,
            ),
        ) {
            let mut sorted = Sorted::<i64>::new(if ask { Side::Ask } else { Side::Bid });
            let mut twin: BTreeSet<i64> = start.iter().copied().collect();
            // What is refused may come at any price, and empties chunks.
            sorted.load(start.iter().copied(), |level| level % 3 == 0, usize::MAX);
            check(&sorted, &twin.iter().copied().filter(|level| level % 3 == 0).collect());
            sorted.load(start.iter().copied(), |_| true, 100);
            sorted.load(start.into_iter(), |_| true, usize::MAX);
            check(&sorted, &twin);
            for (from, count, add, up, cut) in runs {
                for step in 0..count {
                    let price = if up { from + step } else { from - step };
                    let found = sorted.find(&Decimal::new(price, 0));
                    assert_eq!(found.is_ok(), twin.contains(&price));
                    match found {
                        Ok(place) if !add => {
                            let ahead = sorted.best_first().position(|&level| level == price).unwrap();
                            assert_eq!(sorted.rank(place, 25).min(25), ahead.min(25));
                            assert_eq!(sorted.remove(place), price);
                            twin.remove(&price);
                        }
                        Err(place) if add => {
                            sorted.insert(place, price);
                            twin.insert(price);
                        }
                        _ => {}
                    }
                }
                if let Some(depth) = cut {
                    let mut dropped = Vec::new();
                    sorted.cut(depth, |level| dropped.push(level));
                    let pop = |twin: &mut BTreeSet<i64>| if ask { twin.pop_last() } else { twin.pop_first() };
                    assert!(dropped.into_iter().all(|level| pop(&mut twin) == Some(level)));
                    assert!(twin.len() <= depth);
                }
                check(&sorted, &twin);
            }
            while !twin.is_empty() {
                let mut dropped = Vec::new();
                sorted.cut(twin.len() - 1, |worst| dropped.push(worst));
                assert_eq!(dropped, [if ask { twin.pop_last() } else { twin.pop_first() }.unwrap()]);
                check(&sorted, &twin);
            }
        }
    }
}
