//! Names across sections: no output column twice, and rows sorted by columns there are.

use super::super::model::Recipe;
use super::super::nearest;
use super::super::outputs::ROW_COLUMNS;
use super::super::reader::Reader;
use std::collections::BTreeMap;

impl Reader {
    pub(super) fn output_names(&mut self, recipe: &Recipe) {
        let outputs = recipe.outputs();
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for output in &outputs {
            let Some(first) = seen.insert(&output.name, &output.path) else { continue };
            // Two columns of one name say so themselves.
            let names = recipe.columns.iter().map(|column| column.name.as_str());
            let path = output.path.strip_prefix("column[").and_then(|rest| rest.strip_suffix(']'));
            let own = path.and_then(|n| n.parse::<usize>().ok()).and_then(|n| recipe.columns.get(n));
            let doubled = own.is_some_and(|own| names.filter(|name| *name == own.name.as_str()).count() > 1);
            if doubled {
                continue;
            }
            let text = match first {
                "" => format!("output column {} is every table's own; take another name", output.name),
                path => format!("output column {} is made by {path} too; rename one", output.name),
            };
            self.mistake(output.path.clone(), text);
        }
        self.sort_columns(recipe, &seen);
    }

    fn sort_columns(&mut self, recipe: &Recipe, outputs: &BTreeMap<&str, &str>) {
        for (place, name) in recipe.output.sort.iter().enumerate() {
            // What may be null, or a list, orders nothing.
            if !ROW_COLUMNS.contains(&name.as_str()) {
                let known = if outputs.contains_key(name.as_str()) {
                    "a column of values"
                } else {
                    "no output column"
                };
                let hint = nearest::hint(name, ROW_COLUMNS);
                let text = format!("{name} is {known}; rows are sorted by {}{hint}", ROW_COLUMNS.join(", "));
                self.mistake(format!("output.sort[{place}]"), text);
            }
        }
        if recipe.output.sort.last().is_some_and(|last| last != "row_key") {
            self.mistake("output.sort", "ends with row_key, so that the order of arrival cannot show");
        }
    }
}
