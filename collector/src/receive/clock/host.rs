//! How far this host's own UTC can be trusted: what every bound that is handed out rests on.
//!
//! The operator may declare it ([`QualitySource::declared`]): then that is what it is. Otherwise the host is asked, and what
//! it said last is carried on: the bound grows with the crystal's worst rate, and a step of the wall clock since then, seen
//! as a change of its distance to boot time, voids the promise until the host is asked again. An unsynchronised host never
//! promises anything, and neither do times it read before it was first known to be right.

use super::super::acks::ClockQuality;
use super::chrony::{MAX_CLOCK_ERROR_PPM_MIN, Tracking};
use headwater_core::time::{ClockReading, Grade, NS_PER_MS, NS_PER_S, UtcNanos, clamp_i64};
use std::sync::{Arc, Mutex, PoisonError};

/// Greatest error of a clock nobody keeps, ns: what the kernel caps its own word at.
pub const UNKNOWN_ERROR_NS: i64 = 16 * NS_PER_S;
/// Least error believed of a kernel that says it is synchronised, ns: timesyncd writes a greatest error of zero, so its
/// word is taken for no better than its own accuracy constant.
const KERNEL_ERROR_NS_MIN: i64 = 200 * NS_PER_MS;
/// Worst rate of a host's crystal, parts per billion.
const RHO_PPB: i128 = 50_000;
/// A change of the wall clock against boot time that is a step and not a bracket's width: boot time is slewed with UTC, so
/// nothing but a step moves one against the other.
const STEP_NS_MIN: i64 = NS_PER_MS;
/// A word older than this promises nothing any more: several askings went unanswered.
const STALE_NS: i64 = 300 * NS_PER_S;

/// What the kernel says of its synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelWord {
    /// `STA_UNSYNC` is clear.
    pub synchronised: bool,
    /// `maxerror`, µs.
    pub max_error_us: i64,
}

/// What a host was heard to say of its clock.
#[derive(Debug, Clone, PartialEq)]
pub enum Word {
    /// chrony, and its `maxclockerror` in ppm.
    Chrony(Tracking, f64),
    /// The kernel, where no chrony answers.
    Kernel(KernelWord),
}

/// This host's clock, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnClock {
    /// Greatest error, ns.
    pub bound_ns: i64,
    /// Whether that is a promise.
    pub grade: Grade,
    /// Somebody keeps it.
    pub synchronised: bool,
    /// Who says so: `chrony`, `kernel` or `declared`.
    pub source: &'static str,
    /// Why it is no better than this, and what to do; empty for a promise.
    pub why: String,
}

impl OwnClock {
    /// Judges what the host said.
    #[must_use]
    pub fn of(word: &Word) -> Self {
        match word {
            Word::Chrony(tracking, _) if !tracking.synchronised => Self {
                bound_ns: tracking.bound_ns.max(UNKNOWN_ERROR_NS),
                grade: Grade::Estimated,
                synchronised: false,
                source: "chrony",
                why: "chrony follows no server; see `chronyc sources`".to_owned(),
            },
            Word::Chrony(tracking, ppm) => {
                let promised = *ppm >= MAX_CLOCK_ERROR_PPM_MIN;
                let advice = format!(
                    "chrony's maxclockerror is {ppm} ppm; write `maxclockerror {MAX_CLOCK_ERROR_PPM_MIN}` into its \
                     configuration for a guaranteed bound"
                );
                Self {
                    bound_ns: tracking.bound_ns,
                    grade: if promised { Grade::Guaranteed } else { Grade::Estimated },
                    synchronised: true,
                    source: "chrony",
                    why: if promised { String::new() } else { advice },
                }
            }
            Word::Kernel(kernel) if kernel.synchronised => Self {
                bound_ns: kernel.max_error_us.saturating_mul(1_000).max(KERNEL_ERROR_NS_MIN),
                grade: Grade::Estimated,
                synchronised: true,
                source: "kernel",
                why: "no chrony answers; run it with `maxclockerror 50`, or declare [clock] assume and bound_ms".to_owned(),
            },
            Word::Kernel(_) => Self {
                bound_ns: UNKNOWN_ERROR_NS,
                grade: Grade::Estimated,
                synchronised: false,
                source: "kernel",
                why: "nobody keeps this host's clock; run chrony, or declare [clock] assume and bound_ms if the \
                      provider keeps it"
                    .to_owned(),
            },
        }
    }

    /// True if somebody should look at it.
    #[must_use]
    pub fn is_alarming(&self, alarm_ns: i64) -> bool {
        !self.synchronised || self.bound_ns > alarm_ns
    }

    /// The same, carried on to `now` from when it was heard.
    fn carried(&self, heard: ClockReading, now: ClockReading) -> Self {
        let age = now.b2.since(heard.b1).max(0);
        let grown = clamp_i64(i128::from(age) * RHO_PPB / i128::from(NS_PER_S) + 1);
        let distance = |reading: ClockReading| i128::from(reading.real.0) - i128::from(reading.b1.0);
        let stepped = clamp_i64((distance(now) - distance(heard)).abs());
        let mut carried = Self { bound_ns: self.bound_ns.saturating_add(grown), ..self.clone() };
        if stepped >= STEP_NS_MIN {
            carried.bound_ns = carried.bound_ns.saturating_add(stepped);
            carried.grade = carried.grade.min(Grade::Estimated);
            carried.why =
                format!("the wall clock stepped by {} ms and was not looked at since", stepped / NS_PER_MS);
        } else if age > STALE_NS {
            carried.grade = carried.grade.min(Grade::Estimated);
            carried.why = format!("not heard of for {} s", age / NS_PER_S);
        }
        carried
    }
}

#[derive(Debug)]
struct Known {
    own: OwnClock,
    /// When it was heard; none for what is declared.
    heard: Option<ClockReading>,
    /// Since when it promises without a break.
    steady_since: Option<UtcNanos>,
}

/// Where the collector's own clock bound comes from; cheap to clone, all clones know the same.
#[derive(Debug, Clone)]
pub struct QualitySource {
    source_id: u64,
    known: Arc<Mutex<Known>>,
}

impl QualitySource {
    /// What the operator declares, for hosts whose provider keeps the clock.
    #[must_use]
    pub fn declared(bound_ns: i64, grade: Grade, source_id: u64) -> Self {
        let own = OwnClock { bound_ns, grade, synchronised: true, source: "declared", why: String::new() };
        Self::known(Known { own, heard: None, steady_since: Some(UtcNanos(i64::MIN)) }, source_id)
    }

    /// A host that is to be asked ([`super::watch`]); until then it is taken for unsynchronised.
    #[must_use]
    pub fn asked(source_id: u64) -> Self {
        let nobody = KernelWord { synchronised: false, max_error_us: i64::MAX };
        let own = OwnClock::of(&Word::Kernel(nobody));
        Self::known(Known { own, heard: None, steady_since: None }, source_id)
    }

    fn known(known: Known, source_id: u64) -> Self {
        Self { source_id, known: Arc::new(Mutex::new(known)) }
    }

    /// The host was asked at `at`; gives what it is now and what it was.
    pub fn heard(&self, word: &Word, at: ClockReading) -> (OwnClock, OwnClock) {
        let own = OwnClock::of(word);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.judged(at);
        // A step that nobody looked at breaks the promise of what was read before it, whatever is promised now.
        let steady = own.grade == Grade::Guaranteed && before.grade == Grade::Guaranteed;
        known.steady_since = match own.grade {
            Grade::Guaranteed if steady => known.steady_since.or(Some(at.real)),
            Grade::Guaranteed => Some(at.real),
            _ => None,
        };
        known.own = own.clone();
        known.heard = Some(at);
        (own, before)
    }

    /// This host's clock as of `now`.
    #[must_use]
    pub fn judged(&self, now: ClockReading) -> OwnClock {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).judged(now)
    }

    /// What is handed out with clock replies at `now`.
    #[must_use]
    pub fn read(&self, now: ClockReading) -> ClockQuality {
        let own = self.judged(now);
        ClockQuality { e_c_ns: own.bound_ns, grade: own.grade, source_id: self.source_id }
    }

    /// Times read before this promise nothing, whatever the clock is now; none if it promises nothing now.
    #[must_use]
    pub fn steady_since(&self) -> Option<UtcNanos> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).steady_since
    }
}

impl Known {
    fn judged(&self, now: ClockReading) -> OwnClock {
        self.heard.map_or_else(|| self.own.clone(), |heard| self.own.carried(heard, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::time::BootNanos;

    const BOOT: i64 = 1_790_000_000 * NS_PER_S;

    /// Boot time `s`, the wall clock `ahead_ns` before or behind where it began.
    fn at(s: i64, ahead_ns: i64) -> ClockReading {
        let b1 = BootNanos(s * NS_PER_S);
        ClockReading { b1, real: UtcNanos(BOOT + b1.0 + ahead_ns), b2: b1, raw_ns: b1.0 }
    }

    fn chrony(synchronised: bool, ppm: f64) -> Word {
        Word::Chrony(Tracking { reference: "ntp".to_owned(), synchronised, bound_ns: 400_000 }, ppm)
    }

    #[test]
    fn only_a_kept_clock_with_the_crystals_rate_in_its_bound_promises() {
        let judged = |word| OwnClock::of(&word);
        let good = judged(chrony(true, 50.0));
        assert_eq!((good.grade, good.bound_ns, good.why.as_str()), (Grade::Guaranteed, 400_000, ""));
        let careless = judged(chrony(true, 1.0));
        assert_eq!((careless.grade, careless.synchronised), (Grade::Estimated, true));
        assert!(careless.why.contains("maxclockerror 50"), "{}", careless.why);
        let zero = judged(Word::Kernel(KernelWord { synchronised: true, max_error_us: 0 }));
        assert_eq!(
            (zero.grade, zero.bound_ns),
            (Grade::Estimated, KERNEL_ERROR_NS_MIN),
            "timesyncd writes zero"
        );
        for word in [chrony(false, 50.0), Word::Kernel(KernelWord { synchronised: false, max_error_us: 0 })] {
            let nobody = judged(word);
            assert_eq!((nobody.grade, nobody.synchronised), (Grade::Estimated, false));
            assert!(nobody.bound_ns >= UNKNOWN_ERROR_NS && !nobody.why.is_empty());
        }
    }

    #[test]
    fn a_bound_grows_until_the_host_is_asked_again() {
        let source = QualitySource::asked(9);
        assert_eq!(source.read(at(0, 0)).grade, Grade::Estimated, "not asked yet");
        source.heard(&chrony(true, 50.0), at(10, 0));
        let soon = source.read(at(20, 0));
        assert_eq!((soon.grade, soon.source_id), (Grade::Guaranteed, 9));
        assert_eq!(soon.e_c_ns, 400_000 + 500_000 + 1, "50 µs a second");
        assert_eq!(source.read(at(400, 0)).grade, Grade::Estimated, "unheard of for too long");
    }

    #[test]
    fn a_step_of_the_wall_clock_voids_the_promise_at_once_and_for_what_was_read_before() {
        let source = QualitySource::asked(9);
        source.heard(&chrony(true, 50.0), at(10, 0));
        source.heard(&chrony(true, 50.0), at(26, 0));
        assert_eq!(source.steady_since(), Some(at(10, 0).real));
        let stepped = source.read(at(30, -2 * NS_PER_S));
        assert_eq!(stepped.grade, Grade::Estimated);
        assert!(stepped.e_c_ns > 2 * NS_PER_S);
        source.heard(&chrony(true, 50.0), at(42, -2 * NS_PER_S));
        assert_eq!(source.read(at(43, -2 * NS_PER_S)).grade, Grade::Guaranteed);
        assert_eq!(source.steady_since(), Some(at(42, -2 * NS_PER_S).real));
        source.heard(&chrony(false, 50.0), at(58, -2 * NS_PER_S));
        assert_eq!(source.steady_since(), None);
    }

    #[test]
    fn what_is_declared_is_what_it_is() {
        let source = QualitySource::declared(5_000_000, Grade::Guaranteed, 3);
        let quality = source.read(at(100_000, 77 * NS_PER_S));
        assert_eq!((quality.e_c_ns, quality.grade), (5_000_000, Grade::Guaranteed));
        assert_eq!(source.steady_since(), Some(UtcNanos(i64::MIN)));
    }
}
