//! The book by order against its plain twin: a list of orders in the order of their arrival.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn number(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

fn row(action: Action, side: Side, id: u64, price: &str, size: &str) -> OrderRow {
    OrderRow { action, side, id, price: number(price), size: number(size) }
}

/// The orders in the order in which they took their places; everything else is searched for.
#[derive(Clone, Debug, Default)]
struct Twin {
    orders: Vec<Order>,
    oddities: Oddities,
}

impl Twin {
    fn place(&self, id: u64) -> Option<usize> {
        self.orders.iter().position(|order| order.id == id)
    }

    fn apply(&mut self, row: &OrderRow, spec: &OrderSpec) {
        let order = Order { id: row.id, side: row.side, price: row.price, size: row.size };
        let place = self.place(row.id);
        match (row.action, place) {
            (Action::Add, _) => {
                self.oddities.known += u64::from(place.is_some());
                self.orders.retain(|order| order.id != row.id);
                self.orders.push(order);
            }
            (_, None) => self.oddities.unknown += 1,
            (Action::Modify, Some(at)) => {
                let before = self.orders[at];
                let moves = before.side != row.side || !before.price.cmp_value(&row.price).is_eq();
                let grows = row.size.cmp_value(&before.size).is_gt() && !spec.growing_keeps_place;
                if moves || grows {
                    self.orders.remove(at);
                    self.orders.push(order);
                } else {
                    self.orders[at].size = row.size;
                }
            }
            (Action::Fill, Some(at)) => {
                let before = self.orders[at].size;
                let scale = before.scale.max(row.size.scale);
                let left = before.rescale(scale).unwrap() - row.size.rescale(scale).unwrap();
                self.oddities.overfilled += u64::from(left < 0);
                self.orders[at].size = Decimal::new(left.max(0), scale);
            }
            (_, Some(at)) => drop(self.orders.remove(at)),
        }
        self.orders.retain(|order| !order.size.is_zero());
    }

    /// Prices of a side, best first.
    fn prices(&self, side: Side) -> Vec<Decimal> {
        let mut prices: Vec<Decimal> = self.orders.iter().filter(|o| o.side == side).map(|o| o.price).collect();
        prices.sort_by(|a, b| if side == Side::Ask { a.cmp_value(b) } else { b.cmp_value(a) });
        prices.dedup_by(|a, b| a.cmp_value(b).is_eq());
        prices
    }

    fn queue(&self, side: Side, price: Decimal) -> impl Iterator<Item = &Order> {
        self.orders.iter().filter(move |order| order.side == side && order.price.cmp_value(&price).is_eq())
    }

    fn cut(&mut self, spec: &OrderSpec) {
        for side in [Side::Bid, Side::Ask].into_iter().filter(|_| spec.truncate && spec.depth > 0) {
            for price in self.prices(side).into_iter().skip(spec.depth as usize) {
                self.orders.retain(|order| order.side != side || !order.price.cmp_value(&price).is_eq());
            }
        }
    }

    fn checksum(&self) -> u32 {
        let mut text = String::new();
        for side in [Side::Ask, Side::Bid] {
            for price in self.prices(side).into_iter().take(10) {
                for order in self.queue(side, price) {
                    for number in [order.price, order.size] {
                        text += number.to_string().replace('.', "").trim_start_matches('0');
                    }
                }
            }
        }
        crc32fast::hash(text.as_bytes())
    }
}

fn compare(book: &mut OrderBook, twin: &Twin) {
    for side in [Side::Bid, Side::Ask] {
        let prices = twin.prices(side);
        let theirs: Vec<Order> = prices.iter().flat_map(|&price| twin.queue(side, price)).copied().collect();
        assert_eq!(book.orders(side).collect::<Vec<_>>(), theirs);
        assert_eq!(book.depth(side), prices.len());
        for (level, &price) in book.levels(side).zip(&prices) {
            assert!(level.price.cmp_value(&price).is_eq());
            let sum: i128 = twin.queue(side, price).map(|o| i128::from(o.size.rescale(12).unwrap())).sum();
            assert_eq!(i128::from(level.size.rescale(12).unwrap()), sum);
            assert_eq!(level.count as usize, twin.queue(side, price).count());
        }
    }
    for order in &twin.orders {
        assert_eq!(book.order(order.id), Some(*order));
        let ahead: Vec<&Order> = twin.queue(order.side, order.price).take_while(|other| other.id != order.id).collect();
        let sum: i64 = ahead.iter().map(|o| o.size.rescale(12).unwrap()).sum();
        let (count, size) = book.ahead(order.id).unwrap();
        assert_eq!((count as usize, size.unwrap().rescale(12)), (ahead.len(), Some(sum)));
    }
    assert_eq!((book.len(), book.oddities()), (twin.orders.len(), twin.oddities));
    assert_eq!(book.checksum(), twin.checksum());
}

fn rows(most: usize) -> impl Strategy<Value = Vec<OrderRow>> {
    let action = prop::sample::select(vec![Action::Add, Action::Add, Action::Modify, Action::Cancel, Action::Fill]);
    let side = prop::sample::select(vec![Side::Bid, Side::Ask]);
    let price = (1i64..16, 0u8..3).prop_map(|(ticks, zeros)| Decimal::new(ticks * 10i64.pow(zeros.into()), 1 + zeros));
    let size = prop_oneof![
        1 => Just(Decimal::new(0, 8)),
        9 => (1i64..900, 0u8..6).prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale)),
    ];
    let row = (action, side, 0u64..60, price, size);
    let row = row.prop_map(|(action, side, id, price, size)| OrderRow { action, side, id, price, size });
    prop::collection::vec(row, 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any history, with snapshots in its midst: the same queues, levels, places, counts and checksums.
    #[test]
    fn book_and_twin_agree(
        depth in prop::sample::select(vec![0u32, 1, 3, 10]),
        truncate in any::<bool>(),
        growing_keeps_place in any::<bool>(),
        messages in prop::collection::vec((rows(12), prop::bool::weighted(0.1)), 0..40),
    ) {
        let spec = OrderSpec { depth, truncate, growing_keeps_place };
        let (mut book, mut twin, mut dropped) = (OrderBook::new(spec), Twin::default(), Vec::new());
        for (message, snapshot) in messages {
            if snapshot {
                book.load(&message).unwrap();
                twin.orders.clear();
                for row in &message {
                    // In a snapshot each row is an order, whatever it is called; that one stands twice is counted nowhere.
                    twin.orders.retain(|order| order.id != row.id);
                    let oddities = twin.oddities;
                    twin.apply(&OrderRow { action: Action::Add, ..*row }, &spec);
                    twin.oddities = oddities;
                }
            } else {
                dropped.clear();
                book.apply(&message, &mut dropped).unwrap();
                message.iter().for_each(|row| twin.apply(row, &spec));
            }
            let before = twin.orders.len();
            twin.cut(&spec);
            if !snapshot {
                prop_assert_eq!(dropped.len(), before - twin.orders.len());
            }
            compare(&mut book, &twin);
        }
    }
}

#[test]
fn a_refused_message_changes_nothing() {
    let mut book = OrderBook::new(OrderSpec::default());
    book.load(&[row(Action::Add, Side::Bid, 1, "10", "1")]).unwrap();
    let bad = [row(Action::Cancel, Side::Bid, 1, "10", "0"), row(Action::Add, Side::Bid, 2, "10", "-1")];
    assert_eq!(book.apply(&bad, &mut Vec::new()), Err(BookError::NegativeSize { row: 1 }));
    assert_eq!(book.load(&bad), Err(BookError::NegativeSize { row: 1 }));
    let nowhere = [row(Action::Add, Side::None, 3, "10", "1")];
    assert_eq!(book.apply(&nowhere, &mut Vec::new()), Err(BookError::NoSide { row: 0 }));
    assert_eq!(book.orders(Side::Bid).count(), 1);
}

#[test]
fn sums_that_fit_nowhere_are_said_to_be_so() {
    let mut book = OrderBook::new(OrderSpec::default());
    let huge = "9223372036854775806";
    let orders = [("1", huge), ("2", huge), ("3", "0.000000000000000001")];
    for (at, (id, size)) in orders.into_iter().enumerate() {
        book.apply(&[row(Action::Add, Side::Ask, id.parse().unwrap(), "1", size)], &mut Vec::new()).unwrap();
        let level = book.best(Side::Ask).unwrap();
        assert_eq!((level.size.altered, level.count), (at > 0, at as u32 + 1));
    }
    let (count, size) = book.ahead(3).unwrap();
    assert_eq!((count, size), (2, None));
    // The matched size cannot be taken off exactly: the order stays, and that is counted.
    book.apply(&[row(Action::Fill, Side::Ask, 1, "1", "0.000000000000000001")], &mut Vec::new()).unwrap();
    assert_eq!((book.len(), book.oddities().inexact), (3, 1));
}

#[test]
fn printed_scales_count_for_the_checksum() {
    let mut book = OrderBook::new(OrderSpec::default());
    book.load(&[row(Action::Add, Side::Bid, 1, "44939", "0.1")]).unwrap();
    assert_eq!(book.checksum(), crc32fast::hash(b"449391"));
    book.set_scales(1, 8);
    assert_eq!(book.checksum(), crc32fast::hash(b"44939010000000"));
}

#[test]
fn the_tenth_level_counts_and_the_eleventh_does_not() {
    let rows: Vec<_> = (1..13u64).map(|id| row(Action::Add, Side::Bid, id, &(100 - id).to_string(), "7")).collect();
    let (mut book, mut twin, spec) = (OrderBook::new(OrderSpec::default()), Twin::default(), OrderSpec::default());
    let mut sums = Vec::new();
    let mut act = |row: OrderRow| {
        book.apply(&[row], &mut Vec::new()).unwrap();
        twin.apply(&row, &spec);
        compare(&mut book, &twin);
        sums.push(twin.checksum());
    };
    rows.into_iter().for_each(&mut act);
    // In place, by a new order and by one that goes: at the eleventh, then at the tenth.
    for (level, id) in [("89", 11), ("90", 10)] {
        act(row(Action::Modify, Side::Bid, id, level, "5"));
        act(row(Action::Add, Side::Bid, 50 + id, level, "3"));
        act(row(Action::Cancel, Side::Bid, id, "0", "0"));
    }
    sums.drain(..9);
    let changed: Vec<bool> = sums.windows(2).map(|pair| pair[0] != pair[1]).collect();
    assert_eq!(changed, [false, false, false, false, false, true, true, true]);
}

#[test]
fn a_thousand_orders_at_one_price() {
    let mut book = OrderBook::new(OrderSpec::default());
    let rows: Vec<_> = (0..1000).map(|id| row(Action::Add, Side::Ask, id, "10.0", "0.5")).collect();
    book.apply(&rows, &mut Vec::new()).unwrap();
    assert_eq!((book.depth(Side::Ask), book.best(Side::Ask).unwrap().size), (1, Decimal::new(5000, 1)));
    let cancels: Vec<_> = (0..1000).rev().map(|id| row(Action::Cancel, Side::Ask, id, "0", "0")).collect();
    book.apply(&cancels, &mut Vec::new()).unwrap();
    assert!(book.is_empty() && book.depth(Side::Ask) == 0);
    // The memory of the first thousand serves the second.
    book.apply(&rows, &mut Vec::new()).unwrap();
    assert_eq!(book.nodes.len(), 1000);
}

/// The worked example of Kraken's guide "Spot Websockets (v2) Level3 Checksum": prices and sizes in their queues' order.
#[test]
fn krakens_published_example() {
    let asks = "44939.5 4.52308393 0.00111261 0.00100000 0.01000000;44950.0 0.10334926;44953.0 0.00064537;\
        44955.0 0.00250000;44959.6 0.35630000 0.35630000;44960.1 0.00338072;44960.2 0.88967575;44967.0 3.14392283;\
        44978.5 0.06778960;44979.2 0.35630000";
    let bids = "44939.4 0.88968699 0.45210000 0.10000000 0.14296323 0.25000000 0.10292988 0.33880000 1.28140860;\
        44937.1 0.03346877;44934.7 0.35630000;44930.2 0.22734299 0.01000000 0.05550000 0.70000000 0.15000000;\
        44928.0 0.00105240;44919.6 0.33870000;44919.5 0.07610000;44912.0 0.35630000;44909.7 0.06690000;\
        44901.9 0.00088982";
    let mut rows = Vec::new();
    for (side, text) in [(Side::Bid, bids), (Side::Ask, asks)] {
        for level in text.split(';') {
            let (price, sizes) = level.split_once(' ').unwrap();
            for size in sizes.split(' ') {
                rows.push(row(Action::Add, side, rows.len() as u64, price, size));
            }
        }
    }
    let mut book = OrderBook::new(OrderSpec { depth: 10, truncate: true, ..OrderSpec::default() });
    book.load(&rows).unwrap();
    assert_eq!((book.len(), book.checksum()), (35, 1_063_832_831));
    // The queue counts: the same orders in another order are another text.
    let mut by_side: BTreeMap<u64, Vec<OrderRow>> = BTreeMap::new();
    rows.iter().for_each(|row| by_side.entry(row.side as u64).or_default().push(*row));
    let turned: Vec<OrderRow> = by_side.into_values().flat_map(|side| side.into_iter().rev()).collect();
    book.load(&turned).unwrap();
    assert_ne!(book.checksum(), 1_063_832_831);
}
