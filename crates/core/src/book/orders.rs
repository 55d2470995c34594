//! Books by order (market by order, L3): every live order in its queue, from which levels (L2) and the touch (L1) derive.
//!
//! Levels lie as in a book by level; each is a queue of orders, oldest first, linked through one slab of nodes that an index
//! by order id finds. Nothing is searched along a queue but where somebody asks for an order's place.
//!
//! What odd rows do: a negative size or a row without a side refuses the whole message, and the book stays as it was. An Add
//! of an order that is there takes it out and puts it at the tail. A Modify, Cancel or Fill of an order that is not there
//! changes nothing; a Fill of more than there is takes all of it. Each is counted. A size of zero is no order. Of orders with
//! one id in a snapshot the last counts. Ids that are no numbers are their hash ([`crate::event::hash_id`]).

use super::crc::{Part, Sum};
use super::sorted::{Place, Priced, Sorted};
use super::text::{kraken, UNKNOWN_SCALE};
use super::{BookError, Level};
use crate::decimal::Decimal;
use crate::record::{Action, Side};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The levels that Kraken's checksum covers.
const CHECKSUM_LEVELS: usize = 10;
/// No order: the end of a queue.
const NONE: u32 = u32::MAX;

/// What a book by order is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderSpec {
    /// Price levels a side that are subscribed; 0: all.
    pub depth: u32,
    /// After every message each side is cut to `depth` levels: the venue says nothing of orders that fall out.
    pub truncate: bool,
    /// An order that grows in place keeps its place in the queue (else it goes to the tail, as on most venues).
    pub growing_keeps_place: bool,
}

/// One thing that happened to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRow {
    /// Add, Modify and Cancel, and Fill: the order was matched by `size`.
    pub action: Action,
    pub side: Side,
    pub id: u64,
    /// Of a Cancel or Fill it counts for nothing: the order knows its own.
    pub price: Decimal,
    /// What is open of the order; of a Fill, what was matched.
    pub size: Decimal,
}

/// One live order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: u64,
    pub side: Side,
    pub price: Decimal,
    pub size: Decimal,
}

/// What was counted of rows that did not fit the book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// A Modify, Cancel or Fill of an order that was not there.
    pub unknown: u64,
    /// An Add of an order that was there.
    pub known: u64,
    /// A Fill of more than the order had.
    pub overfilled: u64,
    /// A Fill after which what is left has more digits than 63 bits hold.
    pub inexact: u64,
}

/// One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Node {
    order: Order,
    /// The kept sum of the order's text, void while its length is 0.
    part: Part,
    next: u32,
    previous: u32,
}

/// One price level: its queue, and the sum of its sizes.
#[derive(Clone, Copy, Debug)]
struct Queue {
    price: Decimal,
    /// The mantissa at `scale`; None where 127 bits do not hold it.
    total: Option<i128>,
    scale: u8,
    head: u32,
    tail: u32,
    count: u32,
}

impl Priced for Queue {
    #[inline]
    fn price(&self) -> Decimal {
        self.price
    }
}

impl Queue {
    fn new(price: Decimal) -> Self {
        Self { price, total: Some(0), scale: 0, head: NONE, tail: NONE, count: 0 }
    }

    /// Adds `sign` times a size to the sum.
    #[inline]
    fn count_in(&mut self, size: Decimal, sign: i128) {
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
    fn size(&self) -> Option<Decimal> {
        let mantissa = i64::try_from(self.total?).ok().filter(|&mantissa| mantissa < i64::MAX)?;
        Some(Decimal::new(mantissa, self.scale))
    }
}

/// Spreads ids, which are often counted up, over the index. Nothing iterates over it.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = crate::event::hash_id(bytes);
    }

    fn write_u64(&mut self, id: u64) {
        // The finishing steps of MurmurHash3: every bit of the id reaches every bit of the hash.
        let once = (id ^ (id >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        self.0 = once ^ (once >> 33);
    }
}

/// The book by order of one instrument.
#[derive(Clone, Debug)]
pub struct OrderBook {
    spec: OrderSpec,
    bids: Sorted<Queue>,
    asks: Sorted<Queue>,
    nodes: Vec<Node>,
    /// The first free node; free ones are linked by `next`.
    free: u32,
    index: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    /// Printed decimals of prices and sizes; 255: not known.
    scales: (u8, u8),
    /// The kept checksum; None where something changed among the levels that it covers.
    checksum: Option<u32>,
    oddities: Oddities,
}

impl OrderBook {
    pub fn new(spec: OrderSpec) -> Self {
        Self {
            spec,
            bids: Sorted::new(Side::Bid),
            asks: Sorted::new(Side::Ask),
            nodes: Vec::new(),
            free: NONE,
            index: HashMap::default(),
            scales: (UNKNOWN_SCALE, UNKNOWN_SCALE),
            checksum: None,
            oddities: Oddities::default(),
        }
    }

    /// Decimals that the venue prints for prices and sizes, as [`super::Book::set_scales`].
    pub fn set_scales(&mut self, price: u8, size: u8) {
        if self.scales != (price, size) {
            self.scales = (price, size);
            self.checksum = None;
            self.nodes.iter_mut().for_each(|node| node.part = Part::default());
        }
    }

    /// Replaces the book by a snapshot: each row is an order, those of one price in the order of their queue.
    pub fn load(&mut self, rows: &[OrderRow]) -> Result<(), BookError> {
        check(rows)?;
        self.clear();
        for row in rows {
            if let Some(&at) = self.index.get(&row.id) {
                self.take_out(at);
            }
            self.put_in(row);
        }
        self.cut(&mut Vec::new());
        Ok(())
    }

    /// Applies one venue message, its rows in their order, then the cut to the subscribed depth. The orders that the cut
    /// drops are appended to `dropped`.
    pub fn apply(&mut self, rows: &[OrderRow], dropped: &mut Vec<Order>) -> Result<(), BookError> {
        check(rows)?;
        for row in rows {
            match (row.action, self.index.get(&row.id).copied()) {
                (Action::Add, at) => {
                    if let Some(at) = at {
                        self.oddities.known += 1;
                        self.take_out(at);
                    }
                    self.put_in(row);
                }
                (_, None) => self.oddities.unknown += 1,
                (Action::Modify, Some(at)) => self.modify(at, row),
                (Action::Fill, Some(at)) => self.fill(at, row.size),
                (_, Some(at)) => self.take_out(at),
            }
        }
        self.cut(dropped);
        Ok(())
    }

    pub fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
        self.nodes.clear();
        self.free = NONE;
        self.index.clear();
        self.checksum = None;
    }

    /// Kraken's checksum of level3: as that of its book, with each order of the ten best levels in its queue's order.
    /// Source: docs.kraken.com, "L3 checksum (WebSocket v2)".
    pub fn checksum(&mut self) -> u32 {
        if let Some(kept) = self.checksum {
            return kept;
        }
        let (mut sum, scales) = (Sum::default(), self.scales);
        for side in [&self.bids, &self.asks] {
            for rank in (0..side.len().min(CHECKSUM_LEVELS)).rev() {
                let mut at = side.at_rank(rank).map_or(NONE, |queue| queue.tail);
                while let Some(node) = self.nodes.get_mut(at as usize) {
                    if node.part.length == 0 {
                        node.part = kraken(node.order.price, node.order.size, scales);
                    }
                    sum.put_before(&[node.part]);
                    at = node.previous;
                }
            }
        }
        *self.checksum.insert(sum.crc32())
    }

    /// An order that is live.
    pub fn order(&self, id: u64) -> Option<Order> {
        Some(self.node(*self.index.get(&id)?)?.order)
    }

    /// How many orders stand before this one in its queue, and their sizes' sum (None where it does not fit).
    pub fn ahead(&self, id: u64) -> Option<(u32, Option<Decimal>)> {
        let node = self.node(*self.index.get(&id)?)?;
        let (mut queue, mut at) = (Queue::new(node.order.price), node.previous);
        while let Some(before) = self.node(at) {
            queue.count_in(before.order.size, 1);
            queue.count += 1;
            at = before.previous;
        }
        Some((queue.count, queue.size()))
    }

    /// Levels of a side, best first: price, summed size, number of orders. A sum that 63 bits do not hold is left out (its
    /// size is the largest that a number can have, marked `altered`).
    pub fn levels(&self, side: Side) -> impl Iterator<Item = Level> + '_ {
        let far = Decimal { mantissa: i64::MAX - 1, scale: 0, altered: true };
        self.side(side).into_iter().flat_map(Sorted::best_first).map(move |queue| Level {
            price: queue.price,
            size: queue.size().unwrap_or(far),
            count: queue.count,
            changed: 0,
        })
    }

    pub fn best(&self, side: Side) -> Option<Level> {
        self.levels(side).next()
    }

    /// Every order of a side, best level first, each queue oldest first.
    pub fn orders(&self, side: Side) -> impl Iterator<Item = Order> + '_ {
        let queues = self.side(side).into_iter().flat_map(Sorted::best_first);
        queues.flat_map(|queue| {
            let first = self.node(queue.head);
            std::iter::successors(first, |node| self.node(node.next)).map(|node| node.order)
        })
    }

    /// Live orders.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Price levels of a side.
    pub fn depth(&self, side: Side) -> usize {
        self.side(side).map_or(0, Sorted::len)
    }

    pub const fn oddities(&self) -> Oddities {
        self.oddities
    }

    fn side(&self, side: Side) -> Option<&Sorted<Queue>> {
        match side {
            Side::Bid => Some(&self.bids),
            Side::Ask => Some(&self.asks),
            Side::None => None,
        }
    }

    fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    /// Puts a new order at the tail of its queue; none of its id is in the book.
    fn put_in(&mut self, row: &OrderRow) {
        if row.size.is_zero() {
            return;
        }
        let order = Order { id: row.id, side: row.side, price: row.price, size: row.size };
        let mut node = Node { order, part: Part::default(), next: NONE, previous: NONE };
        let at = if self.free == NONE { self.nodes.len() as u32 } else { self.free };
        let levels = if row.side == Side::Bid { &mut self.bids } else { &mut self.asks };
        let place = levels.find(&row.price);
        let rank = match place {
            Ok(place) => levels.rank(place, CHECKSUM_LEVELS),
            Err(place) => levels.rank_before(place, CHECKSUM_LEVELS),
        };
        if rank < CHECKSUM_LEVELS {
            self.checksum = None;
        }
        let mut queue = match place {
            Ok(place) => *levels.get_mut(place),
            Err(_) => Queue { head: at, ..Queue::new(row.price) },
        };
        node.previous = queue.tail;
        queue.tail = at;
        queue.count += 1;
        queue.count_in(row.size, 1);
        match place {
            Ok(place) => *levels.get_mut(place) = queue,
            Err(place) => levels.insert(place, queue),
        }
        if let Some(before) = self.nodes.get_mut(node.previous as usize) {
            before.next = at;
        }
        match self.nodes.get_mut(at as usize) {
            Some(free) => {
                self.free = free.next;
                *free = node;
            }
            None => self.nodes.push(node),
        }
        self.index.insert(row.id, at);
    }

    /// Takes an order out of its queue, and the level with it where it was the last.
    fn take_out(&mut self, at: u32) {
        let Some(node) = self.node(at).copied() else { return };
        self.index.remove(&node.order.id);
        if let Some(before) = self.nodes.get_mut(node.previous as usize) {
            before.next = node.next;
        }
        if let Some(after) = self.nodes.get_mut(node.next as usize) {
            after.previous = node.previous;
        }
        if let Some((levels, place)) = self.find(&node.order) {
            let queue = levels.get_mut(place);
            queue.count -= 1;
            queue.count_in(node.order.size, -1);
            if queue.head == at {
                queue.head = node.next;
            }
            if queue.tail == at {
                queue.tail = node.previous;
            }
            if queue.count == 0 {
                levels.remove(place);
            }
        }
        self.release(at);
    }

    fn release(&mut self, at: u32) {
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.next = self.free;
            self.free = at;
        }
    }

    /// The level of an order that is in the book; what is done there is about to change it.
    fn find(&mut self, order: &Order) -> Option<(&mut Sorted<Queue>, Place)> {
        let levels = if order.side == Side::Bid { &mut self.bids } else { &mut self.asks };
        let place = levels.find(&order.price).ok()?;
        if levels.rank(place, CHECKSUM_LEVELS) < CHECKSUM_LEVELS {
            self.checksum = None;
        }
        Some((levels, place))
    }

    fn modify(&mut self, at: u32, row: &OrderRow) {
        let Some(order) = self.node(at).map(|node| node.order) else { return };
        let same_place = row.side == order.side && row.price.cmp_value(&order.price).is_eq();
        let grows = row.size.cmp_value(&order.size).is_gt();
        if row.size.is_zero() || !same_place || (grows && !self.spec.growing_keeps_place) {
            self.take_out(at);
            self.put_in(row);
        } else {
            self.resize(at, &order, row.size);
        }
    }

    fn fill(&mut self, at: u32, by: Decimal) {
        let Some(order) = self.node(at).map(|node| node.order) else { return };
        let scale = order.size.scale.max(by.scale);
        let left = order.size.rescale(scale).zip(by.rescale(scale)).map(|(has, by)| has - by);
        match left {
            Some(left) if left > 0 => self.resize(at, &order, Decimal::new(left, scale)),
            // What is left cannot be held exactly: the order stays as it is.
            None if by.cmp_value(&order.size).is_lt() => self.oddities.inexact += 1,
            left => {
                self.oddities.overfilled += u64::from(left != Some(0));
                self.take_out(at);
            }
        }
    }

    /// Gives an order another size where it stands.
    fn resize(&mut self, at: u32, order: &Order, size: Decimal) {
        if let Some((levels, place)) = self.find(order) {
            let queue = levels.get_mut(place);
            queue.count_in(order.size, -1);
            queue.count_in(size, 1);
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.order.size = size;
            node.part = Part::default();
        }
    }

    /// Drops the worst levels beyond the subscribed depth with their orders.
    fn cut(&mut self, dropped: &mut Vec<Order>) {
        if !self.spec.truncate || self.spec.depth == 0 {
            return;
        }
        for side in [Side::Bid, Side::Ask] {
            let levels = if side == Side::Bid { &mut self.bids } else { &mut self.asks };
            let mut gone = Vec::new();
            while levels.len() > self.spec.depth as usize {
                gone.extend(levels.pop_worst());
            }
            if !gone.is_empty() && self.spec.depth as usize <= CHECKSUM_LEVELS {
                self.checksum = None;
            }
            for queue in gone {
                let mut at = queue.head;
                while let Some(node) = self.node(at).copied() {
                    self.index.remove(&node.order.id);
                    dropped.push(node.order);
                    self.release(at);
                    at = node.next;
                }
            }
        }
    }
}

/// Refuses a message before any of it is applied.
fn check(rows: &[OrderRow]) -> Result<(), BookError> {
    for (row, content) in rows.iter().enumerate() {
        if content.size.is_negative() {
            return Err(BookError::NegativeSize { row });
        }
        if content.side == Side::None && matches!(content.action, Action::Add | Action::Modify) {
            return Err(BookError::NoSide { row });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
