//! The one door to time and chance. Everything else receives both as values; a lint bans other ways.

/// Nanoseconds since the Unix epoch, UTC.
pub type Nanos = u64;

/// Nanoseconds in a second and in a millisecond.
pub const SECOND: Nanos = 1_000_000_000;
pub const MILLISECOND: Nanos = 1_000_000;

/// What a driver asks for the time.
pub trait Clock {
    /// Receive time: never decreasing, an anchor of the wall clock plus the monotonic clock.
    fn now(&mut self) -> Nanos;
    /// How far the wall clock has moved away from `now` since the last anchor, in ns.
    fn wall_offset(&mut self) -> i64;
    /// Takes the wall clock as the new anchor. `now` never goes back and never stands still: where the wall clock was set
    /// back it goes on at half its pace until the wall clock has caught up, and [`Steps`] undoes that for what waits.
    fn anchor(&mut self);
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    wall: Nanos,
    monotonic: Nanos,
    last: Nanos,
    /// How far `now` was ahead of the wall clock at the anchor.
    lead: Nanos,
}

impl SystemClock {
    pub fn new() -> Self {
        Self { wall: read(rustix::time::ClockId::Realtime), monotonic: monotonic(), last: 0, lead: 0 }
    }

    /// Goes on behind what another process wrote, and gives how far that is ahead of the wall clock: it may have been set back
    /// in between.
    pub fn resume_after(&mut self, last: Nanos) -> Nanos {
        self.last = self.last.max(last);
        self.anchor();
        self.lead
    }

    /// What added to [`monotonic`], wrapping, gives a time that `now` is not before; good until the next anchor. 0 while `now`
    /// is led back to the wall clock: there is no such number then that would not lie far behind.
    pub fn offset(&self) -> u64 {
        match self.lead > (monotonic() - self.monotonic) / 2 {
            true => 0,
            false => self.wall.wrapping_sub(self.monotonic),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&mut self) -> Nanos {
        let elapsed = monotonic() - self.monotonic;
        self.last = self.last.max(led_back(self.wall, self.lead, elapsed));
        self.last
    }

    fn wall_offset(&mut self) -> i64 {
        let expected = self.wall + (monotonic() - self.monotonic);
        read(rustix::time::ClockId::Realtime) as i64 - expected as i64
    }

    fn anchor(&mut self) {
        // Others may have taken a time from `offset` meanwhile: `now` does not go back behind that either.
        let before = self.now();
        self.wall = read(rustix::time::ClockId::Realtime);
        self.monotonic = monotonic();
        self.lead = before.saturating_sub(self.wall);
    }
}

/// The reading of a clock so long after it was anchored at `wall`, being `lead` ahead of it then.
fn led_back(wall: Nanos, lead: Nanos, elapsed: Nanos) -> Nanos {
    wall + elapsed + lead.saturating_sub(elapsed / 2)
}

/// A time that only passes, out of stamps of a clock that was set: what waits and silences are measured by.
///
/// It knows how [`Clock::anchor`] carries out a step: one forward lets the stamps leap, after one back they take twice their
/// time until they are level with the wall clock. Both are undone here from the stamps alone, so that a replay waits alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// What the stamps have gained on the time that passed, up to `since`.
    gained: i64,
    /// The stamp of the last step.
    since: Nanos,
    /// How far ahead of the wall clock the stamps were then.
    lead: Nanos,
}

impl Steps {
    /// The wall clock was set by so much (negative: back), told with this stamp.
    pub fn step(&mut self, at: Nanos, by: i64) {
        let passed = self.led_back(at);
        self.gained = self.gained.saturating_sub(signed(passed));
        self.lead -= passed;
        self.since = at;
        if by < 0 {
            self.lead = self.lead.saturating_add(by.unsigned_abs());
        } else {
            let caught_up = self.lead.min(by.unsigned_abs());
            self.lead -= caught_up;
            self.gained = self.gained.saturating_add(by.saturating_sub(signed(caught_up)));
        }
    }

    /// The time that had passed at a stamp.
    pub fn steady(&self, at: Nanos) -> Nanos {
        at.saturating_add_signed(self.gained.saturating_neg()).saturating_add(self.led_back(at))
    }

    /// The stamp at a time: of one to come exactly, of one that is past as if no step had been since.
    pub fn stamp(&self, steady: Nanos) -> Nanos {
        let after = steady.saturating_sub(self.steady(self.since));
        let later = steady.saturating_add_signed(self.gained);
        // Half of an odd number is rounded up: never before the time.
        later.saturating_sub(self.lead.min(after / 2))
    }

    fn led_back(&self, at: Nanos) -> Nanos {
        self.lead.min(at.saturating_sub(self.since))
    }
}

fn signed(time: Nanos) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// The machine's monotonic clock in ns, the same in all of its processes: for deadlines and for measuring.
pub fn monotonic() -> Nanos {
    read(rustix::time::ClockId::Monotonic)
}

/// Time that the calling thread has run on a processor: what it costs, however many share the machine.
pub fn thread_cpu() -> Nanos {
    read(rustix::time::ClockId::ThreadCPUTime)
}

/// The same of all threads of the process.
pub fn process_cpu() -> Nanos {
    read(rustix::time::ClockId::ProcessCPUTime)
}

fn read(id: rustix::time::ClockId) -> Nanos {
    let time = rustix::time::clock_gettime(id);
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

/// SplitMix64: small, seedable, the same on every machine. For jitter, masks and simulations, not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeds from the operating system; the driver journals what it took.
    pub fn seed_from_system() -> u64 {
        let mut bytes = [0u8; 8];
        // SAFETY: the buffer is valid for its length; a short or failed read leaves zeros, which are a legal seed.
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        u64::from_le_bytes(bytes)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// How long to wait before trying again: `first`, doubled with each further failure in a row up to `most`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Nanos,
    pub most: Nanos,
}

impl Backoff {
    /// The wait after so many failures in a row before this one, without chance: 1, 2, 4, 8, 16, 30, 30 s where `first` is
    /// 1 s and `most` 30 s.
    pub fn base(&self, failures: u32) -> Nanos {
        let factor = 1u64.checked_shl(failures).unwrap_or(u64::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }

    /// The wait with its jitter: never shorter than the base, up to half as long again, so that those who were cut off
    /// together do not come back together.
    pub fn wait(&self, rng: &mut Rng, failures: u32) -> Nanos {
        let base = self.base(failures);
        base.saturating_add(rng.below((base / 2).saturating_add(1)))
    }

    /// The wait that a peer is owed who asked for patience without saying how much.
    pub fn longest(&self, rng: &mut Rng) -> Nanos {
        self.wait(rng, u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_time_never_goes_back() {
        let mut clock = SystemClock::new();
        let first = clock.now();
        clock.anchor();
        assert!(clock.now() >= first);
    }

    #[test]
    fn a_clock_that_was_set_back_goes_on_at_half_its_pace_until_it_is_level() {
        let (wall, lead) = (1_000 * SECOND, 60 * SECOND);
        let reading = |seconds| led_back(wall, lead, seconds * SECOND) / SECOND;
        assert_eq!([0, 2, 60, 120, 121, 1000].map(reading), [1060, 1061, 1090, 1120, 1121, 2000]);
        let mut clock = SystemClock::new();
        clock.lead = 3600 * SECOND;
        let (first, offset) = (clock.now(), clock.offset());
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(clock.now() > first);
        assert_eq!(offset, 0, "a clock that is led back promises nothing");
        clock.lead = 0;
        assert_ne!(clock.offset(), 0);
    }

    #[test]
    fn a_clock_goes_on_behind_what_was_written_with_a_later_one() {
        let mut clock = SystemClock::new();
        let now = clock.now();
        assert_eq!(clock.resume_after(now - SECOND), 0);
        let lead = clock.resume_after(now + 3600 * SECOND);
        assert!((3590 * SECOND..3600 * SECOND).contains(&lead), "{lead}");
        assert!(clock.now() >= now + 3600 * SECOND);
    }

    /// The clock and [`Steps`] joined as a loop joins them, over random steps and waits.
    #[test]
    fn what_waits_does_not_see_the_steps_of_the_wall_clock() {
        let mut rng = Rng::new(11);
        let (mut steps, mut wall, mut lead, start) = (Steps::default(), 1_000_000 * SECOND, 0, 1_000_000 * SECOND);
        let (mut passed, mut last) = (0, 0);
        for _ in 0..10_000 {
            let elapsed = rng.below(100 * SECOND);
            for elapsed in [elapsed / 2, elapsed] {
                let at = led_back(wall, lead, elapsed);
                assert!(at >= last);
                assert!(steps.steady(at).abs_diff(start + passed + elapsed) <= 20_000, "a rounding each step, no more");
                let later = steps.steady(at) + rng.below(1000 * SECOND);
                assert!(steps.steady(steps.stamp(later)).abs_diff(later) <= 1 && steps.stamp(later) >= at);
                last = at;
            }
            passed += elapsed;
            let (offset, expected) = (rng.below(240 * SECOND) as i64 - 120 * SECOND as i64, wall + elapsed);
            steps.step(last, offset);
            wall = expected.saturating_add_signed(offset);
            lead = last.saturating_sub(wall);
        }
    }

    #[test]
    fn back_off_doubles_up_to_its_most_and_is_jittered_upwards_by_half() {
        let backoff = Backoff { first: SECOND, most: 30 * SECOND };
        let bases: Vec<_> = (0..8).map(|failures| backoff.base(failures) / SECOND).collect();
        assert_eq!(bases, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(backoff.base(u32::MAX), 30 * SECOND);
        let mut rng = Rng::new(3);
        for failures in [0, 1, 4, 5, 64, u32::MAX] {
            let (base, waits) = (backoff.base(failures), (0..500).map(|_| backoff.wait(&mut rng, failures)));
            let waits: Vec<_> = waits.collect();
            assert!(waits.iter().all(|wait| (base..=base + base / 2).contains(wait)));
            assert!(
                *waits.iter().max().unwrap() > base + base * 2 / 5 && *waits.iter().min().unwrap() < base + base / 10
            );
        }
        assert_eq!(Backoff { first: 5, most: 3 }.base(0), 3);
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        assert_eq!(Rng::new(7).next_u64(), Rng::new(7).next_u64());
        assert!((0..1000).all(|seed| Rng::new(seed).below(10) < 10));
    }
}
