//! Small previews of pictures: a link that is paid for can show what a camera sees before, or instead of, the frames.

use super::frame_stamp::FrameTime;
use super::image::{Picture, reading};
use headwater_core::sample::Reading;
use jpeg_decoder::{Decoder, PixelFormat};
use jpeg_encoder::{ColorType, Encoder};

/// Pixels a side of pictures that are looked at: 64 MPixel, far above what cameras on gateways give.
const SIDE_MAX: u16 = 8_192;
/// Bytes of pixels unpacked for one preview: the frame is unpacked at an eighth to a half of its size.
const PIXEL_BYTES_MAX: usize = 16 << 20;
/// Good enough to see what there is; some 3 to 6 kB at 160 pixels.
const QUALITY: u8 = 60;

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreviewError {
    /// Not a JPEG this decoder takes.
    #[error("picture cannot be unpacked")]
    Decode(#[from] jpeg_decoder::Error),
    /// Larger than is looked at, or of another colour space.
    #[error("picture of {width} x {height} pixels in {format} gives no preview")]
    Unsupported {
        /// Width.
        width: u16,
        /// Height.
        height: u16,
        /// Pixel format.
        format: String,
    },
    /// The small picture could not be packed.
    #[error("preview cannot be packed")]
    Encode(#[from] jpeg_encoder::EncodingError),
}

/// A JPEG of at most `side` pixels a side, and the size it has.
///
/// # Errors
/// [`PreviewError`]; the picture itself is not affected.
pub fn preview(jpeg: &[u8], side: u16) -> Result<(Picture, Vec<u8>), PreviewError> {
    let mut decoder = Decoder::new(jpeg);
    decoder.set_max_decoding_buffer_size(PIXEL_BYTES_MAX);
    decoder.read_info()?;
    let unsupported =
        |width, height, format: &str| PreviewError::Unsupported { width, height, format: format.into() };
    let whole = decoder.info().ok_or_else(|| unsupported(0, 0, "nothing"))?;
    let (width, height) = (whole.width, whole.height);
    let channels = match whole.pixel_format {
        PixelFormat::L8 => 1,
        PixelFormat::RGB24 => 3,
        other => return Err(unsupported(width, height, &format!("{other:?}"))),
    };
    if width.max(height) > SIDE_MAX || width == 0 || height == 0 {
        return Err(unsupported(width, height, "a size out of bounds"));
    }
    let to = fitted(width, height, side);
    // The transform itself gives an eighth, a quarter or a half for less work than the whole.
    let from = decoder.scale(to.0, to.1)?;
    let pixels = decoder.decode()?;
    let small = shrink(&pixels, from, to, channels);
    let mut out = Vec::new();
    let colour = if channels == 1 { ColorType::Luma } else { ColorType::Rgb };
    Encoder::new(&mut out, QUALITY).encode(&small, to.0, to.1, colour)?;
    Ok((Picture { mime: "image/jpeg", width: to.0.into(), height: to.1.into() }, out))
}

/// The reading of a preview: captured when its frame was.
///
/// # Errors
/// [`PreviewError`] of a frame that gives none.
pub fn preview_of(frame: &Reading, side: u16) -> Result<Reading, PreviewError> {
    let bytes = frame.blob.as_ref().map_or(&[][..], |blob| &blob.bytes);
    let (picture, small) = preview(bytes, side)?;
    let time = FrameTime { t: frame.t, latency: frame.latency, kind: frame.kind };
    let made = reading(&picture, small, None, time);
    Ok(Reading { domain: frame.domain, ..made })
}

/// Both sides, the longer one at most `side`.
fn fitted(width: u16, height: u16, side: u16) -> (u16, u16) {
    let longer = width.max(height).max(1);
    let side = side.min(longer);
    let of = |n: u16| {
        let scaled = u32::from(n).saturating_mul(side.into()) / u32::from(longer);
        u16::try_from(scaled).unwrap_or(side).max(1)
    };
    (of(width), of(height))
}

/// Averages of the boxes of pixels that fall on each small pixel.
fn shrink(pixels: &[u8], from: (u16, u16), to: (u16, u16), channels: usize) -> Vec<u8> {
    let wide = usize::from(from.0);
    let span = |at: u16, small: u16, large: u16| {
        let edge =
            |at: u32| usize::try_from(at.saturating_mul(large.into()) / u32::from(small.max(1))).unwrap_or(0);
        let (start, end) = (edge(at.into()), edge(u32::from(at).saturating_add(1)));
        start..end.max(start.saturating_add(1))
    };
    let mut out = Vec::with_capacity(usize::from(to.0).saturating_mul(to.1.into()).saturating_mul(channels));
    for y in 0..to.1 {
        for x in 0..to.0 {
            for channel in 0..channels {
                let (mut sum, mut count) = (0_u32, 0_u32);
                for row in span(y, to.1, from.1) {
                    for column in span(x, to.0, from.0) {
                        let at = row.saturating_mul(wide).saturating_add(column).saturating_mul(channels);
                        if let Some(value) = pixels.get(at.saturating_add(channel)) {
                            sum = sum.saturating_add((*value).into());
                            count = count.saturating_add(1);
                        }
                    }
                }
                out.push(u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::image::check;
    use headwater_core::time::{BootNanos, Latency, StampKind};

    /// A frame of two halves, dark and bright.
    fn frame(width: u16, height: u16, colour: ColorType, channels: usize) -> Vec<u8> {
        let mut pixels = Vec::new();
        for _ in 0..height {
            for x in 0..width {
                pixels.extend(std::iter::repeat_n(if x < width / 2 { 20 } else { 220 }, channels));
            }
        }
        let mut out = Vec::new();
        Encoder::new(&mut out, 90).encode(&pixels, width, height, colour).unwrap();
        out
    }

    #[test]
    fn a_preview_is_small_whole_and_shows_the_same() {
        for (width, height, colour, channels) in
            [(640, 480, ColorType::Rgb, 3), (481, 1_203, ColorType::Luma, 1), (100, 60, ColorType::Rgb, 3)]
        {
            let (picture, jpeg) = preview(&frame(width, height, colour, channels), 160).unwrap();
            assert_eq!(picture.width.max(picture.height), u32::from(width.max(height).min(160)));
            assert_eq!(check(&jpeg).unwrap(), picture);
            let mut decoder = Decoder::new(jpeg.as_slice());
            let pixels = decoder.decode().unwrap();
            let wide = picture.width as usize * channels;
            let row = &pixels[wide * (picture.height as usize / 2)..][..wide];
            assert!(row[..wide / 3].iter().all(|p| *p < 60) && row[2 * wide / 3..].iter().all(|p| *p > 180));
        }
    }

    #[test]
    fn what_is_no_frame_gives_none() {
        let whole = frame(64, 64, ColorType::Rgb, 3);
        assert!(preview(b"", 160).is_err());
        assert!(preview(b"\x89PNG\r\n", 160).is_err());
        for cut in [2, 20, whole.len() / 2] {
            // Cut pictures were set aside before; they may give an error here, never a panic.
            drop(preview(&whole[..cut], 160));
        }
        let cmyk = frame(32, 32, ColorType::Cmyk, 4);
        assert!(matches!(preview(&cmyk, 160), Err(PreviewError::Unsupported { .. })));
    }

    #[test]
    fn it_is_captured_when_its_frame_was() {
        let bytes = frame(320, 200, ColorType::Rgb, 3);
        let picture = check(&bytes).unwrap();
        let time =
            FrameTime { t: BootNanos(77), latency: Latency::at_most_ms(9), kind: StampKind::ExposureMid };
        let of = reading(&picture, bytes, Some("a.jpg".into()), time);
        let small = preview_of(&of, 64).unwrap();
        assert_eq!((small.t, small.latency, small.kind), (of.t, of.latency, of.kind));
        assert!(small.blob.unwrap().bytes.len() < of.blob.unwrap().bytes.len());
    }
}
