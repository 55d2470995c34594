//! Books by order (market by order, L3): every live order in its queue, from which levels (L2) and the touch (L1) derive.
//!
//! Prices lie as in a book by level and name their queues: orders, oldest first, linked through one slab of nodes that an
//! index by order id finds. A node names its queue too, so a price is searched for only where an order comes or a queue goes,
//! and nothing is searched along a queue but where somebody asks for an order's place. With many orders live the cost is
//! memory that is far away: an entry of the index, the order, its neighbours and its queue are a cache line each. For a
//! message of several rows they are asked for before the first row is applied.
//!
//! What odd rows do: a negative size or a row without a side refuses the whole message, and the book stays as it was. An Add
//! of an order that is there takes it out and puts it at the tail. A Modify, Cancel or Fill of an order that is not there
//! changes nothing; a Fill of more than there is takes all of it. Each is counted. A size of zero is no order. Of orders with
//! one id in a snapshot the last counts. Ids that are no numbers are their hash ([`crate::event::hash_id`]).

mod index;
mod slab;

use super::crc::{Part, Sum};
use super::levels::Levels;
use super::sorted::Priced;
use super::text::{kraken, UNKNOWN_SCALE};
use super::{BookError, Level, LADDERS_EVERY};
use crate::decimal::Decimal;
use crate::record::{Action, Side};
use index::Index;
use slab::{prefetch, put, Node, Queue, NONE, SUMMED};

/// The levels that Kraken's checksum covers.
const CHECKSUM_LEVELS: usize = 10;
/// Rows whose memory is asked for at once.
const ROWS_AHEAD: usize = 16;

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

/// A price that stands, and where its queue lies.
#[derive(Clone, Copy, Debug)]
struct Rung {
    price: Decimal,
    queue: u32,
}

impl Priced for Rung {
    #[inline]
    fn price(&self) -> Decimal {
        self.price
    }
}

/// A checksum, and the worst price of bids and asks that it covers; None: all of them.
#[derive(Clone, Copy, Debug)]
struct Kept {
    checksum: u32,
    edges: [Option<Decimal>; 2],
}

/// The book by order of one instrument.
#[derive(Clone, Debug)]
pub struct OrderBook {
    spec: OrderSpec,
    bids: Levels<Rung>,
    asks: Levels<Rung>,
    queues: Vec<Queue>,
    queues_free: Vec<u32>,
    nodes: Vec<Node>,
    nodes_free: Vec<u32>,
    index: Index,
    /// Printed decimals of prices and sizes; 255: not known.
    scales: (u8, u8),
    /// None where something changed among the levels that the checksum covers.
    kept: Option<Kept>,
    /// The sums of the orders' texts, by node: as many as a checksum has asked for.
    parts: Vec<Part>,
    oddities: Oddities,
    messages: u64,
    /// Scratch of a cut.
    gone: Vec<u32>,
}

impl OrderBook {
    pub fn new(spec: OrderSpec) -> Self {
        Self {
            spec,
            bids: Levels::new(Side::Bid),
            asks: Levels::new(Side::Ask),
            queues: Vec::new(),
            queues_free: Vec::new(),
            nodes: Vec::new(),
            nodes_free: Vec::new(),
            index: Index::default(),
            scales: (UNKNOWN_SCALE, UNKNOWN_SCALE),
            kept: None,
            parts: Vec::new(),
            oddities: Oddities::default(),
            messages: 0,
            gone: Vec::new(),
        }
    }

    /// Decimals that the venue prints for prices and sizes, as [`super::Book::set_scales`].
    pub fn set_scales(&mut self, price: u8, size: u8) {
        if self.scales != (price, size) {
            self.scales = (price, size);
            self.kept = None;
            self.nodes.iter_mut().for_each(|node| node.flags &= !SUMMED);
        }
    }

    /// Replaces the book by a snapshot: each row is an order, those of one price in the order of their queue.
    pub fn load(&mut self, rows: &[OrderRow]) -> Result<(), BookError> {
        check(rows)?;
        self.clear();
        for row in rows {
            if let Some(at) = self.place(row.id) {
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
        for rows in rows.chunks(ROWS_AHEAD) {
            if rows.len() > 1 {
                self.look_ahead(rows);
            }
            rows.iter().for_each(|row| self.act(row));
        }
        self.cut(dropped);
        self.messages += 1;
        if self.messages.is_multiple_of(LADDERS_EVERY) {
            [&mut self.bids, &mut self.asks].into_iter().for_each(Levels::look_again);
        }
        Ok(())
    }

    /// Asks for the memory that rows are about to touch, all of it at once instead of one line after the other.
    fn look_ahead(&self, rows: &[OrderRow]) {
        rows.iter().for_each(|row| self.index.prefetch(row.id));
        let mut free = self.nodes_free.iter().rev();
        // The order of each row, or for a new one that before which it will stand: its queue's last.
        let mut queues = [NONE; ROWS_AHEAD];
        let mut nodes = [NONE; ROWS_AHEAD];
        for ((row, queue), node) in rows.iter().zip(&mut queues).zip(&mut nodes) {
            if row.action == Action::Add {
                *queue = self.queue_of(row.side, &row.price).unwrap_or(NONE);
                free.next().and_then(|&at| self.node(at)).into_iter().for_each(prefetch);
            } else {
                *node = self.index.likely(row.id).unwrap_or(NONE);
                self.node(*node).into_iter().for_each(prefetch);
            }
            self.queues.get(*queue as usize).into_iter().for_each(prefetch);
        }
        for (queue, node) in queues.into_iter().zip(nodes) {
            let around = match (self.queues.get(queue as usize), self.node(node)) {
                (Some(queue), _) => [queue.tail, NONE],
                (_, Some(node)) => {
                    self.queues.get(node.queue as usize).into_iter().for_each(prefetch);
                    [node.next, node.previous]
                }
                _ => continue,
            };
            around.into_iter().filter_map(|at| self.node(at)).for_each(prefetch);
        }
    }

    /// The queue of a price, where it stands.
    #[inline]
    fn queue_of(&self, side: Side, price: &Decimal) -> Option<u32> {
        let levels = self.side(side)?;
        levels.get(levels.find(price).ok()?).map(|rung| rung.queue)
    }

    #[inline]
    fn act(&mut self, row: &OrderRow) {
        match (row.action, self.place(row.id)) {
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

    pub fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
        self.queues.clear();
        self.queues_free.clear();
        self.nodes.clear();
        self.nodes_free.clear();
        self.index.clear();
        self.kept = None;
    }

    /// Kraken's checksum of level3: as that of its book, with each order of the ten best levels in its queue's order.
    /// Source: docs.kraken.com, "L3 checksum (WebSocket v2)".
    pub fn checksum(&mut self) -> u32 {
        if let Some(kept) = self.kept {
            return kept.checksum;
        }
        let (mut sum, scales) = (Sum::default(), self.scales);
        self.parts.resize(self.nodes.len(), Part::default());
        for side in [&self.bids, &self.asks] {
            for rank in (0..side.len().min(CHECKSUM_LEVELS)).rev() {
                let Some(queue) = side.at_rank(rank).and_then(|rung| self.queues.get(rung.queue as usize)) else {
                    continue;
                };
                let mut at = queue.tail;
                while let (Some(node), Some(part)) = (self.nodes.get_mut(at as usize), self.parts.get_mut(at as usize))
                {
                    if node.flags & SUMMED == 0 {
                        let order = node.order(queue);
                        *part = kraken(order.price, order.size, scales);
                        node.flags |= SUMMED;
                    }
                    sum.put_before(&[*part]);
                    at = node.previous;
                }
            }
        }
        let edges = [&self.bids, &self.asks].map(|side| side.at_rank(CHECKSUM_LEVELS - 1).map(|rung| rung.price));
        self.kept.insert(Kept { checksum: sum.crc32(), edges }).checksum
    }

    /// An order that is live.
    pub fn order(&self, id: u64) -> Option<Order> {
        self.order_at(self.place(id)?)
    }

    /// How many orders stand before this one in its queue, and their sizes' sum (None where it does not fit).
    pub fn ahead(&self, id: u64) -> Option<(u32, Option<Decimal>)> {
        let node = self.node(self.place(id)?)?;
        let (mut queue, mut at) = (Queue::new(Decimal::ZERO, Side::None), node.previous);
        while let Some(before) = self.node(at) {
            queue.count_in(before.size(), 1);
            queue.count += 1;
            at = before.previous;
        }
        Some((queue.count, queue.size()))
    }

    /// Levels of a side, best first: price, summed size, number of orders. A sum that 63 bits do not hold is left out (its
    /// size is the largest that a number can have, marked `altered`).
    pub fn levels(&self, side: Side) -> impl Iterator<Item = Level> + '_ {
        let far = Decimal { mantissa: i64::MAX - 1, scale: 0, altered: true };
        self.queues(side).map(move |queue| Level {
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
        self.queues(side).flat_map(|queue| {
            let first = self.node(queue.head);
            std::iter::successors(first, |node| self.node(node.next)).map(|node| node.order(queue))
        })
    }

    /// Live orders.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.len() == 0
    }

    /// Price levels of a side.
    pub fn depth(&self, side: Side) -> usize {
        self.side(side).map_or(0, Levels::len)
    }

    pub const fn oddities(&self) -> Oddities {
        self.oddities
    }

    fn side(&self, side: Side) -> Option<&Levels<Rung>> {
        match side {
            Side::Bid => Some(&self.bids),
            Side::Ask => Some(&self.asks),
            Side::None => None,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut Levels<Rung> {
        if side == Side::Bid {
            &mut self.bids
        } else {
            &mut self.asks
        }
    }

    fn queues(&self, side: Side) -> impl Iterator<Item = &Queue> {
        let rungs = self.side(side).into_iter().flat_map(Levels::best_first);
        rungs.filter_map(|rung| self.queues.get(rung.queue as usize))
    }

    #[inline]
    fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    /// Where an order lies.
    #[inline]
    fn place(&self, id: u64) -> Option<u32> {
        self.index.find(id, |at| self.node(at).is_some_and(|node| node.id == id))
    }

    fn order_at(&self, at: u32) -> Option<Order> {
        let node = self.node(at)?;
        Some(node.order(self.queues.get(node.queue as usize)?))
    }

    /// Something changes at a price: a checksum that covers it is void.
    #[inline]
    fn touch(&mut self, side: Side, price: Decimal) {
        if let Some(kept) = self.kept {
            let edge = kept.edges[usize::from(side == Side::Ask)];
            if edge.is_none_or(|edge| self.side_mut(side).nearer(&price, &edge).is_le()) {
                self.kept = None;
            }
        }
    }

    /// Puts a new order at the tail of its queue; none of its id is in the book.
    fn put_in(&mut self, row: &OrderRow) {
        if row.size.is_zero() {
            return;
        }
        self.touch(row.side, row.price);
        let levels = if row.side == Side::Bid { &mut self.bids } else { &mut self.asks };
        let at_queue = match levels.find(&row.price) {
            Ok(place) => levels.get_mut(place).map_or(NONE, |rung| rung.queue),
            Err(place) => {
                let queue = put(&mut self.queues, &mut self.queues_free, Queue::new(row.price, row.side));
                let place = levels.make_room(place, &row.price);
                levels.insert(place, Rung { price: row.price, queue });
                queue
            }
        };
        let Some(queue) = self.queues.get_mut(at_queue as usize) else { return };
        let at = put(&mut self.nodes, &mut self.nodes_free, Node::new(row, at_queue, queue.tail));
        queue.count_in(row.size, 1);
        queue.count += 1;
        match self.nodes.get_mut(queue.tail as usize) {
            Some(before) => before.next = at,
            None => queue.head = at,
        }
        queue.tail = at;
        self.index.insert(row.id, at);
    }

    /// Takes an order out of its queue, and the level with it where it was the last.
    fn take_out(&mut self, at: u32) {
        let Some(&node) = self.node(at) else { return };
        self.index.remove(node.id, at);
        self.nodes_free.push(at);
        let Some(queue) = self.queues.get_mut(node.queue as usize) else { return };
        match self.nodes.get_mut(node.previous as usize) {
            Some(before) => before.next = node.next,
            None => queue.head = node.next,
        }
        match self.nodes.get_mut(node.next as usize) {
            Some(after) => after.previous = node.previous,
            None => queue.tail = node.previous,
        }
        queue.count_in(node.size(), -1);
        queue.count -= 1;
        let Queue { side, price, count, .. } = *queue;
        self.touch(side, price);
        if count == 0 {
            self.queues_free.push(node.queue);
            let levels = self.side_mut(side);
            if let Ok(place) = levels.find(&price) {
                levels.remove(place);
            }
        }
    }

    fn modify(&mut self, at: u32, row: &OrderRow) {
        let Some(node) = self.node(at) else { return };
        let Some(queue) = self.queues.get(node.queue as usize) else { return };
        let same_place = row.side == queue.side && row.price.cmp_value(&queue.price).is_eq();
        let grows = row.size.cmp_value(&node.size()).is_gt();
        if row.size.is_zero() || !same_place || (grows && !self.spec.growing_keeps_place) {
            self.take_out(at);
            self.put_in(row);
        } else {
            self.resize(at, row.size);
        }
    }

    fn fill(&mut self, at: u32, by: Decimal) {
        let Some(size) = self.node(at).map(Node::size) else { return };
        let scale = size.scale.max(by.scale);
        let left = size.rescale(scale).zip(by.rescale(scale)).map(|(has, by)| has - by);
        match left {
            Some(left) if left > 0 => self.resize(at, Decimal::new(left, scale)),
            // What is left cannot be held exactly: the order stays as it is.
            None if by.cmp_value(&size).is_lt() => self.oddities.inexact += 1,
            left => {
                self.oddities.overfilled += u64::from(left != Some(0));
                self.take_out(at);
            }
        }
    }

    /// Gives an order another size where it stands.
    fn resize(&mut self, at: u32, size: Decimal) {
        let Some(node) = self.nodes.get_mut(at as usize) else { return };
        let Some(queue) = self.queues.get_mut(node.queue as usize) else { return };
        queue.count_in(node.size(), -1);
        queue.count_in(size, 1);
        node.set_size(size);
        let Queue { side, price, .. } = *queue;
        self.touch(side, price);
    }

    /// Drops the worst levels beyond the subscribed depth with their orders.
    fn cut(&mut self, dropped: &mut Vec<Order>) {
        if !self.spec.truncate || self.spec.depth == 0 {
            return;
        }
        for side in [Side::Bid, Side::Ask] {
            let levels = if side == Side::Bid { &mut self.bids } else { &mut self.asks };
            let depth = self.spec.depth as usize;
            if levels.len() <= depth {
                continue;
            }
            let mut gone = std::mem::take(&mut self.gone);
            levels.cut(depth, |rung| gone.push(rung.queue));
            if depth <= CHECKSUM_LEVELS {
                self.kept = None;
            }
            for at_queue in gone.drain(..) {
                let mut at = self.queues.get(at_queue as usize).map_or(NONE, |queue| queue.head);
                while let Some((node, order)) = self.node(at).copied().zip(self.order_at(at)) {
                    self.index.remove(node.id, at);
                    dropped.push(order);
                    self.nodes_free.push(at);
                    at = node.next;
                }
                self.queues_free.push(at_queue);
            }
            self.gone = gone;
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
