//! The schema reference: one page of Markdown made from the schemas, so that documentation cannot lag behind them.

use std::fmt::Write as _;

use serde_json::Value;

use crate::codec::Record;
use crate::{Agent, ApiEvent, Call, DeadLetter, Identity, SchemaError, Segment};

/// The page that `docs/schemas.md` holds; a test keeps the file current.
///
/// # Errors
/// When a schema is not JSON.
pub fn markdown() -> Result<String, SchemaError> {
    let mut page = String::from(
        "# Schema reference\n\nMade from `schemas/avro`; `UPDATE_DOCS=1 cargo test -p wirecall-schemas` writes it anew.\n",
    );
    let records = [
        ("segments", Segment::NAME, Segment::SCHEMA_TEXT),
        ("calls", Call::NAME, Call::SCHEMA_TEXT),
        ("api-events", ApiEvent::NAME, ApiEvent::SCHEMA_TEXT),
        ("identities", Identity::NAME, Identity::SCHEMA_TEXT),
        ("agents", Agent::NAME, Agent::SCHEMA_TEXT),
        ("dead-letters", DeadLetter::NAME, DeadLetter::SCHEMA_TEXT),
    ];
    let mut seen = Vec::new();
    for (topic, name, text) in records {
        let schema: Value =
            serde_json::from_str(text).map_err(|error| SchemaError { name, cause: error.to_string() })?;
        let _ = write!(page, "\n## {name}\n\nTopic `{topic}`. ");
        describe(&schema, 3, &mut seen, &mut page);
    }
    Ok(page)
}

/// Writes the documentation of a named type and of the named types inside it that were not described before.
fn describe(schema: &Value, level: usize, seen: &mut Vec<String>, page: &mut String) {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    let _ = writeln!(page, "{}\n", text("doc"));
    if text("type") == "enum" {
        let symbols = schema.get("symbols").and_then(Value::as_array).into_iter().flatten();
        let symbols: Vec<_> = symbols.filter_map(Value::as_str).map(|symbol| format!("`{symbol}`")).collect();
        let _ = writeln!(page, "{}", symbols.join(", "));
        return;
    }
    let fields: Vec<_> = schema.get("fields").and_then(Value::as_array).into_iter().flatten().collect();
    page.push_str("| field | type | meaning |\n|---|---|---|\n");
    for field in &fields {
        let name = field.get("name").and_then(Value::as_str).unwrap_or_default();
        let doc = field.get("doc").and_then(Value::as_str).unwrap_or_default();
        let _ =
            writeln!(page, "| `{name}` | {} | {doc} |", type_name(field.get("type").unwrap_or(&Value::Null)));
    }
    for field in &fields {
        for inner in named_types(field.get("type").unwrap_or(&Value::Null)) {
            let name = inner.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if !seen.contains(&name) {
                seen.push(name.clone());
                let _ = write!(page, "\n{} {name}\n\n", "#".repeat(level));
                describe(inner, level, seen, page);
            }
        }
    }
}

/// A short name of a type: `string`, `timestamp-micros or null`, `list of Header`.
fn type_name(schema: &Value) -> String {
    match schema {
        Value::String(name) => name.clone(),
        Value::Array(branches) => {
            let mut names: Vec<_> = branches.iter().map(type_name).collect();
            names.sort_by_key(|name| name == "null");
            names.join(" or ")
        }
        Value::Object(object) => {
            let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            match text("type").as_str() {
                "array" => format!("list of {}", type_name(object.get("items").unwrap_or(&Value::Null))),
                "map" => format!("map of {}", type_name(object.get("values").unwrap_or(&Value::Null))),
                "record" | "enum" => text("name"),
                _ if object.contains_key("logicalType") => text("logicalType"),
                other => other.to_owned(),
            }
        }
        _ => String::new(),
    }
}

/// The named types that a type defines, at any depth of unions, lists and maps.
fn named_types(schema: &Value) -> Vec<&Value> {
    match schema {
        Value::Array(branches) => branches.iter().flat_map(named_types).collect(),
        Value::Object(object) => match object.get("type").and_then(Value::as_str) {
            Some("record" | "enum") => vec![schema],
            Some("array") => object.get("items").map(named_types).unwrap_or_default(),
            Some("map") => object.get("values").map(named_types).unwrap_or_default(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}
