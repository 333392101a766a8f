//! How many log lines a device may send: text must not crowd out samples.

/// Lines that may follow each other at once.
pub const LOG_BURST: u8 = 8;

/// One more line each.
pub const LOG_EVERY_US: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct LogLimit {
    left: u8,
    /// Up to here time was turned into lines.
    counted_us: u64,
}

impl LogLimit {
    pub(super) const fn new() -> Self {
        Self { left: LOG_BURST, counted_us: 0 }
    }

    /// Whether one more line may go at `now_us`; if so, it is taken.
    pub(super) const fn allows(&mut self, now_us: u64) -> bool {
        // At most LOG_BURST turns, and no division, which costs kilobytes on small machines.
        while self.left < LOG_BURST && now_us.saturating_sub(self.counted_us) >= LOG_EVERY_US {
            self.left = self.left.saturating_add(1);
            self.counted_us = self.counted_us.saturating_add(LOG_EVERY_US);
        }
        if self.left == LOG_BURST {
            self.counted_us = now_us;
        }
        let allowed = self.left != 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}
