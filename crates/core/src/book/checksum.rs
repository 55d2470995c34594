//! Kraken's book checksum: CRC32 (IEEE) over the top ten asks, then the top ten bids, best first; of each level the
//! price and then the size, written at the venue's printed precision without the point and without leading zeros.
//! Source: docs.kraken.com, "Spot Websockets (v2) - Book Checksum"; v1 has the same rule.
//!
//! Writing digits is the cost, so each of the top ranks keeps its text until the level changes, a side that did not
//! change keeps its bytes, and the value is kept while neither side changed.

use super::side::Levels;
use super::{Level, UNKNOWN_SCALE};
use crate::decimal::Decimal;
use crate::record::Side;

const RANKS: usize = 10;
/// Two 63-bit mantissas are 38 digits; the rest is for zeros that the wire lost.
const TEXT_BYTES: usize = 63;
/// More lost zeros than this for one number are not believed: the number counts as it stood on the wire.
const ZEROS_MOST: u8 = 12;

/// The kept texts and value of one book.
#[derive(Clone, Debug, Default)]
pub(super) struct Checksum {
    asks: Ranks,
    bids: Ranks,
    /// CRC after the asks alone, and after both.
    crc_asks: u32,
    crc: u32,
}

/// The texts of one side's top ranks.
#[derive(Clone, Debug)]
struct Ranks {
    texts: [Text; RANKS],
    changed: bool,
}

/// One level's digits; of length 0 while they are not written yet.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Text {
    bytes: [u8; TEXT_BYTES],
    length: u8,
}

impl Text {
    const UNWRITTEN: Text = Text { bytes: [0; TEXT_BYTES], length: 0 };
}

impl Default for Ranks {
    fn default() -> Self {
        Self { texts: [Text::UNWRITTEN; RANKS], changed: true }
    }
}

impl Checksum {
    /// Every kept text is void.
    pub fn forget(&mut self) {
        self.asks = Ranks::default();
        self.bids = Ranks::default();
    }

    #[inline]
    pub fn changed(&mut self, side: Side, rank: usize) {
        if rank < RANKS {
            let ranks = self.ranks(side);
            ranks.texts[rank] = Text::UNWRITTEN;
            ranks.changed = true;
        }
    }

    #[inline]
    pub fn inserted(&mut self, side: Side, rank: usize) {
        if rank < RANKS {
            self.ranks(side).texts.copy_within(rank..RANKS - 1, rank + 1);
            self.changed(side, rank);
        }
    }

    #[inline]
    pub fn removed(&mut self, side: Side, rank: usize) {
        if rank < RANKS {
            self.ranks(side).texts.copy_within(rank + 1.., rank);
            self.changed(side, RANKS - 1);
        }
    }

    /// The side was cut to `depth` levels.
    #[inline]
    pub fn cut(&mut self, side: Side, depth: usize) {
        for rank in depth..RANKS {
            self.changed(side, rank);
        }
    }

    fn ranks(&mut self, side: Side) -> &mut Ranks {
        if side == Side::Ask {
            &mut self.asks
        } else {
            &mut self.bids
        }
    }

    pub fn value(&mut self, asks: &Levels, bids: &Levels, scales: (u8, u8)) -> u32 {
        let asks_changed = self.asks.changed;
        if asks_changed {
            self.crc_asks = self.asks.crc(asks, scales, 0);
        }
        if asks_changed || self.bids.changed {
            self.crc = self.bids.crc(bids, scales, self.crc_asks);
        }
        self.crc
    }
}

impl Ranks {
    /// Continues `crc` with this side's texts.
    fn crc(&mut self, levels: &Levels, scales: (u8, u8), crc: u32) -> u32 {
        let mut bytes = [0; RANKS * TEXT_BYTES];
        let mut end = 0;
        for (text, level) in self.texts.iter_mut().zip(levels.best_first()) {
            if text.length == 0 {
                *text = write(level, scales);
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

fn write(level: &Level, (price_scale, size_scale): (u8, u8)) -> Text {
    let mut text = Text::UNWRITTEN;
    let end = write_number(&mut text.bytes, 0, level.price, price_scale);
    text.length = write_number(&mut text.bytes, end, level.size, size_scale) as u8;
    text
}

/// Appends a number's digits at `start` and gives the new end. A zero is leading zeros only: nothing.
fn write_number(bytes: &mut [u8; TEXT_BYTES], start: usize, number: Decimal, scale: u8) -> usize {
    let mut rest = number.mantissa.unsigned_abs();
    if rest == 0 {
        return start;
    }
    let length = rest.ilog10() as usize + 1;
    let mut at = start + length;
    while rest >= 100 {
        at -= 2;
        bytes[at..at + 2].copy_from_slice(pair(rest % 100));
        rest /= 100;
    }
    if rest >= 10 {
        bytes[start..start + 2].copy_from_slice(pair(rest));
    } else {
        bytes[start] = b'0' + rest as u8;
    }
    let zeros = match scale.saturating_sub(number.scale) {
        lost @ 1..=ZEROS_MOST if scale != UNKNOWN_SCALE => usize::from(lost),
        _ => 0,
    };
    bytes[start + length..start + length + zeros].fill(b'0');
    start + length + zeros
}

/// The two digits of a number below 100.
fn pair(number: u64) -> &'static [u8] {
    const PAIRS: [u8; 200] = {
        let mut pairs = [0; 200];
        let mut at = 0;
        while at < 200 {
            pairs[at] = b'0' + (at / 20) as u8;
            pairs[at + 1] = b'0' + (at / 2 % 10) as u8;
            at += 2;
        }
        pairs
    };
    let at = number as usize * 2;
    &PAIRS[at..at + 2]
}
