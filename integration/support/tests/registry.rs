//! The schema registry really starts, keeps a schema and refuses an incompatible one.

use serde_json::json;
use wirecall_test_support::http::Request;
use wirecall_test_support::or_skip;
use wirecall_test_support::registry::Registry;

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

#[test]
fn a_schema_is_kept_and_an_incompatible_one_refused() {
    let registry = or_skip!(Registry::start());
    let base = registry.url();
    let subject = format!("{base}/subjects/calls-value/versions");
    let register = |schema: &str| {
        let body = json!({ "schema": schema }).to_string();
        Request::new("POST", &subject).body(MEDIA_TYPE, body).send().unwrap()
    };
    let first = r#"{"type":"record","name":"Call","fields":[{"name":"id","type":"string"}]}"#;
    let id = register(first).json().unwrap()["id"].as_u64().unwrap();
    let kept = Request::new("GET", &format!("{base}/schemas/ids/{id}")).send().unwrap().json().unwrap();
    assert_eq!(kept["schema"], first);

    let level = json!({"compatibility": "FULL_TRANSITIVE"}).to_string();
    let configured =
        Request::new("PUT", &format!("{base}/config/calls-value")).body(MEDIA_TYPE, level).send().unwrap();
    assert!(configured.is_success(), "{}", configured.text());
    let other = r#"{"type":"record","name":"Call","fields":[{"name":"id","type":"long"}]}"#;
    let refused = register(other);
    assert_eq!(refused.status, 409, "{}", refused.text());
}
