//! A recipe as one query over the raw tables, for lakes larger than one machine.
//!
//! ```text
//! spine ─┬────────────────────────────────► rows
//! raw.x ─┴► c0 ► m0 (one sort) ► d0 ► r0 ─►┘   each column: candidates, neighbours, distances, values
//! ```
//! Matching is one sort per column: candidates and spine rows in one order, and the newest candidate before each row, the
//! oldest after it, by window functions that every engine has; no engine's own as-of join, whose ties differ. Distances
//! are those of the aligner: boot time within a boot, UTC otherwise. What SQL cannot say alike is refused by [`emit`];
//! where it says a little less, the query's head names it.

mod column;
mod dialect;
mod refuse;
mod spine;
mod window;

#[cfg(test)]
mod tests;

pub use dialect::Dialect;

use crate::recipe::declared::{Class, Declared, DeclaredField};
use crate::recipe::{Column, Fallback, Method, Mistake, Recipe, RecipeError, SpineSource};
use dialect::quoted;
use headwater_core::id::{FieldName, KindName, StreamName};
use std::fmt::Write;

/// Writes the query.
///
/// # Errors
/// [`RecipeError`] with everything that the query could not say as the aligner does, or that nobody declares.
pub fn emit(recipe: &Recipe, declared: &Declared, dialect: Dialect) -> Result<String, RecipeError> {
    let mut mistakes = refuse::refusals(recipe);
    mistakes.extend(recipe.check(declared).mistakes);
    if !mistakes.is_empty() {
        return Err(RecipeError(mistakes));
    }
    let emitter = Emitter { recipe, declared, dialect };
    let mut parts = vec![("spine".to_owned(), emitter.spine()?)];
    for (place, column) in recipe.columns.iter().enumerate() {
        parts.extend(match column.method {
            Method::Window { .. } => emitter.window(place, column)?,
            _ => emitter.column(place, column)?,
        });
    }
    let parts: Vec<String> = parts.iter().map(|(name, body)| format!("{name} AS (\n{body}\n)")).collect();
    let rows = emitter.rows();
    Ok(format!("{}WITH {}\n{rows};\n", emitter.head(), parts.join(",\n")))
}

/// What the parts of a query are written from.
struct Emitter<'a> {
    recipe: &'a Recipe,
    declared: &'a Declared,
    dialect: Dialect,
}

impl Emitter<'_> {
    fn is_grid(&self) -> bool {
        matches!(self.recipe.spine.source, SpineSource::Grid { .. })
    }

    /// What people must know of the query.
    fn head(&self) -> String {
        let recipe = self.recipe;
        let mut head = format!(
            "-- aligned.{} by recipe {}\n-- {}: written by `headwater recipe sql`, not by hand.\n",
            recipe.name,
            recipe.id(),
            self.dialect.name()
        );
        let mut notes = vec![
            "rows are of all captures there are, those not final yet among them; provisional is false",
            "stamps of devices' own clocks (domain device:N) are passed over",
            "flag has no bits 8 (ambiguous), 64 (straddles), 512 (recorded gap), 1024 (late)",
        ];
        if !self.is_grid() {
            notes.push("a sample is matched within its gateway's own installation (epoch)");
        }
        let windows = recipe.columns.iter().any(|column| matches!(column.method, Method::Window { .. }));
        if windows {
            notes.push("sums, means and deviations differ from the aligner's in the last digits: they are not compensated");
        }
        if windows && !self.is_grid() {
            notes.push("a window holds samples of the row's own boot");
        }
        for note in notes {
            // Writing to a String cannot fail.
            let _written = writeln!(head, "-- - {note}");
        }
        head
    }

    /// The table of a stream, and its kind.
    fn kind(&self, path: &str, stream: &StreamName) -> Result<&KindName, RecipeError> {
        let refuse = |text: String| RecipeError(vec![Mistake { path: path.to_owned(), text }]);
        let kinds = self.declared.streams.get(stream);
        let mut names = kinds.into_iter().flatten().map(|(kind, _)| kind);
        match (names.next(), names.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(refuse(format!("no device declares {stream}"))),
            _ => Err(refuse(format!("{stream} is of several kinds, and one query reads one table of it"))),
        }
    }

    fn field(&self, stream: &StreamName, field: &FieldName) -> Option<&DeclaredField> {
        let kinds = self.declared.streams.get(stream).into_iter().flatten();
        kinds.filter_map(|(_, of)| of.fields.get(field)).next()
    }

    fn is_object(&self, stream: &StreamName, field: &FieldName) -> bool {
        self.field(stream, field).is_some_and(|field| Class::of(&field.logical) == Class::Object)
    }

    /// The column of the raw table that holds a field; of a picture its digest.
    fn raw(&self, stream: &StreamName, field: &FieldName) -> String {
        if self.is_object(stream, field) {
            return self.dialect.name_of("hash");
        }
        let column = self.field(stream, field).map_or(field.as_str(), |field| field.column.as_str());
        self.dialect.name_of(column)
    }

    /// `FROM` and `WHERE` of a stream's samples, with their instants; `extra` are further columns of the raw table.
    fn samples(&self, stream: &StreamName, kind: &KindName, offset_ns: i64, extra: &[String]) -> String {
        let dialect = self.dialect;
        let middle = dialect.half("lat_lo_ns + lat_hi_ns");
        // A stamp was floored to its stream's unit, which widens the bound.
        let units =
            self.declared.streams.get(stream).and_then(|kinds| kinds.get(kind)).map(|of| &of.units_ns);
        let mut widened = String::new();
        for (fingerprint, unit_ns) in units.into_iter().flatten() {
            // Writing to a String cannot fail.
            let _written = write!(widened, " WHEN {fingerprint} THEN {}", unit_ns.saturating_sub(1));
        }
        let half = match (dialect.half("lat_hi_ns - lat_lo_ns + 1"), widened.is_empty()) {
            (half, true) => half,
            (half, false) => format!("{half} + CASE schema_fp{widened} ELSE 0 END"),
        };
        let shift = if offset_ns == 0 { String::new() } else { format!(" + ({offset_ns})") };
        let mut columns = vec![
            "device".to_owned(),
            "epoch".to_owned(),
            "boot_ordinal".to_owned(),
            "seq".to_owned(),
            format!("boot_ns - {middle}{shift} AS e"),
            format!("{half} AS half"),
            format!("ts_ns{shift} AS ts_ns"),
            "ts_err_ns".to_owned(),
            "grade".to_owned(),
        ];
        columns.extend_from_slice(extra);
        format!(
            "SELECT {} FROM raw.{} WHERE stream = {} AND domain = 'boot'",
            columns.join(", "),
            dialect.name_of(kind.as_str()),
            quoted(stream.as_str())
        )
    }

    /// The final rows.
    fn rows(&self) -> String {
        let dialect = self.dialect;
        let mut columns: Vec<String> = ["device", "ts", "ts_ns", "ts_err_ns", "grade", "row_key"]
            .iter()
            .map(|name| format!("spine.{name}"))
            .collect();
        columns.push("false AS provisional".to_owned());
        let (stream, select) = spine::fields(&self.recipe.spine.source);
        for (place, field) in select.iter().enumerate() {
            let object = stream.is_some_and(|stream| self.is_object(stream, field));
            let name = if object { format!("{field}_hash") } else { field.to_string() };
            columns.push(format!("spine.s{place} AS {}", dialect.name_of(&name)));
        }
        let (mut joins, mut kept) = (String::new(), Vec::new());
        for (place, column) in self.recipe.columns.iter().enumerate() {
            let names = self.names(column);
            for (value, name) in names.iter().enumerate() {
                columns.push(format!("r{place}.v{value} AS {}", dialect.name_of(name)));
            }
            let source = dialect.source(&format!("r{place}"), column.stream.as_str());
            columns.push(format!("{source} AS {}", dialect.name_of(&format!("{}_src", column.name))));
            let _written = write!(
                joins,
                "\nJOIN r{place} ON r{place}.device = spine.device AND r{place}.row_key = spine.row_key"
            );
            if column.fallback == Fallback::Drop {
                kept.push(format!("r{place}.n > 0"));
            }
        }
        let kept = if kept.is_empty() { String::new() } else { format!("\nWHERE {}", kept.join(" AND ")) };
        let sort: Vec<String> = self.recipe.output.sort.iter().map(|name| dialect.name_of(name)).collect();
        format!("SELECT {}\nFROM spine{joins}{kept}\nORDER BY {}", columns.join(",\n  "), sort.join(", "))
    }

    /// Names of a column's values in the output.
    fn names(&self, column: &Column) -> Vec<String> {
        let mut names = Vec::new();
        for field in &column.select {
            let name = format!("{}_{field}", column.name);
            match &column.method {
                Method::Window { stats, .. } => {
                    names.extend(stats.iter().map(|stat| format!("{name}_{}", stat.as_str())));
                }
                _ if self.is_object(&column.stream, field) => names.push(format!("{name}_hash")),
                _ => names.push(name),
            }
        }
        names
    }
}
