use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Decimal, NumberError> {
    Decimal::parse(text.as_bytes())
}

#[test]
fn wire_texts_are_kept() {
    for (text, mantissa, scale) in [
        ("0.10", 10, 2),
        ("0", 0, 0),
        ("0.00000000", 0, 8),
        ("61837.63000000", 6_183_763_000_000, 8),
        ("-12.5", -125, 1),
        ("9223372036854775806", i64::MAX - 1, 0),
        ("-9223372036854775806", -(i64::MAX - 1), 0),
        ("0.000000000000000001", 1, 18),
    ] {
        assert_eq!(parse(text), Ok(Decimal::new(mantissa, scale)), "{text}");
        assert_eq!(Decimal::new(mantissa, scale).to_string(), text);
    }
    assert_eq!(parse("007.50"), Ok(Decimal::new(750, 2)));
    assert_eq!(parse("-0"), Ok(Decimal::ZERO));
}

#[test]
fn exponents_are_exact() {
    assert_eq!(parse("7e-7"), Ok(Decimal::new(7, 7)));
    assert_eq!(parse("9.121e-07"), Ok(Decimal::new(9121, 10)));
    assert_eq!(parse("1.5E+3"), Ok(Decimal::new(1500, 0)));
    assert_eq!(parse("1.5e1"), Ok(Decimal::new(15, 0)));
    assert_eq!(parse("1.250e1"), Ok(Decimal::new(1250, 2)));
    assert_eq!(parse("0e400"), Ok(Decimal::ZERO));
    assert_eq!(parse("1e19"), Err(NumberError::Range));
    assert_eq!(parse("1e-255"), Ok(Decimal::new(1, 255)));
    assert_eq!(parse("1e-256"), Err(NumberError::Range));
    assert_eq!(parse("1e99999999999999999999"), Err(NumberError::Range));
}

#[test]
fn what_does_not_fit_loses_zeros_or_is_refused() {
    // 1e12 coins of eight decimals: 21 digits.
    assert_eq!(parse("1000000000000.50000000"), Ok(Decimal { mantissa: 10_000_000_000_005, scale: 1, altered: true }));
    assert_eq!(parse("1000000000000.00000000"), Ok(Decimal { mantissa: 1_000_000_000_000, scale: 0, altered: true }));
    assert_eq!(parse(&format!("0.{}", "0".repeat(300))), Ok(Decimal { altered: true, ..Decimal::ZERO }));
    assert_eq!(parse("0e-300"), Ok(Decimal { altered: true, ..Decimal::ZERO }));
    // i64::MAX means "absent" in a record, so it is no number.
    assert_eq!(parse("9223372036854775807"), Err(NumberError::Range));
    assert_eq!(parse("12345678901234567890"), Err(NumberError::Range));
    assert_eq!(parse("1.23456789012345678901"), Err(NumberError::Range));
    assert_eq!(parse(&"9".repeat(100_000)), Err(NumberError::Range));
}

#[test]
fn what_is_no_number_is_malformed() {
    for text in [
        "", "-", ".", "5.", ".5", "1.2.3", "+1", "1e", "1e+", "1e1.5", "NaN", "Infinity", "0x10", " 1", "1 ", "--1",
        "1,5",
    ] {
        assert_eq!(parse(text), Err(NumberError::Malformed), "{text:?}");
    }
}

/// The plain twin: a big integer of at most 38 digits and a scale, by text surgery.
fn twin(text: &str) -> Option<(i128, i64)> {
    let (number, exponent) = text.split_once('e').map_or((text, 0), |(n, e)| (n, e.parse::<i64>().unwrap()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let mantissa = if number.starts_with('-') { -mantissa.abs() } else { mantissa };
    Some((mantissa, fraction.len() as i64 - exponent))
}

/// Both as big integers at one scale; texts are short enough that 10^80 is never needed.
fn same_value(decimal: Decimal, (mantissa, scale): (i128, i64)) -> bool {
    let digits = |mantissa: i128, zeros: i64| format!("{mantissa}{}", "0".repeat(zeros.max(0) as usize));
    let common = i64::from(decimal.scale).max(scale);
    let ours = digits(decimal.mantissa.into(), common - i64::from(decimal.scale));
    let theirs = digits(mantissa, common - scale);
    ours.trim_start_matches(['-', '0']) == theirs.trim_start_matches(['-', '0'])
        && ((decimal.mantissa < 0) == (mantissa < 0))
}

proptest! {
    #[test]
    fn plain_texts_come_back(text in "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,9})?") {
        let decimal = parse(&text).unwrap();
        let negative_zero = text.starts_with('-') && decimal.is_zero();
        prop_assert_eq!(decimal.to_string(), if negative_zero { text[1..].to_owned() } else { text });
    }

    #[test]
    fn any_text_agrees_with_the_twin(text in "-?[0-9]{1,18}(\\.[0-9]{0,16}0{0,3}[0-9])?(e-?[0-9]{1,2})?") {
        let big = twin(&text).unwrap();
        match parse(&text) {
            Ok(decimal) => {
                prop_assert!(same_value(decimal, big), "{} {:?}", text, decimal);
                prop_assert!(decimal.altered || big.1 < 0 || (i128::from(decimal.mantissa), i64::from(decimal.scale)) == big);
            }
            Err(error) => {
                prop_assert_eq!(error, NumberError::Range);
                let (mut mantissa, mut scale) = big;
                while scale > 0 && mantissa % 10 == 0 { mantissa /= 10; scale -= 1; }
                let scaled = mantissa.checked_mul(10i128.checked_pow((-scale).max(0) as u32).unwrap_or(i128::MAX));
                prop_assert!(scaled.is_none_or(|scaled| scaled.unsigned_abs() > u128::from(MANTISSA_MAX)), "{}", text);
            }
        }
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(prop::sample::select(b"0123456789.eE+-x".to_vec()), 0..40)) {
        let _ = Decimal::parse(&bytes);
    }

    #[test]
    fn order_agrees_with_big_integers(a in any::<i64>(), b in any::<i64>(), s in 0u8..19, t in 0u8..19, near in any::<bool>()) {
        let (x, y) = (Decimal::new(a, s), Decimal::new(b, t));
        let y = if near { Decimal::new(x.rescale(t).unwrap_or(b), t) } else { y };
        let big = |d: Decimal| i128::from(d.mantissa) * 10i128.pow(u32::from(18 - d.scale));
        prop_assert_eq!(x.cmp_value(&y), big(x).cmp(&big(y)));
        prop_assert_eq!(x.key() == y.key(), big(x) == big(y));
    }

    #[test]
    fn rescaling_is_exact_or_refused(mantissa in -1_000_000_000i64..1_000_000_000, scale in 0u8..12, to in 0u8..30) {
        let decimal = Decimal::new(mantissa, scale);
        match decimal.rescale(to) {
            Some(scaled) => prop_assert_eq!(Decimal::new(scaled, to).cmp_value(&decimal), Ordering::Equal),
            None => prop_assert!(to > scale || decimal.key().1 > to),
        }
    }
}

#[test]
fn far_scales_compare_by_sign() {
    assert_eq!(Decimal::new(1, 0).cmp_value(&Decimal::new(i64::MAX - 1, 255)), Ordering::Greater);
    assert_eq!(Decimal::new(-1, 0).cmp_value(&Decimal::new(i64::MAX - 1, 255)), Ordering::Less);
    assert_eq!(Decimal::new(0, 0).cmp_value(&Decimal::new(1, 255)), Ordering::Less);
    assert_eq!(Decimal::new(5, 200).cmp_value(&Decimal::new(0, 3)), Ordering::Greater);
}
