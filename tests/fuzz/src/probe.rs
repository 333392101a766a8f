//! Measures what a decoder takes, and says when it is too much.

use crate::{CPU_NS_MAX, DECODED_BYTES_MAX, alloc};
use rustix::time::{ClockId, clock_gettime};

/// How often a slow input is tried again: a neighbour's work must not count.
const TRIES: usize = 4;

/// What decoding took at most so far, and what it may take.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Most CPU time of one input, ns.
    pub cpu_ns: u64,
    /// Most bytes held at once.
    pub bytes: usize,
    /// Bound of the former.
    pub cpu_ns_max: u64,
    /// True for the inputs that also pay for dear checks: encoding again at full effort.
    pub thorough: bool,
}

impl Default for Probe {
    fn default() -> Self {
        Self { cpu_ns: 0, bytes: 0, cpu_ns_max: CPU_NS_MAX, thorough: true }
    }
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

impl Probe {
    /// Decodes within the bounds.
    ///
    /// # Panics
    /// If it takes more time or memory than it may.
    pub fn decode<T>(&mut self, mut decode: impl FnMut() -> T) -> T {
        let mut least = u64::MAX;
        for _ in 0..TRIES {
            let before = cpu_ns();
            let (value, bytes) = alloc::peak_of(&mut decode);
            least = least.min(cpu_ns().saturating_sub(before));
            self.bytes = self.bytes.max(bytes);
            assert!(bytes <= DECODED_BYTES_MAX, "decoding holds {bytes} bytes");
            if least <= self.cpu_ns_max {
                self.cpu_ns = self.cpu_ns.max(least);
                return value;
            }
        }
        panic!("decoding takes {} ms", least / 1_000_000);
    }
}
