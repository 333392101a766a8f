//! How a blob's bytes travel: as they are, in one zstd frame, or as Lepton, which takes a fifth off a JPEG
//! without losing a bit.
//!
//! Whatever the form, digest and length in the object's header are those of the original, so a form that
//! does not give the original back is found out by whoever unpacks it.

use super::object::ObjectError;
use crate::sample::BLOB_BYTES_MAX;
use std::borrow::Cow;

/// Bitmap of the forms this build unpacks (bit n = form n), announced in hello and ack.
pub const BLOB_CODECS_SUPPORTED: u8 = 0b11 | if cfg!(feature = "lepton") { 1 << 2 } else { 0 };
/// The form every reader of version 1 has.
pub const BLOB_CODECS_BASELINE: u8 = 0b1;
/// Largest JPEG that goes through Lepton, bytes: a quarter of a second of one core at either end.
pub const LEPTON_BYTES_MAX: usize = 2 << 20;
/// Widest and highest picture that does: its coefficients take 50 MB unpacked.
pub const LEPTON_PIXELS_MAX: u32 = 4096;
/// zstd level of form 1.
const ZSTD_LEVEL: i32 = 3;
/// A form is worth its time if it leaves at most this share of the original, in 1/64.
const WORTH_64THS: usize = 62;

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlobCodec {
    /// The original bytes.
    Raw,
    /// One zstd frame.
    Zstd,
    /// A Lepton file: the original is a JPEG.
    Lepton,
}

impl BlobCodec {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Lepton => 2,
        }
    }

    pub(super) fn from_code(code: u8) -> Result<Self, ObjectError> {
        match code {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            2 if cfg!(feature = "lepton") => Ok(Self::Lepton),
            code => Err(ObjectError::Codec(code)),
        }
    }

    /// True if a bitmap of forms names this one.
    #[must_use]
    pub fn is_in(self, announced: u8) -> bool {
        announced >> self.code() & 1 == 1
    }

    /// The form made for bytes like these: Lepton for a JPEG it can take, nothing for what is packed
    /// already, zstd for the rest.
    #[must_use]
    pub fn made_for(original: &[u8]) -> Self {
        match original {
            [0xff, 0xd8, 0xff, ..] if original.len() <= LEPTON_BYTES_MAX => Self::Lepton,
            [0xff, 0xd8, 0xff, ..] | [0x89, b'P', b'N', b'G', ..] => Self::Raw,
            _ => Self::Zstd,
        }
    }

    /// The original in this form; `None` if that does not pay, or this form cannot hold it. What is given
    /// out was unpacked again and compared.
    #[must_use]
    pub fn pack(self, original: &[u8]) -> Option<Vec<u8>> {
        let packed = match self {
            Self::Raw => None,
            Self::Zstd => zstd::bulk::compress(original, ZSTD_LEVEL).ok(),
            Self::Lepton => lepton::pack(original),
        }?;
        let pays = packed.len() <= original.len() / 64 * WORTH_64THS;
        let sound = || self.unpack(&packed, original.len() as u64).is_ok_and(|back| *back == *original);
        (pays && sound()).then_some(packed)
    }

    /// The original of `len` bytes.
    pub(super) fn unpack(self, payload: &[u8], len: u64) -> Result<Cow<'_, [u8]>, ObjectError> {
        let expected = usize::try_from(len).ok().filter(|len| *len <= BLOB_BYTES_MAX);
        let too_large = ObjectError::TooLarge { found: len, limit: BLOB_BYTES_MAX as u64 };
        let expected = expected.ok_or(too_large)?;
        let unpacked = match self {
            Self::Raw => return Ok(Cow::Borrowed(payload)),
            Self::Zstd => unpack_zstd(payload, expected),
            Self::Lepton => lepton::unpack(payload, expected),
        };
        unpacked.map(Cow::Owned).ok_or(ObjectError::Digest)
    }
}

/// One frame that says it holds exactly `expected` bytes; only then is room for them taken.
fn unpack_zstd(payload: &[u8], expected: usize) -> Option<Vec<u8>> {
    let claimed = zstd::zstd_safe::get_frame_content_size(payload).ok().flatten()?;
    if claimed != expected as u64 {
        return None;
    }
    #[expect(clippy::disallowed_methods, reason = "bounded: the frame claims what the header does")]
    let bytes = zstd::bulk::decompress(payload, expected).ok()?;
    (bytes.len() == expected).then_some(bytes)
}

#[cfg(feature = "lepton")]
mod lepton {
    //! Lepton by its crate, on the calling thread, within bounds of our own.

    use super::{LEPTON_BYTES_MAX, LEPTON_PIXELS_MAX};
    use lepton_jpeg::{EnabledFeatures, SingleThreadPool, catch_unwind_result, decode_lepton, encode_lepton};
    use std::io::{Cursor, Error, ErrorKind, Result, Write};

    fn features() -> EnabledFeatures {
        let mut features = EnabledFeatures::compat_lepton_vector_write();
        features.max_jpeg_width = LEPTON_PIXELS_MAX;
        features.max_jpeg_height = LEPTON_PIXELS_MAX;
        features.max_jpeg_file_size = u32::try_from(LEPTON_BYTES_MAX).unwrap_or(u32::MAX);
        features.max_partitions = 1;
        features.max_processor_threads = 1;
        features
    }

    pub(super) fn pack(original: &[u8]) -> Option<Vec<u8>> {
        if original.len() > LEPTON_BYTES_MAX {
            return None;
        }
        let pool = SingleThreadPool::default();
        let packed = catch_unwind_result(|| {
            let mut out = Cursor::new(Vec::with_capacity(original.len()));
            encode_lepton(&mut Cursor::new(original), &mut out, &features(), &pool)?;
            Ok(out.into_inner())
        });
        packed.ok()
    }

    pub(super) fn unpack(payload: &[u8], expected: usize) -> Option<Vec<u8>> {
        if expected > LEPTON_BYTES_MAX || payload.len() > expected {
            return None;
        }
        let pool = SingleThreadPool::default();
        let mut out = Bounded { bytes: Vec::with_capacity(expected), bytes_max: expected };
        let done = catch_unwind_result(|| {
            decode_lepton(&mut Cursor::new(payload), &mut out, &features(), &pool).map(|_| ())
        });
        (done.is_ok() && out.bytes.len() == expected).then_some(out.bytes)
    }

    /// Takes no more than it was told to.
    struct Bounded {
        bytes: Vec<u8>,
        bytes_max: usize,
    }

    impl Write for Bounded {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            if self.bytes.len().saturating_add(bytes.len()) > self.bytes_max {
                return Err(Error::from(ErrorKind::StorageFull));
            }
            self.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }
}

#[cfg(not(feature = "lepton"))]
mod lepton {
    //! A build without Lepton neither makes nor reads it.

    pub(super) fn pack(_: &[u8]) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn unpack(_: &[u8], _: usize) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstd_gives_the_original_back_and_is_left_where_it_does_not_pay() {
        let text = b"temperature 21.5 humidity 61.3\n".repeat(300);
        let packed = BlobCodec::Zstd.pack(&text).unwrap();
        assert!(packed.len() < text.len() / 10);
        assert_eq!(BlobCodec::Zstd.unpack(&packed, text.len() as u64).unwrap(), &text[..]);
        assert_eq!(BlobCodec::Zstd.pack(&packed), None, "packed already");
        assert_eq!(BlobCodec::Zstd.pack(b""), None);
    }

    #[test]
    fn a_zstd_bomb_is_refused_before_it_unpacks() {
        let bomb = zstd::bulk::compress(&vec![0; 32 << 20], 3).unwrap();
        assert_eq!(BlobCodec::Zstd.unpack(&bomb, 1000), Err(ObjectError::Digest));
        let huge = (BLOB_BYTES_MAX as u64) + 1;
        assert!(matches!(BlobCodec::Zstd.unpack(&bomb, huge), Err(ObjectError::TooLarge { .. })));
    }

    #[test]
    fn the_form_follows_from_the_first_bytes() {
        assert_eq!(BlobCodec::made_for(&[0xff, 0xd8, 0xff, 0xe0]), BlobCodec::Lepton);
        let large = [&[0xff, 0xd8, 0xff, 0xe0][..], &vec![0; LEPTON_BYTES_MAX]].concat();
        assert_eq!(BlobCodec::made_for(&large), BlobCodec::Raw);
        assert_eq!(BlobCodec::made_for(b"\x89PNG\r\n\x1a\n"), BlobCodec::Raw);
        assert_eq!(BlobCodec::made_for(b"point cloud"), BlobCodec::Zstd);
        assert_eq!(BlobCodec::made_for(b""), BlobCodec::Zstd);
    }
}
