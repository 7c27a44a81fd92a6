//! Nothing secret survives, what is no secret does, and the event says what went.

use proptest::prelude::*;
use wirecall_schemas::{ApiEvent, Blob, Body, Finding, Header, Http, Message};

use super::json::{JsonJudge, NotJson, redact_json};
use super::multipart::redact_multipart;
use super::pairs::{redact_cookies, redact_pairs, redact_url};
use super::*;
use crate::glob::Glob;
use crate::testing::event;

fn header(name: &str, value: &str) -> Header {
    Header { name: name.into(), value: value.into() }
}

fn body(media_type: &str, content: &str) -> Option<Body> {
    Some(Body {
        content: Some(Blob::new(bytes::Bytes::copy_from_slice(content.as_bytes()))),
        size: i64::try_from(content.len()).ok(),
        media_type: Some(media_type.into()).filter(|text: &ByteString| !text.is_empty()),
        ..Body::default()
    })
}

fn content(message: &Option<Message>) -> Option<String> {
    let content = message.as_ref()?.body.as_ref()?.content.as_ref()?;
    Some(String::from_utf8(content.as_bytes().to_vec()).unwrap())
}

fn redacted(mut event: ApiEvent, rules: Vec<RedactionRule>) -> ApiEvent {
    let mut redactor = Redactor::new(RedactionConfig { defaults: true, rules }).unwrap();
    redactor.redact(&mut event);
    event
}

fn with_body(media_type: &str, text: &str) -> ApiEvent {
    ApiEvent {
        request: Some(Message { body: body(media_type, text), ..Message::default() }),
        ..event("http")
    }
}

fn paths(event: &ApiEvent) -> Vec<(&str, &str, &str)> {
    event.redactions.iter().map(|entry| (&*entry.path, &*entry.rule, &*entry.action)).collect()
}

fn rule(name: &str, action: Action) -> RedactionRule {
    RedactionRule {
        name: name.into(),
        action,
        names: vec![],
        paths: vec![],
        protocols: vec![],
        namespaces: vec![],
    }
}

/// An event with a secret in every place that can hold one. Each secret contains `s3cr3t`.
fn event_full_of_secrets() -> ApiEvent {
    let target = "/login?user=ann&password=s3cr3t-query&x=1#access_token=s3cr3t-fragment";
    ApiEvent {
        operation: Some("POST".into()),
        target: Some(target.into()),
        request: Some(Message {
            headers: vec![
                header("Host", "shop.example"),
                header("AUTHORIZATION", "Bearer s3cr3t-bearer"),
                header("Proxy-Authorization", "Basic czNjcjN0 s3cr3t-basic"),
                header("Cookie", "sid=s3cr3t-sid; theme=s3cr3t-theme; s3cr3t-nameless"),
                header("X-Api-Key", "s3cr3t-key"),
                header("X-Vault-Token", "s3cr3t-vault"),
                header("Referer", "https://ann:s3cr3t-userinfo@shop.example/a?token=s3cr3t-referer&page=2"),
                header("X-Original-URL", "/login?api_key=s3cr3t;rest&page=3"),
                header("Accept", "*/*;q=0.8"),
            ],
            trailers: vec![header("X-Auth-Token", "s3cr3t-trailer")],
            body: body(
                "application/json",
                r#"{"user":"ann","password":"s3cr3t-json","deep":[{"client_secret":{"v":["s3cr3t-deep"]}}],
                   "pass\u0077ord2":"s3cr3t-escaped","wrapped":"{\"token\":\"s3cr3t-wrapped\"}",
                   "next":"https://x.example/?sig=s3cr3t-link","max_tokens":100,"note":"s3cr3t-bearer"}"#,
            ),
            ..Message::default()
        }),
        response: Some(Message {
            headers: vec![
                header("Set-Cookie", "sid=s3cr3t-set; Path=/; HttpOnly"),
                header("Set-Cookie", "other=s3cr3t-other"),
                header("Location", "https://app.example/cb#id_token=s3cr3t-location&state=5"),
            ],
            body: body("application/x-www-form-urlencoded", "a=1&pass%77ord=s3cr3t%20form&b=2"),
            ..Message::default()
        }),
        http: Some(Http {
            url_query: Some("user=ann&password=s3cr3t-query&x=1".into()),
            url_path: Some("/login;jsessionid=s3cr3t-path".into()),
            ..Http::default()
        }),
        findings: vec![Finding {
            code: "http.example".into(),
            detail: Some("two values: s3cr3t-bearer and another".into()),
        }],
        ..event("http")
    }
}

#[test]
fn no_secret_survives_anywhere_in_the_event() {
    let before = event_full_of_secrets();
    assert!(serde_json::to_string(&before).unwrap().matches("s3cr3t").count() > 20);
    let after = redacted(before, vec![]);
    let json = serde_json::to_string(&after).unwrap();
    assert!(!json.contains("s3cr3t"), "{json}");
    // What is no secret is still there.
    for kept in [
        "user=ann",
        "page=2",
        "page=3",
        "shop.example",
        "sid=[redacted]; theme=[redacted]",
        "Path=/; HttpOnly",
        "state=5",
        "*/*;q=0.8",
        "a=1&",
        "&b=2",
        "token=[redacted]",
    ] {
        assert!(json.contains(kept), "{kept} in {json}");
    }
    let content: serde_json::Value = serde_json::from_str(&content(&after.request).unwrap()).unwrap();
    assert_eq!(content["password"], "[redacted]");
    assert_eq!(content["deep"][0]["client_secret"], "[redacted]");
    assert_eq!(content["max_tokens"], 100);
    assert_eq!(content["user"], "ann");
}

#[test]
fn every_removal_is_listed_once() {
    let after = redacted(event_full_of_secrets(), vec![]);
    assert_eq!(
        paths(&after),
        [
            ("request.headers.authorization", "credentials", "masked"),
            ("request.headers.proxy-authorization", "credentials", "masked"),
            ("request.headers.cookie", "cookies", "masked"),
            ("request.headers.x-api-key", "api-keys", "masked"),
            ("request.headers.x-vault-token", "tokens", "masked"),
            ("request.headers.referer.userinfo", "credentials", "masked"),
            ("request.headers.referer.token", "tokens", "masked"),
            ("request.headers.x-original-url.api_key", "api-keys", "masked"),
            ("request.trailers.x-auth-token", "tokens", "masked"),
            ("request.body.password", "passwords", "masked"),
            ("request.body.deep.client_secret", "tokens", "masked"),
            ("request.body.password2", "passwords", "masked"),
            ("request.body.token", "tokens", "masked"),
            ("request.body.next.sig", "tokens", "masked"),
            ("response.headers.set-cookie", "cookies", "masked"),
            ("response.headers.location.id_token", "tokens", "masked"),
            ("response.body.pass%77ord", "passwords", "masked"),
            ("target.password", "passwords", "masked"),
            ("target.access_token", "tokens", "masked"),
            ("http.url_query.password", "passwords", "masked"),
            ("http.url_path.jsessionid", "cookies", "masked"),
        ]
        .map(|(path, rule, action)| (path.replace("pass%77ord", "password"), rule, action))
        .iter()
        .map(|(path, rule, action)| (path.as_str(), *rule, *action))
        .collect::<Vec<_>>()
    );
}

#[test]
fn an_event_without_secrets_stays_as_it_is() {
    let plain = ApiEvent {
        target: Some("/items?page=2&sort=name".into()),
        request: Some(Message {
            headers: vec![header("Accept", "text/html;q=0.9"), header("Empty-Token", "")],
            body: body(
                "application/json",
                r#"{"max_tokens":1,"password":null,"token":"","has_password":true}"#,
            ),
            ..Message::default()
        }),
        ..event("http")
    };
    assert_eq!(redacted(plain.clone(), vec![]), plain);
}

#[test]
fn the_first_rule_that_fits_decides() {
    let keep = RedactionRule { names: vec![Glob::new("x-public-token")], ..rule("keep", Action::Include) };
    let drop = RedactionRule {
        names: vec![Glob::new("x-*")],
        paths: vec![Glob::new("request.headers.*")],
        ..rule("drop", Action::Exclude)
    };
    let event = ApiEvent {
        request: Some(Message {
            headers: vec![
                header("X-Public-Token", "shown"),
                header("X-Other", "gone"),
                header("Via", "stays"),
            ],
            trailers: vec![header("X-Other", "stays")],
            ..Message::default()
        }),
        ..event("http")
    };
    let after = redacted(event, vec![keep, drop]);
    let request = after.request.as_ref().unwrap();
    assert_eq!(request.headers, [header("X-Public-Token", "shown"), header("Via", "stays")]);
    assert_eq!(request.trailers, [header("X-Other", "stays")]);
    assert_eq!(paths(&after), [("request.headers.x-other", "drop", "removed")]);
}

#[test]
fn rules_can_be_for_a_protocol_or_a_namespace() {
    for (protocols, namespaces, gone) in [
        (vec!["http"], vec![], true),
        (vec!["redis"], vec![], false),
        (vec![], vec!["shop"], true),
        (vec![], vec!["other"], false),
    ] {
        let to_owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
        let rule = RedactionRule {
            names: vec![Glob::new("via")],
            protocols: to_owned(protocols.clone()),
            namespaces: to_owned(namespaces.clone()),
            ..rule("via", Action::Exclude)
        };
        let mut event = ApiEvent {
            request: Some(Message { headers: vec![header("Via", "x")], ..Message::default() }),
            ..event("http")
        };
        event.server.namespace = Some("shop".into());
        let after = redacted(event, vec![rule]);
        assert_eq!(after.redactions.len() == 1, gone, "{protocols:?} {namespaces:?}");
    }
}

#[test]
fn a_body_as_a_whole_can_go_or_stay() {
    let text = r#"{"password":"x","a":1}"#;
    let whole = |action| RedactionRule { paths: vec![Glob::new("request.body")], ..rule("whole", action) };
    let after = redacted(with_body("application/json", text), vec![whole(Action::Exclude)]);
    assert_eq!(content(&after.request), None);
    assert_eq!(paths(&after), [("request.body", "whole", "removed")]);
    let after = redacted(with_body("application/json", text), vec![whole(Action::Include)]);
    assert_eq!(content(&after.request).unwrap(), text);
    let deep = RedactionRule {
        names: vec![Glob::new("a")],
        paths: vec![Glob::new("request.body.*")],
        ..rule("deep", Action::Exclude)
    };
    let after = redacted(with_body("application/json", text), vec![deep]);
    assert_eq!(content(&after.request).unwrap(), r#"{"password":"[redacted]","a":null}"#);
}

#[test]
fn a_body_that_cannot_be_read_and_speaks_of_a_password_goes() {
    for (media_type, text, kept) in [
        ("application/json", r#"{"password" = "x"}"#, false),
        ("application/json", r#"{"user" = "x"}"#, true),
        ("application/json", r#")]}', {"token":"x"}"#, false),
        ("multipart/form-data", "no boundary here; password=x", false),
        ("multipart/form-data", "no boundary here", true),
        ("text/html", "<p>your password</p>", true),
    ] {
        let after = redacted(with_body(media_type, text), vec![]);
        assert_eq!(content(&after.request).is_some(), kept, "{text}");
        let expected = if kept { vec![] } else { vec![("request.body", "unreadable-body", "removed")] };
        assert_eq!(paths(&after), expected, "{text}");
    }
}

#[test]
fn media_types_that_say_nothing_do_not_hide_secrets() {
    for (media_type, text) in [
        ("", r#" {"password":"s3cr3t"}"#),
        ("text/plain", r#"[{"password":"s3cr3t"}]"#),
        ("application/vnd.api+json", r#"{"password":"s3cr3t"}"#),
        ("application/x-ndjson", "{\"a\":1}\n{\"password\":\"s3cr3t\"}\n"),
        ("text/plain", "user=ann&password=s3cr3t"),
        ("", "user=ann&password=s3cr3t"),
        (
            "multipart/form-data",
            "--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\ns3cr3t\r\n--b--\r\n",
        ),
        ("application/json", r#"{"password":"s3cr3t"#),
        ("application/json", r#"{"password":{"a":["s3cr3t"#),
    ] {
        let after = redacted(with_body(media_type, text), vec![]);
        let json = serde_json::to_string(&after).unwrap();
        assert!(!json.contains("s3cr3t") && json.contains("[redacted]"), "{text}: {json}");
    }
}

#[test]
fn multipart_keeps_other_parts_and_headers() {
    let text = "--b\r\nContent-Disposition: form-data; filename=\"name=x\"; name=\"file\"\r\n\r\nkeep\r\n--b\r\n\
                Content-Disposition: form-data; name=pwd\r\n\r\nline1\r\nline2\r\n--b--\r\n";
    let mut judge =
        |name: &[u8], _: &[u8]| (name == b"pwd").then(|| Verdict { rule: "r".into(), remove: false });
    let changed = redact_multipart(text.as_bytes(), &mut judge).unwrap().unwrap();
    assert_eq!(String::from_utf8(changed).unwrap(), text.replace("line1\r\nline2", MASK));
}

#[test]
fn too_many_rules_and_nameless_rules_are_refused() {
    let many = vec![rule("r", Action::Mask); MAX_RULES + 1];
    let error = Redactor::new(RedactionConfig { defaults: false, rules: many }).unwrap_err();
    assert_eq!(error, RedactionError::TooMany { count: MAX_RULES + 1 });
    let error =
        Redactor::new(RedactionConfig { defaults: true, rules: vec![rule("", Action::Mask)] }).unwrap_err();
    assert_eq!(error, RedactionError::NoName { number: 1 });
}

#[test]
fn the_list_of_redactions_is_bounded() {
    let keys: Vec<_> = (0..2 * MAX_LISTED).map(|number| format!(r#""{number}_password":"s3cr3t""#)).collect();
    let after = redacted(with_body("application/json", &format!("{{{}}}", keys.join(","))), vec![]);
    assert_eq!(after.redactions.len(), MAX_LISTED);
    assert!(!content(&after.request).unwrap().contains("s3cr3t"));
}

#[test]
fn nesting_has_a_limit() {
    let text = format!("{}{}", "[".repeat(200), r#"{"password":"s3cr3t"}"#);
    let after = redacted(with_body("application/json", &text), vec![]);
    assert_eq!(paths(&after), [("request.body", "unreadable-body", "removed")]);
}

struct ByKey(Vec<Vec<u8>>);

impl JsonJudge for ByKey {
    fn judge(&mut self, key: &[u8], _: &dyn Fn() -> String) -> Option<Verdict> {
        key.starts_with(b"secret").then(|| Verdict { rule: "r".into(), remove: false })
    }

    fn gone(&mut self, value: &[u8]) {
        self.0.push(value.to_vec());
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
        Just(serde_json::json!("s3cr3t")),
    ];
    let key = prop_oneof![3 => "[a-z\"\\\\é]{0,6}", 1 => Just("secret".to_owned())];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// What the scanner should make of a tree.
fn expected(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Array(items) => items.iter().map(expected).collect(),
        serde_json::Value::Object(map) => {
            let masked = map.iter().map(|(key, value)| {
                let says_something =
                    !matches!(value, serde_json::Value::Null | serde_json::Value::Bool(_)) && value != "";
                let value =
                    if key.starts_with("secret") && says_something { MASK.into() } else { expected(value) };
                (key.clone(), value)
            });
            masked.collect::<serde_json::Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

proptest! {
    /// Redacted JSON is the JSON of the redacted tree.
    #[test]
    fn json_stays_json(value in json_value(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        // Parsed anew, because serde_json reads some fractions one bit off what it wrote.
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let changed = redact_json(text.as_bytes(), &mut ByKey(Vec::new())).unwrap();
        let after = changed.map_or(text, |bytes| String::from_utf8(bytes).unwrap());
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&after).unwrap(), expected(&value));
    }

    /// Text cut anywhere shows no part of a secret value.
    #[test]
    fn cut_json_leaks_nothing(value in json_value(), cut in any::<prop::sample::Index>()) {
        let text = serde_json::json!({"a": value, "secret": "s3cr3t"}).to_string();
        let cut = &text.as_bytes()[..cut.index(text.len())];
        let mut judge = ByKey(Vec::new());
        let changed = redact_json(cut, &mut judge).unwrap();
        let after = String::from_utf8_lossy(changed.as_deref().unwrap_or(cut)).into_owned();
        prop_assert!(!after.contains(r#""secret":"s"#), "{}", after);
    }

    /// No bytes make the scanners panic or loop, and what they leave alone they leave whole.
    #[test]
    fn hostile_bytes_are_read_to_the_end(text in proptest::collection::vec(
        prop_oneof![Just(b'{'), Just(b'"'), Just(b'\\'), Just(b':'), Just(b','), Just(b'['), Just(b']'), Just(b'}'),
                    Just(b'='), Just(b'&'), Just(b'%'), Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'1'), any::<u8>()], 0..64)) {
        let result = redact_json(&text, &mut ByKey(Vec::new()));
        prop_assert!(matches!(result, Ok(_) | Err(NotJson)));
        let mut nothing = |_: &[u8], _: &[u8]| None;
        prop_assert_eq!(redact_pairs(&text, &mut nothing), None);
        prop_assert_eq!(redact_url(&text, &mut nothing), None);
        prop_assert!(!matches!(redact_multipart(&text, &mut nothing), Ok(Some(_))));
        let mut everything = |_: &[u8], _: &[u8]| Some(Verdict { rule: "r".into(), remove: true });
        redact_pairs(&text, &mut everything);
        redact_url(&text, &mut everything);
        redact_cookies(&text, false, |_| {});
    }
}
