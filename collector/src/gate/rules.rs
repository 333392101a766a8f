//! The rules: shape, time, bound, picture, duplicates, coverage of the columns, gaps, provisional rows.

use super::settings::GateLimits;
use crate::align::aligner::Aligner;
use crate::align::buffer::Place;
use crate::align::window::{AlignedRow, AlignedWindow};
use crate::commit::cells::Cell;
use crate::commit::read::ScannedRows;
use headwater_align::engine::flag;
use headwater_core::id::Sha256;
use headwater_core::time::{Grade, NS_PER_S, UtcNanos};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Version of the rules; part of every verdict.
pub const GATE_VERSION: &str = "2";
/// 2020-01-01T00:00:00Z: no gateway of ours captured before it.
const EARLIEST_NS: i64 = 1_577_836_800 * NS_PER_S;
/// A resolved time this far beyond the collector's own is wrong whatever its bound says: a day.
const AHEAD_NS_MAX: i64 = 86_400 * NS_PER_S;
/// Offending rows named in an evidence; the count says how many there are.
const NAMED_MAX: usize = 5;

/// What a rule found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing to say.
    Pass,
    /// Published, but somebody should look.
    Warn,
    /// Not published.
    Fail,
}

impl Verdict {
    /// Name in `ops.verdicts`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One rule's verdict with its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The rule or hook.
    pub gate: Cow<'static, str>,
    /// What it found.
    pub verdict: Verdict,
    /// The numbers behind it.
    pub evidence: Value,
}

impl Judged {
    /// Hex SHA-256 of the evidence as stored.
    #[must_use]
    pub fn evidence_digest(&self) -> String {
        Sha256::of(self.evidence.to_string().as_bytes()).to_string()
    }
}

/// The worst of several verdicts.
#[must_use]
pub fn worst(judged: &[Judged]) -> Verdict {
    judged.iter().map(|judged| judged.verdict).max().unwrap_or(Verdict::Pass)
}

/// Judges a window before it is published; `now` is the collector's UTC.
#[must_use]
pub fn judge(aligner: &Aligner, window: &AlignedWindow, now: UtcNanos, limits: &GateLimits) -> Vec<Judged> {
    let rows = &rows_of(window);
    let shape = offenders(rows, |row| row.values.is_some());
    let bound = offenders(rows, |row| {
        row.at.err_ns >= 0 && (row.at.grade == Grade::OrderingOnly || row.at.err_ns < i64::MAX)
    });
    let range = offenders(rows, |row| {
        let ahead = now.0.saturating_add(AHEAD_NS_MAX).saturating_add(row.at.err_ns);
        (EARLIEST_NS..=ahead).contains(&row.at.ts_ns)
    });
    let spine = aligner.recipe().spine.source.select();
    let named = |name: &'static str, column: &'static str| {
        spine.iter().any(|field| field.as_str() == name).then_some(column)
    };
    let sizes = [named("width", "width"), named("height", "height")];
    let image = named("image", "image_hash");
    let picture = offenders(rows, |row| {
        let cell = |column: &str| row.values.map_or(Cell::Null, |(rows, at)| rows.cell(column, at));
        let positive = |column: &&str| !matches!(cell(column), Cell::Long(..=0) | Cell::Null);
        sizes.iter().flatten().all(positive) && image.is_none_or(|image| cell(image) != Cell::Null)
    });
    let mut seen = BTreeSet::new();
    let twice = offenders(rows, |row| {
        seen.insert((&row.at.device, &row.at.row_key)) && !aligner.is_settled(&row.at.key, row.at.seq)
    });
    let provisional = offenders(rows, |row| !row.at.provisional);
    vec![
        judged("schema", Verdict::Fail, rows.len(), &shape),
        judged("time_range", Verdict::Fail, rows.len(), &range),
        judged("time_order", Verdict::Fail, rows.len(), &out_of_order(rows)),
        judged("error_bound", Verdict::Fail, rows.len(), &bound),
        judged("image_whole", Verdict::Fail, rows.len(), &picture),
        judged("duplicates", Verdict::Fail, rows.len(), &twice),
        judged("provisional", Verdict::Warn, rows.len(), &provisional),
        share(
            "modality_coverage",
            aligner,
            rows,
            (limits.unmatched_warn_percent, limits.unmatched_fail_percent),
            |flag, named| !named || flag & NO_MATCH != 0,
        ),
        share("gap_ratio", aligner, rows, (limits.gap_warn_percent, limits.gap_fail_percent), |flag, _| {
            flag & i64::from(flag::GAP_INSIDE) != 0
        }),
    ]
}

/// Flags of a source that gave no value.
const NO_MATCH: i64 = (flag::NONE | flag::BEYOND | flag::GAP_WIDE) as i64;

/// A row with its values.
struct Row<'a> {
    at: &'a AlignedRow,
    /// None if it has none, which only a bug brings about.
    values: Option<(ScannedRows<'a>, usize)>,
}

fn rows_of(window: &AlignedWindow) -> Vec<Row<'_>> {
    let values =
        window.batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| (ScannedRows(batch), at)));
    let mut values = values.fuse();
    window.rows.iter().map(|at| Row { at, values: values.next() }).collect()
}

/// How many rows each column of the recipe fails in some way, against the limits for a warning and for a fail, percent.
/// `is_bad` is given the flags, and whether there is a source.
fn share(
    gate: &'static str,
    aligner: &Aligner,
    rows: &[Row<'_>],
    (warn, fail): (u64, u64),
    is_bad: impl Fn(i64, bool) -> bool,
) -> Judged {
    let mut verdict = Verdict::Pass;
    let mut columns = serde_json::Map::new();
    for column in &aligner.recipe().columns {
        let name = format!("{}_src", column.name);
        let member = |row: &Row<'_>, member| {
            row.values.map_or(Cell::Null, |(rows, at)| rows.member(&name, member, at))
        };
        let bad = rows.iter().filter(|row| {
            let flag = match member(row, "flag") {
                Cell::Long(flag) => flag,
                _ => 0,
            };
            is_bad(flag, member(row, "seq_lo") != Cell::Null)
        });
        let (bad, all) = (bad.count() as u64, rows.len() as u64);
        let above = |percent: u64| bad.saturating_mul(100) > all.saturating_mul(percent);
        let found = match (above(fail), above(warn)) {
            (true, _) => Verdict::Fail,
            (false, true) => Verdict::Warn,
            (false, false) => Verdict::Pass,
        };
        verdict = verdict.max(found);
        columns.insert(column.name.to_string(), bad.into());
    }
    let evidence =
        json!({"rows": rows.len(), "columns": columns, "warn_percent": warn, "fail_percent": fail});
    Judged { gate: gate.into(), verdict, evidence }
}

fn offenders<'a>(rows: &'a [Row<'a>], mut is_good: impl FnMut(&'a Row<'a>) -> bool) -> Vec<String> {
    rows.iter().filter(|row| !is_good(row)).map(|row| row.at.row_key.clone()).collect()
}

/// Rows whose interval lies wholly before that of an earlier sample of their boot. Middles may cross: two commits may
/// know the clock differently well.
fn out_of_order(rows: &[Row<'_>]) -> Vec<String> {
    let mut boots: BTreeMap<_, Vec<(Place, &AlignedRow)>> = BTreeMap::new();
    for row in rows.iter().map(|row| row.at) {
        if let Some(place) = row.place {
            boots.entry((&row.key, place.boot)).or_default().push((place, row));
        }
    }
    let mut found = Vec::new();
    for mut rows in boots.into_values() {
        rows.sort_by_key(|(place, _)| *place);
        let mut floor = i64::MIN;
        for (_, row) in rows {
            if row.ts_ns.saturating_add(row.err_ns) < floor {
                found.push(row.row_key.clone());
            }
            floor = floor.max(row.ts_ns.saturating_sub(row.err_ns));
        }
    }
    found
}

fn judged(gate: &'static str, at_worst: Verdict, rows: usize, offenders: &[String]) -> Judged {
    let verdict = if offenders.is_empty() { Verdict::Pass } else { at_worst };
    let some: Vec<&String> = offenders.iter().take(NAMED_MAX).collect();
    let evidence = json!({ "rows": rows, "offending": offenders.len(), "row_keys": some });
    Judged { gate: gate.into(), verdict, evidence }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::coverage::Coverage;
    use crate::dedup::StreamKey;
    use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
    use arrow_schema::{DataType, Field};
    use headwater_align::recipe::Recipe;
    use headwater_core::id::{BootOrdinal, Epoch};
    use std::sync::Arc;

    const NOW: UtcNanos = UtcNanos(1_700_000_000 * NS_PER_S);

    fn aligner() -> Aligner {
        let text = "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 'cam'\nselect = ['image', 'width']\n[[column]]\nname = 'm'\nstream = 'imu'\nselect = ['x']\nmethod = 'previous'\ntolerance = '1s'\n";
        Aligner::new(Recipe::parse(text).unwrap(), Coverage::default())
    }

    /// A row and its values: digest, width, and of the source seq and flags.
    #[derive(Clone)]
    struct Made {
        at: AlignedRow,
        hash: Option<&'static str>,
        width: i64,
        seq: Option<i64>,
        flag: i32,
    }

    fn row(seq: u64) -> Made {
        let key =
            StreamKey { device: "pi-1".parse().unwrap(), epoch: Epoch(1), stream: "cam".parse().unwrap() };
        let event_ns = i64::try_from(seq).unwrap() * NS_PER_S;
        let row_key = crate::align::window::row_key(&key, seq);
        let at = AlignedRow {
            key,
            seq,
            place: Some(Place { boot: BootOrdinal(1), event_ns, seq }),
            device: "pi-1".to_owned(),
            row_key,
            ts_ns: NOW.0 - 100 * NS_PER_S + event_ns,
            err_ns: 1_000_000,
            grade: Grade::Estimated,
            provisional: false,
        };
        Made { at, hash: Some("ab"), width: 640, seq: Some(7), flag: 0 }
    }

    fn window(made: &[Made]) -> AlignedWindow {
        let members: Vec<(Arc<Field>, ArrayRef)> = vec![
            (
                Arc::new(Field::new("seq_lo", DataType::Int64, true)),
                Arc::new(made.iter().map(|row| row.seq).collect::<Int64Array>()),
            ),
            (
                Arc::new(Field::new("flag", DataType::Int32, true)),
                Arc::new(made.iter().map(|row| Some(row.flag)).collect::<Int32Array>()),
            ),
        ];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("image_hash", Arc::new(made.iter().map(|row| row.hash).collect::<StringArray>())),
            ("width", Arc::new(made.iter().map(|row| Some(row.width)).collect::<Int64Array>())),
            ("m_src", Arc::new(StructArray::from(members))),
        ];
        let batches = vec![RecordBatch::try_from_iter(columns).unwrap()];
        AlignedWindow {
            batches,
            rows: made.iter().map(|row| row.at.clone()).collect(),
            ..AlignedWindow::default()
        }
    }

    /// The rules that are not content once `spoil` has been at three good rows.
    fn check(spoil: impl Fn(&mut Vec<Made>)) -> Vec<(&'static str, Verdict)> {
        within(&GateLimits::default(), spoil)
    }

    fn within(limits: &GateLimits, spoil: impl Fn(&mut Vec<Made>)) -> Vec<(&'static str, Verdict)> {
        let mut rows: Vec<Made> = (0..3).map(row).collect();
        spoil(&mut rows);
        let judged = judge(&aligner(), &window(&rows), NOW, limits);
        assert!(judged.iter().all(|judged| judged.evidence_digest().len() == 64));
        judged
            .iter()
            .filter(|judged| judged.verdict != Verdict::Pass)
            .map(|judged| match &judged.gate {
                Cow::Borrowed(gate) => (*gate, judged.verdict),
                Cow::Owned(gate) => panic!("{gate} is no rule"),
            })
            .collect()
    }

    #[test]
    fn each_rule_finds_its_own_fault_and_no_other() {
        assert_eq!(check(|_| {}), []);
        assert_eq!(
            check(|rows| rows[2].at.ts_ns = NOW.0 + 2 * AHEAD_NS_MAX),
            [("time_range", Verdict::Fail)]
        );
        assert_eq!(check(|rows| rows[2].at.ts_ns -= 50 * NS_PER_S), [("time_order", Verdict::Fail)]);
        assert_eq!(check(|rows| rows[0].at.err_ns = -1), [("error_bound", Verdict::Fail)]);
        assert_eq!(check(|rows| rows[0].width = 0), [("image_whole", Verdict::Fail)]);
        assert_eq!(check(|rows| rows[0].hash = None), [("image_whole", Verdict::Fail)]);
        assert_eq!(check(|rows| rows.push(row(1))), [("duplicates", Verdict::Fail)]);
        assert_eq!(check(|rows| rows[0].at.provisional = true), [("provisional", Verdict::Warn)]);
    }

    #[test]
    fn columns_without_a_match_and_gaps_are_held_against_the_limits() {
        let unmatched = |rows: &mut Vec<Made>, n: usize| {
            for row in rows.iter_mut().take(n) {
                row.flag = flag::BEYOND;
            }
        };
        let gaps = |rows: &mut Vec<Made>| rows[0].flag = flag::GAP_INSIDE;
        assert_eq!(check(|rows| unmatched(rows, 1)), []);
        assert_eq!(check(|rows| unmatched(rows, 2)), [("modality_coverage", Verdict::Warn)]);
        assert_eq!(check(gaps), [("gap_ratio", Verdict::Warn)]);
        let strict = GateLimits { unmatched_fail_percent: 30, gap_fail_percent: 33, ..GateLimits::default() };
        assert_eq!(within(&strict, |rows| unmatched(rows, 1)), [("modality_coverage", Verdict::Fail)]);
        assert_eq!(within(&strict, gaps), [("gap_ratio", Verdict::Fail)]);
        let loose = GateLimits { unmatched_warn_percent: 100, ..GateLimits::default() };
        assert_eq!(within(&loose, |rows| unmatched(rows, 3)), [], "100 percent are never beyond 100");
    }

    #[test]
    fn middles_may_cross_while_intervals_overlap() {
        let crossed = check(|rows| {
            rows[2].at.ts_ns = rows[1].at.ts_ns - 500_000;
        });
        assert_eq!(crossed, []);
    }
}
