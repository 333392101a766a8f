//! The device's clock: 64-bit microseconds out of a 32-bit counter, and a knob that lets it run wrong.

/// Widens a 32-bit counter, which wraps every 71.6 minutes at 1 MHz, to 64 bits.
///
/// [`now`](Self::now) must be called at least once per wrap, best from the tick interrupt. Stamps
/// that were read earlier, say by an interrupt, go through [`before`](Self::before).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockExtender {
    total: u64,
    last: u32,
}

impl ClockExtender {
    /// An extender whose counter starts at 0.
    pub const fn new() -> Self {
        Self { total: 0, last: 0 }
    }

    /// The time of the counter's value, read just now.
    pub const fn now(&mut self, counter: u32) -> u64 {
        self.total = self.total.wrapping_add(u32_to_u64(counter.wrapping_sub(self.last)));
        self.last = counter;
        self.total
    }

    /// The time of a value that was read before the latest [`now`](Self::now), by less than one wrap.
    pub const fn before(&self, counter: u32) -> u64 {
        self.total.wrapping_sub(u32_to_u64(self.last.wrapping_sub(counter)))
    }
}

/// A clock that runs too fast or too slow by a known amount, for tests of what relies on clocks.
///
/// Changing the rate never makes the time jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PpmSkew {
    ppm: i32,
    base_in_us: u64,
    base_out_us: u64,
}

impl PpmSkew {
    /// The most a clock can be set wrong, parts per million; more is cut to it.
    pub const PPM_MAX: i32 = 100_000;

    /// A right clock.
    pub const fn new() -> Self {
        Self { ppm: 0, base_in_us: 0, base_out_us: 0 }
    }

    /// Runs `ppm` too fast from the true time `now_us` on.
    pub fn set(&mut self, ppm: i32, now_us: u64) {
        self.base_out_us = self.skewed(now_us);
        self.base_in_us = now_us;
        self.ppm = ppm.clamp(-Self::PPM_MAX, Self::PPM_MAX);
    }

    /// What the wrong clock shows at the true time `t_us`.
    pub const fn skewed(&self, t_us: u64) -> u64 {
        if t_us < self.base_in_us {
            // Read before the rate changed.
            return self.base_out_us.wrapping_sub(self.base_in_us.wrapping_sub(t_us));
        }
        let elapsed = t_us.wrapping_sub(self.base_in_us);
        // In two steps, so that nothing overflows: see PPM_MAX.
        let ppm = i32_to_i64(self.ppm);
        let whole = (elapsed / 1_000_000).cast_signed().wrapping_mul(ppm);
        let rest = (elapsed % 1_000_000).cast_signed().wrapping_mul(ppm);
        let off = whole.wrapping_add(rest / 1_000_000);
        self.base_out_us.wrapping_add(elapsed).wrapping_add(off.cast_unsigned())
    }
}

// `From` is not const yet.
const fn u32_to_u64(value: u32) -> u64 {
    value as u64
}

// `From` is not const yet.
const fn i32_to_i64(value: i32) -> i64 {
    value as i64
}
