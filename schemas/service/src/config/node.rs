//! The configuration before it has types: a tree in which each value remembers where it was written.
//!
//! All sources (file, environment, flags) become such trees and are laid over each other, so that one decoder can name
//! the line, the variable or the flag whatever is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::file;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of the file.
    File { path: Arc<Path>, line: usize },
    /// An environment variable.
    Variable(Arc<str>),
    /// A `--set` flag, by its key.
    Flag(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
            Self::Flag(key) => write!(formatter, "flag --set {key}"),
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) origin: Option<Origin>,
    pub(super) value: Value,
}

/// Keys and their values. A tree map, so that messages and output do not depend on a hasher.
pub(super) type Table = BTreeMap<String, Node>;

/// A value of the tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    String(String),
    /// Text of a variable or flag: what it means is decided by the type that asks for it.
    Text(String),
    List(Vec<Node>),
    Table(Table),
}

impl Node {
    /// The empty configuration.
    pub(super) fn root() -> Self {
        Self { origin: None, value: Value::Table(Table::new()) }
    }

    /// A tree that holds `text` at `path` and nothing else.
    pub(super) fn leaf(path: &[String], text: String, origin: &Origin) -> Self {
        let leaf = Self { origin: Some(origin.clone()), value: Value::Text(text) };
        path.iter().rev().fold(leaf, |node, key| Self {
            origin: Some(origin.clone()),
            value: Value::Table(Table::from([(key.clone(), node)])),
        })
    }

    /// Lays `over` over this tree: tables are joined key by key, everything else is replaced.
    ///
    /// Text that meets a table is read as a table first, so that a variable may add to a table of the file; empty text
    /// takes the table away.
    pub(super) fn merge(&mut self, over: Self) {
        let under = std::mem::replace(&mut self.value, Value::Boolean(false));
        self.value = match (under.into_table(self.origin.as_ref()), over.value) {
            (Ok(mut under), Value::Table(over)) => {
                join(&mut under, over);
                Value::Table(under)
            }
            (Ok(mut under), Value::Text(text)) if !text.is_empty() => {
                match Value::Text(text).into_table(over.origin.as_ref()) {
                    Ok(over) => {
                        join(&mut under, over);
                        Value::Table(under)
                    }
                    Err(value) => {
                        self.origin = over.origin;
                        value
                    }
                }
            }
            (_, value) => {
                self.origin = over.origin;
                value
            }
        };
    }

    /// Where the value at `path`, or the nearest table above it, was written.
    pub(super) fn origin_of(&self, path: &[String]) -> Option<&Origin> {
        let Some((key, rest)) = path.split_first() else {
            return self.origin.as_ref();
        };
        match &self.value {
            Value::Table(table) => table.get(key)?.origin_of(rest),
            _ => self.origin.as_ref(),
        }
    }
}

fn join(under: &mut Table, over: Table) {
    for (key, node) in over {
        match under.get_mut(&key) {
            Some(present) => present.merge(node),
            None => {
                under.insert(key, node);
            }
        }
    }
}

impl Value {
    /// The table this is, or that its text spells; else the value itself.
    pub(super) fn into_table(self, origin: Option<&Origin>) -> Result<Table, Self> {
        match self {
            Self::Table(table) => Ok(table),
            Self::Text(text) => table_of(&text, origin).ok_or(Self::Text(text)),
            other => Err(other),
        }
    }

    /// What this is called in a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::String(_) => "a string",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// A table written as text: an inline table of TOML, or lines of `key=value`. In a line everything before the first `=`
/// is the key, dots included, because librdkafka's keys have dots.
fn table_of(text: &str, origin: Option<&Origin>) -> Option<Table> {
    if text.trim_start().starts_with('{') {
        return match file::value(text, origin)? {
            Value::Table(table) => Some(table),
            _ => None,
        };
    }
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (key, value) = line.split_once('=')?;
            let node = Node { origin: origin.cloned(), value: Value::Text(value.trim().to_owned()) };
            Some((key.trim().trim_matches('"').to_owned(), node))
        })
        .collect()
}

/// A path as it is written in TOML: keys that are not bare are quoted.
pub(super) fn spell(path: &[String]) -> String {
    let bare = |key: &str| {
        !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    let keys: Vec<_> =
        path.iter().map(|key| if bare(key) { key.clone() } else { format!("\"{key}\"") }).collect();
    keys.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Origin {
        Origin::Variable(name.into())
    }

    #[test]
    fn lines_become_a_table_whose_keys_may_have_dots() {
        let table = table_of("sasl.username=me\n# a remark\n\nssl.ca.location = /ca=1.pem\n", None).unwrap();
        assert_eq!(table["sasl.username"].value, Value::Text("me".into()));
        assert_eq!(table["ssl.ca.location"].value, Value::Text("/ca=1.pem".into()));
        assert!(table_of("no equals sign", None).is_none());
    }

    #[test]
    fn text_adds_to_a_table_below_it() {
        let mut root = Node::root();
        let path = ["kafka".to_owned(), "properties".to_owned()];
        root.merge(Node::leaf(&path, "a.b=1\nc.d=2".into(), &variable("ONE")));
        let deeper = [path[0].clone(), path[1].clone(), "c.d".to_owned()];
        root.merge(Node::leaf(&deeper, "3".into(), &variable("TWO")));
        let Value::Table(table) = root.value.clone() else { panic!("{root:?}") };
        let Value::Table(kafka) = &table["kafka"].value else { panic!("{table:?}") };
        let Value::Table(properties) = &kafka["properties"].value else { panic!("{kafka:?}") };
        assert_eq!(properties["a.b"].value, Value::Text("1".into()));
        assert_eq!(properties["c.d"].value, Value::Text("3".into()));
        assert_eq!(root.origin_of(&deeper), Some(&variable("TWO")));
    }

    #[test]
    fn keys_that_are_not_bare_are_quoted() {
        assert_eq!(spell(&["kafka".into(), "sasl.username".into()]), "kafka.\"sasl.username\"");
    }
}
