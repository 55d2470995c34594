//! What a change of a book by order costs with 100,000 live orders.
//!
//! `cargo run --release --example orders_bench [ROUNDS]` prints a JSON object a message size, 1 row and 16: ns for an add, a
//! modify and a cancel, and beside them `chase_ns`: one read that waits for the one before, at random in as many bytes as the
//! book has (60 an order), which is what memory alone costs where nothing is done at the same time. Medians of rounds, the
//! acts by turns. The orders stand on 4000 price levels a side, most of them near the touch; which one is changed or cancelled is by
//! chance over all of them, so nearly every change touches memory that was not touched lately.

use tickplant_core::book::orders::{OrderBook, OrderRow, OrderSpec};
use tickplant_core::clock::{Clock, Rng, SystemClock};
use tickplant_core::decimal::Decimal;
use tickplant_core::record::{Action, Side};

const LIVE: usize = 100_000;
const CHANGES: usize = 50_000;
const TOUCH: i64 = 1_000_000;

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(7);
    for rows in [1, 16] {
        measure(rounds, rows);
    }
}

fn measure(rounds: usize, rows: usize) {
    let mut rng = Rng::new(11);
    let mut next = 1_000_000_000u64;
    let mut live: Vec<OrderRow> = (0..LIVE).map(|_| order(&mut next, &mut rng)).collect();
    let mut book = OrderBook::new(OrderSpec::default());
    book.load(&live).expect("our own orders");
    let mut times: [Vec<f64>; 4] = Default::default();
    let circle = circle(LIVE * 60 / 8, &mut rng);
    for _ in 0..rounds {
        let added: Vec<OrderRow> = (0..CHANGES).map(|_| order(&mut next, &mut rng)).collect();
        times[0].push(timed(&mut book, &added, rows));
        live.extend(added);
        let modified: Vec<OrderRow> = (0..CHANGES)
            .map(|_| {
                let row = &mut live[rng.below(LIVE as u64) as usize];
                row.size = Decimal::new(1 + rng.below(row.size.mantissa as u64) as i64, 3);
                OrderRow { action: Action::Modify, ..*row }
            })
            .collect();
        times[1].push(timed(&mut book, &modified, rows));
        let cancelled: Vec<OrderRow> = (0..CHANGES)
            .map(|_| {
                let at = rng.below(live.len() as u64) as usize;
                OrderRow { action: Action::Cancel, ..live.swap_remove(at) }
            })
            .collect();
        times[2].push(timed(&mut book, &cancelled, rows));
        times[3].push(chase(&circle));
        assert_eq!((book.len(), book.oddities().unknown), (LIVE, 0));
    }
    let medians = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let [add, modify, cancel, chase] = medians;
    let levels = book.depth(Side::Bid) + book.depth(Side::Ask);
    println!(
        "{{\"live\":{LIVE},\"levels\":{levels},\"rows\":{rows},\"rounds\":{rounds},\"add_ns\":{add:.1},\"modify_ns\":{modify:.1},\
         \"cancel_ns\":{cancel:.1},\"chase_ns\":{chase:.1}}}"
    );
}

fn order(next: &mut u64, rng: &mut Rng) -> OrderRow {
    *next += 1 + rng.below(5);
    let mut reach = 32;
    while reach < 4000 && rng.below(5) < 4 {
        reach *= 2;
    }
    let distance = rng.below(reach.min(4000)) as i64;
    let (side, price) =
        if rng.below(2) == 0 { (Side::Bid, TOUCH - 1 - distance) } else { (Side::Ask, TOUCH + distance) };
    let size = Decimal::new(1 + rng.below(1_000_000) as i64, 3);
    OrderRow { action: Action::Add, side, id: *next, price: Decimal::new(price, 2), size }
}

/// Places that lead to each other, all of them in one circle.
fn circle(places: usize, rng: &mut Rng) -> Vec<u64> {
    let mut order: Vec<u64> = (0..places as u64).collect();
    for at in (1..places).rev() {
        order.swap(at, rng.below(at as u64 + 1) as usize);
    }
    let mut circle = vec![0; places];
    for (at, &place) in order.iter().enumerate() {
        circle[place as usize] = order[(at + 1) % places];
    }
    circle
}

/// ns a step along the circle.
fn chase(circle: &[u64]) -> f64 {
    let (mut clock, mut at) = (SystemClock::new(), 0);
    let start = clock.now();
    for _ in 0..CHANGES {
        at = circle[at as usize];
    }
    assert!(at < circle.len() as u64);
    (clock.now() - start) as f64 / CHANGES as f64
}

/// ns a row.
fn timed(book: &mut OrderBook, rows: &[OrderRow], message: usize) -> f64 {
    let (mut clock, mut dropped) = (SystemClock::new(), Vec::new());
    let start = clock.now();
    for rows in rows.chunks(message) {
        book.apply(rows, &mut dropped).expect("our own rows");
    }
    (clock.now() - start) as f64 / rows.len() as f64
}
