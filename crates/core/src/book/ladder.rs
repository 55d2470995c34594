//! The ticks next to the touch: each has its own place, and bits say which of them stand. Nothing is searched or moved.
//!
//! Tick 0 is the one nearest to the touch, with room before it for a market that moves. Ticks are told by one multiplication:
//! the distance from tick 0 times the inverse of the tick modulo 2^64 is the number of ticks where the distance is a whole
//! number of them, and larger than any ladder where it is not (Warren, Hacker's Delight, "Test for zero remainder").

use super::sorted::Priced;
use crate::decimal::Decimal;
use crate::record::Side;

/// One word of bits says which of the words stand: the best tick is two steps away.
const TICKS: usize = 64 * 64;
/// Ticks before the best level when the ladder is set up.
const ROOM: usize = TICKS / 8;
/// Words behind which the best level has gone too far from the ladder's beginning.
const WORDS_NEAR: u32 = 48;

/// The lattice on which a market's prices lie: whole numbers of `tick` from any of them, at a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    scale: u8,
    tick: u64,
}

impl Grid {
    /// The widest grid that holds these prices; None for fewer than two or where one has no mantissa at the finest scale.
    pub fn of(prices: impl Iterator<Item = Decimal> + Clone) -> Option<Self> {
        let scale = prices.clone().map(|price| price.scale).max()?;
        let mut mantissas = prices.map(|price| price.rescale(scale));
        let first = mantissas.next()??;
        let tick = mantissas.try_fold(0, |tick, price| Some(common_divisor(tick, price?.abs_diff(first))))?;
        (tick > 0).then_some(Self { scale, tick })
    }
}

/// The greatest; of 0 and a number the number.
fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[derive(Clone, Debug)]
pub(super) struct Ladder<T> {
    is_ask: bool,
    scale: u8,
    tick: u64,
    /// The inverse of the tick's odd part, and how often two divides the tick.
    inverse: u64,
    twos: u32,
    /// The mantissa of tick 0.
    base: i64,
    /// The first price behind the last tick.
    end: Decimal,
    levels: Vec<T>,
    standing: [u64; TICKS / 64],
    words: u64,
    count: usize,
}

impl<T: Priced> Ladder<T> {
    /// A ladder of no levels for a side whose best level is `best`, in memory that it takes; None where its prices do not fit
    /// 63 bits.
    pub fn new(side: Side, grid: Grid, best: &T, memory: &mut Vec<T>) -> Option<Self> {
        let mut ladder = Self {
            is_ask: side == Side::Ask,
            scale: grid.scale,
            tick: grid.tick,
            inverse: inverse(grid.tick >> grid.tick.trailing_zeros()),
            twos: grid.tick.trailing_zeros(),
            base: 0,
            end: Decimal::ZERO,
            levels: Vec::new(),
            standing: [0; TICKS / 64],
            words: 0,
            count: 0,
        };
        ladder.put_at(&best.price())?;
        ladder.levels = std::mem::take(memory);
        // What stands at a tick counts only where its bit is set.
        ladder.levels.resize(TICKS, *best);
        Some(ladder)
    }

    pub fn into_memory(self) -> Vec<T> {
        self.levels
    }

    /// Lies anew, for a best price: [`ROOM`] before it. The levels stay where they were counted from.
    fn put_at(&mut self, best: &Decimal) -> Option<()> {
        let best = i128::from(best.rescale(self.scale)?);
        let out = i128::from(self.tick) * if self.is_ask { 1 } else { -1 };
        let base = i64::try_from(best - out * ROOM as i128).ok()?;
        let end = i64::try_from(i128::from(base) + out * TICKS as i128).ok()?;
        (self.base, self.end) = (base, Decimal::new(end, self.scale));
        Some(())
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// The first price that lies behind the ladder.
    pub fn end(&self) -> &Decimal {
        &self.end
    }

    /// The tick of a price; None: it lies before the ladder, behind it or between two ticks.
    #[inline]
    pub fn tick(&self, price: &Decimal) -> Option<usize> {
        let mantissa = if price.scale == self.scale { price.mantissa } else { price.rescale(self.scale)? };
        let tick = self.ticks_to(mantissa);
        (tick < TICKS as u64).then_some(tick as usize)
    }

    #[inline]
    fn ticks_to(&self, mantissa: i64) -> u64 {
        let out = if self.is_ask { mantissa.wrapping_sub(self.base) } else { self.base.wrapping_sub(mantissa) };
        (out as u64).wrapping_mul(self.inverse).rotate_right(self.twos)
    }

    #[inline]
    pub fn stands(&self, tick: usize) -> bool {
        self.standing[tick / 64] >> (tick % 64) & 1 == 1
    }

    #[inline]
    pub fn level(&self, tick: usize) -> &T {
        &self.levels[tick]
    }

    #[inline]
    pub fn level_mut(&mut self, tick: usize) -> &mut T {
        &mut self.levels[tick]
    }

    #[inline]
    pub fn insert(&mut self, tick: usize, level: T) {
        self.levels[tick] = level;
        self.standing[tick / 64] |= 1 << (tick % 64);
        self.words |= 1 << (tick / 64);
        self.count += 1;
    }

    #[inline]
    pub fn remove(&mut self, tick: usize) -> T {
        let word = &mut self.standing[tick / 64];
        *word &= !(1 << (tick % 64));
        self.words &= !(u64::from(*word == 0) << (tick / 64));
        self.count -= 1;
        self.levels[tick]
    }

    /// Whether nothing stands where the touch should be.
    #[inline]
    pub fn is_left_behind(&self) -> bool {
        self.words << (64 - WORDS_NEAR) == 0
    }

    /// The tick of the best level.
    #[inline]
    pub fn first(&self) -> Option<usize> {
        let word = self.words.trailing_zeros() as usize;
        self.standing.get(word).map(|bits| word * 64 + bits.trailing_zeros() as usize)
    }

    /// The next tick that stands.
    #[inline]
    fn after(&self, tick: usize) -> Option<usize> {
        let (word, bit) = (tick / 64, tick % 64);
        let rest = self.standing[word] & (u64::MAX << bit << 1);
        if rest != 0 {
            return Some(word * 64 + rest.trailing_zeros() as usize);
        }
        let word = (self.words & (u64::MAX << word << 1)).trailing_zeros() as usize;
        self.standing.get(word).map(|bits| word * 64 + bits.trailing_zeros() as usize)
    }

    fn last(&self) -> Option<usize> {
        let word = self.words.checked_ilog2()? as usize;
        self.standing[word].checked_ilog2().map(|bit| word * 64 + bit as usize)
    }

    pub fn best_first(&self) -> impl Iterator<Item = &T> + Clone {
        std::iter::successors(self.first(), |&tick| self.after(tick)).map(|tick| &self.levels[tick])
    }

    /// Levels that stand before a tick, counted no further than `most`.
    #[inline]
    pub fn rank(&self, tick: usize, most: usize) -> usize {
        let (last, mut words) = (tick / 64, self.words);
        let mut rank = 0;
        while rank < most {
            let word = words.trailing_zeros() as usize;
            if word >= last {
                rank += (self.standing[last] & ((1 << (tick % 64)) - 1)).count_ones() as usize;
                break;
            }
            rank += self.standing[word].count_ones() as usize;
            words &= words - 1;
        }
        rank
    }

    pub fn at_rank(&self, mut rank: usize) -> Option<&T> {
        let mut words = self.words;
        while words != 0 {
            let word = words.trailing_zeros() as usize;
            words &= words - 1;
            let mut bits = self.standing[word];
            let count = bits.count_ones() as usize;
            if rank < count {
                (0..rank).for_each(|_| bits &= bits - 1);
                return self.levels.get(word * 64 + bits.trailing_zeros() as usize);
            }
            rank -= count;
        }
        None
    }

    /// Takes out the worst level.
    pub fn pop_worst(&mut self) -> Option<T> {
        self.last().map(|tick| self.remove(tick))
    }

    /// Moves, so that `best` (which no level here is nearer than) has its room before it. What now lies behind the end is
    /// given to `out`, the worst first. False where it cannot lie there or is so far away that nothing would stay: nothing is
    /// done then.
    pub fn move_to(&mut self, best: &Decimal, mut out: impl FnMut(T)) -> bool {
        let before = self.base;
        if self.rescaled(best).is_none() || self.put_at(best).is_none() {
            return false;
        }
        // The new tick of what was at tick 0.
        let nearer = i128::from(before) - i128::from(self.base);
        let shift = (if self.is_ask { nearer } else { -nearer }) / i128::from(self.tick);
        let ticks = TICKS as i128;
        if shift <= -ticks || shift >= ticks {
            let end = i128::from(self.end.mantissa) + nearer;
            (self.base, self.end.mantissa) = (before, end as i64);
            return false;
        }
        while let Some(last) = self.last().filter(|&last| last as i128 + shift >= ticks) {
            out(self.remove(last));
        }
        let standing = std::mem::replace(&mut self.standing, [0; TICKS / 64]);
        self.words = 0;
        for (word, mut bits) in standing.into_iter().enumerate() {
            while bits != 0 {
                let tick = (word * 64) as i128 + i128::from(bits.trailing_zeros()) + shift;
                bits &= bits - 1;
                let tick = tick as usize;
                self.standing[tick / 64] |= 1 << (tick % 64);
                self.words |= 1 << (tick / 64);
            }
        }
        match usize::try_from(shift) {
            Ok(out) => self.levels.copy_within(..TICKS - out, out),
            Err(_) => self.levels.copy_within(shift.unsigned_abs() as usize.., 0),
        }
        true
    }

    /// The mantissa of a price that lies on the grid.
    fn rescaled(&self, price: &Decimal) -> Option<i64> {
        let mantissa = price.rescale(self.scale)?;
        mantissa.abs_diff(self.base).is_multiple_of(self.tick).then_some(mantissa)
    }
}

/// The inverse of an odd number modulo 2^64: each step doubles the bits that are right, of which a number has three itself.
fn inverse(odd: u64) -> u64 {
    (0..5).fold(odd, |inverse, _| inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse))))
}
