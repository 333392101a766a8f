//! Pictures cut, joined and damaged at every byte.

use super::*;
use proptest::prelude::*;

fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    check(bytes).ok().map(|picture| (picture.width, picture.height))
}

#[test]
fn whole_pictures_show_their_size() {
    assert_eq!(dimensions(&samples::jpeg()), Some((32, 16)));
    assert_eq!(dimensions(&samples::png()), Some((1, 1)));
}

#[test]
fn a_picture_cut_at_any_byte_is_refused() {
    for whole in [samples::jpeg(), samples::png()] {
        for cut in 0..whole.len() {
            assert!(check(&whole[..cut]).is_err(), "cut at {cut} of {}", whole.len());
        }
    }
    assert_eq!(check(b""), Err(ImageFault::Empty));
    assert_eq!(check(b"GIF89a"), Err(ImageFault::Unknown));
}

#[test]
fn a_picture_whose_end_never_reached_the_disk_is_refused() {
    let mut zeros = samples::jpeg();
    let len = zeros.len();
    zeros[len - 12..].fill(0);
    assert_eq!(check(&zeros), Err(ImageFault::CutOff { bytes: len }));
    let mut flipped = samples::png();
    flipped[45] ^= 1;
    assert!(matches!(check(&flipped), Err(ImageFault::Broken { .. })));
}

#[test]
fn padding_behind_the_end_is_fine() {
    let mut padded = samples::jpeg();
    padded.extend_from_slice(&[0; 100]);
    assert_eq!(dimensions(&padded), Some((32, 16)));
}

fn pictures(events: &[MjpegEvent]) -> usize {
    events.iter().filter(|event| matches!(event, MjpegEvent::Picture(..))).count()
}

#[test]
fn a_stream_is_split_wherever_its_reads_fall() {
    let mut stream = b"noise".to_vec();
    for _ in 0..3 {
        stream.extend_from_slice(&samples::jpeg());
    }
    for chunk in 1..stream.len() {
        let mut mjpeg = Mjpeg::default();
        let events: Vec<MjpegEvent> = stream.chunks(chunk).flat_map(|bytes| mjpeg.push(bytes)).collect();
        assert_eq!(pictures(&events), 3, "chunks of {chunk}");
        assert!(
            events.iter().all(|event| matches!(event, MjpegEvent::Picture(_, b) if *b == samples::jpeg()))
        );
        assert_eq!(mjpeg.take_noise(), 5);
        assert_eq!(mjpeg.ended(), None);
    }
}

#[test]
fn a_cut_picture_in_a_stream_costs_no_more_than_the_segment_it_was_cut_in() {
    let whole = samples::jpeg();
    let many = whole.repeat(1_000);
    for cut in 2..whole.len() {
        let mut mjpeg = Mjpeg::default();
        let mut events = mjpeg.push(&whole[..cut]);
        events.extend(mjpeg.push(&many));
        // A cut length field claims up to 64 KiB of what follows; the walk then finds its place again.
        let found = pictures(&events) * whole.len();
        assert!(found + 66_000 >= many.len(), "cut at {cut}: {found} of {}", many.len());
    }
}

proptest! {
    #[test]
    fn never_panics_and_loses_no_byte(bytes in proptest::collection::vec(
        prop_oneof![Just(0xff_u8), Just(0xd8), Just(0xd9), Just(0xda), Just(0xc0), Just(0), any::<u8>()], 0..300
    )) {
        let mut mjpeg = Mjpeg::default();
        let mut events = mjpeg.push(&bytes);
        events.extend(mjpeg.ended());
        let given: usize = events.iter().map(|event| match event {
            MjpegEvent::Picture(_, bytes) | MjpegEvent::Fault(_, bytes) => bytes.len(),
        }).sum();
        let noise = usize::try_from(mjpeg.take_noise()).unwrap();
        prop_assert!(bytes.len() - given - noise <= 1, "only a lone 0xff may be dropped at the end");
        let _judged = check(&bytes);
    }

    #[test]
    fn a_damaged_picture_never_panics(at in 0_usize..200, value in any::<u8>()) {
        for mut picture in [samples::jpeg(), samples::png()] {
            let at = at % picture.len();
            picture[at] = value;
            let _judged = check(&picture);
        }
    }
}
