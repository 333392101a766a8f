//! Namespaces and tables as clients write them, as the lake knows them.
//!
//! A table of the lake is `<namespace>.<table>`, so namespaces have one level and both parts are lower case.

use super::failure::Failure;
use headwater_lake::TableName;
use serde::Deserialize;
use serde_json::{Value, json};

/// What joins the levels of a namespace in a path.
const LEVELS: char = '\u{1f}';

/// A table as bodies name it.
#[derive(Debug, Deserialize)]
pub(super) struct Identifier {
    namespace: Vec<String>,
    name: String,
}

impl Identifier {
    /// The table meant.
    pub(super) fn table(&self) -> Result<TableName, Failure> {
        match self.namespace.as_slice() {
            [namespace] => new_table(namespace, &self.name),
            levels => Err(Failure::bad_request(format!(
                "namespace {levels:?}: the lake's namespaces have one level"
            ))),
        }
    }
}

/// The namespace in a path; only one level exists.
pub(super) fn namespace_in_path(text: &str) -> Result<&str, Failure> {
    match text.is_empty() || text.contains(LEVELS) {
        false => Ok(text),
        true => {
            let shown = text.replace(LEVELS, ".");
            Err(Failure::no_namespace(format!("there is no namespace {shown}; the lake's have one level")))
        }
    }
}

/// A table in a path, which is there or is not: a name no table can have is one that is not there.
pub(super) fn table_in_path(namespace: &str, table: &str) -> Result<TableName, Failure> {
    let namespace = namespace_in_path(namespace)?;
    TableName::new(format!("{namespace}.{table}")).map_err(|_| {
        Failure::no_table(format!("there is no table {namespace}.{table}; names are lower case"))
    })
}

/// A table to be made or changed.
pub(super) fn new_table(namespace: &str, table: &str) -> Result<TableName, Failure> {
    TableName::new(format!("{namespace}.{table}")).map_err(|e| Failure::bad_request(e.to_string()))
}

/// A namespace to be made.
pub(super) fn new_namespace(levels: &[String]) -> Result<String, Failure> {
    match levels {
        // It is good if a table in it is.
        [level] if TableName::new(format!("{level}.x")).is_ok() => Ok(level.clone()),
        [level] => Err(Failure::bad_request(format!(
            "namespace {level:?} is not lower-case letters, digits, _ and - beginning with a letter or digit"
        ))),
        levels => {
            Err(Failure::bad_request(format!("namespace {levels:?}: the lake's namespaces have one level")))
        }
    }
}

/// As bodies list it.
pub(super) fn identifier(table: &TableName) -> Value {
    json!({"namespace": [table.namespace()], "name": table.table()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_no_table_has_are_told_apart() {
        assert_eq!(table_in_path("raw", "imu").unwrap().as_str(), "raw.imu");
        assert_eq!(table_in_path("raw", "Imu").unwrap_err().kind, "NoSuchTableException");
        assert_eq!(table_in_path("a\u{1f}b", "x").unwrap_err().kind, "NoSuchNamespaceException");
        assert_eq!(table_in_path("..", "x").unwrap_err().kind, "NoSuchTableException");
        assert_eq!(new_table("raw", "Imu").unwrap_err().kind, "BadRequestException");
        assert!(new_namespace(&["a".into(), "b".into()]).is_err());
        assert!(new_namespace(&["a.b".into()]).is_err());
        assert_eq!(new_namespace(&["my_ns".into()]).unwrap(), "my_ns");
    }
}
