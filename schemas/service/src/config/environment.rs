//! Environment variables and `--set` flags to trees.

use std::ffi::OsString;

use toml::de::DeTable;

use super::error::ConfigError;
use super::node::{Node, Origin};

/// Lays the variables of a service over the tree. `WIRECALL_CAPTURE__KAFKA__BOOTSTRAP` is `kafka.bootstrap` of the
/// service `capture`; every variable with the service's prefix must be a key.
pub(super) fn apply(
    root: &mut Node,
    service: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    let prefix = prefix(service);
    let mut own: Vec<_> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(&prefix))
        .collect();
    // A table given as lines sorts before the variables of its single keys, which therefore win.
    own.sort();
    for (name, value) in own {
        let value = value.into_string().map_err(|_| ConfigError::Variable {
            name: name.clone(),
            problem: "its value is not UTF-8 text".to_owned(),
        })?;
        let path = path_of(&name[prefix.len()..]).ok_or_else(|| ConfigError::Variable {
            name: name.clone(),
            problem: format!("an empty key: write {prefix}SECTION__KEY"),
        })?;
        root.merge(Node::leaf(&path, value, &Origin::Variable(name.into())));
    }
    Ok(())
}

/// What the names of a service's variables start with.
pub(super) fn prefix(service: &str) -> String {
    format!("WIRECALL_{}__", service.to_uppercase().replace('-', "_"))
}

/// The variable that sets a key.
pub(super) fn variable_of(service: &str, path: &[String]) -> String {
    let keys: Vec<String> = path.iter().map(|key| key.to_uppercase()).collect();
    format!("{}{}", prefix(service), keys.join("__"))
}

fn path_of(name: &str) -> Option<Vec<String>> {
    name.split("__").map(|key| (!key.is_empty()).then(|| key.to_lowercase())).collect()
}

/// Lays one `--set path=value` over the tree.
pub(super) fn set(root: &mut Node, flag: &str) -> Result<(), ConfigError> {
    let (path, value) = split(flag).ok_or_else(|| ConfigError::Flag {
        // Without a key the text could be a secret that lost its key: do not echo it.
        text: flag.split('=').next().unwrap_or_default().to_owned(),
        problem: "write key=value, with quotes around a key that has dots: kafka.properties.\"linger.ms\"=50"
            .to_owned(),
    })?;
    let origin = Origin::Flag(super::node::spell(&path).into());
    root.merge(Node::leaf(&path, value.to_owned(), &origin));
    Ok(())
}

/// Splits at the first `=` that ends a dotted key of TOML.
fn split(flag: &str) -> Option<(Vec<String>, &str)> {
    flag.match_indices('=').find_map(|(at, _)| {
        let path = dotted(&flag[..at])?;
        Some((path, &flag[at + 1..]))
    })
}

/// Reads a dotted key by asking the TOML parser for a table that holds only it.
fn dotted(key: &str) -> Option<Vec<String>> {
    let line = format!("{key} = 0");
    let mut table = DeTable::parse(&line).ok()?.into_inner();
    let mut path = Vec::new();
    loop {
        let (key, value) = table.into_iter().next()?;
        path.push(key.into_inner().into_owned());
        match value.into_inner() {
            toml::de::DeValue::Table(inner) => table = inner,
            toml::de::DeValue::Integer(_) => return Some(path),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_names_a_path() {
        assert_eq!(path_of("KAFKA__FLUSH_BYTES"), Some(vec!["kafka".into(), "flush_bytes".into()]));
        assert_eq!(
            path_of("KAFKA__PROPERTIES__sasl.username"),
            Some(vec!["kafka".into(), "properties".into(), "sasl.username".into()])
        );
        assert_eq!(path_of(""), None);
        assert_eq!(path_of("KAFKA____X"), None);
        assert_eq!(variable_of("capture", &["kafka".into(), "x".into()]), "WIRECALL_CAPTURE__KAFKA__X");
    }

    #[test]
    fn a_flag_is_split_after_its_key() {
        assert_eq!(split("a.b=c=d"), Some((vec!["a".into(), "b".into()], "c=d")));
        assert_eq!(
            split("kafka.properties.\"x=y.z\"=1"),
            Some((vec!["kafka".into(), "properties".into(), "x=y.z".into()], "1"))
        );
        assert_eq!(split("no value"), None);
        assert_eq!(split("=1"), None);
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let mut root = Node::root();
        let variables = [("WIRECALL_CAPTURE_SERVICE_HOST", "10.0.0.1"), ("WIRECALL_ENRICHER__X", "1")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        apply(&mut root, "capture", variables).unwrap();
        assert_eq!(root, Node::root());
    }
}
