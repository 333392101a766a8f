//! Faults that a host can order from a test build by KNOB. Other builds know nothing of it.

#[cfg(feature = "knob")]
pub(super) use on::Faults;

#[cfg(not(feature = "knob"))]
pub(super) use off::Faults;

/// Whether KNOB is obeyed.
pub(super) const KNOWN: bool = cfg!(feature = "knob");

#[cfg(feature = "knob")]
mod on {
    use crate::clock::PpmSkew;
    use crate::link::Knob;

    #[derive(Debug)]
    pub(crate) struct Faults {
        knob: Knob,
        skew: PpmSkew,
        stalled_until_us: u64,
        samples: u16,
        frames: u16,
    }

    impl Faults {
        pub(crate) const fn new() -> Self {
            let knob = Knob { ppm: 0, drop_every: 0, corrupt_every: 0, stall_ms: 0 };
            Self { knob, skew: PpmSkew::new(), stalled_until_us: 0, samples: 0, frames: 0 }
        }

        /// `now_us` is the true time.
        pub(crate) fn set(&mut self, knob: Knob, now_us: u64) {
            let mut skew = self.skew;
            skew.set(knob.ppm, now_us);
            let stall_us = u64::from(knob.stall_ms).saturating_mul(1_000);
            let stalled_until_us = skew.skewed(now_us).saturating_add(stall_us);
            *self = Self { knob, skew, stalled_until_us, samples: 0, frames: 0 };
        }

        /// What the clock shows.
        pub(crate) const fn time(&self, t_us: u64) -> u64 {
            self.skew.skewed(t_us)
        }

        pub(crate) const fn stalls(&self, now_us: u64) -> bool {
            now_us < self.stalled_until_us
        }

        pub(crate) const fn drops(&mut self) -> bool {
            every(&mut self.samples, self.knob.drop_every)
        }

        pub(crate) const fn damage(&mut self) -> u16 {
            if every(&mut self.frames, self.knob.corrupt_every) { 1 } else { 0 }
        }
    }

    const fn every(count: &mut u16, every: u16) -> bool {
        if every == 0 {
            return false;
        }
        *count = count.wrapping_add(1);
        let due = *count >= every;
        if due {
            *count = 0;
        }
        due
    }
}

#[cfg(not(feature = "knob"))]
mod off {
    use crate::link::Knob;

    /// No fault: all of it melts away.
    #[derive(Debug)]
    pub(crate) struct Faults;

    #[expect(clippy::unused_self, reason = "as in a test build")]
    impl Faults {
        pub(crate) const fn new() -> Self {
            Self
        }

        pub(crate) const fn set(&mut self, _: Knob, _: u64) {}

        pub(crate) const fn time(&self, t_us: u64) -> u64 {
            t_us
        }

        pub(crate) const fn stalls(&self, _: u64) -> bool {
            false
        }

        pub(crate) const fn drops(&mut self) -> bool {
            false
        }

        pub(crate) const fn damage(&mut self) -> u16 {
            0
        }
    }
}
