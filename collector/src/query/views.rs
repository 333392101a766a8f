//! A commit as DuckDB views: one file of SQL, `duckdb -init` ready.

use headwater_lake::{CommitId, TableEntry, TableName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// SQL that shows every table of a commit as a view of the same name.
///
/// `extensions` names a folder of DuckDB extension files to load; without it the file says what to load.
#[must_use]
pub fn views_sql(
    commit: &CommitId,
    tables: &BTreeMap<TableName, TableEntry>,
    extensions: Option<&str>,
) -> String {
    let mut sql = format!("-- Views over commit {commit}: they never change.\n");
    match extensions {
        Some(folder) => {
            for name in ["avro", "httpfs", "iceberg"] {
                // Writing to a String cannot fail.
                let _written =
                    writeln!(sql, "LOAD {};", quoted(&format!("{folder}/{name}.duckdb_extension")));
            }
        }
        None => sql.push_str("-- Needs DuckDB's iceberg extension: INSTALL iceberg; LOAD iceberg;\n"),
    }
    let namespaces: BTreeSet<&str> = tables.keys().map(TableName::namespace).collect();
    for namespace in namespaces {
        let _written = writeln!(sql, "CREATE SCHEMA IF NOT EXISTS {};", identifier(namespace));
    }
    for (name, entry) in tables {
        let _written = writeln!(
            sql,
            "CREATE OR REPLACE VIEW {}.{} AS SELECT * FROM iceberg_scan({});",
            identifier(name.namespace()),
            identifier(name.table()),
            quoted(&entry.metadata_location)
        );
    }
    sql
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
