//! The checksums that venues send of a book. Each is a CRC32 (IEEE) of a text made of the top ranks, best first:
//!
//! | rule | ranks | text | source |
//! |---|---|---|---|
//! | Kraken v1, v2 | 10 | asks, then bids; price and size without point and leading zeros | docs.kraken.com, "Book checksum" |
//! | Okx, Bitget | 25 | `bid:size:ask:size:...`, a side that ran out is left out; as on the wire | their documentation until 2026 |
//! | Bitfinex | 25 | as Okx, asks' amounts negative, as JavaScript prints numbers | docs.bitfinex.com, "WebSocket checksum" |
//!
//! Each top rank keeps the CRC of its text until its level changes, and the value is made of those ([`super::crc`]); it is
//! kept while no top rank changed. Comparing it is never skipped.

use super::crc::{self, Part, Sum};
use super::levels::Levels;
use super::sorted::Priced;
use super::text::{javascript, kraken};
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
            Checksum::Okx | Checksum::Bitfinex => RANKS_MOST,
        }
    }
}

const RANKS_MOST: usize = 25;

/// The kept sums and value of one book.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    rule: Checksum,
    ranks: usize,
    asks: Ranks,
    bids: Ranks,
    crc: u32,
}

/// The texts of one side's top ranks, as their sums.
#[derive(Clone, Debug)]
struct Ranks {
    parts: [Part; RANKS_MOST],
    /// A bit for each rank whose sum is void.
    void: u32,
    changed: bool,
}

impl Ranks {
    const NEW: Ranks = Ranks { parts: [Part { crc: 0, length: 0 }; RANKS_MOST], void: u32::MAX, changed: true };

    #[inline]
    fn mark(&mut self, rank: usize) {
        self.void |= 1 << rank;
        self.changed = true;
    }
}

impl Kept {
    pub fn new(rule: Checksum) -> Self {
        Self { rule, ranks: rule.ranks(), asks: Ranks::NEW, bids: Ranks::NEW, crc: 0 }
    }

    pub fn rule(&self) -> Checksum {
        self.rule
    }

    /// Ranks that count.
    #[inline]
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// Every kept sum is void.
    pub fn forget(&mut self) {
        for side in [&mut self.asks, &mut self.bids] {
            (side.void, side.changed) = (u32::MAX, true);
        }
    }

    #[inline]
    pub fn changed(&mut self, side: Side, rank: usize) {
        if rank < self.ranks {
            self.side(side).mark(rank);
        }
    }

    #[inline]
    pub fn inserted(&mut self, side: Side, rank: usize) {
        let end = self.ranks;
        if rank < end {
            let ranks = self.side(side);
            ranks.parts.copy_within(rank..end - 1, rank + 1);
            let nearer = (1 << rank) - 1;
            ranks.void = (ranks.void & nearer) | ((ranks.void & !nearer) << 1);
            ranks.mark(rank);
        }
    }

    #[inline]
    pub fn removed(&mut self, side: Side, rank: usize) {
        let end = self.ranks;
        if rank < end {
            let ranks = self.side(side);
            ranks.parts.copy_within(rank + 1..end, rank);
            let nearer = (1 << rank) - 1;
            ranks.void = (ranks.void & nearer) | ((ranks.void >> 1) & !nearer);
            ranks.mark(end - 1);
        }
    }

    /// The side was cut to `depth` levels.
    #[inline]
    pub fn cut(&mut self, side: Side, depth: usize) {
        for rank in depth..self.ranks {
            self.side(side).mark(rank);
        }
    }

    #[inline]
    fn side(&mut self, side: Side) -> &mut Ranks {
        if side == Side::Ask {
            &mut self.asks
        } else {
            &mut self.bids
        }
    }

    #[inline]
    pub fn value(&mut self, asks: &Levels<Slot>, bids: &Levels<Slot>, scales: (u8, u8)) -> u32 {
        if self.asks.changed || self.bids.changed {
            let asks = self.asks.refresh(self.rule, self.ranks, asks, scales);
            let bids = self.bids.refresh(self.rule, self.ranks, bids, scales);
            self.crc = match self.rule {
                Checksum::Kraken => one_after_the_other(asks, bids),
                Checksum::None | Checksum::Okx | Checksum::Bitfinex => in_turn(asks, bids),
            };
        }
        self.crc
    }
}

impl Ranks {
    /// Sums anew what is void, and gives the ranks that stand.
    #[inline]
    fn refresh(&mut self, rule: Checksum, ranks: usize, levels: &Levels<Slot>, scales: (u8, u8)) -> &[Part] {
        let standing = levels.len().min(ranks);
        // The ranks that do not stand stay void until levels come there.
        let mut void = self.void & ((1 << standing) - 1);
        self.void &= !void;
        while void != 0 {
            let rank = void.trailing_zeros() as usize;
            void &= void - 1;
            let (Some(level), Some(part)) = (levels.at_rank(rank), self.parts.get_mut(rank)) else { continue };
            *part = match rule {
                Checksum::Kraken => kraken(level.price(), level.size(), scales),
                _ => crc::part(write(rule, levels.side(), level).as_bytes()),
            };
        }
        self.changed = false;
        self.parts.get(..standing).unwrap_or_default()
    }
}

fn one_after_the_other(asks: &[Part], bids: &[Part]) -> u32 {
    let mut sum = Sum::default();
    sum.put_before(bids);
    sum.put_before(asks);
    sum.crc32()
}

fn in_turn(asks: &[Part], bids: &[Part]) -> u32 {
    let mut parts = [Part::default(); 2 * RANKS_MOST];
    let mut count = 0;
    for rank in 0..asks.len().max(bids.len()) {
        for part in [bids.get(rank), asks.get(rank)].into_iter().flatten() {
            parts[count] = *part;
            count += 1;
        }
    }
    let mut sum = Sum::default();
    sum.put_before(&parts[..count]);
    // Each text begins with the separator from the one before.
    if sum.length() == 0 {
        0
    } else {
        sum.crc32_after(b':')
    }
}

/// A level with the separator before it.
fn write(rule: Checksum, side: Side, level: &Slot) -> String {
    let mut text = String::with_capacity(64);
    // A string takes whatever is written: there is no error to lose.
    let _ = match rule {
        Checksum::Bitfinex if side == Side::Ask => {
            write!(text, ":{}:-{}", javascript(level.price()), javascript(level.size()))
        }
        Checksum::Bitfinex => write!(text, ":{}:{}", javascript(level.price()), javascript(level.size())),
        _ => write!(text, ":{}:{}", level.price(), level.size()),
    };
    text
}
