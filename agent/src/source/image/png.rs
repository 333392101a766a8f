//! Checks the chunks of a PNG and their checksums, from IHDR to IEND.

use super::{ImageFault, Picture};

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];
/// Length, type and checksum of a chunk.
const CHUNK_FRAME_BYTES: usize = 12;

/// CRC-32 as PNG has it (reflected 0x04C11DB7), of all bytes 0..256.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "n is below 256")]
        let mut c = n as u32;
        let mut bit = 0;
        while bit < 8 {
            c = if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 };
            bit += 1;
        }
        table[n] = c;
        n += 1;
    }
    table
};

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        TABLE.get(usize::from(low ^ byte)).copied().unwrap_or(0) ^ (crc >> 8)
    })
}

/// Judges a file.
pub(super) fn check(bytes: &[u8]) -> Result<Picture, ImageFault> {
    let cut = || ImageFault::CutOff { bytes: bytes.len() };
    let broken = |at: usize, what| ImageFault::Broken { at, what };
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes.get(..seen) != SIGNATURE.get(..seen) {
        return Err(ImageFault::Unknown);
    }
    let mut at = SIGNATURE.len();
    let (mut size, mut pixels) = (None, false);
    loop {
        let word =
            |from: usize| -> Option<[u8; 4]> { bytes.get(from..from.checked_add(4)?)?.try_into().ok() };
        let length = u32::from_be_bytes(word(at).ok_or_else(cut)?);
        let length = usize::try_from(length).map_err(|_| broken(at, "chunk is too long"))?;
        if length > 1 << 31 {
            return Err(broken(at, "chunk is too long"));
        }
        let body_at = at.saturating_add(8);
        let body_end = body_at.saturating_add(length);
        let named = bytes.get(at.saturating_add(4)..body_end).ok_or_else(cut)?;
        let (name, body) = named.split_first_chunk::<4>().ok_or_else(cut)?;
        let claimed = u32::from_be_bytes(word(body_end).ok_or_else(cut)?);
        if claimed != crc32(named) {
            return Err(broken(at, "chunk fails its checksum"));
        }
        match (name, size) {
            (b"IHDR", None) => match body {
                [w3, w2, w1, w0, h3, h2, h1, h0, _, _, _, _, _] => {
                    let width = u32::from_be_bytes([*w3, *w2, *w1, *w0]);
                    let height = u32::from_be_bytes([*h3, *h2, *h1, *h0]);
                    if width == 0 || height == 0 {
                        return Err(broken(at, "picture without width or height"));
                    }
                    size = Some((width, height));
                }
                _ => return Err(broken(at, "header chunk has another length than 13")),
            },
            (_, None) => return Err(broken(at, "first chunk is no header")),
            (b"IDAT", _) => pixels = true,
            (b"IEND", Some((width, height))) => {
                return if pixels {
                    Ok(Picture { mime: "image/png", width, height })
                } else {
                    Err(broken(at, "end without pixels"))
                };
            }
            _ => {}
        }
        at = at.saturating_add(CHUNK_FRAME_BYTES).saturating_add(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_pngs() {
        assert_eq!(crc32(b"IEND"), 0xae42_6082);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
