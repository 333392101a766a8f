//! Columns of a window: statistics of the samples around a row, by a frame over one order.

use super::Emitter;
use crate::recipe::{Column, Method, RecipeError, WindowStat};
use headwater_core::time::cone::RHO_PPB;

const NS_PER_DRIFT_NS: i64 = 1_000_000_000 / RHO_PPB;

/// One edge of a frame, ns from the row.
fn edge(ns: i64) -> String {
    match ns {
        0 => "CURRENT ROW".to_owned(),
        ns if ns < 0 => format!("{} PRECEDING", ns.unsigned_abs()),
        ns => format!("{ns} FOLLOWING"),
    }
}

impl Emitter<'_> {
    /// Samples and rows in one order, a frame around each row, and what it holds.
    pub(super) fn window(&self, place: usize, column: &Column) -> Result<Vec<(String, String)>, RecipeError> {
        let Method::Window { from_ns, to_ns, stats, min_count } = &column.method else {
            return Ok(Vec::new());
        };
        let samples = self.candidates(place, column)?;
        let (within, time) = match self.is_grid() {
            true => ("device", "ts_ns"),
            false => ("device, epoch, boot_ordinal", "e"),
        };
        // Times are whole ns, so [from, to) is from ..= to - 1.
        let frame = format!(
            "PARTITION BY {within} ORDER BY {time} RANGE BETWEEN {} AND {}",
            edge(*from_ns),
            edge(to_ns.saturating_sub(1))
        );
        let over = |value: String| format!("{value} OVER ({frame})");
        let sample = |value: &str| format!("CASE WHEN kind = 0 THEN {value} END");
        let end = |function: &str, value: &str, kind: &str| {
            let triple = self.dialect.triple(time, "seq", value, kind);
            over(format!("{function}(CASE WHEN kind = 0 AND {value} IS NOT NULL THEN {triple} END)"))
        };
        let mut columns = vec![
            over("count(seq)".to_owned()) + " AS held",
            end("min", "seq", "bigint") + " AS lo_at",
            end("max", "seq", "bigint") + " AS hi_at",
        ];
        let mut values = Vec::new();
        for (at, selected) in column.select.iter().enumerate() {
            let field = format!("f{at}");
            let declared = self.field(&column.stream, selected).map(|field| &field.logical);
            let kind = match declared.filter(|_| !column.units.contains_key(selected)) {
                Some(logical) => self.dialect.type_of(logical),
                None => self.dialect.double_type(),
            };
            for stat in stats {
                let name = format!("w{}", values.len());
                let number = sample(&format!("CAST({field} AS {})", self.dialect.double_type()));
                let enough = |value: &str| format!("CASE WHEN held >= {min_count} THEN {value} END");
                let (made, given) = match stat {
                    WindowStat::Mean => (over(format!("avg({number})")), enough(&name)),
                    WindowStat::Std => (over(format!("stddev_samp({number})")), enough(&name)),
                    WindowStat::Sum => (over(format!("sum({number})")), enough(&name)),
                    WindowStat::Min => (over(format!("min({})", sample(&field))), enough(&name)),
                    WindowStat::Max => (over(format!("max({})", sample(&field))), enough(&name)),
                    WindowStat::Count => (over(format!("count({})", sample(&field))), name.clone()),
                    WindowStat::First => (end("min", &field, kind), enough(&format!("({name}).v"))),
                    WindowStat::Last => (end("max", &field, kind), enough(&format!("({name}).v"))),
                };
                columns.push(format!("{made} AS {name}"));
                values.push(given);
            }
        }
        let fields: Vec<String> = (0..column.select.len()).map(|at| format!("f{at}")).collect();
        let none: Vec<String> = fields.iter().map(|field| format!("NULL AS {field}")).collect();
        let (own, spine) = match self.is_grid() {
            true => ("device, epoch, seq, ts_ns", "device, '' AS epoch, CAST(NULL AS bigint) AS seq, ts_ns"),
            false => (
                "device, epoch, boot_ordinal, seq, e",
                "device, epoch, boot_ordinal, CAST(NULL AS bigint) AS seq, e",
            ),
        };
        let framed = format!(
            "  SELECT * FROM (SELECT kind, device, row_key, {} FROM (\n    SELECT 0 AS kind, '' AS row_key, {own}, {} FROM c{place}\n    UNION ALL SELECT 1 AS kind, row_key, {spine}, {} FROM spine) a) b\n  WHERE kind = 1",
            columns.join(",\n    "),
            fields.join(", "),
            none.join(", ")
        );
        let given: Vec<String> =
            values.iter().enumerate().map(|(at, value)| format!("{value} AS v{at}")).collect();
        Ok(vec![
            (format!("c{place}"), format!("  {samples}")),
            (format!("w{place}"), framed),
            (format!("r{place}"), self.framed_sources(place, *min_count, &given)),
        ])
    }

    /// The first and the last sample of each frame, and the nearer one's distance.
    fn framed_sources(&self, place: usize, min_count: u32, given: &[String]) -> String {
        let (dialect, found) = (self.dialect, format!("held >= {min_count}"));
        let seq = |at: &str| format!("(w.{at}).s");
        let side = |side: &str| match self.is_grid() {
            true => (format!("{side}.ts_ns - s.ts_ns"), format!("s.ts_err_ns + {side}.ts_err_ns")),
            false => {
                let dt = format!("{side}.e - s.e");
                let drift = dialect
                    .quotient(&format!("abs({dt}) + {}", NS_PER_DRIFT_NS - 1), &NS_PER_DRIFT_NS.to_string());
                (dt, format!("s.half + {side}.half + {drift}"))
            }
        };
        let ((lo_dt, lo_err), (hi_dt, hi_err)) = (side("l"), side("h"));
        let nearer = format!("abs({lo_dt}) <= abs({hi_dt})");
        let joined = |side: &str, at: &str| {
            let first = format!("(w.{at}).e");
            match self.is_grid() {
                true => format!("{side}.ts_ns = {first}"),
                false => format!(
                    "{side}.epoch = s.epoch AND {side}.boot_ordinal = s.boot_ordinal AND {side}.e = {first}"
                ),
            }
        };
        let low = "(l.grade = 'ordering_only' OR h.grade = 'ordering_only')";
        let other =
            if self.is_grid() { "(l.epoch <> h.epoch OR l.boot_ordinal <> h.boot_ordinal)" } else { "false" };
        format!(
            "  SELECT w.device, w.row_key, CASE WHEN {found} THEN h.epoch END AS src_epoch,\n    CASE WHEN {found} THEN l.seq END AS lo, CASE WHEN {found} THEN h.seq END AS hi,\n    CASE WHEN {found} THEN CASE WHEN {nearer} THEN {lo_dt} ELSE {hi_dt} END END AS dt,\n    CASE WHEN {found} THEN CASE WHEN {nearer} THEN {lo_err} ELSE {hi_err} END END AS err,\n    CASE WHEN {found} THEN held ELSE 0 END AS n,\n    CASE WHEN {found} THEN CASE WHEN {other} THEN 128 ELSE 0 END + CASE WHEN {low} THEN 256 ELSE 0 END ELSE 1 END AS flag,\n    {}\n  FROM w{place} w JOIN spine s ON s.device = w.device AND s.row_key = w.row_key\n  LEFT JOIN c{place} l ON l.device = w.device AND l.seq = {} AND {}\n  LEFT JOIN c{place} h ON h.device = w.device AND h.seq = {} AND {}",
            given.join(", "),
            seq("lo_at"),
            joined("l", "lo_at"),
            seq("hi_at"),
            joined("h", "hi_at")
        )
    }
}
