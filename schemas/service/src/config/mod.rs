//! One struct of configuration per service: defaults, then a TOML file, then the environment, then flags.
//!
//! The whole is read and checked before the service touches the world. Unknown keys are refused wherever they are
//! written, with the nearest known one as a suggestion.
//!
//! # How a key is set
//!
//! The key `bootstrap` in the section `[kafka]` of the service `capture`, later sources over earlier ones:
//!
//! | source | spelling |
//! |---|---|
//! | default | in the service's struct, by `#[serde(default)]` |
//! | file, `--config FILE` or `WIRECALL_CONFIG` | `[kafka]` and `bootstrap = "broker:9092"` |
//! | environment | `WIRECALL_CAPTURE__KAFKA__BOOTSTRAP=broker:9092` |
//! | flag | `--set kafka.bootstrap=broker:9092` |
//!
//! In a variable, two underscores part the keys and case does not matter. The value is read as the key's type asks:
//! numbers (`1_000`), `true` or `false`, text as it is; lists as `a,b,c` or in TOML's brackets; tables as TOML's inline
//! table `{ a = 1 }` or as lines `key=value`. An empty value takes back an optional key.
//!
//! Tables are joined key by key, so a flag may add one setting; everything else is replaced, lists too.
//!
//! librdkafka's keys have dots. All of these set `sasl.username`:
//!
//! - file: `[kafka.properties]` and `"sasl.username" = "me"` (with the quotes),
//! - a variable whose name has dots, as Kubernetes and `env` allow: `WIRECALL_CAPTURE__KAFKA__PROPERTIES__sasl.username=me`,
//! - lines in the variable of the table, for shells: `WIRECALL_CAPTURE__KAFKA__PROPERTIES='sasl.username=me'`,
//! - flag: `--set 'kafka.properties."sasl.username"=me'`.

mod decode;
mod environment;
mod error;
mod file;
mod node;
mod secret;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use decode::{DecodeError, Problem};
pub use error::{ConfigError, Invalid};
use node::Node;
pub use secret::{MASK, Secret, is_secret, without_password};

/// The configuration of a service.
///
/// Derive `Deserialize` with `#[serde(default, deny_unknown_fields)]` on the struct and on its sections. Avoid
/// `#[serde(flatten)]` and untagged enums: serde then guesses types before the key's type is known, and an error can
/// no longer name the inner key.
pub trait Settings: Serialize + DeserializeOwned {
    /// The service's name, as in its variables and metrics: `capture`, `dissector`, `enricher`.
    const SERVICE: &'static str;

    /// Checks what types cannot say: ranges, and keys that only make sense together.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, with its key.
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// The flags of every service that concern its configuration; flatten them into the service's own.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigArguments {
    /// TOML file with the configuration
    #[arg(long, value_name = "FILE", env = "WIRECALL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one key over file and environment; quote a key that has dots: kafka.properties."linger.ms"=50
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Read and check the configuration, say so, and end
    #[arg(long)]
    pub check_config: bool,
    /// Print the effective configuration as TOML, secrets masked, and end
    #[arg(long)]
    pub print_config: bool,
}

/// Loads the configuration of a service. `None` says that the flags asked only for it to be checked or printed, which
/// is done: the program ends with success.
///
/// # Errors
///
/// The first thing that is wrong, with its place and key.
pub fn load<S: Settings>(arguments: &ConfigArguments) -> Result<Option<S>, ConfigError> {
    let settings = load_from(arguments, std::env::vars_os())?;
    if !arguments.print_config && !arguments.check_config {
        return Ok(Some(settings));
    }
    let answer = if arguments.print_config { print(&settings)? } else { "ok\n".to_owned() };
    let mut out = std::io::stdout().lock();
    out.write_all(answer.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| ConfigError::Output { source })?;
    Ok(None)
}

/// As [`load`], from the given variables and without output; for tests and for programs that hold several services.
///
/// # Errors
///
/// As [`load`].
pub fn load_from<S: Settings>(
    arguments: &ConfigArguments,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<S, ConfigError> {
    let mut root = Node::root();
    if let Some(path) = &arguments.config {
        root.merge(file::read(path)?);
    }
    environment::apply(&mut root, S::SERVICE, variables)?;
    for flag in &arguments.set {
        environment::set(&mut root, flag)?;
    }
    let settings = S::deserialize(root.clone()).map_err(|error| explain(S::SERVICE, error))?;
    settings.validate().map_err(|invalid| broken_rule(&root, invalid))?;
    Ok(settings)
}

/// The effective configuration as TOML, secrets masked.
///
/// # Errors
///
/// If it does not fit into TOML, as a number above 2⁶³ − 1.
pub fn print<S: Serialize>(settings: &S) -> Result<String, ConfigError> {
    let mut table = toml::Table::try_from(settings)?;
    secret::mask(&mut table);
    Ok(toml::to_string_pretty(&table)?)
}

fn broken_rule(root: &Node, invalid: Invalid) -> ConfigError {
    let key = node::spell(&invalid.key);
    let place = root
        .origin_of(&invalid.key)
        .map_or_else(|| "configuration, a default value".to_owned(), ToString::to_string);
    ConfigError::Key { place, problem: format!("`{key}`: {}", invalid.problem), key }
}

fn explain(service: &str, error: DecodeError) -> ConfigError {
    let path: Vec<String> = error.reversed_path.into_iter().rev().collect();
    let key = node::spell(&path);
    let problem = match error.problem {
        Problem::UnknownKey { known } => {
            let written = path.last().map_or("", String::as_str);
            format!("unknown key `{key}`{}", suggestion(written, known))
        }
        Problem::UnknownWord { word, known } => {
            format!("`{key}`: unknown word `{word}`{}", suggestion(&word, known))
        }
        Problem::MissingKey => format!(
            "the key `{key}` is missing: set it in the file, by {}, or by --set",
            environment::variable_of(service, &path)
        ),
        Problem::Value(message) if key.is_empty() => message,
        Problem::Value(message) => format!("`{key}`: {message}"),
    };
    let place = error.origin.map_or_else(|| "configuration".to_owned(), |origin| origin.to_string());
    ConfigError::Key { place, key, problem }
}

/// Least likeness (Jaro-Winkler) of a suggestion: below it a guess misleads more than it helps.
const LIKENESS: f64 = 0.8;

fn suggestion(written: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|word| (strsim::jaro_winkler(written, word), *word))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((_, word)) => format!("; did you mean `{word}`?"),
        None if known.is_empty() => "; no key is known here".to_owned(),
        None => format!("; known here: {}", known.join(", ")),
    }
}
