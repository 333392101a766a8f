//! What nobody should send and somebody does: the rows concerned are told and held, and the others go on.

use super::*;
use crate::picture::{PICTURE_BYTES_MAX, PICTURE_PIXELS_MAX};
use proptest::prelude::*;
use serde_json::json;

fn jpeg(width: u16, height: u16, shade: impl Fn(usize) -> u8) -> Vec<u8> {
    let grey: Vec<u8> = (0..usize::from(width) * usize::from(height)).map(shade).collect();
    let mut out = Vec::new();
    jpeg_encoder::Encoder::new(&mut out, 80)
        .encode(&grey, width, height, jpeg_encoder::ColorType::Luma)
        .unwrap();
    out
}

/// A JPEG whose header claims another size: 4 GiB of samples, from a kilobyte.
fn bomb() -> Vec<u8> {
    let mut bytes = jpeg(64, 64, |n| u8::try_from(n % 251).unwrap());
    let frame = bytes.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    bytes
}

/// The same as a PNG: only its header is whole.
fn bomb_png() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xff\xff\0\0\xff\xff\x08\0\0\0\0".to_vec();
    let crc = crc32(&bytes[12..]);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(b"\0\0\0\x02IDAT\x78\x9c\0\0\0\0");
    bytes
}

/// CRC-32 of ISO 3309, as PNG has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

#[test]
fn a_picture_that_would_fill_the_memory_is_refused_by_its_header() {
    for bytes in [bomb(), bomb_png()] {
        let said = look(&bytes).unwrap_err().to_string();
        assert!(said.contains(&format!("1 to {PICTURE_PIXELS_MAX}")), "{said}");
    }
    assert!(look(&vec![0xff; PICTURE_BYTES_MAX + 1]).unwrap_err().to_string().contains("above the"));
}

#[test]
fn a_picture_cut_anywhere_is_an_error_or_a_picture_and_never_a_panic() {
    let whole = jpeg(96, 64, |n| u8::try_from(n * 7 % 256).unwrap());
    for cut in 0..whole.len() {
        if let Ok(seen) = look(&whole[..cut]) {
            assert_eq!((seen.width, seen.height), (96, 64), "cut at {cut}");
        }
    }
    assert!(look(&whole[..whole.len() / 4]).is_err() && look(&whole).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A poisoned picture: some bytes of a real one are others.
    #[test]
    fn a_poisoned_picture_is_an_error_or_a_picture(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12)
    ) {
        let mut bytes = jpeg(48, 48, |n| u8::try_from(n % 199).unwrap());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // What it is like does not matter; that it ends, within its limits, does.
        if let Ok(seen) = look(&bytes) {
            prop_assert!(u64::from(seen.width) * u64::from(seen.height) <= PICTURE_PIXELS_MAX);
        }
    }
}

/// What a camera shows at a place.
type Camera<'a> = &'a dyn Fn(usize) -> Result<Seen, crate::picture::PictureError>;

/// Rows of a good camera and of cameras that are not, judged at once: only theirs fail.
#[test]
fn each_bad_camera_is_told_and_the_good_one_goes_on() {
    let good = |n: usize| look(&jpeg(64, 48, |at| u8::try_from((at * 31 + n * 17) % 256).unwrap()));
    let flat = |shade: u8| look(&jpeg(64, 48, |_| shade));
    let torn = |n: usize| look(&jpeg(64, 48, |at| u8::try_from((at + n) % 256).unwrap())[..300]);
    let cameras: [(&str, Camera<'_>); 6] = [
        ("good", &good),
        ("black", &|_| flat(0)),
        ("frozen", &|_| good(1)),
        ("bomb", &|_| look(&bomb())),
        ("cut", &torn),
        ("html", &|_| look(b"<html>404</html>")),
    ];
    const EACH: usize = 6;
    let mut all = rows(cameras.len() * EACH);
    let (mut looks, mut hashes) = (BTreeMap::new(), Vec::new());
    for (at, (name, camera)) in cameras.iter().enumerate() {
        for n in 0..EACH {
            let row = at * EACH + n;
            all.device[row] = *name;
            all.key[row] = format!("{name}/cam/{n}");
            looks.insert(row, camera(n).map_err(|error| error.to_string()));
            hashes.push(format!("{row}"));
        }
    }
    let batch = all.text("image_hash", hashes.iter().map(|hash| Some(hash.as_str())).collect()).batch();
    let none = BTreeMap::new();
    let context = Context { looks: Some(&looks), ..context(&none) };
    let text = "headwater_gate = 1\nname = \"t\"\n[[rule]]\nname = \"seen\"\ncheck = \"image\"\n[[rule]]\nname = \"runs\"\ncheck = \"frozen\"\nrows = 4\n";
    let found = judge(&RuleSet::parse(text).unwrap(), &[batch], &context).unwrap();
    let failing = |finding: &Finding| -> Vec<String> {
        let failed = finding.devices.iter().filter(|(_, verdict)| **verdict == Verdict::Fail);
        failed.map(|(device, _)| device.clone()).collect()
    };
    assert_eq!(failing(&found[0]), ["black", "bomb", "cut", "html"]);
    assert_eq!(failing(&found[1]), ["black", "frozen"]);
    let held = Held::of(&found);
    assert!(held.all.is_none() && !held.devices.contains_key("good"));
}

/// A text of 64 MiB in one row, and a key as long: the row is judged like any, and what is said of it stays short.
#[test]
fn a_row_of_64_mib_is_judged_and_its_evidence_is_short() {
    let huge = "x".repeat(64 << 20);
    let texts: Vec<Option<&str>> = vec![Some("a"), Some(&huge), Some("b")];
    let with = |keys: &str| {
        let mut rows = rows(3).text("note", texts.clone()).with("x", vec![1.0, 9.0, 1.0]);
        rows.key[1].clone_from(&huge);
        find(keys, rows)
    };
    for keys in [
        "check = \"range\"\ncolumns = [\"x\"]\nmax = 5",
        "check = \"expression\"\nexpect = \"length(note) < 100\"",
    ] {
        let found = with(keys);
        assert_eq!((found.verdict, &found.evidence["offending"]), (Verdict::Fail, &json!(1)), "{keys}");
        let said = found.evidence.to_string();
        assert!(said.len() < 4_096 && said.contains("(67108864 bytes)"), "{} bytes", said.len());
    }
    assert_eq!(with("check = \"duplicate\"\ncolumns = [\"note\"]").verdict, Verdict::Pass);
    let mut owner = rows(2).with("x", vec![9.0, 1.0]);
    owner.device[0] = Box::leak(huge.into_boxed_str());
    let found = find("check = \"range\"\ncolumns = [\"x\"]\nmax = 5", owner);
    assert!(found.evidence.to_string().len() < 4_096);
    assert_eq!(found.devices.values().filter(|verdict| **verdict == Verdict::Fail).count(), 1);
}

#[test]
fn values_that_are_no_numbers_offend_and_meet_no_bound() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let values = || by(30, |row| if row == 7.0 { odd } else { row });
        let range = find("check = \"range\"\ncolumns = [\"x\"]\nmin = -1e300", rows(30).with("x", values()));
        assert_eq!((range.verdict, &range.evidence["row_keys"]), (Verdict::Fail, &json!(["e1/cam/7"])));
        // Statistics of such values are no evidence that all is well.
        for expect in [
            "mean(x) > 0 and mean(x) < 100",
            "max(x) < 100 and min(x) > -1",
            "std(x) < 100",
            "sum(x) > 0 and sum(x) < 1000",
        ] {
            let found =
                find(&format!("check = \"expression\"\nexpect = \"{expect}\""), rows(30).with("x", values()));
            assert_eq!(found.verdict, Verdict::Fail, "{expect} of {odd}");
        }
        // What looks at finite values only goes on with the others.
        for keys in [
            "check = \"step\"\ncolumns = [\"x\"]\nmax = 3",
            "check = \"spike\"\ncolumns = [\"x\"]\nmax = 3",
            "check = \"stuck\"\ncolumns = [\"x\"]\nrows = 3",
            "check = \"noise\"\ncolumns = [\"x\"]\nfail_above = 3\nmin_rows = 1",
        ] {
            let found = find(keys, rows(30).with("x", values()));
            assert_eq!(found.verdict, Verdict::Pass, "{keys}: {:#}", found.evidence);
        }
    }
    let places = rows(3).with("lat", vec![47.0, f64::NAN, 47.0]).with("lon", vec![8.0; 3]);
    let fence =
        "check = \"geofence\"\nlat = \"lat\"\nlon = \"lon\"\ncircle = { lat = 47, lon = 8, radius_m = 1000 }";
    assert_eq!(find(fence, places).evidence["row_keys"], json!(["e1/cam/1"]));
}

/// A rule that names what is not there has not looked, so it does not pass; it says what there is.
#[test]
fn rules_about_columns_that_are_not_there_fail_and_name_those_that_are() {
    for keys in [
        "check = \"range\"\ncolumns = [\"nope\"]\nmax = 5",
        "check = \"null\"\ncolumns = [\"nope\"]",
        "check = \"stuck\"\ncolumns = [\"nope\"]\nrows = 3",
        "check = \"step\"\ncolumns = [\"nope\"]\nmax = 3",
        "check = \"spike\"\ncolumns = [\"nope\"]\nmax = 3",
        "check = \"duplicate\"\ncolumns = [\"nope\"]",
        "check = \"coverage\"\ncolumns = [\"nope\"]",
        "check = \"gap\"\ncolumns = [\"nope\"]",
        "check = \"saturation\"\ncolumns = [\"nope\"]\nrows = 3\nmin_rows = 1",
        "check = \"distinct\"\ncolumns = [\"nope\"]\nfail_below = 3\nmin_rows = 1",
        "check = \"noise\"\ncolumns = [\"nope\"]\nfail_above = 3\nmin_rows = 1",
        "check = \"geofence\"\nlat = \"nope\"\nlon = \"nope\"\ncircle = { lat = 47, lon = 8, radius_m = 1000 }",
        "check = \"speed\"\nlat = \"nope\"\nlon = \"nope\"\nmax = 3",
    ] {
        let found = find(keys, rows(5).with("x", vec![1.0; 5]));
        assert_eq!(found.verdict, Verdict::Fail, "{keys}");
        let said = found.evidence.to_string();
        assert!(said.contains("there is no column nope") && said.contains("row_key"), "{keys}: {said}");
        let absent = find(&format!("{keys}\noptional = true"), rows(5).with("x", vec![1.0; 5]));
        assert_eq!(absent.verdict, Verdict::Pass, "{keys}");
    }
}
