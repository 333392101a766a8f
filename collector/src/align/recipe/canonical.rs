//! The canonical form of a recipe: one text per meaning, so that its hash names it.

use super::{Recipe, RecipeColumn};
use std::collections::BTreeMap;

/// JSON without floats and with sorted ASCII keys (RFC 8785 for what occurs here).
enum Json {
    Null,
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<&'static str, Json>),
}

pub(super) fn canonical(recipe: &Recipe) -> String {
    let whole = Json::Object(BTreeMap::from([
        ("headwater_recipe", text("1")),
        ("name", text(recipe.name.as_str())),
        (
            "spine",
            Json::Object(BTreeMap::from([
                ("stream", text(recipe.spine.as_str())),
                (
                    "select",
                    Json::List(recipe.spine_select.iter().map(|field| text(field.as_str())).collect()),
                ),
                ("min_grade", text(recipe.min_grade.as_str())),
                ("max_err", recipe.max_err_ns.map_or(Json::Null, |ns| text(&ns.to_string()))),
            ])),
        ),
        ("keys", Json::Object(BTreeMap::from([("entity", Json::List(vec![text("device")]))]))),
        ("column", Json::List(recipe.columns.iter().map(column).collect())),
        (
            "watermark",
            Json::Object(BTreeMap::from([("idle_timeout", text(&recipe.idle_timeout_ns.to_string()))])),
        ),
    ]));
    let mut out = String::new();
    write(&whole, &mut out);
    out
}

fn column(column: &RecipeColumn) -> Json {
    Json::Object(BTreeMap::from([
        ("dup", text("last")),
        ("fallback", text("null")),
        ("method", text("previous")),
        ("name", text(column.name.as_str())),
        ("null_policy", text("skip")),
        ("offset", text("0")),
        ("select", Json::List(column.select.iter().map(|field| text(field.as_str())).collect())),
        ("stream", text(column.stream.as_str())),
        ("tolerance", text(&column.tolerance_ns.to_string())),
    ]))
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

/// Every text here is a name, a number or a word of ours: printable ASCII without quotes.
fn write(json: &Json, out: &mut String) {
    match json {
        Json::Null => out.push_str("null"),
        Json::Text(text) => {
            out.push('"');
            out.push_str(text);
            out.push('"');
        }
        Json::List(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (place, (key, member)) in members.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push('"');
                out.push_str(key);
                out.push_str("\":");
                write(member, out);
            }
            out.push('}');
        }
    }
}
