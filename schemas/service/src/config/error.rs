//! What can be wrong with a configuration, in words that say where and what to do.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// A configuration that cannot be used. The message names the place (file and line, variable, or flag) and the key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is absent, or may not be read.
    #[error("configuration file {path} cannot be read: give a readable file with --config", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is far larger than any configuration.
    #[error("configuration file {path} has {length} bytes, more than {limit}: is it another file?", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The largest length, in bytes.
        limit: u64,
    },
    /// The file is not TOML.
    #[error("{path}:{line}:{column}: not valid TOML: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1, in characters.
        column: usize,
        /// What the TOML parser said.
        message: String,
    },
    /// A variable that belongs to the service cannot be read as a key and a value.
    #[error("environment variable {name}: {problem}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A `--set` flag is not `key=value`.
    #[error("flag --set {text}: {problem}")]
    Flag {
        /// The flag's key, or all of it if it has none.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// A key or its value is wrong.
    #[error("{place}: {problem}")]
    Key {
        /// Where it was written.
        place: String,
        /// The key's path, as TOML spells it.
        key: String,
        /// What is wrong, with the key's name and the remedy.
        problem: String,
    },
    /// The effective configuration cannot be printed.
    #[error("the effective configuration cannot be written as TOML")]
    Print {
        /// What the serializer said.
        #[from]
        source: toml::ser::Error,
    },
    /// The answer of `--print-config` or `--check-config` could not be written.
    #[error("standard output cannot be written")]
    Output {
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// A value that has the right type but breaks a rule of the service, from [`super::Settings::validate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub(super) key: Vec<String>,
    pub(super) problem: String,
}

impl Invalid {
    /// Names the key by its path from the root, e.g. `["kafka", "bootstrap"]`, and the broken rule with its remedy.
    pub fn new<K: Into<String>>(key: impl IntoIterator<Item = K>, problem: impl fmt::Display) -> Self {
        Self { key: key.into_iter().map(Into::into).collect(), problem: problem.to_string() }
    }
}
