//! One figure: what was measured, in what case, and what stands beside it from the same run.

use serde_json::{Map, Value, json};

/// A measured value.
#[derive(Debug)]
struct Figure {
    measure: &'static str,
    case: Map<String, Value>,
    metric: &'static str,
    value: f64,
    unit: &'static str,
    beside: Map<String, Value>,
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Sheet {
    json: bool,
    figures: Vec<Figure>,
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

impl Sheet {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, figures: Vec::new() }
    }

    /// Adds a figure; with `--json` it is printed at once.
    pub(crate) fn add(
        &mut self,
        measure: &'static str,
        case: Value,
        metric: &'static str,
        value: f64,
        unit: &'static str,
        beside: Value,
    ) {
        let figure = Figure { measure, case: object(case), metric, value, unit, beside: object(beside) };
        if self.json {
            let line = json!({
                "measure": figure.measure, "case": figure.case, "metric": figure.metric,
                "value": figure.value, "unit": figure.unit, "beside": figure.beside,
            });
            println!("{line}");
        }
        self.figures.push(figure);
    }

    /// The table for people.
    pub(crate) fn print(&self) {
        if self.json {
            return;
        }
        let words = |map: &Map<String, Value>| {
            let shown = |v: &Value| match (v.as_str(), v.as_i64(), v.as_f64()) {
                (Some(text), ..) => text.to_owned(),
                (None, None, Some(number)) => format!("{number:.2}"),
                _ => v.to_string(),
            };
            map.iter().map(|(k, v)| format!("{k} {}", shown(v))).collect::<Vec<_>>().join(", ")
        };
        println!("{:<44} {:>14} {:<12} {:<44} beside", "metric", "value", "unit", "case");
        for f in &self.figures {
            println!(
                "{:<44} {:>14.2} {:<12} {:<44} {}",
                f.metric,
                f.value,
                f.unit,
                words(&f.case),
                words(&f.beside)
            );
        }
    }
}
