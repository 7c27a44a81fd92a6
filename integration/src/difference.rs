//! A readable difference of two sequences of events: call by call, field by field.

use std::fmt::Write as _;

use serde_json::Value;

/// What two values differ in: one line a place, `path: expected … found …`. Empty when they are equal.
pub fn between(expected: &Value, found: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    walk("", expected, found, &mut lines);
    lines
}

/// The difference of two sequences of events that should be equal, in order, as a text for people; none when they are.
pub fn of_events(expected: &[Value], found: &[Value]) -> Option<String> {
    /// More than this many differing calls are counted, not shown.
    const SHOWN: usize = 10;
    let mut text = String::new();
    let mut differing = 0;
    for index in 0..expected.len().max(found.len()) {
        let lines = match (expected.get(index), found.get(index)) {
            (Some(expected), Some(found)) => between(expected, found),
            (Some(expected), None) => vec![format!("missing: {}", headline(expected))],
            (None, Some(found)) => vec![format!("unexpected: {}", headline(found))],
            (None, None) => Vec::new(),
        };
        if lines.is_empty() {
            continue;
        }
        differing += 1;
        if differing > SHOWN {
            continue;
        }
        let either = expected.get(index).or_else(|| found.get(index)).unwrap_or(&Value::Null);
        // Writing to a String does not fail.
        let _ = writeln!(text, "call {index} ({}):", headline(either));
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    if differing == 0 {
        return None;
    }
    let _ = writeln!(text, "{differing} of {} calls differ", expected.len().max(found.len()));
    Some(text)
}

/// Protocol, operation, target and status of an event: enough to find it.
fn headline(event: &Value) -> String {
    ["protocol", "operation", "target", "status", "completeness"]
        .iter()
        .map(|key| event.get(key).and_then(Value::as_str).unwrap_or("-"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn walk(path: &str, expected: &Value, found: &Value, lines: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            for (key, value) in left {
                let path = join(path, key);
                walk(&path, value, right.get(key).unwrap_or(&Value::Null), lines);
            }
            for (key, value) in right.iter().filter(|(key, _)| !left.contains_key(*key)) {
                walk(&join(path, key), &Value::Null, value, lines);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                walk(&format!("{path}[{index}]"), left, right, lines);
            }
        }
        _ if expected == found => {}
        _ => lines.push(format!("{path}: expected {}, found {}", short(expected), short(found))),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A value on one line, long ones cut.
fn short(value: &Value) -> String {
    /// Enough to recognise a value by.
    const LENGTH: usize = 120;
    let text = value.to_string();
    if text.chars().count() <= LENGTH {
        return text;
    }
    let mut cut: String = text.chars().take(LENGTH).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_events_have_no_difference() {
        let event = json!({"protocol": "http", "request": {"headers": [{"name": "A"}]}});
        assert_eq!(of_events(std::slice::from_ref(&event), std::slice::from_ref(&event)), None);
    }

    #[test]
    fn each_place_is_named() {
        let expected = json!({"a": {"b": [1, 2]}, "gone": 1});
        let found = json!({"a": {"b": [1, 3]}, "new": true});
        assert_eq!(
            between(&expected, &found),
            ["a.b[1]: expected 2, found 3", "gone: expected 1, found null", "new: expected null, found true"]
        );
    }

    #[test]
    fn a_missing_call_is_told_by_its_headline() {
        let call = json!({"protocol": "http", "operation": "GET", "target": "/", "status": "200"});
        let text = of_events(&[call], &[]).expect("they differ");
        assert!(text.contains("missing: http GET / 200 -"), "{text}");
        assert!(text.ends_with("1 of 1 calls differ\n"), "{text}");
    }
}
