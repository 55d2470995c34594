//! What each venue's decoder and the book behind it make of bad input: exact, refused, or counted; never a panic, never a
//! wrong book. What the session does with a refusal (MISMATCH and a resync) stands in tests/session/faults.rs.

use tickplant_core::book::{Book, BookError, Checksum, Spec};
use tickplant_core::decimal::{Decimal, NumberError};
use tickplant_core::event::{DecodeError, Decoded, Event, Row};
use tickplant_core::record::Side;
use tickplant_core::venues::{decoder, tolerant_decoder};

/// An update of the bids in each venue's dialect, LEVELS for its levels; then a level of it, and what stands between two.
const VENUES: [(&str, &str, &str); 5] = [
    (
        "kraken",
        r#"{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[LEVELS],"asks":[],"checksum":1,"timestamp":"2023-10-06T17:35:55.440295Z"}]}"#,
        r#"{"price":PRICE,"qty":SIZE}"#,
    ),
    (
        "kraken_v1",
        r#"[336,{"b":[LEVELS],"c":"974942666"},"book-10","BTC/USD"]"#,
        r#"["PRICE","SIZE","1534614248.765567"]"#,
    ),
    (
        "binance",
        r#"{"e":"depthUpdate","E":1672515782136,"s":"BTC/USD","U":157,"u":160,"b":[LEVELS],"a":[]}"#,
        r#"["PRICE","SIZE"]"#,
    ),
    (
        "binance_usdm",
        r#"{"e":"depthUpdate","E":1672515782136,"T":1672515782136,"s":"BTC/USD","U":157,"u":160,"pu":149,"b":[LEVELS],"a":[]}"#,
        r#"["PRICE","SIZE"]"#,
    ),
    (
        "coinbase",
        r#"{"type":"l2update","product_id":"BTC/USD","changes":[LEVELS],"time":"2023-10-06T17:35:55.440295Z"}"#,
        r#"["buy","PRICE","SIZE"]"#,
    ),
];

fn frame((_, message, level): &(&str, &str, &str), levels: &[(&str, &str)]) -> String {
    let one = |(price, size): &(&str, &str)| level.replace("PRICE", price).replace("SIZE", size);
    message.replace("LEVELS", &levels.iter().map(one).collect::<Vec<_>>().join(","))
}

/// The rows of a frame; both ways of the decoder agree on them or on the refusal.
fn read(venue: &(&str, &str, &str), levels: &[(&str, &str)]) -> Result<Vec<Row>, DecodeError> {
    let frame = frame(venue, levels);
    let (mut strict, mut tolerant) = (Decoded::default(), Decoded::default());
    let read = decoder(venue.0).unwrap().decode(frame.as_bytes(), &mut strict);
    assert_eq!(read, tolerant_decoder(venue.0).unwrap().decode(frame.as_bytes(), &mut tolerant), "{frame}");
    read?;
    assert_eq!(strict.events, tolerant.events, "{frame}");
    let Some(Event::Book(event)) = strict.events.first() else { panic!("no book in {frame}") };
    assert_eq!(strict.text(frame.as_bytes(), &event.symbol), b"BTC/USD");
    Ok(strict.rows[event.rows.clone()].to_vec())
}

/// The name of the symbol that a refusal is about, so that its book alone is taken anew.
fn refused_symbol(venue: &(&str, &str, &str), levels: &[(&str, &str)]) -> (String, Option<NumberError>) {
    let frame = frame(venue, levels);
    match read(venue, levels) {
        Err(DecodeError::Number { symbol, error, .. }) => (frame[symbol].to_owned(), Some(error)),
        Err(DecodeError::NegativeSize { symbol, .. }) => (frame[symbol].to_owned(), None),
        other => panic!("{frame} gave {other:?}"),
    }
}

#[test]
fn numbers_that_can_be_held_are_exact_however_they_are_written() {
    let altered = |mantissa, scale| Decimal { altered: true, ..Decimal::new(mantissa, scale) };
    for (text, expected) in [
        ("0.10", Decimal::new(10, 2)),
        ("9223372036854775806", Decimal::new(i64::MAX - 1, 0)),
        ("1e5", Decimal::new(100_000, 0)),
        ("1.5E+3", Decimal::new(1500, 0)),
        ("7e-7", Decimal::new(7, 7)),
        ("0.000000000000000000000000000000000001", Decimal::new(1, 36)),
        ("1.500000000000000000000000000000000000000", altered(15, 1)),
        ("0e999999999999", altered(0, 0)),
    ] {
        for venue in &VENUES {
            let rows = read(venue, &[(text, text)]).unwrap_or_else(|error| panic!("{} {text}: {error:?}", venue.0));
            assert!(rows[0].price.cmp_value(&expected).is_eq(), "{} {text}", venue.0);
            assert_eq!((rows[0].price, rows[0].size), (rows[0].size, rows[0].price), "{} {text}", venue.0);
            if !expected.is_zero() {
                assert_eq!(rows[0].price, expected, "{} {text}", venue.0);
            }
        }
    }
}

#[test]
fn numbers_that_cannot_be_held_are_refused_with_their_symbol() {
    for text in [
        "9223372036854775807",
        "1234567890123456789012345678901234567890",
        "0.1234567890123456789012345678901234567890",
        "1e19",
        "1e999999999999",
        "1e-300",
    ] {
        for venue in &VENUES {
            for levels in [[("1", "1"), (text, "1")], [("1", "1"), ("2", text)]] {
                let refused = refused_symbol(venue, &levels);
                assert_eq!(refused, ("BTC/USD".to_owned(), Some(NumberError::Range)), "{} {text}", venue.0);
            }
        }
    }
}

#[test]
fn what_is_no_number_is_refused() {
    for text in ["NaN", "Infinity", "-", "1.", ".5", "0x10", "1,5", "+1", "1e", "--1", "", " ", "null", "1_000"] {
        for venue in &VENUES {
            assert!(read(venue, &[(text, "1")]).is_err(), "{} {text}", venue.0);
            assert!(read(venue, &[("1", text)]).is_err(), "{} {text}", venue.0);
        }
    }
}

#[test]
fn a_negative_size_is_refused_and_a_negative_price_is_a_price() {
    for venue in &VENUES {
        assert_eq!(refused_symbol(venue, &[("1", "2"), ("1", "-0.5")]), ("BTC/USD".to_owned(), None), "{}", venue.0);
        // Spreads and power trade below zero.
        assert_eq!(read(venue, &[("-1.5", "2")]).unwrap()[0].price, Decimal::new(-15, 1), "{}", venue.0);
    }
}

fn book(depth: u32) -> Book {
    Book::new(Spec { depth, truncate: depth > 0, checksum: Checksum::None })
}

fn held(book: &Book) -> Vec<(String, String)> {
    book.levels(Side::Bid).map(|level| (level.price.to_string(), level.size.to_string())).collect()
}

#[test]
fn levels_that_stand_twice_or_in_no_order_count_by_the_last() {
    let pairs = [("1.0", "5"), ("3.0", "1"), ("2", "4"), ("1.00", "6"), ("3.0", "0"), ("2.0", "7")];
    let expected = [("2.0", "7"), ("1.00", "6")].map(|(price, size)| (price.to_owned(), size.to_owned()));
    for venue in &VENUES {
        let rows = read(venue, &pairs).unwrap();
        let (mut loaded, mut updated) = (book(0), book(0));
        loaded.load(&rows, &mut Vec::new()).unwrap();
        updated.apply(&rows, &mut Vec::new()).unwrap();
        assert_eq!((held(&loaded), held(&updated)), (expected.to_vec(), expected.to_vec()), "{}", venue.0);
    }
}

#[test]
fn a_thousand_levels_at_one_price_are_one_level() {
    let sizes: Vec<String> = (1..=1000).map(|size| format!("{size}.5")).collect();
    // Written at three scales: it is the value that counts.
    let pairs: Vec<(&str, &str)> =
        sizes.iter().enumerate().map(|(at, size)| (["7", "7.0", "7.00"][at % 3], size.as_str())).collect();
    for venue in &VENUES {
        let rows = read(venue, &pairs).unwrap();
        let (mut loaded, mut updated) = (book(10), book(10));
        loaded.load(&rows, &mut Vec::new()).unwrap();
        updated.apply(&rows, &mut Vec::new()).unwrap();
        let expected = vec![("7".to_owned(), "1000.5".to_owned())];
        assert_eq!((held(&loaded), held(&updated)), (expected.clone(), expected), "{}", venue.0);
    }
}

#[test]
fn deletes_of_unknown_levels_are_counted_and_change_nothing() {
    for venue in &VENUES {
        let (mut own, mut changes) = (book(10), Vec::new());
        own.load(&read(venue, &[("1", "1")]).unwrap(), &mut Vec::new()).unwrap();
        own.apply(&read(venue, &[("2", "0"), ("0.5", "0.000"), ("1", "0")]).unwrap(), &mut changes).unwrap();
        assert_eq!((own.unknown_deletes(), own.is_empty(), changes.len()), (2, true, 1), "{}", venue.0);
    }
}

#[test]
fn a_row_without_a_side_refuses_the_message_and_changes_nothing() {
    let row = |side| Row { side, price: Decimal::new(1, 0), size: Decimal::new(1, 0), count: 0 };
    let mut own = book(0);
    own.load(&[row(Side::Bid)], &mut Vec::new()).unwrap();
    let mut changes = Vec::new();
    assert_eq!(own.apply(&[row(Side::Ask), row(Side::None)], &mut changes), Err(BookError::NoSide { row: 1 }));
    assert!(changes.is_empty() && own.len(Side::Ask) == 0 && own.len(Side::Bid) == 1);
}
