//! The book against its plain twin, over streams that are made up to be nasty.

mod twin;

use proptest::prelude::*;
use tickplant_core::book::{Book, BookError, Level, Spec};
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
    (prop::sample::select(vec![0, 1, 5, 10, 25]), any::<bool>(), any::<bool>())
        .prop_map(|(depth, truncate, kraken_checksum)| Spec { depth, truncate, kraken_checksum })
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
        snapshot in rows(60),
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
                prop_assert_eq!(book.checksum(), twin.kraken_checksum(scales.0, scales.1));
            }
        }
        prop_assert_eq!(book.checksum(), twin.kraken_checksum(scales.0, scales.1));
    }

    /// A refused message changes nothing, wherever the bad row stands.
    #[test]
    fn a_refused_message_changes_nothing(good in rows(20), mut bad in rows(8), at in any::<prop::sample::Index>(), load in any::<bool>()) {
        let mut book = Book::new(Spec { depth: 10, truncate: true, kraken_checksum: true });
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

#[test]
fn a_snapshot_is_told_best_first_after_a_clear() {
    let mut book = Book::new(Spec { depth: 2, truncate: true, kraken_checksum: false });
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
    let mut book = Book::new(Spec { depth: 2, truncate: true, kraken_checksum: true });
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
    assert_eq!(book.best(Side::Bid), Some(Level { price: number("10"), size: number("2.00"), count: 0 }));
}

#[test]
fn deletes_of_unknown_levels_are_counted() {
    let mut book = Book::new(Spec { depth: 0, truncate: false, kraken_checksum: false });
    let mut changes = Vec::new();
    book.apply(&[row(Side::Ask, "5", "0"), row(Side::Ask, "5", "1"), row(Side::Ask, "5.0", "0")], &mut changes)
        .unwrap();
    assert_eq!(book.unknown_deletes(), 1);
    assert!(book.is_empty());
    assert_eq!(changes.len(), 2);
}

#[test]
fn crossed_and_locked_books_are_noticed() {
    let mut book = Book::new(Spec { depth: 0, truncate: false, kraken_checksum: false });
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
    let rows = |side, text: &str| {
        let words: Vec<_> = text.split_whitespace().collect();
        words.chunks(2).map(|pair| row(side, pair[0], pair[1])).collect::<Vec<_>>()
    };
    let rows = [rows(Side::Ask, asks), rows(Side::Bid, bids)].concat();
    let mut book = Book::new(Spec { depth: 10, truncate: true, kraken_checksum: true });
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
    let mut book = Book::new(Spec { depth: 10, truncate: true, kraken_checksum: true });
    book.set_scales(8, 8);
    book.load(&[row(Side::Ask, "0.00000731", "1000000000000.00000000")], &mut Vec::new()).unwrap();
    assert!(book.best(Side::Ask).unwrap().size.altered);
    assert_eq!(book.checksum(), twin::crc32(b"731100000000000000000000"));
}
