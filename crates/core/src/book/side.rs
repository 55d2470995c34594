//! One side of a book: a vector sorted by value, the best level at the end.

use super::Level;
use crate::decimal::Decimal;
use crate::event::Row;
use crate::record::Side;
use std::cmp::Ordering;

/// Levels next to the touch that are compared one by one before the search halves: most changes fall on them, and a
/// straight run is predicted better than halving.
const NEAR: usize = 8;

/// Levels of one side. A rank counts from the best, 0.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    side: Side,
    worst_first: Vec<Level>,
}

impl Levels {
    pub fn new(side: Side) -> Self {
        Self { side, worst_first: Vec::new() }
    }

    pub fn side(&self) -> Side {
        self.side
    }

    pub fn len(&self) -> usize {
        self.worst_first.len()
    }

    pub fn clear(&mut self) {
        self.worst_first.clear();
    }

    pub fn best_first(&self) -> std::iter::Rev<std::slice::Iter<'_, Level>> {
        self.worst_first.iter().rev()
    }

    /// The rank of a price, or the rank that it would have.
    #[inline]
    pub fn find(&self, price: &Decimal) -> Result<usize, usize> {
        for (rank, level) in self.best_first().take(NEAR).enumerate() {
            match self.nearer(&level.price, price) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(rank),
                Ordering::Greater => return Err(rank),
            }
        }
        let far = self.len().saturating_sub(NEAR);
        // Worst first: what is farther out than the price comes before it.
        let found = self.worst_first[..far].binary_search_by(|level| self.nearer(price, &level.price));
        found.map(|at| self.len() - 1 - at).map_err(|at| self.len() - at)
    }

    /// Less where `a` is nearer to the touch than `b`.
    #[inline]
    fn nearer(&self, a: &Decimal, b: &Decimal) -> Ordering {
        if self.side == Side::Ask {
            a.cmp_value(b)
        } else {
            b.cmp_value(a)
        }
    }

    /// The three changes take ranks as [`Levels::find`] gave them.
    #[inline]
    pub fn set(&mut self, rank: usize, level: Level) {
        let at = self.len() - 1 - rank;
        self.worst_first[at] = level;
    }

    #[inline]
    pub fn insert(&mut self, rank: usize, level: Level) {
        let at = self.len() - rank;
        self.worst_first.insert(at, level);
    }

    #[inline]
    pub fn remove(&mut self, rank: usize) {
        let at = self.len() - 1 - rank;
        self.worst_first.remove(at);
    }

    /// Keeps the best `depth` levels and gives those dropped, the outermost first.
    pub fn cut(&mut self, depth: usize) -> std::vec::Drain<'_, Level> {
        let excess = self.len().saturating_sub(depth);
        self.worst_first.drain(..excess)
    }

    /// Takes this side's rows of a snapshot, in any order; of equal prices the last wins.
    pub fn load(&mut self, rows: &[Row], depth: usize) {
        let side = self.side;
        let own = rows.iter().filter(|row| row.side == side);
        let mut levels: Vec<Level> =
            own.map(|row| Level { price: row.price, size: row.size, count: row.count }).collect();
        levels.reverse();
        // The sort is stable and the rows were reversed: of equal prices the last sent comes first and is the one kept.
        levels.sort_by(|a, b| self.nearer(&b.price, &a.price));
        levels.dedup_by(|later, kept| later.price.cmp_value(&kept.price).is_eq());
        levels.retain(|level| !level.size.is_zero());
        self.worst_first = levels;
        self.cut(depth);
    }
}
