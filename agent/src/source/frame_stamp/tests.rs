//! Stamps as drivers and programs give them, good and bad, and frames that wait for theirs.

use super::*;
use proptest::prelude::*;

const MS: i64 = 1_000_000;
const NOW: BootNanos = BootNanos(100_000 * MS);

fn v4l2(ns: i64) -> SensorStamp {
    let (clock, point) = (StampClock::Monotonic, StampPoint::ExposureStart);
    SensorStamp { ns, clock, point, exposure_ns: None, frame_ns: None, bytes: None }
}

fn before_now(ms: i64) -> SensorStamp {
    v4l2(NOW.0 - ms * MS)
}

#[test]
fn v4l2_bad_stamps_fall_back() {
    let mut judge = StampJudge::default();
    let good = judge.judge(before_now(60), NOW, 0).unwrap();
    assert_eq!((good.t, good.kind), (BootNanos(NOW.0 - 60 * MS), StampKind::ExposureStart));
    // The same again (bcm2835 JPEG), and one that goes back (UVC).
    assert_eq!(judge.judge(before_now(60), NOW, 0), Err(BadStamp::NotIncreasing));
    assert_eq!(judge.judge(before_now(80), NOW, 0), Err(BadStamp::NotIncreasing));
    // Ahead of the frame itself, and almost a second early and more.
    assert_eq!(judge.judge(before_now(-1), NOW, 0), Err(BadStamp::Future));
    assert_eq!(judge.judge(before_now(1_001), NOW, 0), Err(BadStamp::Stale));
    assert_eq!(judge.judge(v4l2(0), NOW, 0), Err(BadStamp::Stale));
    assert_eq!(judge.judge(v4l2(i64::MAX), NOW, 0), Err(BadStamp::Future));
    assert_eq!(
        judge.judge(SensorStamp { clock: StampClock::Foreign, ..before_now(9) }, NOW, 0),
        Err(BadStamp::Foreign)
    );
    // A bad one spoils none that follow.
    let next = judge.judge(before_now(27), NOW, 0).unwrap();
    assert_eq!(next.latency.hi_ns, 33_000_000, "an exposure is no longer than a frame");
    judge.reopened();
    assert!(judge.judge(before_now(40), NOW, 0).is_ok(), "another run may begin anew");
}

#[test]
fn monotonic_stamps_are_moved_by_the_time_asleep() {
    let asleep = 3_600_000 * MS;
    let mut judge = StampJudge::default();
    let time = judge.judge(v4l2(NOW.0 - 40 * MS - asleep), NOW, asleep).unwrap();
    assert_eq!(time.t, BootNanos(NOW.0 - 40 * MS));
    // libcamera may say either: whichever fits now, and both if both do.
    let libcamera = |ns| SensorStamp { clock: StampClock::BootOrMonotonic, ..v4l2(ns) };
    let boot = StampJudge::default().judge(libcamera(NOW.0 - 40 * MS), NOW, asleep).unwrap();
    assert_eq!(boot.t, BootNanos(NOW.0 - 40 * MS));
    let mono = StampJudge::default().judge(libcamera(NOW.0 - 40 * MS - asleep), NOW, asleep).unwrap();
    assert_eq!(mono.t, boot.t);
    let both = StampJudge::default().judge(libcamera(NOW.0 - 500 * MS), NOW, 200 * MS).unwrap();
    assert_eq!((both.t, both.latency.hi_ns), (BootNanos(NOW.0 - 300 * MS), 300_000_000));
}

#[test]
fn a_known_exposure_gives_its_middle() {
    let frame =
        |point| SensorStamp { point, exposure_ns: Some(10 * MS), frame_ns: Some(30 * MS), ..before_now(90) };
    let at = |point| {
        let time = StampJudge::default().judge(frame(point), NOW, 0).unwrap();
        assert_eq!(time.kind, StampKind::ExposureMid);
        let latest = (time.t.0 - NOW.0) / MS + 90;
        (latest - i64::from(time.latency.hi_ns) / MS, latest)
    };
    // From the middle of a row exposed before its readout began, to that of the middle row exposed after it.
    assert_eq!(at(StampPoint::FrameStart), (-5, 20));
    assert_eq!(at(StampPoint::ExposureStart), (-5, 20));
    assert_eq!(at(StampPoint::FrameEnd), (-20, -5));
}

/// What `rpicam-vid --metadata - --metadata-format json` writes (rpicam-apps 1.5, `output/output.cpp`): the brace that
/// closes a frame comes with the next one.
const RPICAM_JSON: &str = "[\n{\n    \"ExposureTime\": 32680,\n    \"ScalerCrop\": \"(0, 0)/4056x3040\",\n    \"ColourGains\": \
                           [ 2.1, 1.8 ],\n    \"FrameDuration\": 33333,\n    \"SensorTimestamp\": 99000000000,\n    \
                           \"Lux\": 14.5\n},\n{\n    \"SensorTimestamp\": 99033333000,\n    \"ExposureTime\": 32680\n";

#[test]
fn rpicam_says_a_frame_with_its_last_line() {
    let mut lines = RpicamLines::default();
    let first_end = RPICAM_JSON.find("\n},").unwrap();
    let first = lines.push(&RPICAM_JSON.as_bytes()[..=first_end]);
    let [Some(stamp)] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!(
        (stamp.ns, stamp.exposure_ns, stamp.frame_ns),
        (99_000_000_000, Some(32_680_000), Some(33_333_000))
    );
    assert_eq!((stamp.clock, stamp.point), (StampClock::BootOrMonotonic, StampPoint::FrameStart));
    let second = lines.push(&RPICAM_JSON.as_bytes()[first_end + 1..]);
    assert!(matches!(second.as_slice(), [Some(stamp)] if stamp.ns == 99_033_333_000), "{second:?}");
    let end = lines.push(b"}\n]\n");
    assert!(end.is_empty());
    let mut text = RpicamLines::default();
    let frames = text.push(b"SensorTimestamp=7000\nExposureTime=5\n\nLux=3\n\n");
    assert!(
        matches!(frames.as_slice(), [Some(stamp), None] if stamp.ns == 7_000 && stamp.exposure_ns == Some(5_000))
    );
}

/// As printed by v4l2-ctl 1.20 and told on the linux-media list on 2021-01-27.
const V4L2_CTL: &str = "<<<<\ncap dqbuf: 0 seq:      0 bytesused: 512000 ts: 137342.420951 (ts-monotonic, ts-src-soe)\ncap \
                        dqbuf: 1 seq:      2 bytesused: 512000 ts: 137342.484954 delta: 64.003 ms dropped: 1 \
                        (ts-monotonic, ts-src-soe)\ncap dqbuf: 2 seq: 3 bytesused: 0 ts: 137342.5 (error, ts-monotonic, \
                        ts-src-eof)\ncap dqbuf: 3 seq: 4 bytesused: 77 ts: 137342.520953 (ts-copy, ts-src-eof)\n";

#[test]
fn v4l2_ctl_says_each_buffer() {
    let mut lines = V4l2CtlLines::default();
    let mut stamps = Vec::new();
    for piece in V4L2_CTL.as_bytes().chunks(7) {
        stamps.extend(lines.push(piece));
    }
    let [Some(first), Some(second), Some(copied)] = stamps.as_slice() else { panic!("{stamps:?}") };
    assert_eq!((first.ns, first.bytes), (137_342_420_951_000, Some(512_000)));
    assert_eq!((first.clock, first.point), (StampClock::Monotonic, StampPoint::ExposureStart));
    assert_eq!(second.ns - first.ns, 64_003_000);
    assert_eq!((copied.clock, copied.point), (StampClock::Foreign, StampPoint::FrameEnd));
}

fn given(due: Vec<Due<u32>>) -> Vec<(u32, Option<i64>)> {
    due.into_iter().map(|due| (due.frame, due.stamp.map(|(stamp, _)| stamp.ns))).collect()
}

#[test]
fn frames_meet_their_stamps_by_counting() {
    let at = |ms: i64| BootNanos(ms * MS);
    let mut pairing = Pairing::default();
    assert_eq!(given(pairing.stamp(Some(v4l2(1)), at(0))), []);
    assert_eq!(given(pairing.frame(10, 5, at(1))), [(10, Some(1))]);
    assert_eq!(given(pairing.frame(11, 5, at(2))), []);
    assert_eq!(given(pairing.frame(12, 5, at(3))), []);
    assert_eq!(given(pairing.stamp(Some(v4l2(2)), at(4))), [(11, Some(2))]);
    // The stamp of 12 is late: it goes without, and the stamp goes to nobody.
    assert_eq!(pairing.deadline(), Some(at(503)));
    assert_eq!(given(pairing.poll(at(503))), [(12, None)]);
    assert_eq!(given(pairing.frame(13, 5, at(504))), []);
    assert_eq!(given(pairing.stamp(Some(v4l2(3)), at(505))), []);
    assert_eq!(given(pairing.stamp(Some(v4l2(4)), at(506))), [(13, Some(4))]);
    // A frame that is none ends the counting, until the program starts again.
    pairing.lose_count();
    assert_eq!(given(pairing.stamp(Some(v4l2(5)), at(507))), []);
    assert_eq!(given(pairing.frame(14, 5, at(508))), [(14, None)]);
    pairing.restart();
    assert_eq!(given(pairing.frame(15, 5, at(509))), []);
    assert_eq!(given(pairing.stamp(Some(v4l2(6)), at(510))), [(15, Some(6))]);
    // A stamp of fewer bytes than the frame has is another frame's.
    assert_eq!(given(pairing.stamp(Some(SensorStamp { bytes: Some(4), ..v4l2(7) }), at(511))), []);
    assert_eq!(given(pairing.frame(16, 5, at(512))), [(16, None)]);
    assert!(pairing.has_lost_count());
}

#[test]
fn neither_frames_nor_stamps_pile_up() {
    let mut pairing = Pairing::default();
    let given: usize = (0..50).map(|n| pairing.frame(n, 1, BootNanos(0)).len()).sum();
    assert_eq!(given, 46, "four wait");
    let mut pairing = Pairing::<u32>::default();
    for n in 0..1_000 {
        assert!(pairing.stamp(Some(v4l2(n)), BootNanos(0)).is_empty());
    }
    assert!(pairing.has_lost_count());
}

proptest! {
    /// Every frame comes out once, in order, with its own stamp or none, whatever comes when.
    #[test]
    fn a_frame_never_gets_anothers_stamp(steps in proptest::collection::vec((any::<bool>(), 0_i64..400), 1..200)) {
        let (mut pairing, mut now) = (Pairing::default(), 0_i64);
        let (mut frames, mut stamps, mut out) = (0_u32, 0_i64, Vec::new());
        for (frame, ms) in steps {
            now += ms * MS;
            let due = pairing.poll(BootNanos(now));
            out.extend(given(due));
            let due = if frame {
                frames += 1;
                pairing.frame(frames, 1, BootNanos(now))
            } else {
                stamps += 1;
                pairing.stamp(Some(v4l2(stamps)), BootNanos(now))
            };
            out.extend(given(due));
        }
        out.extend(given(pairing.poll(BootNanos(i64::MAX))));
        prop_assert_eq!(out.len(), frames as usize);
        for (place, (frame, stamp)) in (1_u32..).zip(&out) {
            prop_assert_eq!(place, *frame);
            prop_assert!(stamp.is_none_or(|stamp| stamp == i64::from(*frame)));
        }
    }

    #[test]
    fn noise_is_no_stamp_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), ns in any::<i64>(), here in any::<i64>(), asleep in any::<i64>()) {
        RpicamLines::default().push(&bytes);
        V4l2CtlLines::default().push(&bytes);
        let mut stamp = v4l2(ns);
        for clock in [StampClock::Monotonic, StampClock::BootOrMonotonic] {
            stamp.clock = clock;
            if let Ok(time) = StampJudge::default().judge(stamp, BootNanos(here), asleep) {
                prop_assert!(time.t.0 <= here && time.t.0 >= here.saturating_sub(STALE_NS));
            }
        }
    }
}
