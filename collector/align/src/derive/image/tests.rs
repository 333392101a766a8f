//! Pictures upright, poisoned, expired and out of reach.

use super::*;
use arrow_array::types::{Float64Type, Int32Type};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Objects by digest; `down` cannot be read now.
struct Shelf(BTreeMap<String, Vec<u8>>);

impl Pictures for Shelf {
    fn picture(&self, hash: &str) -> Result<Option<Arc<[u8]>>, String> {
        match hash {
            "down" => Err("the store is away".to_owned()),
            hash => Ok(self.0.get(hash).map(|bytes| bytes.as_slice().into())),
        }
    }
}

fn png(width: u32, height: u32, samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(samples).unwrap();
    bytes
}

/// A JPEG, 6 by 4, left half dark, to be turned by 90° clockwise.
fn turned_jpeg() -> Vec<u8> {
    let samples: Vec<u8> = (0..16 * 8).map(|at| if at % 16 < 8 { 16 } else { 240 }).collect();
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, 100);
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    encoder.add_app_segment(1, exif.to_vec()).unwrap();
    encoder.encode(&samples, 16, 8, ColorType::Luma).unwrap();
    jpeg
}

fn all(column: &ArrayRef, shelf: &Shelf) -> Vec<ArrayRef> {
    let wanted = [
        PictureFeature::Width,
        PictureFeature::Height,
        PictureFeature::Brightness,
        PictureFeature::Contrast,
        PictureFeature::Sharpness,
        PictureFeature::Hash,
        PictureFeature::Thumbnail { width_max: 4, height_max: 4, quality: 90 },
    ];
    let found = features(column, &wanted.iter().collect::<Vec<_>>(), shelf).unwrap();
    for (feature, array) in wanted.iter().zip(&found) {
        assert_eq!(array.data_type(), &type_of(feature));
    }
    found
}

#[test]
fn a_picture_stands_upright_and_poison_is_null() {
    let mut poisoned = turned_jpeg();
    poisoned.truncate(poisoned.len() / 2);
    let bomb = png(1, 1, &[0]);
    let mut bomb = bomb;
    bomb[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    let shelf = Shelf(BTreeMap::from([
        ("good".to_owned(), turned_jpeg()),
        ("poisoned".to_owned(), poisoned),
        ("bomb".to_owned(), bomb),
        ("empty".to_owned(), Vec::new()),
    ]));
    let keys: ArrayRef = Arc::new(StringArray::from(vec![
        Some("good"),
        Some("bomb"),
        Some("empty"),
        Some("expired"),
        None,
        Some("good"),
    ]));
    let found = all(&keys, &shelf);
    assert_eq!(
        found[0].as_primitive::<Int32Type>().iter().collect::<Vec<_>>(),
        [Some(8), None, None, None, None, Some(8)]
    );
    assert_eq!(found[1].as_primitive::<Int32Type>().value(0), 16);
    let (brightness, contrast) =
        (found[2].as_primitive::<Float64Type>().value(0), found[3].as_primitive::<Float64Type>().value(0));
    assert!(
        (brightness - 128.0 / 255.0).abs() < 0.01 && (contrast - 112.0 / 255.0).abs() < 0.01,
        "{brightness} {contrast}"
    );
    for array in &found {
        assert!(array.is_valid(0) && array.is_valid(5) && array.null_count() == 4);
    }
    let small = Picture::decode(found[6].as_binary::<i32>().value(0), PictureLimits::default()).unwrap();
    assert_eq!((small.width, small.height), (2, 4));
    // Dark was left: turned clockwise it is above.
    let luma = small.luma().samples;
    assert!(luma[0] < 60 && luma[7] > 200, "{luma:?}");
    // What was cut off decodes or not, but never more than one row is lost by it.
    let one: ArrayRef = Arc::new(StringArray::from(vec!["poisoned"]));
    assert!(all(&one, &shelf).iter().all(|array| array.len() == 1));
}

#[test]
fn a_store_that_is_away_makes_up_nothing() {
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["down"]));
    let error = features(&keys, &[&PictureFeature::Width], &Shelf(BTreeMap::new())).unwrap_err();
    assert_eq!(error, "the store is away");
}

#[test]
fn bytes_of_a_column_before_are_a_picture_too() {
    let bytes: ArrayRef =
        Arc::new(BinaryArray::from(vec![Some(png(3, 2, &[9; 6]).as_slice()), None, Some(b"no")]));
    let found = all(&bytes, &Shelf(BTreeMap::new()));
    assert_eq!(found[0].as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(3), None, None]);
    assert_eq!(found[4].as_primitive::<Float64Type>().value(0), 0.0);
}

#[test]
fn the_hash_is_that_of_the_grid() {
    // 9 by 8 pixels are the grid itself: falling rows are ones, rising ones zeros.
    let falling: Vec<u8> =
        (0..8).flat_map(|row| (0..9).map(move |x| if row % 2 == 0 { 90 - 10 * x } else { 10 * x })).collect();
    let picture = Picture::decode(&png(9, 8, &falling), PictureLimits::default()).unwrap();
    assert_eq!(format!("{:016x}", hash(&picture)), "ff00ff00ff00ff00");
    // Four times as large it looks the same.
    let large: Vec<u8> = (0..32 * 36).map(|at| falling[(at / 36 / 4) * 9 + (at % 36) / 4]).collect();
    let picture = Picture::decode(&png(36, 32, &large), PictureLimits::default()).unwrap();
    assert_eq!(format!("{:016x}", hash(&picture)), "ff00ff00ff00ff00");
}

#[test]
fn sizes_keep_their_proportions() {
    for (size, bounds, wanted) in [
        ((1920, 1080), (320, 320), (320, 180)),
        ((1080, 1920), (320, 320), (180, 320)),
        ((100, 50), (320, 320), (100, 50)),
        ((4000, 1), (100, 100), (100, 1)),
        ((1, 4000), (100, 100), (1, 100)),
        ((640, 480), (640, 100), (133, 100)),
        ((1, 1), (1, 1), (1, 1)),
    ] {
        assert_eq!(fitted(size, bounds), wanted, "{size:?} in {bounds:?}");
    }
}

proptest! {
    #[test]
    fn a_resized_picture_keeps_its_mean(width in 1u32..40, height in 1u32..40, to_width in 1u32..40, to_height in 1u32..40, seed in any::<u64>()) {
        let samples: Vec<u8> = (0..u64::from(width * height)).map(|n| (n.wrapping_mul(seed | 1) >> 7).to_le_bytes()[0]).collect();
        let small = resized(&samples, (width, height), 1, (to_width, to_height));
        prop_assert_eq!(small.len(), (to_width * to_height) as usize);
        let mean = |samples: &[u8]| samples.iter().map(|s| f64::from(*s)).sum::<f64>() / samples.len() as f64;
        prop_assert!((mean(&small) - mean(&samples)).abs() <= 0.5, "{} {}", mean(&small), mean(&samples));
        prop_assert_eq!(resized(&samples, (width, height), 1, (width, height)), samples);
    }
}
