//! Venues' dialects: each turns its frames into venue-neutral [`crate::event::Event`]s.
//!
//! A decoder has two ways that give identical events: a strict scanner for the byte layout that the venue is known to
//! send for its most frequent messages, and a tolerant JSON reader for everything else. Rules for all venues:
//!
//! - a frame that is not the dialect (broken JSON, a missing field) is a [`crate::event::DecodeError`] with its position;
//! - a sound frame of a kind that we do not know is an [`crate::event::Event::Error`] with the whole text;
//! - numbers keep their wire text, `ts_event` and `sequence` are UNDEF where the venue gives none;
//! - of a JSON key that stands twice the last counts, null is the same as missing.

mod binance;
mod binance_scan;
mod binance_usdm;
mod coinbase;
mod coinbase_scan;
mod json;
mod kraken;
mod kraken_scan;
mod kraken_v1;
mod kraken_v1_scan;
mod lanes;
mod listing;
mod past_trades;
mod scan;
mod time;

use crate::event::Decode;

pub use listing::shorten_list;

/// The decoder of this name (`kraken`, `kraken_v1`, `binance`, `binance_usdm`, `coinbase`), or None.
pub fn decoder(name: &str) -> Option<Box<dyn Decode>> {
    make(name, true)
}

/// The same without strict scanners: everything goes the tolerant way. For tests that hold the two ways together.
pub fn tolerant_decoder(name: &str) -> Option<Box<dyn Decode>> {
    make(name, false)
}

fn make(name: &str, strict: bool) -> Option<Box<dyn Decode>> {
    Some(match name {
        "kraken" => Box::new(kraken::Kraken { strict }),
        "kraken_v1" => Box::new(kraken_v1::KrakenV1 { strict }),
        "binance" => Box::new(binance::Binance { dialect: &binance::SPOT, strict }),
        "binance_usdm" => Box::new(binance::Binance { dialect: &binance_usdm::USDM, strict }),
        "coinbase" => Box::new(coinbase::Coinbase { strict }),
        _ => return None,
    })
}
