//! What is taken of pictures: size, brightness, sharpness, a hash, a thumbnail.

use super::PictureFeature;
use super::numbers::canonical;
use super::port::Pictures;
use crate::picture::{LumaStats, Picture, PictureLimits};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use jpeg_encoder::{ColorType, Encoder};
use std::cell::OnceCell;
use std::sync::Arc;

/// Suffix of the column that holds an object's digest: the object itself never enters an aligned row.
const DIGEST: &str = "_hash";

/// The column of a recipe's picture: its digests, or bytes a column before this one made.
pub(super) fn column_of<'a>(rows: &'a RecordBatch, column: &str) -> Option<&'a ArrayRef> {
    let found = rows.column_by_name(column).filter(|found| is_picture(found.data_type()));
    found.or_else(|| {
        rows.column_by_name(&format!("{column}{DIGEST}")).filter(|found| is_picture(found.data_type()))
    })
}

/// The name under which `column` is a picture in a schema.
pub(super) fn name_of(schema: &arrow_schema::Schema, column: &str) -> Option<String> {
    let is_there =
        |name: &str| schema.column_with_name(name).is_some_and(|(_, field)| is_picture(field.data_type()));
    [column.to_owned(), format!("{column}{DIGEST}")].into_iter().find(|name| is_there(name))
}

/// Digests as text, or bytes.
fn is_picture(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Binary)
}

/// The type of a feature.
pub(super) fn type_of(feature: &PictureFeature) -> DataType {
    match feature {
        PictureFeature::Width | PictureFeature::Height => DataType::Int32,
        PictureFeature::Brightness | PictureFeature::Contrast | PictureFeature::Sharpness => {
            DataType::Float64
        }
        PictureFeature::Hash => DataType::Utf8,
        PictureFeature::Thumbnail { .. } => DataType::Binary,
    }
}

/// One value of a feature.
enum Taken {
    Size(i32),
    Number(f64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Features of the pictures of a column, each decoded once. Null where there is none, or bytes give no picture within the
/// bounds of [`PictureLimits`]: that a camera's pictures decode is what a gate rule asks.
///
/// # Errors
/// A picture that cannot be read now.
pub(super) fn features(
    column: &ArrayRef,
    features: &[&PictureFeature],
    pictures: &dyn Pictures,
) -> Result<Vec<ArrayRef>, String> {
    let mut taken: Vec<Vec<Option<Taken>>> =
        features.iter().map(|_| Vec::with_capacity(column.len())).collect();
    for row in 0..column.len() {
        let picture = bytes_of(column, row, pictures)?
            .and_then(|bytes| Picture::decode(&bytes, PictureLimits::default()).ok())
            .map(|picture| picture.upright());
        let stats = OnceCell::new();
        for (feature, taken) in features.iter().zip(&mut taken) {
            taken.push(picture.as_ref().and_then(|picture| take(picture, feature, &stats)));
        }
    }
    Ok(features.iter().zip(taken).map(|(feature, taken)| array(feature, taken)).collect())
}

fn bytes_of(column: &ArrayRef, row: usize, pictures: &dyn Pictures) -> Result<Option<Arc<[u8]>>, String> {
    if column.is_null(row) {
        return Ok(None);
    }
    match column.data_type() {
        DataType::Utf8 => pictures.picture(column.as_string::<i32>().value(row)),
        DataType::Binary => Ok(Some(column.as_binary::<i32>().value(row).into())),
        _ => Ok(None),
    }
}

fn array(feature: &PictureFeature, taken: Vec<Option<Taken>>) -> ArrayRef {
    let taken = taken.into_iter();
    match type_of(feature) {
        DataType::Int32 => Arc::new(
            taken.map(|t| if let Some(Taken::Size(n)) = t { Some(n) } else { None }).collect::<Int32Array>(),
        ),
        DataType::Utf8 => Arc::new(
            taken.map(|t| if let Some(Taken::Text(s)) = t { Some(s) } else { None }).collect::<StringArray>(),
        ),
        DataType::Binary => {
            let bytes: Vec<Option<Vec<u8>>> =
                taken.map(|t| if let Some(Taken::Bytes(b)) = t { Some(b) } else { None }).collect();
            Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>())
        }
        _ => Arc::new(
            taken
                .map(|t| if let Some(Taken::Number(x)) = t { Some(canonical(x)) } else { None })
                .collect::<Float64Array>(),
        ),
    }
}

fn take(picture: &Picture, feature: &PictureFeature, stats: &OnceCell<LumaStats>) -> Option<Taken> {
    let stats = || stats.get_or_init(|| picture.luma().stats());
    Some(match feature {
        PictureFeature::Width => Taken::Size(i32::try_from(picture.width).ok()?),
        PictureFeature::Height => Taken::Size(i32::try_from(picture.height).ok()?),
        PictureFeature::Brightness => Taken::Number(stats().mean / 255.0),
        PictureFeature::Contrast => Taken::Number(stats().std / 255.0),
        PictureFeature::Sharpness => Taken::Number(stats().sharpness),
        PictureFeature::Hash => Taken::Text(format!("{:016x}", hash(picture))),
        PictureFeature::Thumbnail { width_max, height_max, quality } => {
            Taken::Bytes(thumbnail(picture, (*width_max, *height_max), *quality)?)
        }
    })
}

/// Difference hash (N. Krawetz, 2013): brightness on a grid of 9 by 8, a bit where a cell is brighter than the one to its
/// right, rows from the top, the first bit the highest. Pictures that look alike differ in few bits.
fn hash(picture: &Picture) -> u64 {
    let luma = picture.luma();
    let grid = resized(&luma.samples, (luma.width, luma.height), 1, (9, 8));
    let bits = grid.chunks_exact(9).flat_map(|row| row.windows(2)).map(|two| matches!(two, [a, b] if a > b));
    bits.fold(0, |hash, bit| hash << 1 | u64::from(bit))
}

/// A JPEG within the bounds, in the picture's proportions, never larger than it.
fn thumbnail(picture: &Picture, bounds: (u16, u16), quality: u8) -> Option<Vec<u8>> {
    let (width, height) = fitted((picture.width, picture.height), bounds);
    let samples = resized(
        &picture.samples,
        (picture.width, picture.height),
        picture.channels,
        (width.into(), height.into()),
    );
    let colour = if picture.channels == 1 { ColorType::Luma } else { ColorType::Rgb };
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, quality).encode(&samples, width, height, colour).ok()?;
    Some(jpeg)
}

/// The largest size within the bounds, in the proportions of `size`; at least one pixel either way.
fn fitted(size: (u32, u32), bounds: (u16, u16)) -> (u16, u16) {
    let (wide, high) = (u64::from(size.0), u64::from(size.1));
    let (width_max, height_max) = (u64::from(bounds.0).min(wide), u64::from(bounds.1).min(high));
    let by_height = wide * height_max > high * width_max;
    let (width, height) = match by_height {
        true => (width_max, (high * width_max + wide / 2) / wide.max(1)),
        false => ((wide * height_max + high / 2) / high.max(1), height_max),
    };
    let within = |side: u64, most: u64| u16::try_from(side.clamp(1, most.max(1))).unwrap_or(u16::MAX);
    (within(width, width_max), within(height, height_max))
}

/// Each pixel the mean of the area it covers, in integers and rounded once: every machine agrees (L2).
fn resized(samples: &[u8], from: (u32, u32), channels: u8, to: (u32, u32)) -> Vec<u8> {
    let (columns, rows) = (shares(from.0, to.0), shares(from.1, to.1));
    let channels = usize::from(channels.max(1));
    let stride = from.0 as usize * channels;
    let area = u64::from(from.0) * u64::from(from.1);
    let mut out = Vec::with_capacity(columns.len() * rows.len() * channels);
    for tall in &rows {
        let mut sums = vec![0_u64; columns.len() * channels];
        for (y, weight) in tall {
            let row = samples.get(y * stride..(y + 1) * stride).unwrap_or_default();
            for (wide, sums) in columns.iter().zip(sums.chunks_exact_mut(channels)) {
                for (x, share) in wide {
                    let pixel = row.get(x * channels..(x + 1) * channels).unwrap_or_default();
                    for (sum, sample) in sums.iter_mut().zip(pixel) {
                        *sum += weight * share * u64::from(*sample);
                    }
                }
            }
        }
        out.extend(sums.iter().map(|sum| u8::try_from((sum + area / 2) / area.max(1)).unwrap_or(u8::MAX)));
    }
    out
}

/// Of every target pixel the source pixels it covers, and how much of each, in units of 1 / `to`; the units of one target
/// pixel add up to `from`.
fn shares(from: u32, to: u32) -> Vec<Vec<(usize, u64)>> {
    let (from, to) = (u64::from(from), u64::from(to));
    let of = |target: u64| {
        let (start, end) = (target * from, (target + 1) * from);
        let covered = (start / to)..end.div_ceil(to);
        let share = move |source: u64| (end.min((source + 1) * to)) - (start.max(source * to));
        covered.filter_map(|source| Some((usize::try_from(source).ok()?, share(source)))).collect()
    };
    (0..to).map(of).collect()
}

#[cfg(test)]
mod tests;
