//! Bodies: what changes tables comes in as edits of the lake, and table metadata goes out as the bytes it is stored in.

use super::failure::Failure;
use super::names::{Identifier, new_table};
use headwater_lake::{ForeignEdit, TableChange, TableCreate, TableDocument, TableName};
use serde::Deserialize;
use serde_json::Value;

fn json(bytes: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|e| Failure::bad_request(format!("the body is not JSON: {e}")))
}

/// `POST namespaces/{ns}/tables/{t}`.
pub(super) fn change(table: TableName, bytes: &[u8]) -> Result<TableChange, Failure> {
    Ok(TableChange::parse(table, json(bytes)?)?)
}

/// `POST transactions/commit`: every change with its table.
pub(super) fn transaction(bytes: &[u8]) -> Result<Vec<TableChange>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Body {
        table_changes: Vec<Value>,
    }
    #[derive(Deserialize)]
    struct Named {
        identifier: Identifier,
    }
    let wrong = |e: serde_json::Error| Failure::bad_request(format!("the transaction cannot be read: {e}"));
    let body: Body = serde_json::from_value(json(bytes)?).map_err(wrong)?;
    if body.table_changes.is_empty() {
        return Err(Failure::bad_request("the transaction changes no table"));
    }
    let read = |value: Value| {
        let named = Named::deserialize(&value).map_err(wrong)?;
        Ok(TableChange::parse(named.identifier.table()?, value)?)
    };
    body.table_changes.into_iter().map(read).collect()
}

/// `POST namespaces/{ns}/tables`: the table, and whether it is only staged.
pub(super) fn create(namespace: &str, bytes: &[u8]) -> Result<(TableCreate, bool), Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Head {
        name: String,
        #[serde(default)]
        stage_create: bool,
    }
    let value = json(bytes)?;
    let head = Head::deserialize(&value)
        .map_err(|e| Failure::bad_request(format!("the table cannot be read: {e}")))?;
    let create = TableCreate::parse(new_table(namespace, &head.name)?, value)?;
    Ok((create, head.stage_create))
}

/// `POST namespaces`: the levels of its name.
pub(super) fn namespace(bytes: &[u8]) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Body {
        namespace: Vec<String>,
    }
    let body: Body = serde_json::from_value(json(bytes)?)
        .map_err(|e| Failure::bad_request(format!("the namespace cannot be read: {e}")))?;
    Ok(body.namespace)
}

/// A `LoadTableResult` or `CommitTableResponse`: the stored metadata goes out byte for byte, not read and written anew.
pub(super) fn table(document: &TableDocument) -> Vec<u8> {
    let mut body = Vec::with_capacity(document.json.len() + 256);
    body.push(b'{');
    if let Some(location) = &document.location {
        // A JSON string of any text; nothing in it can end it early.
        body.extend_from_slice(b"\"metadata-location\":");
        body.extend_from_slice(Value::from(location.as_str()).to_string().as_bytes());
        body.push(b',');
    }
    body.extend_from_slice(b"\"metadata\":");
    body.extend_from_slice(&document.json);
    body.extend_from_slice(b",\"config\":{}}");
    body
}

/// What a commit that makes these edits says of itself.
pub(super) fn message(edits: &[ForeignEdit]) -> String {
    let part = |edit: &ForeignEdit| match edit {
        ForeignEdit::Change(change) => match change.actions().as_slice() {
            [] => format!("change {}", edit.table()),
            actions => format!("{} {}", actions.join(" and "), edit.table()),
        },
        ForeignEdit::Create(_) => format!("create {}", edit.table()),
        ForeignEdit::Drop(_) => format!("drop {}", edit.table()),
        _ => format!("change {}", edit.table()),
    };
    edits.iter().map(part).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_goes_out_as_it_is_stored() {
        let stored = br#"{"format-version":2,  "x":"\u00e9"}"#;
        let mut document =
            TableDocument { location: Some("file:///a \"b\"".into()), json: stored.to_vec().into() };
        let sent: Value = serde_json::from_slice(&table(&document)).unwrap();
        assert_eq!(sent["metadata-location"], "file:///a \"b\"");
        assert_eq!(sent["metadata"]["x"], "é");
        document.location = None;
        let sent: Value = serde_json::from_slice(&table(&document)).unwrap();
        assert_eq!(sent.get("metadata-location"), None);
    }

    #[test]
    fn bodies_that_are_none_say_what_is_wrong() {
        let kind = |result: Result<Vec<TableChange>, Failure>| result.unwrap_err().message;
        assert!(kind(transaction(b"{")).contains("not JSON"));
        assert!(kind(transaction(b"{}")).contains("table-changes"));
        assert!(kind(transaction(br#"{"table-changes":[]}"#)).contains("no table"));
        assert!(kind(transaction(br#"{"table-changes":[{"updates":[]}]}"#)).contains("identifier"));
        let odd = br#"{"table-changes":[{"identifier":{"namespace":["raw"],"name":"imu"},"updates":[{"action":"fly"}]}]}"#;
        assert!(kind(transaction(odd)).contains("fly"));
    }
}
