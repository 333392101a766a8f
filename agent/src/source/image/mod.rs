//! Whether bytes are a whole picture, judged by their structure; pixels are not decoded.
//!
//! A picture that was cut off by a power loss, a full disk or a dying camera is found here, before it
//! is stored and shipped as if it were one.

mod jpeg;
mod mjpeg;
mod png;

pub use jpeg::{JpegWalk, Walked};
pub use mjpeg::{IMAGE_BYTES_MAX, Mjpeg, MjpegEvent};

use super::frame_stamp::FrameTime;
use headwater_core::sample::{Blob, BlobRef, Reading, Value};
use headwater_core::time::ClockDomain;

/// A whole picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// `image/jpeg` or `image/png`.
    pub mime: &'static str,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
}

/// Why bytes are no whole picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// No bytes at all.
    #[error("picture is empty")]
    Empty,
    /// Neither JPEG nor PNG.
    #[error("picture is neither jpeg nor png")]
    Unknown,
    /// It ends before its end.
    #[error("picture is cut off after {bytes} bytes")]
    CutOff {
        /// Bytes there are.
        bytes: usize,
    },
    /// Its structure is broken.
    #[error("picture is broken at byte {at}: {what}")]
    Broken {
        /// Where.
        at: usize,
        /// What.
        what: &'static str,
    },
}

/// Judges `bytes`.
///
/// # Errors
/// [`ImageFault`] for the first thing that is wrong.
pub fn check(bytes: &[u8]) -> Result<Picture, ImageFault> {
    match bytes {
        [] => Err(ImageFault::Empty),
        [0xff, 0xd8, ..] => jpeg::check(bytes),
        [0x89, b'P', ..] => png::check(bytes),
        // The first byte of either, and nothing more.
        [0xff] | [0x89] => Err(ImageFault::CutOff { bytes: 1 }),
        _ => Err(ImageFault::Unknown),
    }
}

/// The reading of a picture that was taken at `time`.
#[must_use]
pub fn reading(picture: &Picture, bytes: Vec<u8>, name: Option<String>, time: FrameTime) -> Reading {
    let values = vec![
        BlobRef::to(&bytes).to_value(),
        Value::Utf8(picture.mime.to_owned()),
        Value::I64(picture.width.into()),
        Value::I64(picture.height.into()),
        name.map_or(Value::Null, Value::Utf8),
    ];
    let blob = Some(Blob { mime: picture.mime.to_owned(), bytes: bytes.into() });
    let FrameTime { t, latency, kind } = time;
    Reading { t, latency, kind, domain: ClockDomain::BOOT, values, blob }
}

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
pub(crate) use samples::jpeg as small_jpeg;
#[cfg(test)]
mod tests;
