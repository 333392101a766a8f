//! Canonical JSON: the one byte form of a commit, so that its hash names it wherever it is computed.
//!
//! Keys sorted by bytes, no floats, integers in decimal, UTF-8, no white space. Sorting is done here and not left to
//! the JSON library's map, whose order another crate's feature choice can change.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::LakeError;
use crate::names::CommitId;

/// Bytes of `value` in canonical form.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let value = serde_json::to_value(value).map_err(|e| e.to_string())?;
    let mut out = String::new();
    write(&value, &mut out)?;
    Ok(out.into_bytes())
}

/// Reads a file that says its form in a member `v`. That is looked at first: a newer form may lack members this build
/// asks for, and is not damaged for it.
pub(crate) fn read_versioned<T: DeserializeOwned>(
    path: &str,
    bytes: &[u8],
    known: u32,
) -> Result<T, LakeError> {
    #[derive(Deserialize)]
    struct Form {
        v: u32,
    }
    let Form { v: found } = serde_json::from_slice(bytes).map_err(|e| LakeError::corrupt(path, e))?;
    if found > known {
        return Err(LakeError::Newer { path: path.to_owned(), found, known });
    }
    serde_json::from_slice(bytes).map_err(|e| LakeError::corrupt(path, e))
}

/// The id of a commit in JSON: SHA-256 over the canonical form without the member `id`. Members a newer writer added
/// are part of the hash, so an older reader still verifies them.
pub(crate) fn id_of(json: &[u8]) -> Result<CommitId, String> {
    let mut value: Value = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let members = value.as_object_mut().ok_or("it is not a JSON object")?;
    members.remove("id");
    let mut out = String::new();
    write(&value, &mut out)?;
    Ok(CommitId::digest_of(out.as_bytes()))
}

fn write(value: &Value, out: &mut String) -> Result<(), String> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) if n.is_f64() => {
            return Err(format!("{n} is a float; canonical form has integers only"));
        }
        Value::Number(n) => out.push_str(&n.to_string()),
        Value::String(s) => write_text(s, out)?,
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push('{');
            for (i, (key, member)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_text(key, out)?;
                out.push(':');
                write(member, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut String) -> Result<(), String> {
    out.push_str(&serde_json::to_string(text).map_err(|e| e.to_string())?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_and_floats_are_refused() {
        let value: Value = serde_json::from_str(
            r#" {"b": [1, -2, 18446744073709551615], "a": {"z": null, "é": "\u0001\"x"}} "#,
        )
        .unwrap();
        let text = String::from_utf8(to_bytes(&value).unwrap()).unwrap();
        assert_eq!(text, "{\"a\":{\"z\":null,\"é\":\"\\u0001\\\"x\"},\"b\":[1,-2,18446744073709551615]}");
        assert!(to_bytes(&1.5f64).is_err());
    }

    #[test]
    fn the_id_covers_members_this_build_does_not_know() {
        let plain = id_of(br#"{"id":"x","v":1}"#).unwrap();
        assert_eq!(plain, id_of(br#"{ "v" : 1 }"#).unwrap());
        assert_ne!(plain, id_of(br#"{"v":1,"more":2}"#).unwrap());
    }
}
