//! The plain twin of a book: two maps keyed on a big integer, and the checksum as its documentation words it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use tickplant_core::book::{Checksum, Spec};
use tickplant_core::decimal::Decimal;
use tickplant_core::event::{Change, Row};
use tickplant_core::record::{Action, Side};

/// Prices at 18 decimals: exact for every number that these tests make.
pub fn exact(price: Decimal) -> i128 {
    i128::from(price.mantissa) * 10i128.pow(18 - u32::from(price.scale))
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Twin {
    pub bids: BTreeMap<i128, (Decimal, Decimal)>,
    pub asks: BTreeMap<i128, (Decimal, Decimal)>,
}

impl Twin {
    pub fn side(&mut self, side: Side) -> &mut BTreeMap<i128, (Decimal, Decimal)> {
        if side == Side::Bid {
            &mut self.bids
        } else {
            &mut self.asks
        }
    }

    pub fn apply(&mut self, rows: &[Row], spec: &Spec) {
        for row in rows {
            let levels = self.side(row.side);
            if row.size.mantissa == 0 {
                levels.remove(&exact(row.price));
            } else {
                levels.insert(exact(row.price), (row.price, row.size));
            }
        }
        if spec.truncate && spec.depth > 0 {
            while self.bids.len() > spec.depth as usize {
                self.bids.pop_first();
            }
            while self.asks.len() > spec.depth as usize {
                self.asks.pop_last();
            }
        }
    }

    /// Applies changes as a reader of the log does: no depth, no truncation, no rule of the venue.
    pub fn follow(&mut self, changes: &[Change]) {
        for change in changes {
            match change.action {
                Action::Clear => *self = Self::default(),
                Action::Cancel => drop(self.side(change.side).remove(&exact(change.price)).expect("a cancel hits")),
                _ => drop(self.side(change.side).insert(exact(change.price), (change.price, change.size))),
            }
        }
    }

    pub fn best_first(&self, side: Side) -> Vec<(Decimal, Decimal)> {
        match side {
            Side::Bid => self.bids.values().rev().copied().collect(),
            _ => self.asks.values().copied().collect(),
        }
    }

    pub fn checksum(&self, rule: Checksum, (price_scale, size_scale): (u8, u8)) -> u32 {
        match rule {
            Checksum::None => 0,
            Checksum::Kraken => self.kraken_checksum(price_scale, size_scale),
            Checksum::Okx => self.checksum_in_turn(|number, _| number.to_string()),
            Checksum::Bitfinex => self.checksum_in_turn(|number, negative| {
                format!("{}{}", if negative { "-" } else { "" }, javascript(number))
            }),
        }
    }

    /// `bid:size:ask:size:...` over the top 25; `write` is told whether it writes an ask's size.
    fn checksum_in_turn(&self, write: impl Fn(Decimal, bool) -> String) -> u32 {
        let (bids, asks) = (self.best_first(Side::Bid), self.best_first(Side::Ask));
        let mut words = Vec::new();
        for rank in 0..25 {
            for (levels, is_ask) in [(&bids, false), (&asks, true)] {
                if let Some((price, size)) = levels.get(rank) {
                    words.extend([write(*price, false), write(*size, is_ask)]);
                }
            }
        }
        crc32(words.join(":").as_bytes())
    }

    pub fn kraken_checksum(&self, price_scale: u8, size_scale: u8) -> u32 {
        let mut text = String::new();
        for side in [Side::Ask, Side::Bid] {
            for (price, size) in self.best_first(side).into_iter().take(10) {
                text.push_str(&digits(price, price_scale));
                text.push_str(&digits(size, size_scale));
            }
        }
        crc32(text.as_bytes())
    }
}

fn digits(number: Decimal, printed: u8) -> String {
    let mut text = number.to_string();
    let lost = if printed == 255 { 0 } else { usize::from(printed.saturating_sub(number.scale)) };
    text.push_str(&"0".repeat(lost));
    text.replace('.', "").trim_start_matches('0').to_owned()
}

/// Rust's shortest texts of a float are JavaScript's, but for where the exponent begins. Exact up to 15 digits.
fn javascript(number: Decimal) -> String {
    let value: f64 = number.to_string().parse().unwrap();
    if value != 0.0 && value.abs() < 1e-6 {
        format!("{value:e}")
    } else {
        value.to_string()
    }
}

/// CRC-32 (IEEE 802.3), bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}
