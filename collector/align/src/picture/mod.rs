//! Pictures, decoded within bounds: what a camera sent is as untrusted as anything else that comes in.
//!
//! A few bytes can claim a picture of gigapixels, or a progressive JPEG with a hundred thousand passes over it. Size and
//! passes are read from the headers and held against [`PictureLimits`] before anything is decoded, and whatever is wrong is
//! a [`PictureError`], never a panic.

mod exif;
mod luma;
mod passes;
#[cfg(test)]
mod tests;

pub use exif::Orientation;
pub use luma::{Luma, LumaStats};

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Default of [`PictureLimits::bytes_max`]: 16 MiB, four times what is kept inside a row.
pub const PICTURE_BYTES_MAX: usize = 16 << 20;
/// Default of [`PictureLimits::pixels_max`]: 2^25, just above 8K UHD (33.2 Mpx). A progressive JPEG of that size takes about
/// 300 MB while it is decoded, any other about 100 MB.
pub const PICTURE_PIXELS_MAX: u64 = 1 << 25;
/// Scans of a JPEG: ordinary progressive ones have about ten, and each is a pass over the whole picture.
pub const JPEG_SCANS_MAX: usize = 100;

/// What may be decoded at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureLimits {
    /// Bytes as stored.
    pub bytes_max: usize,
    /// Width times height.
    pub pixels_max: u64,
}

impl Default for PictureLimits {
    fn default() -> Self {
        Self { bytes_max: PICTURE_BYTES_MAX, pixels_max: PICTURE_PIXELS_MAX }
    }
}

/// Why bytes gave no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// Neither JPEG nor PNG.
    #[error("bytes are neither JPEG nor PNG: they begin with {0}")]
    Form(String),
    /// Too many bytes.
    #[error("picture of {bytes} bytes is above the {bytes_max} that are decoded")]
    TooLong {
        /// Found.
        bytes: usize,
        /// Allowed.
        bytes_max: usize,
    },
    /// Too many pixels, or none.
    #[error("picture claims {width} x {height} pixels, where 1 to {pixels_max} in all are decoded")]
    Size {
        /// Claimed, pixels.
        width: u32,
        /// Claimed, pixels.
        height: u32,
        /// Allowed.
        pixels_max: u64,
    },
    /// A JPEG that would be passed over again and again.
    #[error("picture has more than {JPEG_SCANS_MAX} scans")]
    Scans,
    /// A header or data that do not hold.
    #[error("picture is broken: {0}")]
    Broken(String),
    /// A form of JPEG that is not decoded: arithmetic coding, 12 bits lossy, hierarchical.
    #[error("picture is of a form that is not decoded: {0}")]
    Unsupported(String),
}

/// A decoded picture: 8 bits a sample, rows from the top, as stored (not turned by its orientation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row, > 0.
    pub width: u32,
    /// Rows, > 0.
    pub height: u32,
    /// Samples a pixel: 1 (grey) or 3 (red, green, blue).
    pub channels: u8,
    /// `width * height * channels` samples.
    pub samples: Vec<u8>,
    /// How it is to be turned to stand upright.
    pub orientation: Orientation,
}

impl Picture {
    /// Decodes a JPEG or PNG. An alpha channel is left out, 16 bits become the upper 8, CMYK becomes RGB.
    ///
    /// # Errors
    /// When it is none, is broken, or beyond `limits`.
    pub fn decode(bytes: &[u8], limits: PictureLimits) -> Result<Self, PictureError> {
        if bytes.len() > limits.bytes_max {
            return Err(PictureError::TooLong { bytes: bytes.len(), bytes_max: limits.bytes_max });
        }
        // The decoders are not ours: a panic of theirs is a broken picture, too.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            if bytes.starts_with(&[0xff, 0xd8]) {
                jpeg(bytes, limits)
            } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
                png(bytes, limits)
            } else {
                let head: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
                Err(PictureError::Form(if head.is_empty() { "nothing".to_owned() } else { head.join(" ") }))
            }
        }));
        let picture = decoded.unwrap_or_else(|_| Err(broken("its decoder broke down")))?;
        let samples = u64::from(picture.width) * u64::from(picture.height) * u64::from(picture.channels);
        match samples == picture.samples.len() as u64 {
            true => Ok(picture),
            false => Err(broken(format!("{} samples where {samples} belong", picture.samples.len()))),
        }
    }

    /// The brightness plane.
    #[must_use]
    pub fn luma(&self) -> Luma {
        Luma::of(self)
    }

    /// The same picture as it stands upright.
    #[must_use]
    pub fn upright(&self) -> Self {
        let (width, height) = (self.width as usize, self.height as usize);
        let channels = usize::from(self.channels);
        let swaps = self.orientation.swaps();
        let (wide, high) = if swaps { (height, width) } else { (width, height) };
        let mut samples = Vec::with_capacity(self.samples.len());
        for y in 0..high {
            for x in 0..wide {
                let (from_x, from_y) = self.orientation.source(x, y, width, height);
                let at = (from_y * width + from_x) * channels;
                samples.extend_from_slice(self.samples.get(at..at + channels).unwrap_or_default());
            }
        }
        let (width, height) = if swaps { (self.height, self.width) } else { (self.width, self.height) };
        Self { width, height, channels: self.channels, samples, orientation: Orientation::Upright }
    }
}

fn broken(why: impl Into<String>) -> PictureError {
    PictureError::Broken(why.into())
}

fn sized(width: u32, height: u32, limits: PictureLimits) -> Result<usize, PictureError> {
    let pixels = u64::from(width) * u64::from(height);
    match usize::try_from(pixels) {
        Ok(count) if (1..=limits.pixels_max).contains(&pixels) => Ok(count),
        _ => Err(PictureError::Size { width, height, pixels_max: limits.pixels_max }),
    }
}

fn jpeg(bytes: &[u8], limits: PictureLimits) -> Result<Picture, PictureError> {
    use jpeg_decoder::{Decoder, Error, PixelFormat};
    let of = |error| match error {
        Error::Unsupported(feature) => PictureError::Unsupported(format!("{feature:?}")),
        Error::Format(why) => broken(why),
        other => broken(other.to_string()),
    };
    if !passes::within(bytes, JPEG_SCANS_MAX) {
        return Err(PictureError::Scans);
    }
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.read_info().map_err(of)?;
    let info = decoder.info().ok_or_else(|| broken("it has no frame header"))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let pixels = sized(width, height, limits)?;
    // Four samples a pixel in two bytes each are the most it works with.
    decoder.set_max_decoding_buffer_size(pixels.saturating_mul(8));
    let raw = decoder.decode().map_err(of)?;
    let orientation = decoder.exif_data().map_or(Orientation::Upright, Orientation::of_exif);
    let (channels, samples) = match info.pixel_format {
        PixelFormat::L8 => (1, raw),
        // In the byte order of this machine, as the decoder writes them.
        PixelFormat::L16 => {
            let upper = |two: &[u8]| two.try_into().map_or(0, |two| u16::from_ne_bytes(two).to_be_bytes()[0]);
            (1, raw.chunks_exact(2).map(upper).collect())
        }
        PixelFormat::RGB24 => (3, raw),
        PixelFormat::CMYK32 => (3, raw.chunks_exact(4).flat_map(rgb_of_cmyk).collect()),
    };
    Ok(Picture { width, height, channels, samples, orientation })
}

/// Ink to light, as the decoder gives it: 0 is no ink.
fn rgb_of_cmyk(ink: &[u8]) -> [u8; 3] {
    let at = |place: usize| 255 - u16::from(ink.get(place).copied().unwrap_or(0));
    let light = |place| u8::try_from(at(place) * at(3) / 255).unwrap_or(u8::MAX);
    [light(0), light(1), light(2)]
}

fn png(bytes: &[u8], limits: PictureLimits) -> Result<Picture, PictureError> {
    use png::{ColorType, Decoder, DecodingError, Limits, Transformations};
    let of = |error: DecodingError| broken(error.to_string());
    // Header chunks only: rows are bounded by the pixels. 1 MiB of text and profiles is plenty.
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: 1 << 20 });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(of)?;
    let (width, height) = (header.width, header.height);
    let pixels = sized(width, height, limits)?;
    // A row, its predecessor and the window of the inflater come on top.
    decoder.set_limits(Limits { bytes: pixels.saturating_mul(8).saturating_add(1 << 20) });
    let mut reader = decoder.read_info().map_err(of)?;
    let size = reader.output_buffer_size().ok_or_else(|| broken("its rows are too long"))?;
    let mut raw = vec![0; size];
    let frame = reader.next_frame(&mut raw).map_err(of)?;
    raw.truncate(frame.buffer_size());
    let orientation =
        reader.info().exif_metadata.as_deref().map_or(Orientation::Upright, Orientation::of_exif);
    let (channels, samples) = match frame.color_type {
        ColorType::Grayscale => (1, raw),
        ColorType::GrayscaleAlpha => {
            (1, raw.chunks_exact(2).filter_map(|two| two.first().copied()).collect())
        }
        ColorType::Rgb => (3, raw),
        ColorType::Rgba => {
            (3, raw.chunks_exact(4).filter_map(|four| four.get(..3)).flatten().copied().collect())
        }
        ColorType::Indexed => return Err(broken("its palette is missing")),
    };
    Ok(Picture { width, height, channels, samples, orientation })
}
