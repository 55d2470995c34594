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
    /// Takes the wall clock as the new anchor. `now` still never goes back: it waits where the wall clock stepped back.
    fn anchor(&mut self);
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    wall: Nanos,
    monotonic: Nanos,
    last: Nanos,
}

impl SystemClock {
    pub fn new() -> Self {
        Self { wall: read(rustix::time::ClockId::Realtime), monotonic: monotonic(), last: 0 }
    }

    /// What added to [`monotonic`], wrapping, gives a time that `now` is not before; good until the next anchor.
    pub fn offset(&self) -> u64 {
        self.wall.wrapping_sub(self.monotonic)
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
        self.last = self.last.max(self.wall + elapsed);
        self.last
    }

    fn wall_offset(&mut self) -> i64 {
        let expected = self.wall + (monotonic() - self.monotonic);
        read(rustix::time::ClockId::Realtime) as i64 - expected as i64
    }

    fn anchor(&mut self) {
        // Others may have taken a time from `offset` meanwhile: `now` does not go back behind that either.
        self.now();
        self.wall = read(rustix::time::ClockId::Realtime);
        self.monotonic = monotonic();
    }
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
