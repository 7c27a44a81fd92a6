//! Schema ids from a real registry.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use wirecall_bus::config::RegistryConfig;
use wirecall_bus::registry::{ReadError, Registry};
use wirecall_bus::{BusConfig, BusError};
use wirecall_schemas::codec::{Decoder, Encoder, Framing};
use wirecall_schemas::{ByteString, Call, DeadLetter};
use wirecall_test_support::http::Request;
use wirecall_test_support::or_skip;
use wirecall_test_support::registry::Registry as RealRegistry;

const TOPIC: &str = "wirecall.dead-letters";

fn config(url: &str, auto_register: bool) -> BusConfig {
    let registry = RegistryConfig { url: url.to_owned(), auto_register, ..RegistryConfig::default() };
    BusConfig { registry: Some(registry), ..BusConfig::default() }
}

fn letter() -> DeadLetter {
    DeadLetter {
        stage: ByteString::from_static("test"),
        topic: ByteString::from_static("wirecall.segments"),
        partition: 0,
        offset: 1,
        time: None,
        reason: ByteString::from_static("undecodable"),
        error: ByteString::from_static("a test"),
        key: None,
        value: None,
    }
}

fn encode(encoder: &Encoder<DeadLetter>) -> Vec<u8> {
    let mut framed = Vec::new();
    encoder.encode(&letter(), &mut framed).unwrap();
    framed
}

#[test]
fn ids_are_registered_looked_up_and_learnt() {
    let real = or_skip!(RealRegistry::start());
    let url = real.url();
    // What must be there is not there yet.
    let strict = Registry::new(&config(&url, false)).unwrap();
    let error = strict.framing::<DeadLetter>(TOPIC).unwrap_err();
    assert!(
        matches!(&error, BusError::RegistryRefused { subject, .. } if subject == "wirecall.dead-letters-value")
    );
    assert!(error.to_string().contains("auto_register"), "{error}");
    assert_eq!(error.exit_code(), 78);
    // It is registered, and found by the same id from then on.
    let registering = Registry::new(&config(&url, true)).unwrap();
    let framing = registering.framing::<DeadLetter>(TOPIC).unwrap();
    assert!(matches!(framing, Framing::Confluent { .. }));
    assert_eq!(registering.framing::<DeadLetter>(TOPIC).unwrap(), framing);
    assert_eq!(strict.framing::<DeadLetter>(TOPIC).unwrap(), framing);
    let rule = Request::new("GET", &format!("{url}/config/wirecall.dead-letters-value")).send().unwrap();
    assert!(rule.text().contains("FULL_TRANSITIVE"), "{}", rule.text());
    // A reader that has never heard of the id asks.
    let framed = encode(&strict.encoder(TOPIC).unwrap());
    let mut decoder = Decoder::<DeadLetter>::new().unwrap();
    assert_eq!(strict.decode(&mut decoder, &framed).unwrap(), letter());
    // An id that nobody gave out is a dead letter, not a reason to wait.
    let unknown = [&[0, 0x7f, 0xff, 0xff, 0xff], &framed[5..]].concat();
    let error = strict.decode(&mut decoder, &unknown).unwrap_err();
    assert!(matches!(error, ReadError::Undecodable(_)), "{error}");
    // Another record under the same subject breaks compatibility.
    let error = registering.framing::<Call>(TOPIC).unwrap_err();
    assert!(matches!(error, BusError::RegistryRefused { .. }), "{error}");
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let registry = Registry::new(&config("http://127.0.0.1:9", true)).unwrap();
    let error = registry.framing::<DeadLetter>(TOPIC).unwrap_err();
    assert!(matches!(error, BusError::RegistryUnreachable { .. }), "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:9"), "{error}");
    assert_eq!(error.exit_code(), 69);
    // The record may be sound: the reader is told to wait, not to give it up.
    let framed = encode(&Encoder::new(Framing::Confluent { id: 1 }).unwrap());
    let error = registry.decode(&mut Decoder::<DeadLetter>::new().unwrap(), &framed).unwrap_err();
    assert!(matches!(error, ReadError::Bus(BusError::RegistryUnreachable { .. })), "{error}");
}

#[test]
fn without_a_registry_records_carry_their_fingerprint() {
    let registry = Registry::new(&BusConfig::default()).unwrap();
    assert_eq!(registry.framing::<DeadLetter>(TOPIC).unwrap(), Framing::SingleObject);
    let framed = encode(&registry.encoder(TOPIC).unwrap());
    assert_eq!(registry.decode(&mut Decoder::<DeadLetter>::new().unwrap(), &framed).unwrap(), letter());
    let error = registry.decode(&mut Decoder::<DeadLetter>::new().unwrap(), b"nonsense").unwrap_err();
    assert!(matches!(error, ReadError::Undecodable(_)), "{error}");
}
