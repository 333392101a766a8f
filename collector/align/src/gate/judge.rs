//! Judges a window by a set of rules.

use super::formula::some;
use super::frame::{Frame, joined};
use super::model::{Limits, Rule, RuleSet, Scope};
use super::rules::{Found, Measure, Scoped, measure};
use super::verdict::{Finding, Policy, Verdict};
use crate::picture::{LumaStats, Picture, PictureError, PictureLimits};
use arrow_array::{Array, RecordBatch};
use arrow_schema::ArrowError;
use headwater_core::id::Sha256;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Offending rows named in an evidence; the count says how many there are.
pub const NAMED_MAX: usize = 5;
/// Devices named in an evidence, the worst first.
pub const DEVICES_NAMED_MAX: usize = 20;
/// Columns named per device.
const COLUMNS_NAMED_MAX: usize = 32;
/// Bytes of a key or a device's name in an evidence: ours are below it, those of a foreign table may be anything.
const NAME_BYTES_MAX: usize = 256;

/// A picture that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Brightness, contrast, sharpness.
    pub stats: LumaStats,
    /// Digest of its brightness plane.
    pub pixels: [u8; 32],
}

/// Decodes a picture and looks at it.
///
/// # Errors
/// As [`Picture::decode`].
pub fn look(bytes: &[u8]) -> Result<Seen, PictureError> {
    let picture = Picture::decode(bytes, PictureLimits::default())?;
    let luma = picture.luma();
    let stats = luma.stats();
    Ok(Seen { width: luma.width, height: luma.height, stats, pixels: Sha256::of(&luma.samples).0 })
}

/// What rules may know beside the rows.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The collector's own UTC, ns.
    pub now_ns: i64,
    /// Which rows are published already, by place; none if nobody knows.
    pub known: Option<&'a [bool]>,
    /// Pictures that were looked at, or why they could not be, by row; none if nobody looked.
    pub looks: Option<&'a BTreeMap<usize, Result<Seen, String>>>,
    /// Boots of the rows, by place, where the table does not name them; none if nobody knows.
    pub boots: Option<&'a [Option<i64>]>,
    /// The same table at other refs, by their names.
    pub references: &'a BTreeMap<String, RecordBatch>,
}

/// Judges rows of one table by the rules of `set`, each for itself.
///
/// # Errors
/// When the batches are not of one schema.
pub fn judge(
    set: &RuleSet,
    batches: &[RecordBatch],
    context: &Context<'_>,
) -> Result<Vec<Finding>, ArrowError> {
    judge_some(set, |_| true, batches, context)
}

/// The same by those rules that `wanted` takes.
///
/// # Errors
/// As [`judge`].
pub fn judge_some(
    set: &RuleSet,
    wanted: impl Fn(&Rule) -> bool,
    batches: &[RecordBatch],
    context: &Context<'_>,
) -> Result<Vec<Finding>, ArrowError> {
    let frame = Frame::new(joined(batches)?);
    let devices = frame.by_device();
    let version = set.id();
    let rules = set.rules.iter().filter(|rule| wanted(rule));
    Ok(rules
        .map(|rule| Finding { version: version.clone(), ..by_rule(set, rule, &frame, &devices, context) })
        .collect())
}

/// One scope's verdict.
struct Scored {
    verdict: Verdict,
    rows: usize,
    offending: Vec<usize>,
    measures: Map<String, Value>,
}

fn by_rule(
    set: &RuleSet,
    rule: &Rule,
    frame: &Frame,
    devices: &BTreeMap<String, Vec<usize>>,
    context: &Context<'_>,
) -> Finding {
    let concerns = |device: &str| rule.devices.is_empty() || rule.devices.iter().any(|of| of.matches(device));
    let named = devices.iter().filter(|(device, _)| concerns(device));
    let scored: Vec<(String, Scored)> = match rule.scope {
        Scope::Device => {
            named.map(|(device, rows)| (device.clone(), score(rule, frame, rows, context))).collect()
        }
        Scope::Window => {
            let mut rows: Vec<usize> = named.flat_map(|(_, rows)| rows.iter().copied()).collect();
            rows.sort_unstable();
            vec![(String::new(), score(rule, frame, &rows, context))]
        }
    };
    let verdict = scored.iter().map(|(_, scored)| scored.verdict).max().unwrap_or(Verdict::Pass);
    let by_device = match rule.scope {
        Scope::Device => scored.iter().map(|(device, scored)| (device.clone(), scored.verdict)).collect(),
        Scope::Window => BTreeMap::new(),
    };
    Finding {
        rule: set.called(rule),
        version: String::new(),
        verdict,
        policy: rule.policy,
        devices: by_device,
        evidence: evidence(rule, frame, scored),
    }
}

fn score(rule: &Rule, frame: &Frame, rows: &[usize], context: &Context<'_>) -> Scored {
    let nothing = |note: String, verdict| Scored {
        verdict,
        rows: rows.len(),
        offending: Vec::new(),
        measures: Map::from_iter([("note".to_owned(), note.into())]),
    };
    let filtered;
    let rows = match &rule.filter {
        None => rows,
        Some(filter) => match some(frame.batch(), rows).map(|batch| filter.evaluate(&batch)) {
            Ok(Ok(meets)) => {
                let met = rows.iter().enumerate().filter(|(at, _)| meets.is_valid(*at) && meets.value(*at));
                filtered = met.map(|(_, row)| *row).collect::<Vec<usize>>();
                &filtered
            }
            Ok(Err(error)) => return nothing(format!("where: {error}"), unjudged(rule)),
            Err(error) => return nothing(format!("where: {error}"), unjudged(rule)),
        },
    };
    let few = (rows.len() as u64) < rule.min_rows;
    let measures = || measure(&rule.check, &Scoped { frame, rows, context });
    if few {
        // A rule that could not look at many rows either says so from the first on.
        let unseen = measures().into_iter().find_map(|measure| match measure.found {
            Found::Unjudged(why) if !rows.is_empty() => Some(why),
            _ => None,
        });
        if let Some(why) = unseen {
            return nothing(why, unjudged(rule));
        }
        return nothing(format!("{} rows, too few to judge: {}", rows.len(), rule.min_rows), Verdict::Pass);
    }
    let mut out =
        Scored { verdict: Verdict::Pass, rows: rows.len(), offending: Vec::new(), measures: Map::new() };
    for found in measures() {
        let verdict = held_against(rule, &found);
        out.verdict = out.verdict.max(verdict);
        let told = told(&found, verdict);
        let label = if found.label.is_empty() { "rows".to_owned() } else { found.label };
        if out.measures.len() < COLUMNS_NAMED_MAX || verdict > Verdict::Pass {
            out.measures.insert(label, told);
        }
        out.offending.extend(found.rows);
    }
    out.offending.sort_unstable();
    out.offending.dedup();
    if rule.policy == Policy::Warn {
        out.verdict = out.verdict.min(Verdict::Warn);
    }
    out
}

/// What cannot be looked at does not pass, but where the rule says that it may be absent.
fn unjudged(rule: &Rule) -> Verdict {
    match (rule.optional, rule.policy) {
        (true, _) => Verdict::Pass,
        (false, Policy::Warn) => Verdict::Warn,
        (false, _) => Verdict::Fail,
    }
}

fn held_against(rule: &Rule, measure: &Measure) -> Verdict {
    match (&measure.found, rule.limits) {
        (Found::Unjudged(_), _) => unjudged(rule),
        (Found::Share { bad, of }, Limits::Share { warn_percent, fail_percent }) => {
            let percent = if *of == 0 { 0.0 } else { *bad as f64 * 100.0 / *of as f64 };
            match () {
                () if percent > fail_percent => Verdict::Fail,
                () if percent > warn_percent => Verdict::Warn,
                () => Verdict::Pass,
            }
        }
        (Found::Value(Some(value)), Limits::Between { warn, fail }) => {
            let outside = |(low, high): (Option<f64>, Option<f64>)| {
                // A NaN is within no bounds.
                low.is_some_and(|low| value.is_nan() || *value < low)
                    || high.is_some_and(|high| value.is_nan() || *value > high)
            };
            match () {
                () if outside(fail) => Verdict::Fail,
                () if outside(warn) => Verdict::Warn,
                () => Verdict::Pass,
            }
        }
        // Too little to measure; or limits of the other kind, which the reader never gives.
        _ => Verdict::Pass,
    }
}

fn told(measure: &Measure, verdict: Verdict) -> Value {
    let mut told = measure.more.clone();
    match &measure.found {
        Found::Share { bad, of } => {
            told.insert("offending".to_owned(), json!(bad));
            told.insert("of".to_owned(), json!(of));
        }
        Found::Value(value) => {
            told.insert("value".to_owned(), json!(value));
        }
        Found::Unjudged(why) => {
            told.insert("not_judged".to_owned(), json!(why));
        }
    }
    if verdict > Verdict::Pass {
        told.insert("verdict".to_owned(), verdict.as_str().into());
    }
    Value::Object(told)
}

/// A name as an evidence holds it.
fn short(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    let ends = name.char_indices().map(|(at, _)| at).take_while(|at| *at <= NAME_BYTES_MAX).last();
    let some = name.get(..ends.unwrap_or(0)).unwrap_or_default();
    format!("{some}… ({} bytes)", name.len())
}

fn evidence(rule: &Rule, frame: &Frame, mut scored: Vec<(String, Scored)>) -> Value {
    let rows: usize = scored.iter().map(|(_, scored)| scored.rows).sum();
    let offending: usize = scored.iter().map(|(_, scored)| scored.offending.len()).sum();
    let keys: Vec<String> = scored
        .iter()
        .flat_map(|(_, scored)| &scored.offending)
        .take(NAMED_MAX)
        .map(|&row| short(&frame.key(row)))
        .collect();
    let mut out = json!({"check": rule.check.name(), "rows": rows, "offending": offending, "row_keys": keys});
    let limits = match rule.limits {
        Limits::Share { warn_percent, fail_percent } => {
            json!({"warn_percent": warn_percent, "fail_percent": fail_percent})
        }
        Limits::Between { warn, fail } => json!({
            "warn_below": warn.0, "warn_above": warn.1, "fail_below": fail.0, "fail_above": fail.1,
        }),
    };
    let all = scored.len();
    // The worst first; sorting is stable, so alike ones stay in the order of their names.
    scored.sort_by_key(|(_, scored)| std::cmp::Reverse(scored.verdict));
    let found: Map<String, Value> = scored
        .into_iter()
        .take(DEVICES_NAMED_MAX)
        .map(|(device, scored)| {
            let mut told =
                json!({"verdict": scored.verdict.as_str(), "rows": scored.rows, "found": scored.measures});
            if !scored.offending.is_empty()
                && let Some(told) = told.as_object_mut()
            {
                let keys: Vec<String> =
                    scored.offending.iter().take(NAMED_MAX).map(|&row| short(&frame.key(row))).collect();
                told.insert("offending".to_owned(), scored.offending.len().into());
                told.insert("row_keys".to_owned(), keys.into());
            }
            (short(&device), told)
        })
        .collect();
    if let Some(out) = out.as_object_mut() {
        out.insert("limits".to_owned(), limits);
        match rule.scope {
            Scope::Device => {
                out.insert("devices".to_owned(), Value::Object(found));
                out.insert("devices_all".to_owned(), all.into());
            }
            Scope::Window => {
                out.extend(found.into_iter().map(|(_, told)| ("window".to_owned(), told)));
            }
        }
    }
    out
}
