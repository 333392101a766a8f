//! The spine of a query: one row an instant, with its row key.

use super::Emitter;
use super::dialect::Dialect;
use crate::recipe::{CompareOp, Condition, Constant, RecipeError, SpineSource};
use headwater_core::id::{FieldName, StreamName};
use headwater_core::time::Grade;

/// The stream whose fields a spine takes, and which.
pub(super) fn fields(source: &SpineSource) -> (Option<&StreamName>, &[FieldName]) {
    match source {
        SpineSource::Stream { stream, .. } | SpineSource::Event { stream, .. } => {
            (Some(stream), source.select())
        }
        SpineSource::Grid { .. } | SpineSource::Union { .. } => (None, &[]),
    }
}

/// Grades that are good enough.
fn grades(least: Grade) -> String {
    let good = [Grade::Guaranteed, Grade::Estimated, Grade::OrderingOnly];
    let good = good.into_iter().filter(|grade| *grade >= least);
    good.map(|grade| format!("'{}'", grade.as_str())).collect::<Vec<_>>().join(", ")
}

pub(super) fn constant(dialect: Dialect, of: &Constant) -> String {
    match of {
        Constant::Number(value) => dialect.double(*value),
        Constant::Text(text) => dialect.literal(text),
        Constant::Bool(value) => value.to_string(),
    }
}

fn compare(op: CompareOp) -> &'static str {
    if op == CompareOp::Ne { "<>" } else { op.as_str() }
}

impl Emitter<'_> {
    pub(super) fn spine(&self) -> Result<String, RecipeError> {
        match &self.recipe.spine.source {
            SpineSource::Stream { stream, at, .. } => {
                let of_kind = at.map(|at| format!("stamp_kind = '{}'", at.as_str()));
                self.sampled("spine.stream", stream, of_kind, None)
            }
            SpineSource::Event { stream, when, .. } => {
                self.sampled("spine.event.stream", stream, None, Some(when))
            }
            SpineSource::Grid { period_ns, phase_ns, epoch_ns } => {
                self.grid(*period_ns, epoch_ns.saturating_add(*phase_ns))
            }
            SpineSource::Union { .. } => Ok(String::new()),
        }
    }

    fn sampled(
        &self,
        path: &str,
        stream: &StreamName,
        of_kind: Option<String>,
        when: Option<&Condition>,
    ) -> Result<String, RecipeError> {
        let kind = self.kind(path, stream)?;
        let select = self.recipe.spine.source.select().iter().enumerate();
        let mut extra: Vec<String> =
            select.map(|(place, field)| format!("{} AS s{place}", self.raw(stream, field))).collect();
        extra.push("ts".to_owned());
        if let Some(when) = when {
            let (field, value) = (self.raw(stream, &when.field), constant(self.dialect, &when.value));
            extra.push(format!("coalesce({field} {} {value}, false) AS met", compare(when.op)));
        }
        let mut samples = self.samples(stream, kind, 0, &extra);
        if let Some(of_kind) = of_kind {
            samples = format!("{samples} AND {of_kind}");
        }
        let mut good = vec![format!("grade IN ({})", grades(self.recipe.spine.min_grade))];
        good.extend(self.recipe.spine.max_err_ns.map(|max| format!("ts_err_ns <= {max}")));
        if when.is_some() {
            good.push("met AND NOT was_met".to_owned());
            let before = "lag(met) OVER (PARTITION BY device, epoch ORDER BY boot_ordinal, e, seq)";
            samples = format!("SELECT *, coalesce({before}, false) AS was_met FROM ({samples}) a");
        }
        let key = format!(
            "concat(epoch, {}, CAST(seq AS {})) AS row_key",
            self.dialect.literal(&format!("/{stream}/")),
            text_type(self.dialect)
        );
        Ok(format!("  SELECT *, {key} FROM ({samples}) b\n  WHERE {}", good.join(" AND ")))
    }

    /// Points from the first to the last sample that any column could take.
    fn grid(&self, period_ns: i64, origin_ns: i64) -> Result<String, RecipeError> {
        let dialect = self.dialect;
        let good = grades(self.recipe.spine.min_grade);
        let mut spans = Vec::new();
        for (place, column) in self.recipe.columns.iter().enumerate() {
            let kind = self.kind(&format!("column[{place}].stream"), &column.stream)?;
            let samples = self.samples(&column.stream, kind, column.offset_ns, &[]);
            spans.push(format!("SELECT device, ts_ns FROM ({samples}) a{place} WHERE grade IN ({good})"));
        }
        let first = dialect.floor(&format!("min(ts_ns) - ({origin_ns}) + {}", period_ns - 1), period_ns);
        let last = dialect.floor(&format!("max(ts_ns) - ({origin_ns})"), period_ns);
        let span = format!(
            "(SELECT device, {first} AS lo_n, {last} AS hi_n FROM ({}) a GROUP BY device) b",
            spans.join(" UNION ALL ")
        );
        let ts = dialect.timestamp("ts_ns");
        Ok(format!(
            "  SELECT *, {ts} AS ts FROM (SELECT device, n * {period_ns} + ({origin_ns}) AS ts_ns, CAST(0 AS bigint) AS ts_err_ns, 'guaranteed' AS grade, concat('grid/', CAST(n AS {})) AS row_key FROM ({}) c) d",
            text_type(dialect),
            dialect.numbers(&span)
        ))
    }
}

fn text_type(dialect: Dialect) -> &'static str {
    if dialect == Dialect::Spark { "string" } else { "varchar" }
}
