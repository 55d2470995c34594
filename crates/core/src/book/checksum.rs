//! The checksums that venues send of a book. Each is a CRC32 (IEEE) of a text made of the top ranks, best first:
//!
//! | rule | ranks | text | source |
//! |---|---|---|---|
//! | Kraken v1, v2 | 10 | asks, then bids; price and size without point and leading zeros | docs.kraken.com, "Book checksum" |
//! | Okx, Bitget | 25 | `bid:size:ask:size:...`, a side that ran out is left out; as on the wire | their documentation until 2026 |
//! | Bitfinex | 25 | as Okx, asks' amounts negative, as JavaScript prints numbers | docs.bitfinex.com, "WebSocket checksum" |
//!
//! Writing digits is the cost, so each top rank keeps its text until its level changes, and the value is kept while no
//! top rank changed. Comparing it is never skipped.

use super::sorted::{Priced, Sorted};
use super::text::{javascript, Text, TEXT_BYTES};
use super::Slot;
use crate::record::Side;
use std::fmt::Write;

/// How the venue makes its checksum of a book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    #[default]
    None,
    Kraken,
    /// OKX and Bitget, of the time when they sent one: today 0 stands there, which counts as absent.
    Okx,
    Bitfinex,
}

impl Checksum {
    const fn ranks(self) -> usize {
        match self {
            Checksum::None => 0,
            Checksum::Kraken => 10,
            Checksum::Okx | Checksum::Bitfinex => 25,
        }
    }
}

/// The kept texts and value of one book.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    rule: Checksum,
    asks: Ranks,
    bids: Ranks,
    /// Of Kraken: the CRC after the asks alone.
    crc_asks: u32,
    crc: u32,
    /// The text that is summed; kept for its memory.
    text: Vec<u8>,
}

/// The texts of one side's top ranks.
#[derive(Clone, Debug)]
struct Ranks {
    texts: Box<[Text]>,
    changed: bool,
}

impl Ranks {
    fn new(rule: Checksum) -> Self {
        Self { texts: vec![Text::UNWRITTEN; rule.ranks()].into(), changed: true }
    }
}

impl Kept {
    pub fn new(rule: Checksum) -> Self {
        let text = vec![0; rule.ranks() * TEXT_BYTES];
        Self { rule, asks: Ranks::new(rule), bids: Ranks::new(rule), crc_asks: 0, crc: 0, text }
    }

    pub fn rule(&self) -> Checksum {
        self.rule
    }

    /// Ranks that count.
    #[inline]
    pub fn ranks(&self) -> usize {
        self.asks.texts.len()
    }

    /// Every kept text is void.
    pub fn forget(&mut self) {
        for side in [&mut self.asks, &mut self.bids] {
            side.texts.fill(Text::UNWRITTEN);
            side.changed = true;
        }
    }

    #[inline]
    pub fn changed(&mut self, side: Side, rank: usize) {
        let ranks = self.side(side);
        if let Some(text) = ranks.texts.get_mut(rank) {
            text.length = 0;
            ranks.changed = true;
        }
    }

    #[inline]
    pub fn inserted(&mut self, side: Side, rank: usize) {
        let ranks = self.side(side);
        if rank < ranks.texts.len() {
            let last = ranks.texts.len() - 1;
            ranks.texts.copy_within(rank..last, rank + 1);
            self.changed(side, rank);
        }
    }

    #[inline]
    pub fn removed(&mut self, side: Side, rank: usize) {
        let ranks = self.side(side);
        if rank < ranks.texts.len() {
            let last = ranks.texts.len() - 1;
            ranks.texts.copy_within(rank + 1.., rank);
            self.changed(side, last);
        }
    }

    /// The side was cut to `depth` levels.
    #[inline]
    pub fn cut(&mut self, side: Side, depth: usize) {
        for rank in depth..self.ranks() {
            self.changed(side, rank);
        }
    }

    fn side(&mut self, side: Side) -> &mut Ranks {
        if side == Side::Ask {
            &mut self.asks
        } else {
            &mut self.bids
        }
    }

    pub fn value(&mut self, asks: &Sorted<Slot>, bids: &Sorted<Slot>, scales: (u8, u8)) -> u32 {
        match self.rule {
            Checksum::Kraken => self.one_after_the_other(asks, bids, scales),
            Checksum::None | Checksum::Okx | Checksum::Bitfinex if self.asks.changed || self.bids.changed => {
                self.crc = self.in_turn(asks, bids);
            }
            _ => {}
        }
        self.crc
    }

    fn one_after_the_other(&mut self, asks: &Sorted<Slot>, bids: &Sorted<Slot>, scales: (u8, u8)) {
        let asks_changed = self.asks.changed;
        if asks_changed {
            self.crc_asks = self.asks.kraken(asks, scales, 0, &mut self.text);
        }
        if asks_changed || self.bids.changed {
            self.crc = self.bids.kraken(bids, scales, self.crc_asks, &mut self.text);
        }
    }

    fn in_turn(&mut self, asks: &Sorted<Slot>, bids: &Sorted<Slot>) -> u32 {
        self.text.clear();
        let (mut bid_levels, mut ask_levels) = (bids.best_first(), asks.best_first());
        for (bid_text, ask_text) in self.bids.texts.iter_mut().zip(&mut *self.asks.texts) {
            for (text, level, side) in
                [(bid_text, bid_levels.next(), Side::Bid), (ask_text, ask_levels.next(), Side::Ask)]
            {
                let Some(level) = level else { continue };
                if text.length == 0 {
                    *text = Text::keep(&write(self.rule, side, level));
                }
                match text.is_long() {
                    false => self.text.extend_from_slice(&text.bytes[..usize::from(text.length)]),
                    true => self.text.extend_from_slice(write(self.rule, side, level).as_bytes()),
                }
            }
        }
        (self.asks.changed, self.bids.changed) = (false, false);
        // Each text ends with the separator of the next one.
        crc32fast::hash(self.text.strip_suffix(b":").unwrap_or_default())
    }
}

impl Ranks {
    /// Continues `crc` with this side's texts.
    fn kraken(&mut self, levels: &Sorted<Slot>, scales: (u8, u8), crc: u32, bytes: &mut [u8]) -> u32 {
        let mut end = 0;
        for (text, level) in self.texts.iter_mut().zip(levels.best_first()) {
            if text.length == 0 {
                *text = Text::kraken(level.price(), level.size(), scales);
            }
            // The whole text is copied, since a copy of fixed size is one move; the next one overwrites what is too much.
            bytes[end..end + TEXT_BYTES].copy_from_slice(&text.bytes);
            end += usize::from(text.length);
        }
        self.changed = false;
        let mut hasher = crc32fast::Hasher::new_with_initial(crc);
        hasher.update(&bytes[..end]);
        hasher.finalize()
    }
}

/// A level with the separator behind it.
fn write(rule: Checksum, side: Side, level: &Slot) -> String {
    let mut text = String::with_capacity(TEXT_BYTES);
    // A string takes whatever is written: there is no error to lose.
    let _ = match rule {
        Checksum::Bitfinex if side == Side::Ask => {
            write!(text, "{}:-{}:", javascript(level.price()), javascript(level.size()))
        }
        Checksum::Bitfinex => write!(text, "{}:{}:", javascript(level.price()), javascript(level.size())),
        _ => write!(text, "{}:{}:", level.price(), level.size()),
    };
    text
}
