//! Configuration from outside: files, variables and flags, right and wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wirecall_service::config::{ConfigArguments, ConfigError, Invalid, Secret, Settings, load_from, print};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    name: String,
    #[serde(default)]
    count: u32,
    #[serde(default)]
    ratio: f64,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    kafka: Kafka,
    #[serde(default)]
    registry: Option<Registry>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Packet,
    File {
        path: PathBuf,
    },
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Kafka {
    bootstrap: String,
    topics: Vec<String>,
    ports: Vec<u16>,
    exactly_once: bool,
    properties: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    url: String,
    #[serde(default)]
    key: Option<Secret>,
}

impl Settings for Config {
    const SERVICE: &'static str = "example";

    fn validate(&self) -> Result<(), Invalid> {
        if self.count > 1000 {
            return Err(Invalid::new(["count"], "must be at most 1000"));
        }
        Ok(())
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

fn load(file: Option<&str>, variables: &[(&str, &str)], flags: &[&str]) -> Result<Config, ConfigError> {
    let arguments = ConfigArguments {
        config: file.map(fixture),
        set: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        ..ConfigArguments::default()
    };
    let variables: Vec<(OsString, OsString)> =
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    load_from(&arguments, variables)
}

/// The message of a failed load, with the fixtures' folder cut off.
fn refusal(file: Option<&str>, variables: &[(&str, &str)], flags: &[&str]) -> String {
    let message = load(file, variables, flags).unwrap_err().to_string();
    message.replace(&format!("{}/", fixture("").to_str().unwrap().trim_end_matches('/')), "")
}

#[test]
fn a_file_is_read_whole() {
    let config = load(Some("good.toml"), &[], &[]).unwrap();
    assert_eq!(config.count, 7);
    assert_eq!(config.kafka.topics, ["a", "b"]);
    assert_eq!(config.kafka.properties["sasl.username"], "me");
    assert_eq!(config.kafka.properties["linger.ms"], "50", "numbers do for settings that are strings");
}

#[test]
fn flags_win_over_variables_and_these_over_the_file() {
    let variables = [("WIRECALL_EXAMPLE__COUNT", "8"), ("WIRECALL_EXAMPLE__KAFKA__BOOTSTRAP", "two:9092")];
    let config = load(Some("good.toml"), &variables, &["count=9"]).unwrap();
    assert_eq!(config.count, 9);
    assert_eq!(config.kafka.bootstrap, "two:9092");
    assert_eq!(config.name, "agent");
}

#[test]
fn text_is_read_as_the_keys_type_asks() {
    let variables = [
        ("WIRECALL_EXAMPLE__NAME", "12"),
        ("WIRECALL_EXAMPLE__COUNT", "1_000"),
        ("WIRECALL_EXAMPLE__RATIO", "0.5"),
        ("WIRECALL_EXAMPLE__KAFKA__TOPICS", "a, b ,c"),
        ("WIRECALL_EXAMPLE__KAFKA__PORTS", "[1, 2]"),
        ("WIRECALL_EXAMPLE__KAFKA__EXACTLY_ONCE", "true"),
        ("WIRECALL_EXAMPLE__MODE", "{ file = { path = \"/x\" } }"),
        ("WIRECALL_EXAMPLE__REGISTRY", "{ url = \"http://r\" }"),
    ];
    let config = load(None, &variables, &[]).unwrap();
    assert_eq!(config.name, "12");
    assert_eq!(config.count, 1000);
    assert!((config.ratio - 0.5).abs() < f64::EPSILON);
    assert_eq!(config.kafka.topics, ["a", "b", "c"]);
    assert_eq!(config.kafka.ports, [1, 2]);
    assert!(config.kafka.exactly_once);
    assert_eq!(config.mode, Mode::File { path: "/x".into() });
    assert_eq!(config.registry.unwrap().url, "http://r");
}

#[test]
fn a_whole_number_may_be_written_with_a_point() {
    assert_eq!(
        load(Some("good.toml"), &[], &["kafka={ ports = [9092.0, 1e3] }"]).unwrap().kafka.ports,
        [9092, 1000]
    );
    let message = refusal(Some("good.toml"), &[], &["kafka={ ports = [0.5] }"]);
    assert!(message.ends_with("`kafka.ports.0`: expected u16, found a number with a fraction"), "{message}");
}

#[test]
fn a_guess_changes_no_text() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Truth(bool),
        Number(i64),
        Text(String),
        List(Vec<u8>),
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Guess {
        value: Any,
    }
    impl Settings for Guess {
        const SERVICE: &'static str = "guess";
    }
    let guess = |text: &str| {
        let variables = [("WIRECALL_GUESS__VALUE".into(), OsString::from(text))];
        load_from::<Guess>(&ConfigArguments::default(), variables).unwrap().value
    };
    assert_eq!(guess("true"), Any::Truth(true));
    assert_eq!(guess("-12"), Any::Number(-12));
    assert_eq!(guess("[3.0]"), Any::List(vec![3]));
    assert_eq!(guess("[1, 2]"), Any::List(vec![1, 2]));
    for text in ["0x1F", "1_000", "007", "1e5", "\"quoted\"", "[not toml", "+5", " 5", ""] {
        assert_eq!(guess(text), Any::Text(text.to_owned()));
    }
}

#[test]
fn keys_with_dots_can_be_set_in_every_way() {
    let lines = "ssl.ca.location=/ca.pem\nsasl.username=lines";
    let variables = [
        ("WIRECALL_EXAMPLE__KAFKA__PROPERTIES", lines),
        ("WIRECALL_EXAMPLE__KAFKA__PROPERTIES__sasl.password", "secret=1"),
    ];
    let config = load(Some("good.toml"), &variables, &["kafka.properties.\"linger.ms\"=5"]).unwrap();
    let expected = [
        ("linger.ms", "5"),
        ("sasl.password", "secret=1"),
        ("sasl.username", "lines"),
        ("ssl.ca.location", "/ca.pem"),
    ];
    let expected: BTreeMap<String, String> =
        expected.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    assert_eq!(config.kafka.properties, expected);
}

#[test]
fn an_empty_variable_takes_back_an_optional_key() {
    assert!(load(Some("good.toml"), &[], &[]).unwrap().registry.is_some());
    let config = load(Some("good.toml"), &[("WIRECALL_EXAMPLE__KAFKA__TOPICS", "")], &["registry="]).unwrap();
    assert!(config.kafka.topics.is_empty());
    assert_eq!(config.registry, None);
}

#[test]
fn a_wrong_file_is_refused_with_its_line_and_the_remedy() {
    let refused = |name: &str| refusal(Some(name), &[], &[]);
    assert_eq!(
        refused("unknown-key.toml"),
        "unknown-key.toml:4: unknown key `kafka.bootstap`; did you mean `bootstrap`?"
    );
    assert_eq!(
        refused("unknown-section.toml"),
        "unknown-section.toml:2: unknown key `nothing-like-it`; known here: name, count, ratio, mode, kafka, registry"
    );
    assert_eq!(
        refused("wrong-type.toml"),
        "wrong-type.toml:3: `count`: expected a whole number, not negative, found a string"
    );
    assert_eq!(refused("negative.toml"), "negative.toml:2: `count`: expected u32, found integer `-1`");
    assert_eq!(
        refused("unknown-word.toml"),
        "unknown-word.toml:2: `mode`: unknown word `pakcet`; did you mean `packet`?"
    );
    assert!(refused("bad-toml.toml").starts_with("bad-toml.toml:2:9: not valid TOML: "));
    assert!(refused("repeated-key.toml").starts_with("repeated-key.toml:2:1: not valid TOML: duplicate key"));
    assert_eq!(
        refused("unquoted-dots.toml"),
        "unquoted-dots.toml:3: `kafka.properties.linger`: expected a string, found a table; a key that has dots must \
         be written in quotes"
    );
    assert_eq!(refused("broken-rule.toml"), "broken-rule.toml:2: `count`: must be at most 1000");
    assert_eq!(
        refused("missing-key.toml"),
        "configuration: the key `name` is missing: set it in the file, by WIRECALL_EXAMPLE__NAME, or by --set"
    );
}

#[test]
fn an_unreadable_file_is_named() {
    let error = load(Some("absent.toml"), &[], &[]).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { path, source }
        if path.ends_with("absent.toml") && source.kind() == std::io::ErrorKind::NotFound));
    assert!(error.to_string().contains("absent.toml cannot be read"), "{error}");
    assert!(matches!(load(Some(""), &[], &[]).unwrap_err(), ConfigError::Unreadable { .. }), "a folder");
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 40).unwrap();
    let arguments = ConfigArguments { config: Some(file.path().into()), ..ConfigArguments::default() };
    let error = load_from::<Config>(&arguments, []).unwrap_err();
    assert!(matches!(error, ConfigError::TooLarge { .. }), "{error}");
}

#[test]
fn a_wrong_variable_is_named() {
    let refused = |name: &str, value: &str| refusal(Some("good.toml"), &[(name, value)], &[]);
    assert_eq!(
        refused("WIRECALL_EXAMPLE__KAFKA__BOOTSTRAPS", "x"),
        "environment variable WIRECALL_EXAMPLE__KAFKA__BOOTSTRAPS: unknown key `kafka.bootstraps`; did you mean \
         `bootstrap`?"
    );
    assert_eq!(
        refused("WIRECALL_EXAMPLE__COUNT", "many"),
        "environment variable WIRECALL_EXAMPLE__COUNT: `count`: expected a whole number, not negative, found text"
    );
    assert_eq!(
        refused("WIRECALL_EXAMPLE__KAFKA__PORTS", "1,x"),
        "environment variable WIRECALL_EXAMPLE__KAFKA__PORTS: `kafka.ports.1`: expected a whole number, not negative, \
         found text"
    );
    assert_eq!(
        refused("WIRECALL_EXAMPLE__COUNT", "5000"),
        "environment variable WIRECALL_EXAMPLE__COUNT: `count`: must be at most 1000"
    );
    assert!(refused("WIRECALL_EXAMPLE__", "x").contains("an empty key"));
}

#[test]
fn a_wrong_flag_is_named() {
    let refused = |flag: &str| refusal(Some("good.toml"), &[], &[flag]);
    assert_eq!(
        refused("kafka.x=1"),
        "flag --set kafka.x: unknown key `kafka.x`; known here: bootstrap, topics, \
        ports, exactly_once, properties"
    );
    assert!(refused("count").starts_with("flag --set count: write key=value"));
    assert!(refused("a..b=1").starts_with("flag --set a..b: write key=value"));
}

#[test]
fn no_message_shows_a_secret() {
    for message in [
        refusal(Some("secret-of-wrong-type.toml"), &[], &[]),
        refusal(Some("good.toml"), &[("WIRECALL_EXAMPLE__KAFKA__PROPERTIES", "do-not-show")], &[]),
        refusal(Some("good.toml"), &[], &["kafka.properties.\"sasl.password=do-not-show"]),
    ] {
        assert!(!message.contains("do-not-show"), "{message}");
    }
}

#[test]
fn the_printed_configuration_masks_secrets_and_shows_defaults() {
    let mut config =
        load(Some("good.toml"), &[("WIRECALL_EXAMPLE__REGISTRY__KEY", "do-not-show")], &[]).unwrap();
    let printed = print(&config).unwrap();
    assert!(!printed.contains("do-not-show"), "{printed}");
    for line in [
        "mode = \"packet\"",
        "\"sasl.password\" = \"***\"",
        "url = \"https://user:***@registry:8081\"",
        "key = \"***\"",
    ] {
        assert!(printed.contains(line), "{line} is not in {printed}");
    }
    // Read again, it is the same configuration but for the secrets.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &printed).unwrap();
    let arguments = ConfigArguments { config: Some(file.path().into()), ..ConfigArguments::default() };
    let again: Config = load_from(&arguments, []).unwrap();
    config.kafka.properties.insert("sasl.password".into(), "***".into());
    config.registry =
        Some(Registry { url: "https://user:***@registry:8081".into(), key: Some(Secret::new("***")) });
    assert_eq!(again, config);
}

#[test]
fn a_file_cut_at_any_byte_is_read_or_refused() {
    let whole = std::fs::read(fixture("good.toml")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let arguments = ConfigArguments { config: Some(file.path().into()), ..ConfigArguments::default() };
    for length in 0..whole.len() {
        std::fs::write(file.path(), &whole[..length]).unwrap();
        if let Err(error) = load_from::<Config>(&arguments, []) {
            let message = error.to_string();
            let placed =
                message.starts_with(file.path().to_str().unwrap()) || message.contains("`name` is missing");
            assert!(placed && !message.contains("do-not-show"), "cut at {length}: {message}");
        }
    }
}

#[test]
fn bytes_that_are_not_text_are_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"name = \"\xff\"\n").unwrap();
    let arguments = ConfigArguments { config: Some(file.path().into()), ..ConfigArguments::default() };
    assert!(matches!(load_from::<Config>(&arguments, []).unwrap_err(), ConfigError::Unreadable { .. }));
    use std::os::unix::ffi::OsStringExt as _;
    let variables = [(OsString::from("WIRECALL_EXAMPLE__NAME"), OsString::from_vec(vec![0xff]))];
    let error = load_from::<Config>(&ConfigArguments::default(), variables).unwrap_err();
    assert!(error.to_string().ends_with("not UTF-8 text"), "{error}");
}
