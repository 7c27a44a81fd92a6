//! Evolution is FULL_TRANSITIVE: today's schemas read what every released version wrote, and every released version
//! reads what today's write.
//!
//! `tests/released/<version>/` holds the schemas and the golden records of each release, and never changes.
//! `RELEASE=<version> cargo test -p wirecall-schemas --test evolution` adds one.

mod common;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use wirecall_schemas::codec::{Decoder, Encoder, Framing};
use wirecall_schemas::{Agent, ApiEvent, Call, DeadLetter, Identity, Record, Segment};

/// The records by the name of their files.
const FILES: [&str; 6] = ["segment", "call", "api-event", "identity", "agent", "dead-letter"];

fn released() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/released");
    if let Some(version) = std::env::var_os("RELEASE") {
        let target = folder.join(version);
        std::fs::create_dir_all(&target).expect("creates the release's folder");
        for name in FILES {
            let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
            for source in
                [root.join(format!("avro/{name}.avsc")), root.join(format!("tests/golden/{name}.avro"))]
            {
                std::fs::copy(&source, target.join(source.file_name().expect("a file"))).expect("copies");
            }
        }
    }
    let mut releases: Vec<_> = std::fs::read_dir(&folder)
        .expect("tests/released")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    releases.sort();
    assert!(!releases.is_empty(), "there is at least one release");
    releases
}

fn schema_in(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(format!("{name}.avsc"))).expect("a released schema")
}

#[test]
fn each_release_and_today_read_each_other() {
    let today = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("avro");
    for release in released() {
        for name in FILES {
            let old = Schema::parse_str(&schema_in(&release, name)).expect("a released schema parses");
            let new = Schema::parse_str(&schema_in(&today, name)).expect("today's schema parses");
            SchemaCompatibility::mutual_read(&old, &new)
                .unwrap_or_else(|error| panic!("{name} against {}: {error}", release.display()));
        }
    }
}

#[test]
fn the_check_sees_a_field_that_went_and_a_field_without_default() {
    let old = Schema::parse_str(Segment::SCHEMA_TEXT).expect("parses");
    for (text, replacement) in
        [(r#""name": "partition""#, r#""name": "shard""#), (r#""type": "long""#, r#""type": "string""#)]
    {
        let changed = Segment::SCHEMA_TEXT.replacen(text, replacement, 1);
        assert_ne!(changed, Segment::SCHEMA_TEXT, "the schema still has {text}");
        let new = Schema::parse_str(&changed).expect("parses");
        assert!(SchemaCompatibility::mutual_read(&old, &new).is_err(), "{replacement} must not pass");
    }
}

/// Today's type reads the records that the release wrote, with the release's schema.
fn reads<R: Record + PartialEq + Debug>(name: &str, sample: &R) {
    for release in released() {
        let datum = std::fs::read(release.join(format!("{name}.avro"))).expect("a released record");
        let mut framed = vec![0, 0, 0, 0, 1];
        framed.extend_from_slice(&datum[10..]);
        let mut decoder = Decoder::<R>::new().expect("schema");
        decoder.learn(1, &schema_in(&release, name)).expect("a released schema parses");
        let read = decoder
            .decode(&framed)
            .unwrap_or_else(|error| panic!("{name} of {}: {error}", release.display()));
        // What the release knew is unchanged: written and read again with today's schema it is the same record.
        let mut again = Vec::new();
        Encoder::new(Framing::SingleObject).expect("schema").encode(&read, &mut again).expect("encodes");
        assert_eq!(Decoder::<R>::new().expect("schema").decode(&again).as_ref(), Ok(&read));
        assert_eq!(&read, sample, "{name} of {}", release.display());
    }
}

#[test]
fn the_records_of_each_release_are_still_read() {
    reads::<Segment>("segment", &common::segment());
    reads::<Call>("call", &common::call());
    reads::<ApiEvent>("api-event", &common::event());
    reads::<Identity>("identity", &common::identity());
    reads::<Agent>("agent", &common::agent());
    reads::<DeadLetter>("dead-letter", &common::dead_letter());
}
