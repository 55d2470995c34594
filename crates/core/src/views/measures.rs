//! What a row tells of a book beside its best levels: exact sums, and two quotients as integers of a stated scale.
//!
//! A quotient is rounded half to even in its last digit; the sizes and prices that it is made of stand in the same row, so
//! the exact fraction is never lost. What does not fit in 63 bits is UNDEF.

use super::replica::Replica;
use crate::decimal::Decimal;
use crate::record::{Action, Side, UNDEF_I64};
use bytemuck::{Pod, Zeroable};

/// Digits of the microprice behind the price's own.
pub const MICROPRICE_DIGITS: u8 = 4;
/// Digits of the imbalance.
pub const IMBALANCE_DIGITS: u8 = 9;

/// `touch`: spread `ask - bid` at the row's price scale; microprice `(bid * ask_sz + ask * bid_sz) / (bid_sz + ask_sz)`;
/// imbalance `(bid_sz - ask_sz) / (bid_sz + ask_sz)`. UNDEF where a side is empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TouchTail {
    pub spread: i64,
    pub microprice: i64,
    pub imbalance: i64,
    pub spread_scale: u8,
    pub microprice_scale: u8,
    pub imbalance_scale: u8,
    pub reserved: [u8; 5],
}

/// `depth`: size and number of the levels within `basis_points` of the mid price, `(bid + ask) / 2`, the edge included. UNDEF
/// and 0 where a side is empty: there is no mid price then.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct DepthTail {
    pub bid_depth: i64,
    pub ask_depth: i64,
    pub bid_levels: u32,
    pub ask_levels: u32,
    pub basis_points: u32,
    pub depth_scale: u8,
    pub reserved: [u8; 3],
}

/// `impact`: what an order of the asked size would meet. Buying takes asks: `buy_sz` is how much of it there is, `buy_cost`
/// the sum of price times size, `buy_px` the last price that it reaches; the average price is `buy_cost / buy_sz`. UNDEF
/// prices where a side is empty.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ImpactTail {
    pub buy_px: i64,
    pub sell_px: i64,
    pub buy_sz: i64,
    pub sell_sz: i64,
    pub buy_cost: i64,
    pub sell_cost: i64,
    pub impact_px_scale: u8,
    pub impact_sz_scale: u8,
    pub cost_scale: u8,
    pub reserved: [u8; 5],
}

/// An exact sum at the largest scale of what was added; None once it no longer fits.
#[derive(Clone, Copy, Debug)]
struct Sum(Option<(i128, u8)>);

impl Sum {
    const ZERO: Sum = Sum(Some((0, 0)));

    fn add(&mut self, mantissa: i128, scale: u8) {
        let sum = |(held, at): (i128, u8)| {
            let common = at.max(scale);
            Some((widen(held, at, common)?.checked_add(widen(mantissa, scale, common)?)?, common))
        };
        self.0 = self.0.and_then(sum);
    }

    fn scale(&self) -> u8 {
        self.0.map_or(0, |(_, scale)| scale)
    }

    /// The mantissa at a scale that is not smaller.
    fn at(&self, scale: u8) -> i64 {
        fit(self.0.and_then(|(held, at)| widen(held, at, scale)))
    }
}

/// A mantissa at a larger scale.
fn widen(mantissa: i128, from: u8, to: u8) -> Option<i128> {
    if mantissa == 0 {
        return Some(0);
    }
    10i128.checked_pow(u32::from(to.checked_sub(from)?))?.checked_mul(mantissa)
}

fn fit(number: Option<i128>) -> i64 {
    number.and_then(|number| i64::try_from(number).ok()).unwrap_or(UNDEF_I64)
}

/// `a / b` for positive `b`, rounded half to even.
fn divide(a: i128, b: i128) -> Option<i128> {
    let (whole, rest) = (a.checked_div_euclid(b)?, a.checked_rem_euclid(b)?);
    let up = match rest.cmp(&(b - rest)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => whole & 1 == 1,
        std::cmp::Ordering::Greater => true,
    };
    whole.checked_add(i128::from(up))
}

/// The measures of the best levels, given at the row's common scales.
pub(super) fn touch(bid: Option<(i64, i64)>, ask: Option<(i64, i64)>, price_scale: u8) -> TouchTail {
    let (microprice_scale, imbalance_scale) = (price_scale.saturating_add(MICROPRICE_DIGITS), IMBALANCE_DIGITS);
    let mut tail = TouchTail {
        spread: UNDEF_I64,
        microprice: UNDEF_I64,
        imbalance: UNDEF_I64,
        spread_scale: price_scale,
        microprice_scale,
        imbalance_scale,
        reserved: [0; 5],
    };
    let (Some((bid_px, bid_sz)), Some((ask_px, ask_sz))) = (bid, ask) else { return tail };
    let [bid_px, bid_sz, ask_px, ask_sz] = [bid_px, bid_sz, ask_px, ask_sz].map(i128::from);
    let (spread, both) = (ask_px - bid_px, bid_sz + ask_sz);
    let digits = 10i128.pow(u32::from(microprice_scale - price_scale));
    // bid + spread * bid_sz / both is the same fraction, and smaller on the way.
    let above = spread.checked_mul(digits).and_then(|spread| spread.checked_mul(bid_sz));
    let microprice = above.and_then(|above| divide(above, both)?.checked_add(bid_px * digits));
    tail.spread = fit(Some(spread));
    tail.microprice = fit(microprice);
    tail.imbalance = fit(divide((bid_sz - ask_sz) * 10i128.pow(u32::from(imbalance_scale)), both));
    tail
}

/// Size and number of the levels within so many basis points of the mid price.
pub(super) fn depth(replica: &Replica, basis_points: u32) -> DepthTail {
    let book = replica.book();
    let none = DepthTail { bid_depth: UNDEF_I64, ask_depth: UNDEF_I64, basis_points, ..Zeroable::zeroed() };
    let (Some(bid), Some(ask)) = (book.best(Side::Bid), book.best(Side::Ask)) else { return none };
    let within = |side: Side| {
        let (mut sum, mut count) = (Sum::ZERO, 0u32);
        for level in book.levels(side) {
            match place(&level.price, side, &bid.price, &ask.price, basis_points) {
                Some(Place::Within) => {
                    sum.add(i128::from(level.size.mantissa), level.size.scale);
                    count = count.saturating_add(1);
                }
                // A crossed book begins on the other side of the mid price.
                Some(Place::Beyond) => {}
                // A number too large for this is not within.
                Some(Place::Behind) | None => break,
            }
        }
        (sum, count)
    };
    let ((bids, bid_levels), (asks, ask_levels)) = (within(Side::Bid), within(Side::Ask));
    let depth_scale = bids.scale().max(asks.scale());
    let (bid_depth, ask_depth) = (bids.at(depth_scale), asks.at(depth_scale));
    DepthTail { bid_depth, ask_depth, bid_levels, ask_levels, basis_points, depth_scale, reserved: [0; 3] }
}

/// Whether the last message changed a level within the band, where the best prices are as before it.
pub(super) fn depth_is_touched(replica: &Replica, basis_points: u32) -> bool {
    let book = replica.book();
    let (Some(bid), Some(ask)) = (book.best(Side::Bid), book.best(Side::Ask)) else { return true };
    replica.told().iter().any(|change| match change.action {
        Action::Add | Action::Modify | Action::Cancel => {
            let place = place(&change.price, change.side, &bid.price, &ask.price, basis_points);
            !matches!(place, Some(Place::Beyond | Place::Behind))
        }
        _ => true,
    })
}

/// Where a price stands to the band around the mid price.
enum Place {
    Within,
    /// Past the mid price and outside.
    Beyond,
    /// On its own side of the mid price and outside: all further levels are too.
    Behind,
}

/// Within is `|price - mid| <= mid * bp / 10000`, in whole numbers: `|2 * price - (bid + ask)| * 10000 <= (bid + ask) * bp`.
/// None where a number is too large for this.
fn place(price: &Decimal, side: Side, bid: &Decimal, ask: &Decimal, basis_points: u32) -> Option<Place> {
    let scale = price.scale.max(bid.scale).max(ask.scale);
    let at = |number: &Decimal| widen(i128::from(number.mantissa), number.scale, scale);
    let both = at(bid)?.checked_add(at(ask)?)?;
    let away = at(price)?.checked_mul(2)?.checked_sub(both)?;
    if away.checked_abs()?.checked_mul(10_000)? <= both.checked_mul(i128::from(basis_points))? {
        return Some(Place::Within);
    }
    Some(if (away > 0) == (side == Side::Bid) { Place::Beyond } else { Place::Behind })
}

/// What an order of this size would meet on both sides.
pub(super) fn impact(replica: &Replica, size: &Decimal) -> ImpactTail {
    let (buy, sell) = (sweep(replica, Side::Ask, size), sweep(replica, Side::Bid, size));
    let px_scale = [&buy, &sell].iter().filter_map(|one| one.last.map(|price| price.scale)).max().unwrap_or(0);
    let sz_scale = buy.filled.scale().max(sell.filled.scale());
    let cost_scale = buy.cost.scale().max(sell.cost.scale());
    let price = |one: &Sweep| fit(one.last.and_then(|price| widen(i128::from(price.mantissa), price.scale, px_scale)));
    ImpactTail {
        buy_px: price(&buy),
        sell_px: price(&sell),
        buy_sz: buy.filled.at(sz_scale),
        sell_sz: sell.filled.at(sz_scale),
        buy_cost: buy.cost.at(cost_scale),
        sell_cost: sell.cost.at(cost_scale),
        impact_px_scale: px_scale,
        impact_sz_scale: sz_scale,
        cost_scale,
        reserved: [0; 5],
    }
}

/// Whether the last message changed a level that an order of this size met before it, or would meet now.
pub(super) fn impact_is_touched(replica: &Replica, size: &Decimal, held: &ImpactTail) -> bool {
    replica.told().iter().any(|change| {
        let (last, filled) = match change.side {
            Side::Ask => (held.buy_px, held.buy_sz),
            Side::Bid => (held.sell_px, held.sell_sz),
            Side::None => return true,
        };
        let is_whole = Decimal::new(filled, held.impact_sz_scale).cmp_value(size).is_ge();
        if last == UNDEF_I64 || filled == UNDEF_I64 || !is_whole {
            return true;
        }
        let behind = match change.side {
            Side::Bid => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        change.price.cmp_value(&Decimal::new(last, held.impact_px_scale)) != behind
    })
}

struct Sweep {
    last: Option<Decimal>,
    filled: Sum,
    cost: Sum,
}

fn sweep(replica: &Replica, side: Side, size: &Decimal) -> Sweep {
    let mut sweep = Sweep { last: None, filled: Sum::ZERO, cost: Sum::ZERO };
    let mut left = Sum::ZERO;
    left.add(i128::from(size.mantissa), size.scale);
    for level in replica.book().levels(side) {
        let Some((wanted, scale)) = left.0.filter(|&(wanted, _)| wanted > 0) else { break };
        let common = scale.max(level.size.scale);
        let there = widen(i128::from(level.size.mantissa), level.size.scale, common);
        let (Some(wanted), Some(there)) = (widen(wanted, scale, common), there) else { break };
        let taken = wanted.min(there);
        sweep.last = Some(level.price);
        sweep.filled.add(taken, common);
        let cost_scale = common.saturating_add(level.price.scale);
        match taken.checked_mul(i128::from(level.price.mantissa)) {
            Some(cost) => sweep.cost.add(cost, cost_scale),
            None => sweep.cost = Sum(None),
        }
        left.add(-taken, common);
    }
    sweep
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_rounded_half_to_even() {
        let rounded: Vec<_> = [(5, 10), (15, 10), (25, 10), (-5, 10), (-15, 10), (7, 3), (-7, 3)]
            .iter()
            .map(|&(a, b)| divide(a, b))
            .collect();
        assert_eq!(rounded, [0, 2, 2, 0, -2, 2, -2].map(Some));
        assert_eq!(divide(1, 0), None);
    }

    #[test]
    fn what_does_not_fit_is_undef() {
        let tail = touch(Some((-(1 << 62), 1)), Some((1 << 62, 1)), 0);
        assert_eq!((tail.spread, tail.imbalance), (UNDEF_I64, 0));
        assert_eq!(tail.microprice, 0);
        let none = touch(Some((5, 0)), Some((6, 0)), 2);
        assert_eq!((none.spread, none.microprice, none.imbalance), (1, UNDEF_I64, UNDEF_I64));
        let mut sum = Sum::ZERO;
        sum.add(1, 0);
        sum.add(1, 60);
        assert_eq!(sum.at(sum.scale()), UNDEF_I64);
    }
}
