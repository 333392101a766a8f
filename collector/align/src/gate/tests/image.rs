//! Pictures, by their rows and as they were seen.

use super::*;
use crate::picture::LumaStats;
use std::collections::BTreeMap;

#[test]
fn pictures_by_what_their_rows_say() {
    let keys = "check = \"image\"\nlooks = 0";
    let good = || rows(2).text("image_hash", vec![Some("a"), Some("b")]).with("width", vec![640.0, 640.0]);
    check(keys, good(), rows(2).text("image_hash", vec![Some("a"), None]).with("width", vec![640.0; 2]));
    check(
        keys,
        good(),
        rows(2).text("image_hash", vec![Some("a"), Some("b")]).with("width", vec![640.0, 0.0]),
    );
    assert_eq!(find(keys, rows(2)).verdict, Verdict::Pass, "a table without pictures");
}

fn seen(mean: f64, std: f64, sharpness: f64, pixels: u8) -> Result<Seen, String> {
    Ok(Seen { width: 640, height: 480, stats: LumaStats { mean, std, sharpness }, pixels: [pixels; 32] })
}

#[test]
fn pictures_by_what_was_seen() {
    let keys = "check = \"image\"\nmin_sharpness = 10";
    let verdict = |keys: &str, width: f64, looks: Vec<Result<Seen, String>>| {
        let n = looks.len();
        let hashes: Vec<String> = (0..n).map(|row| format!("h{row}")).collect();
        let rows = rows(n)
            .text("image_hash", hashes.iter().map(|hash| Some(hash.as_str())).collect())
            .with("width", vec![width; n]);
        let (none, looks) = (BTreeMap::new(), looks.into_iter().enumerate().collect());
        let context = Context { looks: Some(&looks), ..context(&none) };
        judge(&set(keys), &[rows.batch()], &context).unwrap().remove(0)
    };
    let good = || seen(100.0, 40.0, 50.0, 1);
    assert_eq!(verdict(keys, 640.0, vec![good(), good()]).verdict, Verdict::Pass);
    for (bad, why) in [
        (seen(2.0, 40.0, 50.0, 1), "too dark"),
        (seen(254.0, 40.0, 50.0, 1), "too bright"),
        (seen(100.0, 0.5, 50.0, 1), "without contrast"),
        (seen(100.0, 40.0, 5.0, 1), "not sharp"),
        (Err("picture is broken: it ends".to_owned()), "it ends"),
    ] {
        let found = verdict(keys, 640.0, vec![good(), bad]);
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(found.evidence.to_string().contains(why), "{:#}", found.evidence);
    }
    assert!(verdict(keys, 320.0, vec![good()]).evidence.to_string().contains("of another size"));
    let frozen = "check = \"frozen\"\nrows = 3";
    let run = |pixels: [u8; 3]| pixels.map(|pixels| seen(100.0, 40.0, 50.0, pixels)).to_vec();
    assert_eq!(verdict(frozen, 640.0, run([1, 2, 2])).verdict, Verdict::Pass);
    assert_eq!(
        verdict(frozen, 640.0, run([2, 2, 2])).verdict,
        Verdict::Fail,
        "encoded anew, the same pixels"
    );
}

#[test]
fn a_frame_that_repeats_is_frozen() {
    let hashes = |texts: [&'static str; 5]| rows(5).text("image_hash", texts.map(Some).to_vec());
    let keys = "check = \"frozen\"\nrows = 3";
    check(keys, hashes(["a", "b", "b", "a", "b"]), hashes(["a", "b", "b", "b", "c"]));
    assert_eq!(find(keys, rows(3)).verdict, Verdict::Fail, "without pictures it cannot be told");
}

#[test]
fn look_tells_a_picture_from_bytes() {
    let mut jpeg = Vec::new();
    let grey: Vec<u8> = (0..64 * 64).map(|n| u8::try_from(n / 64 * 3).unwrap()).collect();
    jpeg_encoder::Encoder::new(&mut jpeg, 90).encode(&grey, 64, 64, jpeg_encoder::ColorType::Luma).unwrap();
    let found = look(&jpeg).unwrap();
    assert_eq!((found.width, found.height), (64, 64));
    assert!((found.stats.mean - 94.5).abs() < 2.0, "{found:?}");
    assert!(look(b"<html>").is_err());
}
