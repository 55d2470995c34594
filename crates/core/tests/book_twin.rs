//! The book against its plain twin, over streams that are made up to be nasty.

mod twin;

use proptest::prelude::*;
use tickplant_core::book::{Book, BookError, Checksum, Level, Proof, Spec};
use tickplant_core::decimal::Decimal;
use tickplant_core::event::{Change, Row};
use tickplant_core::record::{Action, Side};
use twin::Twin;

fn number(text: &str) -> Decimal {
    Decimal::parse(text.as_bytes()).unwrap()
}

fn row(side: Side, price: &str, size: &str) -> Row {
    Row { side, price: number(price), size: number(size), count: 0 }
}

/// `PRICE SIZE` pairs.
fn levels(side: Side, text: &str) -> Vec<Row> {
    let words: Vec<_> = text.split_whitespace().collect();
    words.chunks(2).map(|pair| row(side, pair[0], pair[1])).collect()
}

/// Few prices, so that levels meet, written at different scales; sizes are often zero.
fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let price = (1i64..60, 0u8..4).prop_map(|(ticks, zeros)| Decimal::new(ticks * 10i64.pow(zeros.into()), 1 + zeros));
    let size = prop_oneof![
        Just(Decimal::new(0, 8)),
        (1i64..5_000_000, 0u8..9).prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale)),
    ];
    let side = prop_oneof![Just(Side::Bid), Just(Side::Ask)];
    prop::collection::vec(
        (side, price, size).prop_map(|(side, price, size)| Row { side, price, size, count: 0 }),
        0..most,
    )
}

fn spec() -> impl Strategy<Value = Spec> {
    let rules = [Checksum::None, Checksum::Kraken, Checksum::Okx, Checksum::Bitfinex];
    (prop::sample::select(vec![0, 1, 5, 10, 25]), any::<bool>(), prop::sample::select(rules.to_vec()))
        .prop_map(|(depth, truncate, checksum)| Spec { depth, truncate, checksum })
}

fn sides(book: &Book) -> [Vec<(Decimal, Decimal)>; 2] {
    [Side::Bid, Side::Ask].map(|side| book.levels(side).map(|level| (level.price, level.size)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Book, twin and a reader that only follows the changes hold the same levels and checksums after every message.
    #[test]
    fn book_twin_and_reader_agree(
        spec in spec(),
        snapshot in rows(120),
        messages in prop::collection::vec((rows(8), any::<bool>(), prop::option::weighted(0.05, (0u8..10, 0u8..12))), 0..30),
    ) {
        let mut book = Book::new(spec);
        let (mut twin, mut reader, mut scales) = (Twin::default(), Twin::default(), (255, 255));
        let mut changes = Vec::new();
        book.load(&snapshot, &mut changes).unwrap();
        twin.apply(&snapshot, &spec);
        reader.follow(&changes);
        prop_assert_eq!(sides(&book), [Side::Bid, Side::Ask].map(|side| twin.best_first(side)));
        for (message, ask_checksum, new_scales) in messages {
            changes.clear();
            book.apply(&message, &mut changes).unwrap();
            twin.apply(&message, &spec);
            reader.follow(&changes);
            if let Some((price, size)) = new_scales {
                scales = (price, size);
                book.set_scales(price, size);
            }
            let expected = [Side::Bid, Side::Ask].map(|side| twin.best_first(side));
            prop_assert_eq!(&sides(&book), &expected);
            prop_assert_eq!(&[Side::Bid, Side::Ask].map(|side| reader.best_first(side)), &expected);
            if ask_checksum {
                prop_assert_eq!(book.checksum(), twin.checksum(spec.checksum, scales));
            }
        }
        prop_assert_eq!(book.checksum(), twin.checksum(spec.checksum, scales));
    }

    /// A refused message changes nothing, wherever the bad row stands.
    #[test]
    fn a_refused_message_changes_nothing(good in rows(20), mut bad in rows(8), at in any::<prop::sample::Index>(), load in any::<bool>()) {
        let mut book = Book::new(Spec { depth: 10, truncate: true, checksum: Checksum::Kraken });
        book.load(&good, &mut Vec::new()).unwrap();
        let (before, checksum) = (sides(&book), book.checksum());
        let index = at.index(bad.len() + 1);
        bad.insert(index, row(Side::Bid, "1.0", "-0.5"));
        let mut changes = Vec::new();
        let refused = if load { book.load(&bad, &mut changes) } else { book.apply(&bad, &mut changes) };
        prop_assert_eq!(refused, Err(BookError::NegativeSize { row: index }));
        prop_assert!(changes.is_empty());
        prop_assert_eq!(sides(&book), before);
        prop_assert_eq!(book.checksum(), checksum);
    }
}

/// A deep book's snapshot: on every few ticks of a half around a centre, one of its prices possibly between two of them.
fn deep(centre: i64, every: i64, between: bool) -> Vec<Row> {
    let sides = [(Side::Bid, -1), (Side::Ask, 1)];
    let levels = sides.into_iter().flat_map(|(side, out)| {
        (1..500).map(move |rank| {
            let price = Decimal::new(5 * (centre + out * rank * every), 1);
            Row { side, price, size: Decimal::new(rank, 2), count: 0 }
        })
    });
    let odd = row(Side::Ask, &format!("{}.125", (centre + 40) / 2), "1");
    levels.chain(between.then_some(odd)).collect()
}

/// Rows of a deep market: near its centre, sometimes far, seldom absurd or between two ticks, written with some zeros.
fn deep_rows() -> impl Strategy<Value = Vec<(Side, i64, Decimal, u8)>> {
    let side = prop_oneof![Just(Side::Bid), Just(Side::Ask)];
    let ticks = prop_oneof![20 => -3i64..50, 6 => 0i64..700, 2 => 0i64..9000, 1 => Just(i64::MIN)];
    let size = prop_oneof![Just(Decimal::new(0, 8)), (1i64..5_000_000).prop_map(|size| Decimal::new(size, 3))];
    prop::collection::vec((side, ticks, size, 0u8..3), 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The same for books that have ladders: a centre that drifts and jumps, snapshots in the midst, cut and not.
    #[test]
    fn deep_book_twin_and_reader_agree(
        depth in prop::sample::select(vec![0u32, 270, 1000]),
        checksum in prop::sample::select(vec![Checksum::None, Checksum::Kraken, Checksum::Okx]),
        messages in prop::collection::vec(
            (deep_rows(), prop_oneof![6 => -30i64..30, 1 => -9000i64..9000], prop::option::weighted(0.1, (1i64..4, any::<bool>()))),
            1..25,
        ),
    ) {
        let spec = Spec { depth, truncate: true, checksum };
        let (mut book, mut twin, mut reader, mut changes) = (Book::new(spec), Twin::default(), Twin::default(), Vec::new());
        let mut told = std::collections::BTreeMap::new();
        let mut centre = 100_000;
        for (at, (message, drift, snapshot)) in messages.into_iter().enumerate() {
            changes.clear();
            centre += drift;
            if let Some((every, between)) = snapshot.or((at == 0).then_some((2, false))) {
                let rows = deep(centre, every, between);
                twin = Twin::default();
                twin.apply(&rows, &spec);
                book.load(&rows, &mut changes).unwrap();
            } else {
                let rows: Vec<Row> = message.into_iter().map(|(side, ticks, size, zeros)| {
                    let out = if side == Side::Ask { 1 } else { -1 };
                    let price = match ticks {
                        // Absurd, or between two ticks.
                        i64::MIN if zeros == 0 => Decimal::new(if out > 0 { 1 } else { 900_000_000 }, 2),
                        i64::MIN => Decimal::new(50 * (centre + out) + i64::from(zeros), 2),
                        ticks => Decimal::new(5 * (centre + out * ticks) * 10i64.pow(zeros.into()), 1 + zeros),
                    };
                    Row { side, price, size, count: 0 }
                }).collect();
                twin.apply(&rows, &spec);
                book.apply(&rows, &mut changes).unwrap();
            }
            reader.follow(&changes);
            let expected = [Side::Bid, Side::Ask].map(|side| twin.best_first(side));
            prop_assert_eq!(&sides(&book), &expected);
            prop_assert_eq!(&[Side::Bid, Side::Ask].map(|side| reader.best_first(side)), &expected);
            prop_assert_eq!(book.checksum(), twin.checksum(checksum, (255, 255)));
            // Each level says which message changed it last.
            for change in &changes {
                told.insert((change.side as u8, twin::exact(change.price)), book.messages());
            }
            for (side, level) in [Side::Bid, Side::Ask].into_iter().flat_map(|side| book.levels(side).map(move |l| (side, l))) {
                prop_assert_eq!(told.get(&(side as u8, twin::exact(level.price))), Some(&level.changed));
            }
        }
    }
}

#[test]
fn a_snapshot_is_told_best_first_after_a_clear() {
    let mut book = Book::new(Spec { depth: 2, truncate: true, checksum: Checksum::None });
    let mut changes = Vec::new();
    let rows = [
        row(Side::Ask, "3.0", "1"),
        row(Side::Bid, "1.0", "1"),
        row(Side::Bid, "2.0", "5"),
        row(Side::Bid, "2", "6"),
        row(Side::Bid, "0.5", "7"),
        row(Side::Ask, "4.0", "0"),
    ];
    book.load(&rows, &mut changes).unwrap();
    let told: Vec<_> = changes.iter().map(|c| (c.action, c.side, c.price.to_string(), c.size.to_string())).collect();
    let text = |action, side, price: &str, size: &str| (action, side, price.to_owned(), size.to_owned());
    assert_eq!(
        told,
        [
            text(Action::Clear, Side::None, "0", "0"),
            text(Action::Add, Side::Bid, "2", "6"),
            text(Action::Add, Side::Bid, "1.0", "1"),
            text(Action::Add, Side::Ask, "3.0", "1"),
        ]
    );
}

#[test]
fn what_falls_out_of_the_window_is_cancelled_with_a_flag() {
    let mut book = Book::new(Spec { depth: 2, truncate: true, checksum: Checksum::Kraken });
    let mut changes = Vec::new();
    book.load(&[row(Side::Bid, "9", "1.00"), row(Side::Bid, "8", "1.00")], &mut changes).unwrap();
    changes.clear();
    book.apply(&[row(Side::Bid, "10", "2.00")], &mut changes).unwrap();
    let cancel = Change {
        action: Action::Cancel,
        side: Side::Bid,
        price: number("8"),
        size: number("0.00"),
        count: 0,
        window: true,
    };
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[1], cancel);
    assert_eq!(book.best(Side::Bid), Some(Level { price: number("10"), size: number("2.00"), count: 0, changed: 2 }));
}

#[test]
fn deletes_of_unknown_levels_are_counted() {
    let mut book = Book::new(Spec { depth: 0, truncate: false, checksum: Checksum::None });
    let mut changes = Vec::new();
    book.apply(&[row(Side::Ask, "5", "0"), row(Side::Ask, "5", "1"), row(Side::Ask, "5.0", "0")], &mut changes)
        .unwrap();
    assert_eq!(book.unknown_deletes(), 1);
    assert!(book.is_empty());
    assert_eq!(changes.len(), 2);
}

#[test]
fn crossed_and_locked_books_are_noticed() {
    let mut book = Book::new(Spec { depth: 0, truncate: false, checksum: Checksum::None });
    let mut apply = |side, price, size| {
        book.apply(&[row(side, price, size)], &mut Vec::new()).unwrap();
        book.is_crossed()
    };
    assert!(!apply(Side::Bid, "10.0", "1"));
    assert!(!apply(Side::Ask, "10.5", "1"));
    assert!(apply(Side::Ask, "10", "1"));
    assert!(!apply(Side::Ask, "10.00", "0"));
}

/// The published example of Kraken v2: docs.kraken.com, "Book Checksum".
#[test]
fn the_documented_checksum_comes_out() {
    let asks =
        "45285.2 0.00100000 45286.4 1.54571953 45286.6 1.54571109 45289.6 1.54560911 45290.2 0.15890660 45291.8 \
                1.54553491 45294.7 0.04454749 45296.1 0.35380000 45297.5 0.09945542 45299.5 0.18772827";
    let bids =
        "45283.5 0.10000000 45283.4 1.54582015 45282.1 0.10000000 45281.0 0.10000000 45280.3 1.54592586 45279.0 \
                0.07990000 45277.6 0.03310103 45277.5 0.30000000 45277.3 1.54602737 45276.6 0.15445238";
    let rows = [levels(Side::Ask, asks), levels(Side::Bid, bids)].concat();
    let mut book = Book::new(Spec { depth: 10, truncate: true, checksum: Checksum::Kraken });
    book.load(&rows, &mut Vec::new()).unwrap();
    assert_eq!(book.checksum(), 3_310_070_434);

    // The same numbers after a JSON writer dropped their trailing zeros: the printed scales put them back.
    let bare = |row: &Row| {
        let ((price, price_scale), (size, size_scale)) = (row.price.key(), row.size.key());
        Row { price: Decimal::new(price, price_scale), size: Decimal::new(size, size_scale), ..*row }
    };
    book.load(&rows.iter().map(bare).collect::<Vec<_>>(), &mut Vec::new()).unwrap();
    assert_ne!(book.checksum(), 3_310_070_434);
    book.set_scales(1, 8);
    assert_eq!(book.checksum(), 3_310_070_434);
}

/// A trillion coins of eight decimals does not fit a mantissa; its digits do come out where the printed scale is known.
#[test]
fn digits_of_an_altered_number_come_back_by_the_printed_scale() {
    let mut book = Book::new(Spec { depth: 10, truncate: true, checksum: Checksum::Kraken });
    book.set_scales(8, 8);
    book.load(&[row(Side::Ask, "0.00000731", "1000000000000.00000000")], &mut Vec::new()).unwrap();
    assert!(book.best(Side::Ask).unwrap().size.altered);
    assert_eq!(book.checksum(), twin::crc32(b"731100000000000000000000"));
}

/// Bitfinex's own test of its Go client: a snapshot, one update, and the checksum that follows.
#[test]
fn bitfinex_checks_out() {
    let bids = "0.0000011 271510.49 0.00000109 500793.10790141 0.00000108 776367.43 0.00000107 23329.54842056 \
                0.00000106 116868.87735849 0.00000105 205000 0.00000103 227308.25386407 0.00000102 105000 \
                0.00000101 2970 0.000001 21000 7e-7 10000 6.6e-7 10000 6e-7 100000 4.9e-7 10000 2.5e-7 2000 \
                6e-8 100000 5e-8 200000 1e-8 640000";
    let asks = "0.00000111 4847.13 0.00000112 528102.69042633 0.00000113 302397.07 0.00000114 339088.93 \
                0.00000126 245944.06 0.00000127 5000 0.0000013 5000 0.00000134 8249.18938656 \
                0.00000136 13161.25184766 0.00000145 2914 0.0000015 54448.5 0.00000152 5538.54849594 \
                0.00000153 62691.75475079 0.00000159 2914 0.0000016 52631.10296831 0.00000164 4000 \
                0.00000166 3831.46784605 0.00000171 14575.17730379 0.00000174 3124.81815395 0.0000018 18000 \
                0.00000182 16000 0.00000186 4000 0.00000189 10000.686624 0.00000191 14500 0.00000193 2422";
    let mut book = Book::new(Spec { depth: 25, truncate: false, checksum: Checksum::Bitfinex });
    book.load(&[levels(Side::Bid, bids), levels(Side::Ask, asks)].concat(), &mut Vec::new()).unwrap();
    book.apply(&[row(Side::Bid, "0.0000011", "266122.94")], &mut Vec::new()).unwrap();
    assert_eq!(book.checksum() as i32, -1_175_357_890);
    assert_eq!(book.prove(Some(1_293_492_257)), Proof::Failed);
}

/// OKX's documentation of the time: sides of two and two, of one and three levels.
#[test]
fn okx_checks_out_and_zero_counts_as_absent() {
    for (bids, asks, checksum) in
        [("3366.1 7 3366 6", "3366.8 9 3368 8", -1_881_014_294), ("3366.1 7", "3366.8 9 3368 8 3372 8", 831_078_360)]
    {
        let mut book = Book::new(Spec { depth: 400, truncate: false, checksum: Checksum::Okx });
        book.load(&[levels(Side::Bid, bids), levels(Side::Ask, asks)].concat(), &mut Vec::new()).unwrap();
        assert_eq!(book.checksum() as i32, checksum);
        assert_eq!(book.prove(Some(checksum as u32)), Proof::Passed);
        assert_eq!(book.prove(Some(checksum as u32 ^ 1)), Proof::Failed);
        assert_eq!([book.prove(Some(0)), book.prove(None)], [Proof::Absent, Proof::Absent]);
    }
}

/// A price of a hundred decimals does not fit the kept text, and counts all the same.
#[test]
fn texts_of_any_length_are_summed() {
    let price = format!("0.{}1", "0".repeat(99));
    let rows = [row(Side::Bid, &price, "5"), row(Side::Ask, "1", "92233720368547.75806")];
    let mut book = Book::new(Spec { depth: 25, truncate: false, checksum: Checksum::Okx });
    book.load(&rows, &mut Vec::new()).unwrap();
    assert_eq!(book.checksum(), twin::crc32(format!("{price}:5:1:92233720368547.75806").as_bytes()));
}

/// Comparing is never skipped: a wrong checksum that comes with a change far from the touch, or with none, is found.
#[test]
fn a_wrong_checksum_on_a_deep_message_is_found() {
    let snapshot: Vec<Row> = (0..100)
        .flat_map(|step| [(Side::Bid, 1000 - step), (Side::Ask, 1001 + step)])
        .map(|(side, price)| Row { side, price: Decimal::new(price, 1), size: Decimal::new(price, 3), count: 0 })
        .collect();
    for rule in [Checksum::Kraken, Checksum::Okx, Checksum::Bitfinex] {
        let mut book = Book::new(Spec { depth: 100, truncate: true, checksum: rule });
        book.load(&snapshot, &mut Vec::new()).unwrap();
        let right = book.checksum();
        for rows in [&[row(Side::Bid, "90.5", "7")][..], &[]] {
            book.apply(rows, &mut Vec::new()).unwrap();
            assert_eq!(book.prove(Some(right)), Proof::Passed);
            assert_eq!(book.prove(Some(right ^ 0x8000)), Proof::Failed);
        }
    }
}

#[test]
fn a_level_knows_the_message_that_changed_it_last() {
    let mut book = Book::new(Spec { depth: 0, truncate: false, checksum: Checksum::None });
    book.load(&[row(Side::Bid, "1", "1"), row(Side::Bid, "2", "1")], &mut Vec::new()).unwrap();
    book.apply(&[row(Side::Bid, "1.0", "3")], &mut Vec::new()).unwrap();
    book.apply(&[], &mut Vec::new()).unwrap();
    let changed: Vec<_> = book.levels(Side::Bid).map(|level| level.changed).collect();
    assert_eq!((changed, book.messages()), (vec![1, 2], 3));
}
