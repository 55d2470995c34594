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
        self.wall = read(rustix::time::ClockId::Realtime);
        self.monotonic = monotonic();
    }
}

/// The machine's monotonic clock in ns, the same in all of its processes: for deadlines and for measuring.
pub fn monotonic() -> Nanos {
    read(rustix::time::ClockId::Monotonic)
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
    fn the_same_seed_gives_the_same_numbers() {
        assert_eq!(Rng::new(7).next_u64(), Rng::new(7).next_u64());
        assert!((0..1000).all(|seed| Rng::new(seed).below(10) < 10));
    }
}
