//! Keeps `docs/schemas.md` current, and the schemas documented and alike where they share a type.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use wirecall_schemas::{Agent, ApiEvent, Call, DeadLetter, Identity, Record, Segment, reference};

const TEXTS: [&str; 6] = [
    Segment::SCHEMA_TEXT,
    Call::SCHEMA_TEXT,
    ApiEvent::SCHEMA_TEXT,
    Identity::SCHEMA_TEXT,
    Agent::SCHEMA_TEXT,
    DeadLetter::SCHEMA_TEXT,
];

#[test]
fn the_reference_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas.md");
    let page = reference::markdown().expect("the schemas are JSON");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        std::fs::write(&path, &page).expect("writes");
    }
    let file = std::fs::read_to_string(&path).expect("docs/schemas.md exists");
    assert!(file == page, "docs/schemas.md is stale; run UPDATE_DOCS=1 cargo test -p wirecall-schemas");
}

fn walk<'v>(schema: &'v Value, visit: &mut impl FnMut(&'v Value)) {
    visit(schema);
    match schema {
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        Value::Object(object) => object.values().for_each(|value| walk(value, visit)),
        _ => {}
    }
}

#[test]
fn every_type_and_field_is_documented_and_every_enum_has_a_default() {
    for text in TEXTS {
        let schema: Value = serde_json::from_str(text).expect("JSON");
        walk(&schema, &mut |value| {
            let is_named = matches!(value.get("type").and_then(Value::as_str), Some("record" | "enum"));
            let is_field = value.get("name").is_some() && !is_named;
            if (is_named || is_field) && value.get("name").is_some() {
                assert!(
                    value.get("doc").and_then(Value::as_str).is_some_and(|doc| !doc.is_empty()),
                    "{value}"
                );
            }
            if value.get("symbols").is_some() {
                assert_eq!(
                    value.get("default"),
                    value.get("symbols").and_then(|symbols| symbols.get(0)),
                    "{value}"
                );
            }
        });
    }
}

#[test]
fn a_type_that_two_schemas_share_is_the_same_in_both() {
    let mut definitions: BTreeMap<String, Value> = BTreeMap::new();
    for text in TEXTS {
        let schema: Value = serde_json::from_str(text).expect("JSON");
        walk(&schema, &mut |value| {
            let Some("record" | "enum") = value.get("type").and_then(Value::as_str) else { return };
            let name = value.get("name").and_then(Value::as_str).expect("a name").to_owned();
            let shape = with_names_only(value);
            let known = definitions.entry(name.clone()).or_insert_with(|| shape.clone());
            assert_eq!(*known, shape, "{name} differs between two schemas");
        });
    }
}

/// A definition with the named types inside it reduced to their names: where a type is first used differs by schema.
fn with_names_only(schema: &Value) -> Value {
    fn reduce(value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(reduce).collect(),
            Value::Object(object) => match object.get("type").and_then(Value::as_str) {
                Some("record" | "enum") => object["name"].clone(),
                _ => Value::Object(object.iter().map(|(key, value)| (key.clone(), reduce(value))).collect()),
            },
            other => other.clone(),
        }
    }
    match schema {
        Value::Object(object) => {
            Value::Object(object.iter().map(|(key, value)| (key.clone(), reduce(value))).collect())
        }
        other => other.clone(),
    }
}
