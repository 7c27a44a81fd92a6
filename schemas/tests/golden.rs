//! The bytes of a sample of each record, kept as files that any Avro library can read.
//!
//! `UPDATE_GOLDEN=1 cargo test -p wirecall-schemas --test golden` writes them anew; a change of these files is a change
//! of the contract and belongs in the CHANGELOG.

mod common;

use std::fmt::Debug;
use std::path::PathBuf;

use wirecall_schemas::codec::{Decoder, Encoder, Framing};
use wirecall_schemas::{CodecError, Record, Segment};

fn check<R: Record + PartialEq + Debug>(name: &str, sample: &R) {
    let mut bytes = Vec::new();
    Encoder::<R>::new(Framing::SingleObject).expect("schema").encode(sample, &mut bytes).expect("encodes");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.avro"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        std::fs::write(&path, &bytes).expect("writes");
    }
    let golden = std::fs::read(&path).expect("the golden file exists");
    assert_eq!(bytes, golden, "{name}: the bytes differ from {}", path.display());
    assert_eq!(&Decoder::<R>::new().expect("schema").decode(&golden).expect("decodes"), sample);

    let json = serde_json::to_string(sample).expect("JSON");
    assert_eq!(&serde_json::from_str::<R>(&json).expect("reads its JSON"), sample, "{json}");
}

#[test]
fn each_record_has_its_golden_bytes_and_reads_them() {
    check("segment", &common::segment());
    check("call", &common::call());
    check("api-event", &common::event());
    check("identity", &common::identity());
    check("agent", &common::agent());
    check("dead-letter", &common::dead_letter());
}

#[test]
fn confluent_framing_needs_the_schema_behind_its_id() {
    let mut bytes = Vec::new();
    let encoder = Encoder::<Segment>::new(Framing::Confluent { id: 7 }).expect("schema");
    encoder.encode(&common::segment(), &mut bytes).expect("encodes");
    assert_eq!(bytes[..5], [0, 0, 0, 0, 7]);
    let mut decoder = Decoder::<Segment>::new().expect("schema");
    assert_eq!(decoder.decode(&bytes), Err(CodecError::UnknownSchemaId { id: 7 }));
    decoder.learn(7, Segment::SCHEMA_TEXT).expect("learns");
    assert_eq!(decoder.decode(&bytes), Ok(common::segment()));
}

#[test]
fn hostile_bytes_are_errors_at_every_cut() {
    let mut bytes = Vec::new();
    Encoder::<Segment>::new(Framing::SingleObject)
        .expect("schema")
        .encode(&common::segment(), &mut bytes)
        .expect("encodes");
    let decoder = Decoder::<Segment>::new().expect("schema");
    for end in 0..bytes.len() {
        assert!(decoder.decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    bytes.push(0);
    assert_eq!(decoder.decode(&bytes), Err(CodecError::TrailingBytes { left: 1 }));
    assert!(matches!(decoder.decode(b"BM"), Err(CodecError::UnknownFraming { first: b'B' })));
}

#[test]
fn a_record_that_contradicts_itself_is_refused() {
    let mut segment = common::segment();
    assert_eq!(segment.check(), Ok(()));
    segment.chunks[1].length = 6;
    assert!(segment.check().is_err());
    segment.chunks[1].length = -1;
    assert!(segment.check().is_err());
}
