//! What a picture's own header says: enough to tell a picture from bytes that are none, without decoding it.

/// Width and height of a JPEG or PNG, pixels; none if its header does not hold.
///
/// JPEG: the frame header SOFn of ITU-T T.81, B.2.2; PNG: the IHDR chunk of ISO/IEC 15948, 11.2.2.
#[must_use]
pub fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let found = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") { png(bytes) } else { jpeg(bytes) };
    found.filter(|(width, height)| *width > 0 && *height > 0)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}

fn png(bytes: &[u8]) -> Option<(u32, u32)> {
    (u32_at(bytes, 8)? == 13 && bytes.get(12..16)? == b"IHDR").then_some(())?;
    Some((u32_at(bytes, 16)?, u32_at(bytes, 20)?))
}

fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    bytes.starts_with(&[0xff, 0xd8]).then_some(())?;
    let mut at = 2_usize;
    loop {
        let marker = u16_at(bytes, at)?;
        match marker {
            // Fill bytes stand before a marker.
            0xffff => at = at.checked_add(1)?,
            // SOF0 to SOF15 without DHT, JPG and DAC.
            0xffc0..=0xffcf if !matches!(marker, 0xffc4 | 0xffc8 | 0xffcc) => {
                let (height, width) =
                    (u16_at(bytes, at.checked_add(5)?)?, u16_at(bytes, at.checked_add(7)?)?);
                return Some((width.into(), height.into()));
            }
            // Markers without a length.
            0xff01 | 0xffd0..=0xffd7 => at = at.checked_add(2)?,
            // The frame header comes before the first scan and before the end.
            0xffd8..=0xffda => return None,
            0xff02..=0xfffe => {
                let length = usize::from(u16_at(bytes, at.checked_add(2)?)?);
                at = at.checked_add(2)?.checked_add(length.max(2))?;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An APP0 segment, then a baseline frame of 640 by 480.
    const JPEG: &[u8] =
        b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc0\x00\x0b\x08\x01\xe0\x02\x80\x01\x01\x11\x00\xff\xda";

    #[test]
    fn sizes_are_read_from_the_header_alone() {
        assert_eq!(size(JPEG), Some((640, 480)));
        let png =
            b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x02\x80\x00\x00\x01\xe0\x08\x02\x00\x00\x00";
        assert_eq!(size(png), Some((640, 480)));
        let mut flat = JPEG.to_vec();
        flat[14..16].fill(0);
        assert_eq!(size(&flat), None, "no height");
        for bad in [
            &b""[..],
            b"\xff\xd8",
            b"\xff\xd8\xff\xd9",
            b"\xff\xd8\xff\xda\x00\x02",
            b"<html>",
            &JPEG[..12],
            &png[..20],
        ] {
            assert_eq!(size(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(tail in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..JPEG.len()) {
            let mut bytes = JPEG[..cut].to_vec();
            bytes.extend(tail);
            let found = size(&bytes);
            prop_assert!(found.is_none_or(|(width, height)| width > 0 && height > 0));
        }
    }
}
