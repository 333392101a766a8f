//! Counts the scans of a JPEG by its markers alone (ITU-T T.81, B.1.1 and B.2).

/// True if there are at most `scans_max` scans; a stream that does not hold is the decoder's to refuse.
pub(super) fn within(bytes: &[u8], scans_max: usize) -> bool {
    let (mut at, mut scans) = (2_usize, 0_usize);
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            0xd9 => return true,
            // Without a length: TEM, RST0 to RST7, a second SOI.
            0x01 | 0xd0..=0xd8 => {}
            _ => {
                scans = scans.saturating_add(usize::from(marker == 0xda));
                if scans > scans_max {
                    return false;
                }
                let Some(&[high, low]) = bytes.get(at..at.saturating_add(2)) else { return true };
                at = at.saturating_add(usize::from(u16::from_be_bytes([high, low])).max(2));
            }
        }
    }
    true
}

/// The next marker at or after `at`, which is moved behind it. Coded data hold 0xff only before 0x00.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        let found = rest.iter().position(|byte| *byte == 0xff)?;
        *at = at.saturating_add(found).saturating_add(1);
        match bytes.get(*at)? {
            0x00 => *at = at.saturating_add(1),
            // Fill bytes stand before a marker.
            0xff => {}
            marker => {
                *at = at.saturating_add(1);
                return Some(*marker);
            }
        }
    }
}
