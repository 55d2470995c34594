//! When a trade is due: as fast as it is taken, at a steady rate, or along a profile of a market's day.
//!
//! Paces are open-loop: a trade is due at a time that depends on its number alone, so a sender that was held up sends
//! everything that it owes, late, and skips nothing. Whole numbers only; times are ns since the client's start.

use crate::clock::{Nanos, SECOND};

/// Frames leave on this beat where their size follows the rate, as the real feed's do: 15 trades a frame at 50,000/s.
pub const BEAT: Nanos = 300_000;
/// What a profile's bursts reach; a faster day stays below it too.
const BURST_PER_S: u64 = 1_000_000;
const MINUTE: u64 = 60;

/// A stretch in which the rate goes in a straight line from `from` to `to` trades a second.
#[derive(Clone, Debug)]
struct Stretch {
    start: Nanos,
    length: Nanos,
    from: u64,
    to: u64,
    /// Trades due before it.
    before: u64,
}

impl Stretch {
    /// Trades due within the first `elapsed` ns of it.
    fn due(&self, elapsed: Nanos) -> u64 {
        let (elapsed, length) = (i128::from(elapsed), i128::from(self.length.max(1)));
        let steady = i128::from(self.from) * elapsed;
        let slope = (i128::from(self.to) - i128::from(self.from)) * elapsed * elapsed / (2 * length);
        ((steady + slope) / i128::from(SECOND)) as u64
    }
}

/// A pace as text: `max`, a whole number of trades a second, `profile:open`, `profile:day`, `profile:burst`.
#[derive(Clone, Debug)]
pub enum Pace {
    /// As fast as the client takes it.
    Max,
    Paced(Profile),
}

#[derive(Clone, Debug)]
pub struct Profile {
    stretches: Vec<Stretch>,
}

impl Pace {
    /// `speed`: how many times faster the market's time runs. A day's bursts stay at 1,000,000 trades/s.
    pub fn parse(text: &str, speed: u64) -> Result<Self, String> {
        if speed == 0 {
            return Err("a speed of 0 never ends: give 1 or more".into());
        }
        let knots = match text {
            "max" => return Ok(Self::Max),
            "profile:open" => open(),
            "profile:day" => day(),
            "profile:burst" => burst(),
            number => match number.parse::<u64>() {
                Ok(rate @ 1..=100_000_000) => vec![(SECOND, rate, rate)],
                _ => {
                    return Err(format!(
                        "{number:?} is no rate: give max, profile:open, profile:day, profile:burst or 1 to 100000000 trades a second"
                    ))
                }
            },
        };
        let cap = if text.starts_with("profile:") { BURST_PER_S } else { u64::MAX };
        Ok(Self::Paced(Profile::new(&knots, speed, cap)))
    }
}

/// The open: 572/s, then within one second 800,000/s, which lasts ten seconds and dies away.
fn open() -> Vec<(Nanos, u64, u64)> {
    vec![
        (5 * SECOND, 572, 572),
        (SECOND, 572, 800_000),
        (10 * SECOND, 800_000, 800_000),
        (20 * SECOND, 800_000, 50_000),
        (SECOND, 50_000, 50_000),
    ]
}

/// A burst that comes at once: 2,000/s, after two seconds 1,000,000/s for ten, and 2,000/s again.
fn burst() -> Vec<(Nanos, u64, u64)> {
    let quiet = (2 * SECOND, 2_000, 2_000);
    vec![quiet, (10 * SECOND, BURST_PER_S, BURST_PER_S), quiet]
}

/// A day of 50 M trades from 09:29 on: 1,000,000/s for five seconds at 09:30 and at 15:50, 1,710/s in between.
fn day() -> Vec<(Nanos, u64, u64)> {
    let quiet = |minutes: u64| (minutes * MINUTE * SECOND, 1_710, 1_710);
    let burst = (5 * SECOND, BURST_PER_S, BURST_PER_S);
    vec![quiet(1), burst, quiet(380), burst, quiet(10)]
}

impl Profile {
    /// From `(length, rate at its start, rate at its end)`; the last one goes on for ever.
    fn new(knots: &[(Nanos, u64, u64)], speed: u64, cap: u64) -> Self {
        let (mut start, mut before) = (0, 0);
        let mut stretches = Vec::with_capacity(knots.len());
        for &(length, from, to) in knots {
            // The same trades in less time: the rates go up by the speed, as far as the cap.
            let (fast_from, fast_to) = (from.saturating_mul(speed).min(cap), to.saturating_mul(speed).min(cap));
            let length = u128::from(length) * u128::from(from + to) / u128::from(fast_from + fast_to);
            let stretch = Stretch { start, length: length as Nanos, from: fast_from, to: fast_to, before };
            start += stretch.length;
            before += stretch.due(stretch.length);
            stretches.push(stretch);
        }
        Self { stretches }
    }

    /// How many trades are due at `time`.
    pub fn due(&self, time: Nanos) -> u64 {
        let after = self.stretches.partition_point(|stretch| stretch.start <= time);
        let Some(stretch) = after.checked_sub(1).and_then(|at| self.stretches.get(at)) else { return 0 };
        stretch.before + stretch.due(time - stretch.start)
    }

    /// When trade number `index` (from 0) is due: the first ns at which more than `index` are.
    pub fn time(&self, index: u64) -> Nanos {
        let mut high = BEAT;
        while self.due(high) <= index {
            high *= 2;
        }
        let mut low = 0;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.due(middle) > index {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// The next frame from trade `index` on: the number after its last trade and when it is due. `size` 0: what came
    /// due within one beat.
    pub fn frame(&self, index: u64, size: u64) -> (u64, Nanos) {
        if size > 0 {
            return (index + size, self.time(index + size - 1));
        }
        let due = self.time(index).div_ceil(BEAT).saturating_mul(BEAT);
        (self.due(due), due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn profile(text: &str, speed: u64) -> Profile {
        match Pace::parse(text, speed).unwrap() {
            Pace::Paced(profile) => profile,
            Pace::Max => panic!("{text} is not paced"),
        }
    }

    #[test]
    fn a_steady_rate_is_steady() {
        let pace = profile("2000", 1);
        assert_eq!([pace.due(SECOND), pace.due(7 * SECOND)], [2000, 14_000]);
        assert_eq!([pace.time(0), pace.time(1)], [500_000, 1_000_000]);
        assert_eq!(profile("2000", 10).due(SECOND), 20_000);
    }

    #[test]
    fn frames_grow_with_the_rate() {
        let (end, _) = profile("50000", 1).frame(0, 0);
        assert_eq!(end, 15);
        let (end, _) = profile("2300", 1).frame(0, 0);
        assert!(end < 3);
        assert_eq!(profile("2000", 1).frame(0, 128), (128, 64_000_000));
    }

    #[test]
    fn the_open_rises_within_a_second() {
        let pace = profile("profile:open", 1);
        assert_eq!(pace.due(SECOND), 572);
        assert_eq!(pace.due(7 * SECOND) - pace.due(6 * SECOND), 800_000);
    }

    #[test]
    fn a_burst_comes_at_once() {
        let pace = profile("profile:burst", 1);
        assert_eq!(pace.due(2 * SECOND), 4_000);
        assert_eq!(pace.due(3 * SECOND), 1_004_000);
        assert_eq!(pace.due(13 * SECOND) - pace.due(12 * SECOND), 2_000);
    }

    #[test]
    fn a_day_has_fifty_million_trades_at_any_speed() {
        let hours = (391 * MINUTE + 10) * SECOND;
        let (day, fast) = (profile("profile:day", 1), profile("profile:day", 200));
        assert!(day.due(hours) > 50_000_000, "{}", day.due(hours));
        let took = fast.time(49_999_999);
        assert!(took < 140 * SECOND, "{took}");
        // The bursts are no faster than the day's own.
        let start = fast.time(day.due(MINUTE * SECOND));
        assert!(fast.due(start + SECOND) - fast.due(start) <= 1_000_001);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["0", "fast", "", "-1", "profile:noon", "1e6"] {
            assert!(Pace::parse(text, 1).is_err(), "{text}");
        }
        assert!(Pace::parse("max", 0).is_err());
    }

    proptest! {
        #[test]
        fn time_is_the_inverse_of_due(index in 0u64..60_000_000, speed in 1u64..300, which in 0usize..4) {
            let pace = profile(["1", "77777", "profile:open", "profile:day"][which], speed);
            let time = pace.time(index);
            prop_assert!(pace.due(time) > index);
            prop_assert!(time == 0 || pace.due(time - 1) <= index);
            let (end, due) = pace.frame(index, 0);
            prop_assert!(end > index && due >= time);
        }
    }
}
