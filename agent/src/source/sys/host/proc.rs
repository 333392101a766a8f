//! Texts of `/proc`: times of the processors, memory, load, time since boot (proc(5)).

use super::super::tree::decimal;

/// How the processors spent their time since boot, ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuTimes {
    idle: u64,
    all: u64,
}

impl CpuTimes {
    /// Share of the time since `before` in which they were busy, %; `None` if no time went by, or counters went back.
    pub(super) fn busy_percent_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|ticks| *ticks > 0)?;
        let idle = self.idle.checked_sub(before.idle)?.min(all);
        Some((all - idle) as f64 * 100.0 / all as f64)
    }
}

/// The first line of `/proc/stat`: user nice system idle iowait irq softirq steal, and guests that are in user already.
pub(super) fn cpu_times(text: &str) -> Option<CpuTimes> {
    let mut words = text.lines().find_map(|line| line.strip_prefix("cpu "))?.split_ascii_whitespace();
    let mut ticks = [0_u64; 8];
    for (at, tick) in ticks.iter_mut().enumerate() {
        match words.next() {
            Some(word) => *tick = word.parse().ok()?,
            // Old kernels have fewer.
            None if at >= 4 => break,
            None => return None,
        }
    }
    let [_, _, _, idle, iowait, ..] = ticks;
    let all = ticks.iter().fold(0_u64, |sum, tick| sum.saturating_add(*tick));
    Some(CpuTimes { idle: idle.saturating_add(iowait), all })
}

/// Bytes of a line of `/proc/meminfo`, which is in KiB though it says kB.
pub(super) fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// The first of some numbers.
pub(super) fn first_number(text: &str) -> Option<f64> {
    decimal(text.split_ascii_whitespace().next()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn load_is_the_share_of_ticks_that_were_not_idle() {
        let before = cpu_times("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4").unwrap();
        let after = cpu_times("cpu  130 0 60 850 60 0 0 0 20 0\n").unwrap();
        assert_eq!(after.busy_percent_since(before), Some(40.0));
        assert_eq!(before.busy_percent_since(before), None, "no time went by");
        assert_eq!(before.busy_percent_since(after), None, "counters went back");
        assert!(cpu_times("cpu 1 2 3 4").is_some());
        for bad in ["", "cpu", "cpu 1 2 3", "cpu a b c d", "cpu0 1 2 3 4"] {
            assert_eq!(cpu_times(bad), None, "{bad}");
        }
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let text = "MemTotal:        1883512 kB\nMemFree:          101340 kB\nMemAvailable:    1402312 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(1_402_312 * 1_024));
        assert_eq!((meminfo(text, "Mem"), meminfo("MemTotal: 5", "MemTotal")), (None, None));
        assert_eq!(first_number("0.52 0.58 0.59 1/467 12345"), Some(0.52));
        assert_eq!(first_number(""), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(cpu )?\\PC{0,80}", key in "\\PC{0,10}") {
            if let Some(times) = cpu_times(&text) {
                times.busy_percent_since(times);
            }
            meminfo(&text, &key);
            first_number(&text);
        }
    }
}
