//! Counts the samples a link lost, from 16-bit sequence numbers that wrap and device time that does not.
//!
//! A device numbers its samples per stream, from 0 at each boot, and a dropped sample uses up its
//! number. The host sees the low 16 bits, so a long silence can hide whole turns of 65 536. Device
//! time over the stream's period tells how many; where it cannot, only `next_seq` of a HELLO can,
//! and until then the answer is honest about it ([`Missing::Unsettled`]).

/// Above this silence the period is no longer trusted to count turns of the sequence number.
pub const SILENCE_US_MAX: u64 = 30_000_000;

/// Device time that goes back by more than this is the time of a new boot.
pub const TIME_BACK_US_MAX: u64 = 1_000_000;

/// Numbers of one turn of the 16-bit sequence.
const TURN: i64 = 1 << 16;
const HALF_TURN: i64 = TURN / 2;

/// What one SAMPLE frame says about the samples before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqStep {
    /// The frame is the first one seen of a new boot.
    pub restarted: bool,
    /// Samples of this boot between the last frame and this one.
    pub missing: Missing,
}

/// How many samples did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// None, or nothing is known from before the frame.
    None,
    /// This many.
    Samples(u32),
    /// Known modulo 65 536 only: send HELLO_REQ and give its answer to [`LinkStreamState::hello`].
    Unsettled(u16),
}

/// What a HELLO says about gaps that were unsettled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// This many samples are missing in them.
    Samples(u32),
    /// None can be: the device used numbers twice.
    WentBack,
}

/// A place in a stream at a device time from which later frames are counted.
#[derive(Debug, Clone, Copy)]
struct Mark {
    seq: u32,
    t_us: u64,
}

/// What is known of one stream of one device.
#[derive(Debug, Clone)]
pub struct LinkStreamState {
    period_us: u32,
    /// Number of the first sample not accounted for; the high half is a guess unless `anchored`.
    next: Option<u32>,
    mark: Option<Mark>,
    /// Whether `next` counts from the boot, and not from where the host happened to join.
    anchored: bool,
    /// Missing samples so far of gaps that only a HELLO can settle.
    unsettled: Option<u32>,
}

impl LinkStreamState {
    /// A stream of which nothing was seen; `period_us` is the descriptor's, 0 if irregular.
    pub const fn new(period_us: u32) -> Self {
        Self { period_us, next: None, mark: None, anchored: false, unsettled: None }
    }

    /// Takes another period from now on, as after a CONFIG.
    pub const fn set_period_us(&mut self, period_us: u32) {
        self.period_us = period_us;
    }

    /// Begins a new boot, as told by a new `boot_nonce`: numbers start at 0 again.
    pub const fn restart(&mut self) {
        self.next = Some(0);
        self.mark = None;
        self.anchored = true;
        self.unsettled = None;
    }

    /// Whether a HELLO is needed to tell how many samples are missing.
    pub const fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Takes in one SAMPLE frame: its header's `seq`, `t_us` and first-since-boot flag, its `count`.
    pub fn sample(&mut self, seq: u16, t_us: u64, first_since_boot: bool, count: u8) -> SeqStep {
        let time_went_back = self.time_went_back(t_us);
        // After restart() there is no mark: the caller knows of that boot already.
        let restarted = time_went_back || (first_since_boot && self.mark.is_some());
        if first_since_boot || time_went_back {
            self.restart();
        }
        let (start, missing) =
            if first_since_boot { (u32::from(seq), exact(u32::from(seq))) } else { self.place(seq, t_us) };
        if let Missing::Unsettled(part) = missing {
            let before = self.unsettled.unwrap_or(0);
            self.unsettled = Some(before.wrapping_add(u32::from(part)));
        }
        self.next = Some(start.wrapping_add(u32::from(count)));
        self.mark = Some(Mark { seq: start, t_us });
        SeqStep { restarted, missing }
    }

    /// Takes in `next_seq` of the stream's descriptor and `t_us` of that HELLO, same boot.
    ///
    /// Returns what became of the gaps that were unsettled, if there were any.
    pub fn hello(&mut self, next_seq: u32, t_us: u64) -> Option<Settled> {
        if self.time_went_back(t_us) {
            self.restart();
        }
        let settled = match self.next {
            None => {
                self.next = Some(next_seq);
                None
            }
            Some(next) => {
                // Frames keep their order: what the device has numbered by now is at or after `next`.
                let behind = low16(next_seq).wrapping_sub(low16(next));
                let true_next = next_seq.wrapping_sub(u32::from(behind));
                let turns = true_next.wrapping_sub(next);
                self.next = Some(true_next);
                let unsettled = self.unsettled.take();
                // A host that joined in the middle has no true number from before the gap.
                let turns = if self.anchored { turns } else { 0 };
                unsettled.map(|part| settle(part.wrapping_add(turns)))
            }
        };
        self.anchored = true;
        self.mark = Some(Mark { seq: next_seq, t_us });
        settled
    }

    fn time_went_back(&self, t_us: u64) -> bool {
        self.mark.is_some_and(|mark| t_us.saturating_add(TIME_BACK_US_MAX) < mark.t_us)
    }

    /// The full number of the sample that shows as `seq`, and what is missing before it.
    fn place(&self, seq: u16, t_us: u64) -> (u32, Missing) {
        let Some(next) = self.next else {
            return (u32::from(seq), Missing::None);
        };
        let gap = seq.wrapping_sub(low16(next));
        let (turns, trusted) = match self.mark {
            Some(mark) => self.turns(mark, next, gap, t_us),
            // A boot was announced but no time of it is known: only an unbroken start is certain.
            None => (0, gap == 0),
        };
        let missing = u32::from(gap).wrapping_add(turns.wrapping_shl(16));
        let start = next.wrapping_add(missing);
        if trusted {
            (start, exact(missing))
        } else {
            let start = next.wrapping_add(u32::from(gap));
            (start, Missing::Unsettled(gap))
        }
    }

    /// Whole turns hidden in a gap, chosen by device time, and whether that can be trusted.
    fn turns(&self, mark: Mark, next: u32, gap: u16, t_us: u64) -> (u32, bool) {
        let elapsed_us = t_us.saturating_sub(mark.t_us);
        let Some(by_time) = elapsed_us.checked_div(u64::from(self.period_us)) else {
            return (0, gap == 0 && elapsed_us <= SILENCE_US_MAX);
        };
        // `next` lies after the mark by the rows of the last frame, or before it by what a HELLO
        // told of samples that never came.
        let accounted = i64::from(next.wrapping_sub(mark.seq).cast_signed());
        let by_seq = accounted.saturating_add(i64::from(gap));
        let by_time = i64::try_from(by_time).unwrap_or(i64::MAX);
        let ahead = by_time.saturating_sub(by_seq);
        if ahead < -HALF_TURN {
            // Fewer samples fit into the time than the numbers claim: they went back.
            return (0, false);
        }
        let turns = ahead.saturating_add(HALF_TURN).div_euclid(TURN);
        if turns == 0 {
            return (0, true);
        }
        // No gap in the numbers but time for a turn: a stalled device is likelier than 65 536
        // losses to the sample.
        let trusted = gap != 0 && elapsed_us <= SILENCE_US_MAX;
        (u32::try_from(turns).unwrap_or(0), trusted)
    }
}

fn exact(missing: u32) -> Missing {
    if missing == 0 { Missing::None } else { Missing::Samples(missing) }
}

/// A difference of numbers that is one to the past has its top bit set.
const fn settle(missing: u32) -> Settled {
    if missing.cast_signed() < 0 { Settled::WentBack } else { Settled::Samples(missing) }
}

const fn low16(number: u32) -> u16 {
    let [low, high, _, _] = number.to_le_bytes();
    u16::from_le_bytes([low, high])
}
