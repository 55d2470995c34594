//! One side of a book: a [`Ladder`] of the ticks next to the touch where that pays, and chunks ([`Sorted`]) for the rest.
//!
//! Every level in the ladder is nearer than its end, every one in the chunks is at its end or behind it, so a price is in one
//! of two places. A side has a ladder when it has many levels, enough of them next to the touch on one grid; it is tried with
//! each snapshot and now and then ([`Levels::look_again`]). What does not fit it never refuses a price: a market that moves
//! takes the ladder along, a price between two ticks makes the ticks finer, and where neither helps the side is chunks.

use super::ladder::{Grid, Ladder};
use super::sorted::{self, Priced, Sorted};
use crate::decimal::Decimal;
use crate::record::Side;
use std::cmp::Ordering;

/// A side of fewer levels is a chunk or two, which is as fast and smaller.
const LEVELS_LEAST: usize = 256;
/// Levels next to the touch that tell the grid, a quarter of which must find a place on it.
const SAMPLE: usize = 256;
/// Grids that are tried for a side, each finer than the one before.
const GRIDS_MOST: usize = 8;

/// Where a level stands or would stand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Tick(usize),
    Far(sorted::Place),
    /// Nothing stands there and nothing can as the ladder lies: [`Levels::make_room`].
    Nowhere,
}

#[derive(Clone, Debug)]
pub(super) struct Levels<T> {
    near: Option<Ladder<T>>,
    far: Sorted<T>,
    /// The memory of a ladder that was taken down, for the next.
    spare: Vec<T>,
}

impl<T: Priced> Levels<T> {
    pub fn new(side: Side) -> Self {
        Self { near: None, far: Sorted::new(side), spare: Vec::new() }
    }

    pub fn side(&self) -> Side {
        self.far.side()
    }

    pub fn len(&self) -> usize {
        self.near_len() + self.far.len()
    }

    fn near_len(&self) -> usize {
        self.near.as_ref().map_or(0, |near| near.len())
    }

    pub fn clear(&mut self) {
        if let Some(near) = self.near.take() {
            self.spare = near.into_memory();
        }
        self.far.clear();
    }

    pub fn best_first(&self) -> impl Iterator<Item = &T> + Clone {
        self.near.iter().flat_map(|near| near.best_first()).chain(self.far.best_first())
    }

    pub fn best(&self) -> Option<&T> {
        match self.near.as_ref().and_then(|near| Some(near.level(near.first()?))) {
            None => self.far.best(),
            near => near,
        }
    }

    /// The level of a rank, the best of which is 0.
    pub fn at_rank(&self, rank: usize) -> Option<&T> {
        match &self.near {
            Some(near) if rank < near.len() => near.at_rank(rank),
            Some(near) => self.far.at_rank(rank - near.len()),
            None => self.far.at_rank(rank),
        }
    }

    /// Less where `a` is nearer to the touch than `b`.
    #[inline]
    pub fn nearer(&self, a: &Decimal, b: &Decimal) -> Ordering {
        self.far.nearer(a, b)
    }

    /// Where a price stands, or where it would stand.
    #[inline]
    pub fn find(&self, price: &Decimal) -> Result<Place, Place> {
        match &self.near {
            None => self.find_far(price),
            Some(near) => match near.tick(price) {
                Some(tick) if near.stands(tick) => Ok(Place::Tick(tick)),
                Some(tick) => Err(Place::Tick(tick)),
                None if self.nearer(price, near.end()).is_lt() => Err(Place::Nowhere),
                None => self.find_far(price),
            },
        }
    }

    #[inline]
    fn find_far(&self, price: &Decimal) -> Result<Place, Place> {
        self.far.find(price).map(Place::Far).map_err(Place::Far)
    }

    /// Levels that are nearer to the touch; counted no further than `most`.
    #[inline]
    pub fn rank(&self, place: Place, most: usize) -> usize {
        match (place, &self.near) {
            (Place::Far(place), None) => self.far.rank(place, most),
            (Place::Far(place), Some(near)) if near.len() < most => {
                near.len() + self.far.rank(place, most - near.len())
            }
            (Place::Tick(tick), Some(near)) => near.rank(tick, most),
            _ => most,
        }
    }

    /// The rank that a level would have at a place where none is.
    #[inline]
    pub fn rank_before(&self, place: Place, most: usize) -> usize {
        match (place, &self.near) {
            (Place::Far(place), None) => self.far.rank_before(place, most),
            (Place::Far(place), Some(near)) if near.len() < most => {
                near.len() + self.far.rank_before(place, most - near.len())
            }
            (Place::Tick(tick), Some(near)) => near.rank(tick, most),
            _ => most,
        }
    }

    #[inline]
    pub fn get(&self, place: Place) -> Option<&T> {
        match (place, &self.near) {
            (Place::Tick(tick), Some(near)) => Some(near.level(tick)),
            (Place::Far(place), _) => Some(self.far.get(place)),
            _ => None,
        }
    }

    /// The changes take places as [`Levels::find`] gave them, and no other change between. None for [`Place::Nowhere`].
    #[inline]
    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        match (place, &mut self.near) {
            (Place::Tick(tick), Some(near)) => Some(near.level_mut(tick)),
            (Place::Far(place), _) => Some(self.far.get_mut(place)),
            _ => None,
        }
    }

    /// The place for a level that is to be inserted, where [`Levels::find`] found none.
    #[inline]
    pub fn make_room(&mut self, place: Place, price: &Decimal) -> Place {
        match place {
            Place::Nowhere => self.lie_anew(price),
            place => place,
        }
    }

    #[inline]
    pub fn insert(&mut self, place: Place, level: T) {
        match (place, &mut self.near) {
            (Place::Tick(tick), Some(near)) => near.insert(tick, level),
            (Place::Far(place), _) => self.far.insert(place, level),
            _ => {}
        }
    }

    #[inline]
    pub fn remove(&mut self, place: Place) {
        match (place, &mut self.near) {
            (Place::Tick(tick), Some(near)) => {
                near.remove(tick);
                if near.is_left_behind() && self.far.len() > 0 {
                    self.follow();
                }
            }
            (Place::Far(place), _) => drop(self.far.remove(place)),
            _ => {}
        }
    }

    /// Drops the worst levels but the best `depth`, the outermost first.
    pub fn cut(&mut self, depth: usize, mut dropped: impl FnMut(T)) {
        self.far.cut(depth.saturating_sub(self.near_len()), &mut dropped);
        if let Some(near) = &mut self.near {
            while near.len() > depth {
                near.pop_worst().into_iter().for_each(&mut dropped);
            }
        }
    }

    /// As [`Sorted::load`].
    pub fn load(&mut self, levels: impl DoubleEndedIterator<Item = T>, keep: impl Fn(&T) -> bool, depth: usize) {
        self.clear();
        self.far.load(levels, keep, depth);
        self.set_up(None);
    }

    /// Tries again whether a ladder fits a side that has none.
    pub fn look_again(&mut self) {
        if self.near.is_none() {
            self.set_up(None);
        }
    }

    /// Sets a ladder up where one fits the levels, which are all in the chunks, and a price that is to come.
    fn set_up(&mut self, coming: Option<&Decimal>) {
        if self.far.len() < LEVELS_LEAST {
            return;
        }
        let Some(best) = self.far.best().copied() else { return };
        let mut odd: Vec<Decimal> = coming.copied().into_iter().collect();
        for _ in 0..GRIDS_MOST {
            let sample = self.far.best_first().take(SAMPLE).map(Priced::price).chain(odd.iter().copied());
            let Some(grid) = Grid::of(sample) else { return };
            let Some(ladder) = Ladder::new(self.side(), grid, &best, &mut self.spare) else { return };
            match self.climb(ladder) {
                Some(between) => odd.push(between),
                None if self.near_len() < SAMPLE / 4 => return self.take_down(),
                None => return,
            }
            self.take_down();
        }
    }

    /// Moves levels from the chunks onto a ladder, up to its end; gives the first that lies between two ticks.
    fn climb(&mut self, near: Ladder<T>) -> Option<Decimal> {
        let near = self.near.insert(near);
        while let Some(level) = self.far.best().copied() {
            let price = level.price();
            match near.tick(&price) {
                Some(tick) => near.insert(tick, level),
                None if self.far.nearer(&price, near.end()).is_lt() => return Some(price),
                None => return None,
            }
            self.far.pop_best();
        }
        None
    }

    /// Moves every level to the chunks.
    fn take_down(&mut self) {
        let Some(mut near) = self.near.take() else { return };
        while let Some(worst) = near.pop_worst() {
            self.far.push_best(worst);
        }
        self.spare = near.into_memory();
    }

    /// The ladder is made to lie so that a price has a place, or goes.
    #[cold]
    fn lie_anew(&mut self, price: &Decimal) -> Place {
        let is_before = self.best().is_none_or(|best| self.nearer(price, &best.price()).is_lt());
        let Self { near, far, .. } = self;
        let moved = near.as_mut().is_some_and(|near| is_before && near.move_to(price, |level| far.push_best(level)));
        if !moved {
            self.take_down();
            self.set_up(Some(price));
        }
        match self.find(price) {
            Err(Place::Nowhere) => {
                self.take_down();
                self.find_far(price).unwrap_or_else(|place| place)
            }
            Ok(place) | Err(place) => place,
        }
    }

    /// The touch went away from the ladder's beginning: the ladder follows it.
    #[cold]
    fn follow(&mut self) {
        let Some(best) = self.best().map(Priced::price) else { return };
        let Self { near: Some(near), far, .. } = self else { return };
        if !near.move_to(&best, |level| far.push_best(level)) {
            self.take_down();
            return self.set_up(None);
        }
        if let Some(near) = self.near.take() {
            if let Some(between) = self.climb(near) {
                self.take_down();
                self.set_up(Some(&between));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Priced for Decimal {
        fn price(&self) -> Decimal {
            *self
        }
    }

    /// Levels, best first.
    struct Twin(Side, Vec<Decimal>);

    impl Twin {
        fn find(&self, price: &Decimal) -> Result<usize, usize> {
            let nearer = |level: &Decimal| match self.0 {
                Side::Ask => level.cmp_value(price),
                _ => price.cmp_value(level),
            };
            self.1.binary_search_by(nearer)
        }

        fn set(&mut self, price: Decimal, stands: bool) {
            match (self.find(&price), stands) {
                (Ok(at), true) => self.1[at] = price,
                (Ok(at), false) => drop(self.1.remove(at)),
                (Err(at), true) => self.1.insert(at, price),
                (Err(_), false) => {}
            }
        }
    }

    fn set(levels: &mut Levels<Decimal>, twin: &Twin, price: Decimal, stands: bool) {
        let rank = twin.find(&price);
        let found = levels.find(&price);
        assert_eq!(found.is_ok(), rank.is_ok(), "{price} {found:?}");
        match (found, stands) {
            (Ok(place), true) => {
                assert_eq!(levels.rank(place, 25).min(25), rank.unwrap().min(25));
                *levels.get_mut(place).unwrap() = price;
            }
            (Ok(place), false) => levels.remove(place),
            (Err(place), true) => {
                let place = levels.make_room(place, &price);
                assert!(!matches!(place, Place::Nowhere));
                assert_eq!(levels.rank_before(place, 25).min(25), rank.unwrap_err().min(25));
                levels.insert(place, price);
            }
            (Err(_), false) => {}
        }
    }

    fn check(levels: &Levels<Decimal>, twin: &Twin) {
        let own: Vec<Decimal> = levels.best_first().copied().collect();
        assert_eq!(own, twin.1);
        assert_eq!((levels.len(), levels.best()), (twin.1.len(), twin.1.first()));
        for rank in [0, 1, 24, 63, 64, 300] {
            assert_eq!(levels.at_rank(rank), twin.1.get(rank));
        }
        if let Some(near) = &levels.near {
            assert!(near.best_first().all(|level| levels.nearer(level, near.end()).is_lt()));
            assert!(levels.far.best_first().all(|level| levels.nearer(level, near.end()).is_ge()));
        }
    }

    /// What a market does between two looks at it.
    #[derive(Clone, Debug)]
    enum Act {
        /// Levels at so many ticks from the centre, which come or go, written with more zeros.
        Some(Vec<(i64, bool, u8)>),
        /// The centre moves, and all that stands beyond it on the wrong side goes.
        Move(i64),
        Cut(usize),
        /// A price as it is, whatever the grid.
        Odd(Decimal, bool),
        Snapshot(i64),
        LookAgain,
    }

    fn act() -> impl Strategy<Value = Act> {
        let ticks = prop_oneof![8 => 0i64..60, 4 => 0i64..900, 2 => 0i64..9000, 1 => -600i64..0];
        let odd = prop_oneof![
            Just(Decimal::new(i64::MAX - 1, 0)),
            Just(Decimal::new(i64::MIN, 0)),
            Just(Decimal::new(1, 0)),
            Just(Decimal::new(1, 200)),
            Just(Decimal::ZERO),
            (0i64..3_000_000_000, 0u8..9).prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale)),
            (9_000_000i64..11_000_000).prop_map(|mantissa| Decimal::new(mantissa, 4)),
        ];
        prop_oneof![
            8 => prop::collection::vec((ticks, prop::bool::weighted(0.6), 0u8..3), 0..200).prop_map(Act::Some),
            3 => (-2500i64..2500).prop_map(Act::Move),
            1 => (-90_000i64..90_000).prop_map(Act::Move),
            1 => (0usize..900).prop_map(Act::Cut),
            2 => (odd, any::<bool>()).prop_map(|(price, stands)| Act::Odd(price, stands)),
            1 => (1i64..12).prop_map(Act::Snapshot),
            1 => Just(Act::LookAgain),
        ]
    }

    /// A level of so many ticks of a quarter.
    fn at(ticks: i64, zeros: u8) -> Decimal {
        Decimal::new(ticks * 25 * 10i64.pow(zeros.into()), 2 + zeros)
    }

    /// Ticks that some snapshots leave out every second or more of, so that the grid turns out too wide.
    fn snapshot(centre: i64, out: i64, every: i64) -> Vec<Decimal> {
        (0..600).map(|rank| at(centre + out * rank * every, 0)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(120))]

        /// Markets that drift and jump, prices between ticks and absurd ones, sides that run empty and come back.
        #[test]
        fn levels_and_twin_agree(ask in any::<bool>(), acts in prop::collection::vec(act(), 1..40)) {
            let (side, out) = if ask { (Side::Ask, 1) } else { (Side::Bid, -1) };
            let (mut levels, mut twin, mut centre) = (Levels::new(side), Twin(side, Vec::new()), 4_000_000);
            let mut laddered = 0;
            for act in std::iter::once(Act::Snapshot(2)).chain(acts) {
                match act {
                    Act::Some(changes) => {
                        for (ticks, stands, zeros) in changes {
                            let price = at(centre + out * ticks, zeros);
                            set(&mut levels, &twin, price, stands);
                            twin.set(price, stands);
                        }
                    }
                    Act::Move(by) => {
                        centre += by;
                        let passed = |price: &&Decimal| levels.nearer(price, &at(centre, 0)).is_lt();
                        for price in twin.1.iter().take_while(passed).copied().collect::<Vec<_>>() {
                            set(&mut levels, &twin, price, false);
                            twin.set(price, false);
                        }
                        set(&mut levels, &twin, at(centre, 0), true);
                        twin.set(at(centre, 0), true);
                    }
                    Act::Cut(depth) => {
                        let mut dropped = Vec::new();
                        levels.cut(depth, |level| dropped.push(level));
                        dropped.reverse();
                        prop_assert_eq!(dropped, twin.1.split_off(depth.min(twin.1.len())));
                    }
                    Act::Odd(price, stands) => {
                        set(&mut levels, &twin, price, stands);
                        twin.set(price, stands);
                    }
                    Act::Snapshot(every) => {
                        let start = snapshot(centre, out, every);
                        twin.1 = start.clone();
                        levels.load(start.into_iter(), |_| true, usize::MAX);
                    }
                    Act::LookAgain => levels.look_again(),
                }
                laddered += usize::from(levels.near.is_some());
                check(&levels, &twin);
            }
            prop_assert!(laddered > 0);
        }
    }

    fn loaded(side: Side, prices: impl DoubleEndedIterator<Item = Decimal>) -> Levels<Decimal> {
        let mut levels = Levels::new(side);
        levels.load(prices, |_| true, usize::MAX);
        levels
    }

    /// Sets a price that is not there.
    fn add(levels: &mut Levels<Decimal>, price: Decimal) {
        let place = levels.find(&price).unwrap_err();
        let place = levels.make_room(place, &price);
        levels.insert(place, price);
    }

    #[test]
    fn a_ladder_is_set_up_where_it_pays() {
        let has = |levels: &Levels<Decimal>| levels.near.as_ref().map_or(0, Ladder::len);
        assert_eq!(has(&loaded(Side::Ask, (0..255).map(|tick| at(tick, 0)))), 0);
        assert_eq!(has(&loaded(Side::Ask, (0..300).map(|tick| at(tick, 0)))), 300);
        // Absurd prices and such that lie between the ticks stand behind the end and disturb nothing.
        let far = [Decimal::new(123_456_789, 3), Decimal::new(i64::MAX - 1, 0)];
        assert_eq!(has(&loaded(Side::Ask, (0..300).map(|tick| at(tick, 0)).chain(far))), 300);
        // Too few levels within its reach.
        assert_eq!(has(&loaded(Side::Ask, (0..300i64).map(|tick| at(tick.pow(3), 0)))), 0);
        // At the edge of what 63 bits hold there is none.
        assert_eq!(has(&loaded(Side::Bid, (0..300).map(|tick| Decimal::new(i64::MIN + 300 - tick, 0)))), 0);
    }

    #[test]
    fn a_ladder_follows_its_market_and_makes_its_ticks_finer() {
        let mut levels = loaded(Side::Ask, (0..5000).map(|tick| at(4000 + 2 * tick, 0)));
        assert!(levels.near.is_some());
        // A tick that the snapshot had none of.
        add(&mut levels, at(4001, 0));
        assert!(levels.near.is_some());
        // Down with the market, tick by tick, and up again, through all that stands.
        (1..4000).rev().for_each(|tick| add(&mut levels, at(tick, 0)));
        assert!(levels.near.is_some());
        for tick in 1..4001 {
            let place = levels.find(&at(tick, 0)).unwrap();
            levels.remove(place);
        }
        let near = levels.near.as_ref().unwrap();
        assert_eq!((near.level(near.first().unwrap()), levels.len()), (&at(4001, 0), 5000));
        // A jump of more than the ladder takes it away, and what was far is next to the touch when it is looked at again.
        add(&mut levels, Decimal::new(-9_000_000, 0));
        assert!(levels.near.is_none());
        levels.remove(levels.find(&Decimal::new(-9_000_000, 0)).unwrap());
        levels.look_again();
        assert!(levels.near.is_some());
    }
}
