//! When a camera says a frame was exposed, and whether that can be believed. Pure.
//!
//! A driver stamps frames on `CLOCK_MONOTONIC`, at the start of exposure or at the end of the frame, and some stamp
//! nonsense: the same time twice, a time ahead of now, a time a second old. Such a stamp is refused and the frame is
//! stamped by its arrival with a wide interval. Where a stamp leaves open which moment it means, the interval covers
//! all of them.

mod pairing;
mod rpicam;
mod v4l2_ctl;

pub use pairing::{Due, Pairing};
pub use rpicam::RpicamLines;
pub use v4l2_ctl::V4l2CtlLines;

use headwater_core::time::{BootNanos, Latency, StampKind};

/// A frame is not dequeued later than this after it began, ns: four buffers of the slowest camera in use.
const STALE_NS: i64 = 1_000_000_000;
/// Longest frame taken for one, ns; two stamps further apart had frames between.
const FRAME_NS_MAX: i64 = 1_000_000_000;
/// A frame's length where nothing tells it, ns: 10 frames a second.
const FRAME_NS_UNKNOWN: i64 = 100_000_000;
/// Time asleep that tells the two clocks apart, ns; below it they are the same to any use.
const ASLEEP_NS_MIN: i64 = 1_000_000;

/// Whose time a stamp is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampClock {
    /// `CLOCK_MONOTONIC`, which stands still while the machine sleeps.
    Monotonic,
    /// libcamera's documents say `CLOCK_BOOTTIME`, the drivers below it stamp `CLOCK_MONOTONIC`.
    BootOrMonotonic,
    /// Of no clock of this machine, such as a copied stamp.
    Foreign,
}

/// Which moment of the frame it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampPoint {
    /// Start of exposure, as a V4L2 driver declares it; some mean the first bytes of the frame.
    ExposureStart,
    /// Last bytes of the frame.
    FrameEnd,
    /// Start of the frame: by libcamera's documents of the first row's exposure, by its drivers of the readout.
    FrameStart,
}

/// A stamp as a camera gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SensorStamp {
    /// ns.
    pub ns: i64,
    /// Whose time.
    pub clock: StampClock,
    /// Of which moment.
    pub point: StampPoint,
    /// Exposure of a row, ns.
    pub exposure_ns: Option<i64>,
    /// From frame to frame, ns.
    pub frame_ns: Option<i64>,
    /// Bytes of the frame.
    pub bytes: Option<u64>,
}

/// Why a stamp is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadStamp {
    /// Not after the one before.
    #[error("stamp does not increase")]
    NotIncreasing,
    /// After the frame was here.
    #[error("stamp lies in the future")]
    Future,
    /// Long before it.
    #[error("stamp is more than a second old")]
    Stale,
    /// Of a clock that is not ours.
    #[error("stamp is of no clock of this machine")]
    Foreign,
}

/// When a frame was exposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameTime {
    /// Stamp.
    pub t: BootNanos,
    /// How much earlier the event lies.
    pub latency: Latency,
    /// What the event is.
    pub kind: StampKind,
}

/// Judges the stamps of one camera.
#[derive(Debug, Default)]
pub struct StampJudge {
    newest: Option<i64>,
}

impl StampJudge {
    /// The camera was opened again: its stamps may begin anew.
    pub fn reopened(&mut self) {
        self.newest = None;
    }

    /// The time of a frame that was here at `here`; `asleep_ns` is BOOTTIME less MONOTONIC then.
    ///
    /// # Errors
    /// [`BadStamp`]; the frame has only its arrival.
    pub fn judge(
        &mut self,
        stamp: SensorStamp,
        here: BootNanos,
        asleep_ns: i64,
    ) -> Result<FrameTime, BadStamp> {
        let (earliest, latest) = boot_times(stamp, here, asleep_ns)?;
        let before = self.newest;
        if before.is_some_and(|before| stamp.ns <= before) {
            return Err(BadStamp::NotIncreasing);
        }
        self.newest = Some(stamp.ns);
        let since = before.map(|before| stamp.ns.saturating_sub(before)).filter(|ns| *ns <= FRAME_NS_MAX);
        let frame =
            stamp.frame_ns.filter(|ns| (1..=FRAME_NS_MAX).contains(ns)).or(since).unwrap_or(FRAME_NS_UNKNOWN);
        let (from, to, kind) = moment(stamp, frame);
        let t = latest.saturating_add(to);
        let width = t.saturating_sub(earliest.saturating_add(from)).max(0);
        let latency = Latency { lo_ns: 0, hi_ns: u32::try_from(width).unwrap_or(u32::MAX) };
        Ok(FrameTime { t: BootNanos(t), latency, kind })
    }
}

/// The boot times a stamp may mean, earliest and latest.
fn boot_times(stamp: SensorStamp, here: BootNanos, asleep_ns: i64) -> Result<(i64, i64), BadStamp> {
    let asleep = asleep_ns.max(0);
    let awake = stamp.ns.saturating_add(asleep);
    let candidates: &[i64] = match stamp.clock {
        StampClock::Foreign => return Err(BadStamp::Foreign),
        StampClock::BootOrMonotonic if asleep >= ASLEEP_NS_MIN => &[stamp.ns, awake],
        _ => &[awake],
    };
    let fit = |at: &&i64| (here.0.saturating_sub(STALE_NS)..=here.0).contains(*at);
    let (first, last) = (candidates.iter().find(fit), candidates.iter().rev().find(fit));
    match (first, last) {
        (Some(first), Some(last)) => Ok((*first, *last)),
        _ if candidates.iter().all(|at| *at > here.0) => Err(BadStamp::Future),
        _ => Err(BadStamp::Stale),
    }
}

/// Where the event lies from the stamp, earliest and latest in ns, and what it is. The middle of a frame is that of its
/// middle row; reading a frame out takes at most as long as a frame.
fn moment(stamp: SensorStamp, frame: i64) -> (i64, i64, StampKind) {
    let half_frame = frame / 2;
    let exposure = stamp.exposure_ns.filter(|ns| (0..=FRAME_NS_MAX).contains(ns));
    match (stamp.point, exposure) {
        // The exposure of the first row began then, or it was over and its readout began.
        (StampPoint::ExposureStart | StampPoint::FrameStart, Some(exposure)) => {
            (-(exposure / 2), exposure / 2 + half_frame, StampKind::ExposureMid)
        }
        // An exposure takes at most a frame, and had begun when the first bytes came.
        (StampPoint::ExposureStart | StampPoint::FrameStart, None) => (-frame, 0, StampKind::ExposureStart),
        (StampPoint::FrameEnd, Some(exposure)) => {
            (-half_frame - exposure / 2, -(exposure / 2), StampKind::ExposureMid)
        }
        (StampPoint::FrameEnd, None) => (-frame, 0, StampKind::ExposureMid),
    }
}

#[cfg(test)]
mod tests;
