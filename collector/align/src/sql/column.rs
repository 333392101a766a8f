//! Columns of one or two samples: previous, next, nearest, linear.

use super::Emitter;
use super::spine::constant;
use crate::recipe::{Column, Duplicates, Fallback, Method, Nulls, RecipeError, Tie};
use headwater_core::schema::conversion;
use headwater_core::time::cone::RHO_PPB;

/// Time in which a crystal at the edge of its datasheet drifts by 1 ns, ns.
const NS_PER_DRIFT_NS: i64 = 1_000_000_000 / RHO_PPB;
/// How far beyond a tolerance the aligner looks, ns: what lies farther is no sample at all to it.
const LOOK_NS: i64 = 10_000_000_000;

/// How a sample is picked: none, the one before, the one after, between both.
const NOTHING: u8 = 0;
const BEFORE: u8 = 1;
const AFTER: u8 = 2;
const BETWEEN: u8 = 3;

impl Emitter<'_> {
    /// Candidates of a column, one an instant.
    pub(super) fn candidates(&self, place: usize, column: &Column) -> Result<String, RecipeError> {
        let kind = self.kind(&format!("column[{place}].stream"), &column.stream)?;
        let values: Vec<String> = (0..column.select.len()).map(|at| self.value(column, at)).collect();
        let extra: Vec<String> =
            values.iter().enumerate().map(|(at, value)| format!("{value} AS f{at}")).collect();
        let mut samples = self.samples(&column.stream, kind, column.offset_ns, &extra);
        if column.nulls == Nulls::Skip {
            let raw = column.select.iter().map(|field| self.raw(&column.stream, field) + " IS NOT NULL");
            samples = format!("{samples} AND ({})", raw.collect::<Vec<_>>().join(" OR "));
        }
        Ok(samples)
    }

    /// A field of a sample, converted; a number where it is computed with.
    fn value(&self, column: &Column, at: usize) -> String {
        let Some(field) = column.select.get(at) else { return String::new() };
        let (dialect, raw) = (self.dialect, self.raw(&column.stream, field));
        let double = dialect.double_type();
        let declared = self.field(&column.stream, field).map_or("1", |field| field.unit.as_str());
        let converted = column.units.get(field).and_then(|wanted| conversion(declared, wanted));
        let computes = matches!(column.method, Method::Linear(_));
        let Some(by) = converted else {
            return if computes { format!("CAST({raw} AS {double})") } else { raw };
        };
        let (num, offset, den, pi) = by.parts();
        #[expect(clippy::cast_precision_loss, reason = "as Conversion::apply rounds them")]
        let literal = |x: i128| dialect.double(x as f64);
        let mut value = format!("CAST({raw} AS {double})");
        if num != 1 {
            value = format!("{value} * {}", literal(num));
        }
        if offset != 0 {
            value = format!("({value} + {})", literal(offset));
        }
        if den != 1 {
            value = format!("{value} / {}", literal(den));
        }
        if pi != 0 {
            value = format!("{value} * {}", dialect.double(std::f64::consts::PI.powi(pi)));
        }
        format!("({value})")
    }

    /// Candidates, neighbours of each row, distances, and what is picked.
    pub(super) fn column(&self, place: usize, column: &Column) -> Result<Vec<(String, String)>, RecipeError> {
        let samples = self.candidates(place, column)?;
        let order = if column.duplicates == Duplicates::Last { "DESC" } else { "ASC" };
        let instant = if self.is_grid() { "device, ts_ns" } else { "device, epoch, boot_ordinal, e" };
        let by = if self.is_grid() { format!("epoch {order}, seq {order}") } else { format!("seq {order}") };
        let one = format!(
            "  SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY {instant} ORDER BY {by}) AS place FROM ({samples}) a) b WHERE place = 1"
        );
        Ok(vec![
            (format!("c{place}"), one),
            (format!("m{place}"), self.neighbours(place)),
            (format!("d{place}"), self.distances(place, column.select.len())),
            (format!("p{place}"), picked(place, column)),
            (format!("r{place}"), self.result(place, column)),
        ])
    }

    /// Of each row the newest candidate at or before it, and the oldest after it, by one sort.
    fn neighbours(&self, place: usize) -> String {
        let dialect = self.dialect;
        let (within, order, spine) = match self.is_grid() {
            true => (
                "device",
                "ts_ns, kind, epoch, seq",
                "device, '' AS epoch, ts_ns, CAST(NULL AS bigint) AS seq",
            ),
            false => (
                "device, epoch",
                "boot_ordinal, e, kind, seq",
                "device, epoch, boot_ordinal, e, CAST(NULL AS bigint) AS seq",
            ),
        };
        let own =
            if self.is_grid() { "device, epoch, ts_ns, seq" } else { "device, epoch, boot_ordinal, e, seq" };
        let before = format!(
            "PARTITION BY {within} ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
        );
        let after = format!(
            "PARTITION BY {within} ORDER BY {order} ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING"
        );
        let epoch = "CASE WHEN kind = 0 THEN epoch END";
        let columns = [
            dialect.value_over("last_value", "seq", &before) + " AS p_seq",
            dialect.value_over("last_value", epoch, &before) + " AS p_epoch",
            dialect.value_over("first_value", "seq", &after) + " AS n_seq",
            dialect.value_over("first_value", epoch, &after) + " AS n_epoch",
        ];
        format!(
            "  SELECT device, row_key, p_epoch, p_seq, n_epoch, n_seq FROM (SELECT kind, device, row_key, {} FROM (\n    SELECT 0 AS kind, '' AS row_key, {own} FROM c{place}\n    UNION ALL SELECT 1 AS kind, row_key, {spine} FROM spine) a) b\n  WHERE kind = 1",
            columns.join(", ")
        )
    }

    /// Distances to both neighbours and their uncertainty: boot time within a boot, UTC otherwise.
    fn distances(&self, place: usize, fields: usize) -> String {
        let mut columns = vec!["m.device".to_owned(), "m.row_key".to_owned()];
        for side in ["p", "n"] {
            let same = match self.is_grid() {
                true => "false".to_owned(),
                false => format!(
                    "coalesce({side}.epoch = s.epoch AND {side}.boot_ordinal = s.boot_ordinal, false)"
                ),
            };
            let utc = (format!("{side}.ts_ns - s.ts_ns"), format!("s.ts_err_ns + {side}.ts_err_ns"));
            let (dt, err) = match self.is_grid() {
                true => utc,
                false => {
                    let e = format!("{side}.e - s.e");
                    let drift = self.dialect.quotient(
                        &format!("abs({e}) + {}", NS_PER_DRIFT_NS - 1),
                        &NS_PER_DRIFT_NS.to_string(),
                    );
                    (
                        format!("CASE WHEN {same} THEN {e} ELSE {} END", utc.0),
                        format!("CASE WHEN {same} THEN s.half + {side}.half + {drift} ELSE {} END", utc.1),
                    )
                }
            };
            columns.extend([
                format!("{side}.seq AS {side}_seq"),
                format!("{side}.epoch AS {side}_epoch"),
                format!("{side}.boot_ordinal AS {side}_boot"),
                format!("{side}.grade AS {side}_grade"),
                format!("{same} AS {side}_same"),
                format!("{dt} AS {side}_dt"),
                format!("{err} AS {side}_err"),
            ]);
            columns.extend((0..fields).map(|at| format!("{side}.f{at} AS {side}_f{at}")));
        }
        format!(
            "  SELECT {} FROM m{place} m\n  JOIN spine s ON s.device = m.device AND s.row_key = m.row_key\n  LEFT JOIN c{place} p ON p.device = m.device AND p.epoch = m.p_epoch AND p.seq = m.p_seq\n  LEFT JOIN c{place} n ON n.device = m.device AND n.epoch = m.n_epoch AND n.seq = m.n_seq",
            columns.join(", ")
        )
    }

    /// Values and sources of what was picked.
    fn result(&self, place: usize, column: &Column) -> String {
        let pick = |before: &str, after: &str, between: &str| {
            format!(
                "CASE pick WHEN {BEFORE} THEN {before} WHEN {AFTER} THEN {after} WHEN {BETWEEN} THEN {between} END"
            )
        };
        let nearer = |of: &str| format!("CASE WHEN abs(p_dt) <= abs(n_dt) THEN p_{of} ELSE n_{of} END");
        let low = |side: &str| format!("{side}_grade = 'ordering_only'");
        let boots = "(p_epoch <> n_epoch OR p_boot <> n_boot)";
        let (other_p, other_n, other_b) = match self.is_grid() {
            true => ("false", "false", boots.to_owned()),
            false => ("NOT p_same", "NOT n_same", "NOT p_same OR NOT n_same".to_owned()),
        };
        let bits = format!(
            "flag + CASE WHEN {} THEN 128 ELSE 0 END + CASE WHEN {} THEN 256 ELSE 0 END",
            pick(other_p, other_n, &other_b),
            pick(&low("p"), &low("n"), &format!("({} OR {})", low("p"), low("n")))
        );
        let mut columns = vec![
            "device".to_owned(),
            "row_key".to_owned(),
            pick("p_epoch", "n_epoch", "p_epoch") + " AS src_epoch",
            pick("p_seq", "n_seq", "p_seq") + " AS lo",
            pick("p_seq", "n_seq", "n_seq") + " AS hi",
            pick("p_dt", "n_dt", &nearer("dt")) + " AS dt",
            pick("p_err", "n_err", &nearer("err")) + " AS err",
            format!("CASE pick WHEN {NOTHING} THEN 0 WHEN {BETWEEN} THEN 2 ELSE 1 END AS n"),
            bits + " AS flag",
        ];
        let weight = format!("CAST(abs(p_dt) AS {0}) / CAST(n_dt - p_dt AS {0})", self.dialect.double_type());
        for (at, field) in column.select.iter().enumerate() {
            let between = format!("p_f{at} + {weight} * (n_f{at} - p_f{at})");
            let between =
                if matches!(column.method, Method::Linear(_)) { between } else { "NULL".to_owned() };
            let mut value = pick(&format!("p_f{at}"), &format!("n_f{at}"), &between);
            if let Fallback::Const(constants) = &column.fallback
                && let Some(of) = constants.get(field)
            {
                value = format!(
                    "CASE WHEN pick = {NOTHING} THEN {} ELSE {value} END",
                    constant(self.dialect, of)
                );
            }
            columns.push(format!("{value} AS v{at}"));
        }
        format!("  SELECT {} FROM p{place}", columns.join(",\n    "))
    }
}

/// Which sample is picked, and the flag of that, before the fallback and with it.
fn picked(place: usize, column: &Column) -> String {
    let (pick, flag) = match &column.method {
        Method::Next { tolerance_ns } => next(*tolerance_ns),
        Method::Nearest { tolerance_ns } => nearest(*tolerance_ns, column.tie),
        Method::Linear(between) => linear(between.max_gap_ns),
        Method::Previous { tolerance_ns } => previous(*tolerance_ns),
        // Refused, or a window's.
        _ => (NOTHING.to_string(), "0".to_owned()),
    };
    let (mut pick_then, mut flag_then) = ("pick".to_owned(), "flag".to_owned());
    match &column.fallback {
        Fallback::Locf { max_age_ns } => {
            let carried =
                format!("pick = {NOTHING} AND p_seq IS NOT NULL AND p_dt <= 0 AND -p_dt <= {max_age_ns}");
            pick_then = format!("CASE WHEN {carried} THEN {BEFORE} ELSE pick END");
            flag_then = format!("CASE WHEN {carried} THEN flag + 16 ELSE flag END");
        }
        Fallback::Const(_) => flag_then = format!("CASE WHEN pick = {NOTHING} THEN flag + 16 ELSE flag END"),
        Fallback::Null | Fallback::Drop => {}
    }
    let carried: Vec<String> = ["p", "n"]
        .iter()
        .flat_map(|side| {
            let fixed = ["seq", "epoch", "boot", "grade", "same", "dt", "err"].map(str::to_owned);
            let fields = (0..column.select.len()).map(|at| format!("f{at}"));
            fixed.into_iter().chain(fields).map(move |name| format!("{side}_{name}"))
        })
        .collect();
    format!(
        "  SELECT device, row_key, {}, {pick_then} AS pick, {flag_then} AS flag FROM (SELECT *, {pick} AS pick, {flag} AS flag FROM d{place}) a",
        carried.join(", ")
    )
}

fn previous(tolerance: i64) -> (String, String) {
    (
        format!("CASE WHEN p_seq IS NOT NULL AND abs(p_dt) <= {tolerance} THEN {BEFORE} ELSE {NOTHING} END"),
        format!("CASE WHEN p_seq IS NULL THEN 1 WHEN abs(p_dt) <= {tolerance} THEN 0 ELSE 2 END"),
    )
}

/// True where a sample stands at the very instant: it counts as the next one, too.
const HIT: &str = "p_seq IS NOT NULL AND p_dt = 0";

fn next(tolerance: i64) -> (String, String) {
    let seen = format!("n_seq IS NOT NULL AND n_dt <= {}", tolerance.saturating_add(LOOK_NS));
    (
        format!(
            "CASE WHEN {HIT} THEN {BEFORE} WHEN {seen} AND abs(n_dt) <= {tolerance} THEN {AFTER} ELSE {NOTHING} END"
        ),
        format!(
            "CASE WHEN {HIT} THEN 0 WHEN NOT ({seen}) THEN 1 WHEN abs(n_dt) <= {tolerance} THEN 0 ELSE 2 END"
        ),
    )
}

fn nearest(tolerance: i64, tie: Tie) -> (String, String) {
    let seen = format!("n_seq IS NOT NULL AND n_dt <= {}", tolerance.saturating_add(LOOK_NS));
    let nearer = if tie == Tie::Previous { "<=" } else { "<" };
    let first = format!("p_seq IS NOT NULL AND (NOT ({seen}) OR abs(p_dt) {nearer} abs(n_dt))");
    (
        format!(
            "CASE WHEN {first} THEN CASE WHEN abs(p_dt) <= {tolerance} THEN {BEFORE} ELSE {NOTHING} END WHEN {seen} AND abs(n_dt) <= {tolerance} THEN {AFTER} ELSE {NOTHING} END"
        ),
        format!(
            "CASE WHEN {first} THEN CASE WHEN abs(p_dt) <= {tolerance} THEN 0 ELSE 2 END WHEN NOT ({seen}) THEN 1 WHEN abs(n_dt) <= {tolerance} THEN 0 ELSE 2 END"
        ),
    )
}

fn linear(max_gap: i64) -> (String, String) {
    let between = format!(
        "n_seq IS NOT NULL AND p_dt < 0 AND n_dt >= 0 AND p_epoch = n_epoch AND n_dt - p_dt <= {max_gap}"
    );
    (
        format!(
            "CASE WHEN p_seq IS NULL THEN {NOTHING} WHEN p_dt = 0 THEN {BEFORE} WHEN {between} THEN {BETWEEN} ELSE {NOTHING} END"
        ),
        format!("CASE WHEN p_seq IS NULL THEN 1 WHEN p_dt = 0 OR ({between}) THEN 0 ELSE 4 END"),
    )
}
