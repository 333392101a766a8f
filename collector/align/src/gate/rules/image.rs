//! Pictures: what rows say of them, and what was seen of some.

use super::series::runs;
use super::{ImageLimits, Measure, Scoped};
use crate::gate::frame::Column;
use serde_json::{Value, json};

/// The picture's digest: `<column>_hash` of an aligned table, `hash` or the text itself of another.
fn digest(at: &Scoped<'_>, column: &str) -> Option<Column> {
    let text = |name: &str| at.frame.column(name).ok().filter(|column| matches!(column, Column::Text(_)));
    text(&format!("{column}_hash")).or_else(|| text(column)).or_else(|| text("hash"))
}

/// The size as the rows say it: `width` beside `image`, `cam_width` beside `cam_image`.
fn size(at: &Scoped<'_>, column: &str, name: &str) -> Option<Column> {
    let prefix = column.strip_suffix("image").unwrap_or_default();
    at.frame.column(&format!("{prefix}{name}")).ok()
}

/// Rows without a picture or with an impossible size offend; of those looked at, pictures that do not decode, are of
/// another size than their rows say, or not as they should be. With `limits` the share is of those looked at.
pub(super) fn image(at: &Scoped<'_>, column: &str, limits: Option<&ImageLimits>) -> Measure {
    let (digest, sizes) = (digest(at, column), ["width", "height"].map(|name| size(at, column, name)));
    let Some(limits) = limits else {
        let is_bad = |row: &usize| {
            let is_empty = |size: &Option<Column>| {
                size.as_ref().is_some_and(|size| size.number(*row).is_none_or(|size| size <= 0.0))
            };
            digest.as_ref().is_some_and(|digest| digest.is_null(*row)) || sizes.iter().any(is_empty)
        };
        return Measure::share("", at.rows.iter().copied().filter(is_bad).collect(), at.rows.len());
    };
    let Some(looks) = at.context.looks else {
        return Measure::value("", None).with("note", "no pictures were looked at");
    };
    let (mut offending, mut seen, mut why) = (Vec::new(), 0_usize, Vec::new());
    for (&row, look) in looks.iter().filter(|(row, _)| at.rows.binary_search(row).is_ok()) {
        seen += 1;
        let told = sizes.each_ref().map(|size| size.as_ref().and_then(|size| size.number(row)));
        let found = match look {
            Err(error) => Some(json!(error)),
            Ok(look) => wrong(look, limits, told),
        };
        if let Some(found) = found {
            offending.push(row);
            why.push(found);
        }
    }
    why.truncate(super::super::judge::NAMED_MAX);
    Measure::share("", offending, seen).with("looked_at", seen).with("why", Value::Array(why))
}

fn wrong(look: &crate::gate::judge::Seen, limits: &ImageLimits, told: [Option<f64>; 2]) -> Option<Value> {
    let stats = look.stats;
    let (width, height) = (f64::from(look.width), f64::from(look.height));
    let is_other = told[0].is_some_and(|told| told != width) || told[1].is_some_and(|told| told != height);
    let word = if is_other {
        "of another size than its row says"
    } else if stats.mean < limits.min_brightness {
        "too dark"
    } else if stats.mean > limits.max_brightness {
        "too bright"
    } else if stats.std < limits.min_contrast {
        "without contrast"
    } else if stats.sharpness < limits.min_sharpness {
        "not sharp"
    } else {
        return None;
    };
    Some(json!({
        "why": word, "width": look.width, "height": look.height,
        "brightness": stats.mean, "contrast": stats.std, "sharpness": stats.sharpness,
    }))
}

/// By the digest of what is stored, and where pictures were looked at by that of their pixels: a camera that encodes one
/// frame again and again with other headers is frozen, too.
pub(super) fn frozen(at: &Scoped<'_>, column: &str, rows: u64) -> Measure {
    let Some(digest) = digest(at, column) else {
        let wanted = format!("there is no column {column}_hash, {column} or hash of text");
        return Measure::unjudged("", wanted);
    };
    let lines = at.frame.lines(at.rows);
    let (mut offending, longest) = runs(&lines, rows, |row| digest.text(row).map(str::to_owned));
    if let Some(looks) = at.context.looks {
        let seen = |row: &usize| looks.get(row).and_then(|look| look.as_ref().ok());
        let looked_at: Vec<Vec<usize>> = lines
            .iter()
            .map(|line| line.iter().copied().filter(|row| seen(row).is_some()).collect())
            .collect();
        let (alike, _) = runs(&looked_at, rows, |row| seen(&row).map(|look| look.pixels));
        offending.extend(alike);
        offending.sort_unstable();
        offending.dedup();
    }
    Measure::share("", offending, at.rows.len()).with("longest", longest)
}
