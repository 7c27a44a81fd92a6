//! Whole conversations through the dissector: those of `testdata/` with the calls that must come out, the conformance
//! suite over those that are undamaged, the limits, and fuzzing.

mod conversation;
mod fuzz;
mod limits;
mod memory;

use super::Http1;
use crate::Registry;
use crate::protocol::conformance::Suite;
use conversation::Conversation;

/// The conversations by topic.
const FILES: &[(&str, &str)] = &[
    ("heads", include_str!("../testdata/heads.txt")),
    ("framing", include_str!("../testdata/framing.txt")),
    ("chunked", include_str!("../testdata/chunked.txt")),
    ("bodies", include_str!("../testdata/bodies.txt")),
    ("pairing", include_str!("../testdata/pairing.txt")),
    ("upgrade", include_str!("../testdata/upgrade.txt")),
    ("close", include_str!("../testdata/close.txt")),
    ("gaps", include_str!("../testdata/gaps.txt")),
    ("joined", include_str!("../testdata/joined.txt")),
    ("odd", include_str!("../testdata/odd.txt")),
];

fn registry() -> Registry {
    Registry::empty().with(Http1)
}

fn conversations() -> impl Iterator<Item = Conversation> {
    FILES.iter().flat_map(|(topic, text)| conversation::parse_file(topic, text))
}

#[test]
fn conversations_give_the_calls_that_are_written_beneath_them() {
    let mut differences = String::new();
    for conversation in conversations() {
        let calls = conversation.play(&registry());
        let rendered = conversation::render(&calls);
        if rendered != conversation.expected {
            differences += &format!("== {}\n{rendered}\n", conversation.name);
        }
    }
    assert!(differences.is_empty(), "these came out differently:\n{differences}");
}

#[test]
fn conversations_give_the_same_calls_byte_by_byte() {
    for conversation in conversations() {
        let calls = conversation.split(1).play(&registry());
        assert_eq!(conversation::render(&calls), conversation.expected, "{}", conversation.name);
    }
}

#[test]
fn conforms() {
    let samples: Vec<_> = conversations().filter_map(|conversation| conversation.sample()).collect();
    assert!(samples.len() > 15, "most conversations are undamaged");
    let calls = Suite { registry: &registry(), tells_sides: true }.run(&samples);
    assert_eq!(calls.len(), samples.len());
}
