//! What a book by order is made of: orders and their queues, each in a slab where it stays while it lives.

use super::{Order, OrderRow};
use crate::decimal::{power_of_ten, Decimal};
use crate::record::Side;

/// No order: the end of a queue.
pub(super) const NONE: u32 = u32::MAX;

/// A live order as it lies in the slab: half a cache line. Its price is its queue's, at the scale that it came with.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Node {
    pub id: u64,
    pub size: i64,
    pub queue: u32,
    pub next: u32,
    pub previous: u32,
    pub price_scale: u8,
    pub size_scale: u8,
    pub flags: u8,
}

/// Flags of a node.
const PRICE_ALTERED: u8 = 1;
const SIZE_ALTERED: u8 = 2;
/// The sum of the order's text is kept.
pub(super) const SUMMED: u8 = 4;

impl Node {
    pub fn new(row: &OrderRow, queue: u32, previous: u32) -> Self {
        let flags = if row.price.altered { PRICE_ALTERED } else { 0 };
        let (price_scale, size_scale) = (row.price.scale, row.size.scale);
        let mut node = Self { id: row.id, size: 0, queue, next: NONE, previous, price_scale, size_scale, flags };
        node.set_size(row.size);
        node
    }

    pub fn size(&self) -> Decimal {
        Decimal { mantissa: self.size, scale: self.size_scale, altered: self.flags & SIZE_ALTERED != 0 }
    }

    /// Another size, so that the kept sum is void.
    pub fn set_size(&mut self, size: Decimal) {
        let flags = if size.altered { SIZE_ALTERED } else { 0 };
        (self.size, self.size_scale, self.flags) = (size.mantissa, size.scale, self.flags & PRICE_ALTERED | flags);
    }

    pub fn order(&self, queue: &Queue) -> Order {
        let mantissa = at_scale(queue.price, self.price_scale);
        let price = Decimal { mantissa, scale: self.price_scale, altered: self.flags & PRICE_ALTERED != 0 };
        Order { id: self.id, side: queue.side, price, size: self.size() }
    }
}

/// The mantissa at the scale of an equal number, which is known to have one.
#[inline]
fn at_scale(number: Decimal, scale: u8) -> i64 {
    if scale == number.scale {
        return number.mantissa;
    }
    // Beyond 18 places only zero is equal.
    let power = power_of_ten(scale.abs_diff(number.scale)).unwrap_or(i64::MAX);
    if scale > number.scale {
        number.mantissa.wrapping_mul(power)
    } else {
        number.mantissa / power
    }
}

/// The orders of one price: a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Queue {
    pub price: Decimal,
    /// The sum of the sizes: the mantissa at `scale`; None where 127 bits do not hold it.
    pub total: Option<i128>,
    pub scale: u8,
    pub side: Side,
    pub head: u32,
    pub tail: u32,
    pub count: u32,
}

impl Queue {
    pub fn new(price: Decimal, side: Side) -> Self {
        Self { price, total: Some(0), scale: 0, side, head: NONE, tail: NONE, count: 0 }
    }

    /// Adds `sign` times a size to the sum.
    #[inline]
    pub fn count_in(&mut self, size: Decimal, sign: i128) {
        if self.count == 0 {
            self.scale = size.scale;
        }
        if size.scale == self.scale {
            self.total = self.total.and_then(|total| total.checked_add(sign * i128::from(size.mantissa)));
            return;
        }
        let scale = self.scale.max(size.scale);
        let widen = |number: i128, from: u8| number.checked_mul(10i128.checked_pow(u32::from(scale - from))?);
        let widened = widen(i128::from(size.mantissa), size.scale);
        self.total = self.total.and_then(|total| widen(total, self.scale)?.checked_add(sign * widened?));
        self.scale = scale;
    }

    /// The sum as a size; None where it does not fit in 63 bits.
    pub fn size(&self) -> Option<Decimal> {
        let mantissa = i64::try_from(self.total?).ok().filter(|&mantissa| mantissa < i64::MAX)?;
        Some(Decimal::new(mantissa, self.scale))
    }
}

/// Puts something into a slab, in a free place if there is one.
#[inline]
pub(super) fn put<T>(slab: &mut Vec<T>, free: &mut Vec<u32>, thing: T) -> u32 {
    if let Some(at) = free.pop() {
        if let Some(place) = slab.get_mut(at as usize) {
            *place = thing;
        }
        return at;
    }
    slab.push(thing);
    slab.len() as u32 - 1
}

/// Asks for memory that is about to be read.
#[inline]
pub(super) fn prefetch<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        // SAFETY: a hint for a line that a reference shows to be there; nothing that a program can see comes of it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
