//! Good pictures, bombs, poison.

use super::*;
use jpeg_encoder::{ColorType, Encoder};
use proptest::prelude::*;

/// A picture of 4 x 2 blocks of 8 pixels, each of another grey.
fn grey(width: u16, height: u16) -> Vec<u8> {
    let shade = |x: u16, y: u16| u8::try_from((x / 8 * 31 + y / 8 * 97) % 256).unwrap();
    (0..height).flat_map(|y| (0..width).map(move |x| shade(x, y))).collect()
}

fn as_jpeg(width: u16, height: u16, is_progressive: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, 95);
    encoder.set_progressive(is_progressive);
    encoder.encode(&grey(width, height), width, height, ColorType::Luma).unwrap();
    out
}

fn as_png(width: u32, height: u32, color: png::ColorType, depth: png::BitDepth, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    out
}

fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
    Picture::decode(bytes, PictureLimits::default())
}

/// An APP1 segment with an EXIF block that says `orientation`, put behind SOI.
fn with_exif(jpeg: &[u8], orientation: u16) -> Vec<u8> {
    let mut tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x02".to_vec();
    tiff.extend(b"\x01\x00\0\x04\0\0\0\x01\0\0\0\x20");
    tiff.extend(b"\x01\x12\0\x03\0\0\0\x01");
    tiff.extend(orientation.to_be_bytes());
    tiff.extend([0, 0, 0, 0, 0, 0]);
    let mut out = vec![0xff, 0xd8, 0xff, 0xe1];
    out.extend(u16::try_from(tiff.len() + 2).unwrap().to_be_bytes());
    out.extend(tiff);
    out.extend(&jpeg[2..]);
    out
}

#[test]
fn both_forms_give_their_pixels() {
    for is_progressive in [false, true] {
        let picture = decode(&as_jpeg(32, 16, is_progressive)).unwrap();
        assert_eq!((picture.width, picture.height, picture.channels), (32, 16, 1));
        assert!(picture.samples.iter().zip(grey(32, 16)).all(|(&a, b)| a.abs_diff(b) <= 2));
        assert_eq!(picture.orientation, Orientation::Upright);
    }
    let picture =
        decode(&as_png(32, 16, png::ColorType::Grayscale, png::BitDepth::Eight, &grey(32, 16))).unwrap();
    assert_eq!((picture.samples, picture.channels), (grey(32, 16), 1));
    // Alpha goes, 16 bits become 8.
    let rgba = as_png(1, 1, png::ColorType::Rgba, png::BitDepth::Sixteen, &[10, 1, 20, 2, 30, 3, 0, 0]);
    let picture = decode(&rgba).unwrap();
    assert_eq!((picture.samples.as_slice(), picture.channels), (&[10, 20, 30][..], 3));
    let bits = as_png(8, 1, png::ColorType::Grayscale, png::BitDepth::One, &[0b1010_0000]);
    assert_eq!(decode(&bits).unwrap().samples, [255, 0, 255, 0, 0, 0, 0, 0]);
}

#[test]
fn colours_have_the_brightness_of_bt_601() {
    let rgb = as_png(
        4,
        1,
        png::ColorType::Rgb,
        png::BitDepth::Eight,
        &[255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255],
    );
    assert_eq!(decode(&rgb).unwrap().luma().samples, [76, 150, 29, 255]);
}

#[test]
fn statistics_are_those_of_the_definition() {
    let flat = Luma { width: 4, height: 4, samples: vec![7; 16] };
    assert_eq!(flat.stats(), LumaStats { mean: 7.0, std: 0.0, sharpness: 0.0 });
    let mut samples = vec![0; 9];
    samples[4] = 9;
    let stats = Luma { width: 3, height: 3, samples }.stats();
    assert!((stats.mean - 1.0).abs() < 1e-12 && (stats.std - 8.0_f64.sqrt()).abs() < 1e-12);
    // One inner pixel has no spread; two have.
    assert!(stats.sharpness.abs() < 1e-12);
    let two = Luma { width: 4, height: 3, samples: vec![0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0] };
    assert!((two.stats().sharpness - 22.5 * 22.5).abs() < 1e-9);
    assert!(Luma { width: 2, height: 2, samples: vec![0, 255, 255, 0] }.stats().sharpness.abs() < 1e-12);
}

#[test]
fn exif_says_how_it_is_turned() {
    for number in 1..=8 {
        let picture = decode(&with_exif(&as_jpeg(16, 8, false), number)).unwrap();
        assert_eq!(Some(picture.orientation), Orientation::of_number(number));
        let upright = picture.upright();
        let swaps = number >= 5;
        assert_eq!((upright.width, upright.height), if swaps { (8, 16) } else { (16, 8) });
        assert_eq!(upright.samples.len(), picture.samples.len());
    }
    for bad in [0, 9, u16::MAX] {
        assert_eq!(
            decode(&with_exif(&as_jpeg(16, 8, false), bad)).unwrap().orientation,
            Orientation::Upright
        );
    }
    for torn in [&b""[..], b"II", b"MM\0\x2a\xff\xff\xff\xff", b"II\x2a\0\x08\0\0\0\xff\xff"] {
        assert_eq!(Orientation::of_exif(torn), Orientation::Upright);
    }
}

#[test]
fn a_turn_brings_the_corner_where_it_belongs() {
    // a b
    // c d
    // e f
    let turned = |orientation| {
        let stored = Picture { width: 2, height: 3, channels: 1, samples: b"abcdef".to_vec(), orientation };
        String::from_utf8(stored.upright().samples).unwrap()
    };
    let all: Vec<String> = (1..=8).filter_map(Orientation::of_number).map(turned).collect();
    assert_eq!(all, ["abcdef", "badcfe", "fedcba", "efcdab", "acebdf", "ecafdb", "fdbeca", "bdface"]);
}

#[test]
fn bombs_are_refused_before_they_are_decoded() {
    let mut huge = as_jpeg(16, 16, false);
    let sof = huge.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    huge[sof + 5..sof + 9].fill(0xff);
    assert!(
        matches!(decode(&huge), Err(PictureError::Size { width: 65_535, height: 65_535, .. })),
        "{:?}",
        decode(&huge)
    );
    let mut png = as_png(16, 16, png::ColorType::Grayscale, png::BitDepth::Eight, &grey(16, 16));
    png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let sum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    assert!(matches!(decode(&png), Err(PictureError::Size { .. })), "{:?}", decode(&png));
    let small = PictureLimits { bytes_max: 100, pixels_max: 100 };
    assert!(matches!(Picture::decode(&as_jpeg(64, 64, false), small), Err(PictureError::TooLong { .. })));
    let few = PictureLimits { pixels_max: 100, ..PictureLimits::default() };
    assert!(matches!(Picture::decode(&as_jpeg(64, 64, false), few), Err(PictureError::Size { .. })));
    let mut again = as_jpeg(16, 16, true);
    let scan = again.windows(2).position(|two| two == [0xff, 0xda]).unwrap();
    let end = again.len() - 2;
    let scans = again[scan..end].repeat(JPEG_SCANS_MAX);
    again.splice(scan..end, scans);
    assert_eq!(decode(&again), Err(PictureError::Scans));
}

/// CRC-32 of a PNG chunk, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

#[test]
fn what_is_no_picture_says_so() {
    assert_eq!(
        decode(b"").unwrap_err().to_string(),
        "bytes are neither JPEG nor PNG: they begin with nothing"
    );
    assert!(matches!(decode(b"<html>"), Err(PictureError::Form(_))));
    let whole = as_jpeg(64, 64, false);
    assert!(matches!(decode(&whole[..20]), Err(PictureError::Broken(_))));
    assert!(matches!(decode(b"\xff\xd8\xff\xd9"), Err(PictureError::Broken(_))));
    let png = as_png(16, 16, png::ColorType::Grayscale, png::BitDepth::Eight, &grey(16, 16));
    assert!(matches!(decode(&png[..png.len() - 20]), Err(PictureError::Broken(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever bytes are changed or cut, it is a picture or an error.
    #[test]
    fn poison_is_an_error(is_png in any::<bool>(), is_progressive in any::<bool>(),
        spots in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in any::<prop::sample::Index>()) {
        let mut bytes = match is_png {
            true => as_png(24, 24, png::ColorType::Grayscale, png::BitDepth::Eight, &grey(24, 24)),
            false => as_jpeg(24, 24, is_progressive),
        };
        for (at, byte) in spots {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.index(8));
        if let Ok(picture) = Picture::decode(&bytes, PictureLimits { pixels_max: 1 << 20, ..PictureLimits::default() }) {
            prop_assert_eq!(picture.luma().samples.len() as u64, u64::from(picture.width) * u64::from(picture.height));
        }
    }
}
