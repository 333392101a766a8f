//! The columns a recipe's table will have, by name and origin.

use super::model::{Column, Method, Recipe, SpineSource, WindowStat};
use headwater_core::id::FieldName;

/// Columns every aligned table begins with.
pub const ROW_COLUMNS: [&str; 7] = ["device", "ts", "ts_ns", "ts_err_ns", "grade", "row_key", "provisional"];

/// A column of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    /// Its name.
    pub name: String,
    /// Where it comes from in the recipe: `spine`, `column[1]`; empty for what every table has.
    pub path: String,
    /// What it holds.
    pub holds: Holds,
}

/// What a column of the output holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// Identity and time of the row.
    Row,
    /// A field of the spine's own sample.
    Spine(FieldName),
    /// A field of the matched sample, or between two.
    Value(FieldName),
    /// A statistic of a field.
    Stat(FieldName, WindowStat),
    /// All values of a field in the window.
    Items(FieldName),
    /// Distances of the items in time.
    ItemTimes,
    /// How many samples may lie on either side of an edge of the window.
    EdgeCount,
    /// Uncertainty of a value.
    Uncertainty(FieldName),
    /// Sources, distance in time and flags.
    Sources,
    /// What is made of the row, or said of its making.
    Derived,
    /// The row's stretch.
    Episode,
}

impl WindowStat {
    /// Name in a recipe and in column names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Std => "std",
            Self::Sum => "sum",
            Self::Count => "count",
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

impl SpineSource {
    /// Fields taken from the spine's own stream.
    #[must_use]
    pub fn select(&self) -> &[FieldName] {
        match self {
            Self::Stream { select, .. } | Self::Event { select, .. } => select,
            Self::Grid { .. } | Self::Union { .. } => &[],
        }
    }
}

impl Recipe {
    /// The columns of its table, in order.
    #[must_use]
    pub fn outputs(&self) -> Vec<OutputColumn> {
        let mut all = Vec::new();
        let mut add = |name: String, path: &str, holds: Holds| {
            all.push(OutputColumn { name, path: path.to_owned(), holds });
        };
        for name in ROW_COLUMNS {
            add(name.to_owned(), "", Holds::Row);
        }
        for field in self.spine.source.select() {
            add(field.to_string(), "spine", Holds::Spine(field.clone()));
        }
        for (place, column) in self.columns.iter().enumerate() {
            let path = format!("column[{place}]");
            of_column(column, |name, holds| add(name, &path, holds));
        }
        for (place, derived) in self.derived.iter().enumerate() {
            derived.outputs().for_each(|name| add(name, &format!("derive[{place}]"), Holds::Derived));
        }
        if let Some(episodes) = &self.episodes {
            episodes.outputs().for_each(|name| add(name.to_owned(), "episode", Holds::Episode));
        }
        all
    }
}

fn of_column(column: &Column, mut add: impl FnMut(String, Holds)) {
    let name = &column.name;
    values(column, &mut add);
    let is_window = matches!(column.method, Method::Window { .. } | Method::List { .. });
    if matches!(column.method, Method::List { .. }) {
        add(format!("{name}_dt_ns"), Holds::ItemTimes);
    }
    if column.uncertainty && is_window {
        add(format!("{name}_edge_n"), Holds::EdgeCount);
    }
    add(format!("{name}_src"), Holds::Sources);
    if column.uncertainty && !is_window {
        for field in &column.select {
            add(format!("{name}_{field}_u"), Holds::Uncertainty(field.clone()));
        }
    }
}

fn values(column: &Column, mut add: impl FnMut(String, Holds)) {
    let name = &column.name;
    for field in &column.select {
        match &column.method {
            Method::Window { stats, .. } => {
                for stat in stats {
                    add(format!("{name}_{field}_{}", stat.as_str()), Holds::Stat(field.clone(), *stat));
                }
            }
            Method::List { .. } => add(format!("{name}_{field}"), Holds::Items(field.clone())),
            _ => add(format!("{name}_{field}"), Holds::Value(field.clone())),
        }
    }
}
