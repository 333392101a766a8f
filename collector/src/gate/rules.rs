//! The rules: shape, time, bound, picture, duplicates, coverage of the columns, gaps, provisional rows.

use super::settings::GateLimits;
use crate::align::aligner::Aligner;
use crate::align::asof::{FLAG_GAP, Place};
use crate::align::window::{AlignedRow, AlignedWindow};
use crate::commit::cells::Cell;
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
    let recipe = aligner.recipe();
    let rows = &window.rows;
    let shape = offenders(rows, |row| {
        row.values.len() == recipe.spine_select.len()
            && row.columns.len() == recipe.columns.len()
            && row
                .columns
                .iter()
                .zip(&recipe.columns)
                .all(|(column, of)| column.values.len() == of.select.len())
    });
    let bound = offenders(rows, |row| {
        row.at.err_ns >= 0 && (row.at.grade == Grade::OrderingOnly || row.at.err_ns < i64::MAX)
    });
    let range = offenders(rows, |row| {
        let ahead = now.0.saturating_add(AHEAD_NS_MAX).saturating_add(row.at.err_ns);
        (EARLIEST_NS..=ahead).contains(&row.at.ts_ns)
    });
    let named = |name: &str| recipe.spine_select.iter().position(|field| field.as_str() == name);
    let (width, height, image) = (named("width"), named("height"), named("image"));
    let picture = offenders(rows, |row| {
        let cell = |place: Option<usize>| place.and_then(|place| row.values.get(place));
        let positive = |place| !matches!(cell(place), Some(Cell::Long(..=0) | Cell::Null));
        positive(width) && positive(height) && !matches!(cell(image), Some(Cell::Null))
    });
    let mut seen = BTreeSet::new();
    let twice = offenders(rows, |row| {
        seen.insert(row.row_key()) && !aligner.coverage().contains(&row.key, row.at.place.seq)
    });
    let provisional = offenders(rows, |row| !row.provisional);
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
            |flag, seq| seq.is_none() || flag & NO_MATCH != 0,
        ),
        share("gap_ratio", aligner, rows, (limits.gap_warn_percent, limits.gap_fail_percent), |flag, _| {
            flag & FLAG_GAP != 0
        }),
    ]
}

/// Flags of a source that gave no value.
const NO_MATCH: i32 = crate::align::asof::FLAG_NONE | crate::align::asof::FLAG_TOLERANCE;

/// How many rows each column of the recipe fails in some way, against the limits for a warning and for a fail, percent.
fn share(
    gate: &'static str,
    aligner: &Aligner,
    rows: &[AlignedRow],
    (warn, fail): (u64, u64),
    is_bad: impl Fn(i32, Option<u64>) -> bool,
) -> Judged {
    let mut verdict = Verdict::Pass;
    let mut columns = serde_json::Map::new();
    for (place, column) in aligner.recipe().columns.iter().enumerate() {
        let sources = rows.iter().filter_map(|row| row.columns.get(place)).map(|column| &column.source);
        let bad = sources.filter(|source| is_bad(source.flag, source.seq)).count();
        let (bad, all) = (bad as u64, rows.len() as u64);
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

fn offenders(rows: &[AlignedRow], mut is_good: impl FnMut(&AlignedRow) -> bool) -> Vec<String> {
    rows.iter().filter(|row| !is_good(row)).map(AlignedRow::row_key).collect()
}

/// Rows whose interval lies wholly before that of an earlier sample of their boot. Middles may cross: two commits may
/// know the clock differently well.
fn out_of_order(rows: &[AlignedRow]) -> Vec<String> {
    let mut boots: BTreeMap<_, Vec<(Place, &AlignedRow)>> = BTreeMap::new();
    for row in rows {
        boots.entry((&row.key, row.at.place.boot)).or_default().push((row.at.place, row));
    }
    let mut found = Vec::new();
    for mut rows in boots.into_values() {
        rows.sort_by_key(|(place, _)| *place);
        let mut floor = i64::MIN;
        for (_, row) in rows {
            if row.at.ts_ns.saturating_add(row.at.err_ns) < floor {
                found.push(row.row_key());
            }
            floor = floor.max(row.at.ts_ns.saturating_sub(row.at.err_ns));
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
    use crate::align::asof::Instant;
    use crate::align::coverage::Coverage;
    use crate::align::online::OnlineRecipe;
    use crate::align::window::AlignedColumn;
    use crate::dedup::StreamKey;
    use headwater_core::id::{BootOrdinal, Epoch};

    const NOW: UtcNanos = UtcNanos(1_700_000_000 * NS_PER_S);

    fn aligner() -> Aligner {
        let text = "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 'cam'\nselect = ['image', 'width']\n[[column]]\nname = 'm'\nstream = 'imu'\nselect = ['x']\nmethod = 'previous'\ntolerance = '1s'\n";
        Aligner::new(OnlineRecipe::parse(text).unwrap(), Coverage::default())
    }

    fn row(seq: u64) -> AlignedRow {
        let key =
            StreamKey { device: "pi-1".parse().unwrap(), epoch: Epoch(1), stream: "cam".parse().unwrap() };
        let event_ns = i64::try_from(seq).unwrap() * NS_PER_S;
        let at = Instant {
            place: Place { boot: BootOrdinal(1), event_ns, seq },
            half_ns: 0,
            ts_ns: NOW.0 - 100 * NS_PER_S + event_ns,
            err_ns: 1_000_000,
            grade: Grade::Estimated,
        };
        let source = crate::align::asof::Source { seq: Some(seq), dt_ns: Some(-1), err_ns: Some(1), flag: 0 };
        AlignedRow {
            key,
            at,
            values: vec![Cell::Text("ab".to_owned()), Cell::Long(640)],
            columns: vec![AlignedColumn { values: vec![Cell::Null], source }],
            provisional: false,
        }
    }

    /// The rules that are not content once `spoil` has been at three good rows.
    fn check(spoil: impl Fn(&mut Vec<AlignedRow>)) -> Vec<(&'static str, Verdict)> {
        within(&GateLimits::default(), spoil)
    }

    fn within(limits: &GateLimits, spoil: impl Fn(&mut Vec<AlignedRow>)) -> Vec<(&'static str, Verdict)> {
        let mut rows: Vec<AlignedRow> = (0..3).map(row).collect();
        spoil(&mut rows);
        let judged = judge(&aligner(), &AlignedWindow { rows, left_out: Vec::new() }, NOW, limits);
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
        assert_eq!(check(|rows| rows[1].values.truncate(1)), [("schema", Verdict::Fail)]);
        assert_eq!(
            check(|rows| rows[2].at.ts_ns = NOW.0 + 2 * AHEAD_NS_MAX),
            [("time_range", Verdict::Fail)]
        );
        assert_eq!(check(|rows| rows[2].at.ts_ns -= 50 * NS_PER_S), [("time_order", Verdict::Fail)]);
        assert_eq!(check(|rows| rows[0].at.err_ns = -1), [("error_bound", Verdict::Fail)]);
        assert_eq!(check(|rows| rows[0].values[1] = Cell::Long(0)), [("image_whole", Verdict::Fail)]);
        assert_eq!(check(|rows| rows[0].values[0] = Cell::Null), [("image_whole", Verdict::Fail)]);
        assert_eq!(check(|rows| rows.push(row(1))), [("duplicates", Verdict::Fail)]);
        assert_eq!(check(|rows| rows[0].provisional = true), [("provisional", Verdict::Warn)]);
    }

    #[test]
    fn columns_without_a_match_and_gaps_are_held_against_the_limits() {
        let unmatched = |rows: &mut Vec<AlignedRow>, n: usize| {
            for row in rows.iter_mut().take(n) {
                row.columns[0].source.flag = crate::align::asof::FLAG_TOLERANCE;
            }
        };
        let gaps = |rows: &mut Vec<AlignedRow>| rows[0].columns[0].source.flag = FLAG_GAP;
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
