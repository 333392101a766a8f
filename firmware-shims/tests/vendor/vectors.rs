//! Frames that other implementations made, see `vectors.py`.

use crate::kit::{expect, feed, hex, messages};
use headwater_shims::vendor::mavlink::{self, Mavlink, MavlinkFrame, MavlinkMessage, Signature};
use headwater_shims::vendor::ubx::{self, Ubx, UbxFrame, satellites};

/// Kind, frame and expected fields of each line.
pub(crate) fn vectors() -> impl Iterator<Item = (&'static str, Vec<u8>, &'static str)> {
    include_str!("vectors.txt").lines().map(|line| {
        let mut parts = line.split('|');
        let mut next = || parts.next().expect("three parts");
        (next(), hex(next()), next())
    })
}

#[test]
fn frames_of_other_implementations_say_what_was_put_in() {
    let mut seen = 0;
    for (kind, frame, expected) in vectors() {
        let shown = match kind.split('_').next() {
            Some("ubx") => messages::<_, { ubx::FRAME_BYTES_MAX }>(Ubx, &frame),
            _ => messages::<_, { mavlink::FRAME_BYTES_MAX }>(Mavlink, &frame),
        };
        let [shown] = shown.as_slice() else { panic!("{kind}: {shown:?}") };
        assert_eq!(shown.0, kind);
        expect(shown, expected);
        seen += 1;
    }
    assert_eq!(seen, 32);
}

#[test]
fn every_mavlink_message_has_a_vector() {
    for (kind, fields) in MavlinkMessage::KINDS {
        assert!(vectors().any(|(name, _, _)| name == *kind), "{kind}");
        assert!(fields.len() > 2);
    }
}

#[test]
fn a_signed_frame_is_accepted_and_marked() {
    let signed: Vec<_> =
        vectors().filter(|(_, frame, _)| frame.starts_with(&[0xFD]) && frame[2] == 1).collect();
    let [(_, frame, _)] = signed.as_slice() else { panic!("one vector is signed") };
    let read = MavlinkFrame::new(frame).expect("whole");
    assert_eq!((read.version, read.signature), (2, Signature::Unverified));
    assert_eq!((read.seq, read.system, read.component), (250, 7, 200));
    // A flag nobody knows: the frame must be dropped.
    let mut strange = frame.clone();
    strange[2] = 3;
    assert!(feed::<_, 280>(Mavlink, &strange, 1, true).frames.is_empty());
}

#[test]
fn unknown_mavlink_messages_are_counted_and_never_swallow_a_frame() {
    let (_, known, _) = vectors().find(|(kind, _, _)| *kind == "mavlink_attitude").expect("it has a vector");
    // Id 9999 claims 200 bytes, in which known frames follow.
    let mut stream = vec![0xFD, 200, 0, 0, 1, 1, 1, 0x0F, 0x27, 0];
    stream.extend(&known);
    stream.extend(&known);
    let fed = feed::<_, 280>(Mavlink, &stream, 3, true);
    assert_eq!(fed.frames, [known.clone(), known]);
    assert_eq!((fed.stats.unknown_frames, fed.stats.unknown_bytes, fed.stats.errors()), (1, 10, 0));
}

#[test]
fn satellites_are_listed_one_by_one() {
    let (_, frame, _) = vectors().find(|(kind, _, _)| *kind == "ubx_nav_sat").expect("it has a vector");
    let frame = UbxFrame::new(&frame).expect("whole");
    let all: Vec<_> = satellites(frame).map(|sat| (sat.gnss_id, sat.sv_id, sat.used)).collect();
    assert_eq!(all, [(Some(0), 5, true), (Some(2), 11, false), (Some(6), 3, true)]);
    // A count beyond the payload lists none.
    let mut lying = frame.payload.to_vec();
    lying[5] = 4;
    assert_eq!(satellites(UbxFrame { payload: &lying, ..frame }).count(), 0);
    assert!(UbxFrame { payload: &lying, ..frame }.message().is_none());
}
