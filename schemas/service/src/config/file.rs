//! TOML to the tree, with the line of each key.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::node::{Node, Origin, Table, Value};

/// Largest file that is read. Real ones have a few kilobytes; the cap keeps a mistaken path (a capture, a device) from
/// filling the memory.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a configuration file.
pub(super) fn read(path: &Path) -> Result<Node, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned(), length, limit: MAX_FILE_BYTES });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Node, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let (line, column) = position(text, start);
        ConfigError::Syntax { path: path.to_owned(), line, column, message: error.message().to_owned() }
    })?;
    let path: Arc<Path> = path.into();
    let lines = Lines::of(text);
    let origin = |offset: usize| Some(Origin::File { path: Arc::clone(&path), line: lines.line(offset) });
    Ok(Node { origin: None, value: Value::Table(convert_table(table.into_inner(), &origin)) })
}

/// Reads one value in TOML's spelling, as in a variable or a flag; `None` if it is not one.
pub(super) fn value(text: &str, origin: Option<&Origin>) -> Option<Value> {
    let parsed = DeValue::parse(text.trim()).ok()?;
    Some(convert(parsed.into_inner(), &|_| origin.cloned()))
}

type OriginAt<'a> = dyn Fn(usize) -> Option<Origin> + 'a;

fn convert_table(table: DeTable<'_>, origin: &OriginAt<'_>) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            let place = origin(key.span().start);
            (
                key.into_inner().into_owned(),
                Node { origin: place, value: convert(value.into_inner(), origin) },
            )
        })
        .collect()
}

fn convert_item(item: Spanned<DeValue<'_>>, origin: &OriginAt<'_>) -> Node {
    Node { origin: origin(item.span().start), value: convert(item.into_inner(), origin) }
}

fn convert(value: DeValue<'_>, origin: &OriginAt<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        // A number too large for its type stays text: the decoder then says what it expected.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::String(number.as_str().to_owned()), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Value::String(number.as_str().to_owned()), Value::Float)
        }
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|item| convert_item(item, origin)).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, origin)),
    }
}

/// Where the lines of a text start.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1);
        Self(std::iter::once(0).chain(after).collect())
    }

    /// Line of an offset, from 1.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

/// Line and column of an offset, both from 1; the column counts characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_knows_its_line() {
        let text = "top = 1\n\n[kafka]\nbootstrap = \"a\"\n[kafka.properties]\n\"linger.ms\" = 5\n";
        let root = parse(Path::new("x.toml"), text).unwrap();
        let line = |keys: &[&str]| {
            let path: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            root.origin_of(&path).unwrap().to_string()
        };
        assert_eq!(line(&["top"]), "x.toml:1");
        assert_eq!(line(&["kafka", "bootstrap"]), "x.toml:4");
        assert_eq!(line(&["kafka", "properties", "linger.ms"]), "x.toml:6");
    }

    #[test]
    fn a_syntax_error_names_line_and_column() {
        let error = parse(Path::new("x.toml"), "good = 1\nbad = = 2\n").unwrap_err();
        assert!(error.to_string().starts_with("x.toml:2:7: "), "{error}");
    }
}
