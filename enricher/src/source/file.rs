//! Identities from a file: what `kubectl get … -A -o json` prints.
//!
//! One object, a list, or several of them after one another. The items of a list are read one by one, so a list of a
//! large cluster does not have to fit into memory as a whole.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use wirecall_enricher_core::glob::Glob;
use wirecall_enricher_core::identity::change::{ChangeError, identity_of};
use wirecall_schemas::Identity;

/// The command whose output this module reads, for messages.
const COMMAND: &str = "kubectl get pods,services,endpointslices,nodes,namespaces,replicasets,jobs -A -o json";

/// Why a file of identities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened.
    #[error("cannot open the identity file {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: std::io::Error,
    },
    /// It is not JSON, or cannot be read to its end.
    #[error("the identity file {} is not usable; it should be the output of `{COMMAND}`", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        #[source]
        cause: serde_json::Error,
    },
    /// An object in it cannot be read.
    #[error("the identity file {} holds an object that is not usable", path.display())]
    Object {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: ChangeError,
    },
    /// It holds no object that carries identity.
    #[error("the identity file {} holds no pod, service or node; it should be the output of `{COMMAND}`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the records of a file and gives each to `take`; tells how many there were.
///
/// # Errors
/// When the file cannot be opened, is not JSON, holds an object that cannot be read, or none that carries identity.
pub fn load_file(path: &Path, annotations: &[Glob], take: impl FnMut(Identity)) -> Result<usize, FileError> {
    let file = File::open(path).map_err(|cause| FileError::Open { path: path.to_owned(), cause })?;
    load(BufReader::with_capacity(1 << 16, file), path, annotations, take)
}

/// As [`load_file`], from any reader; `path` is for messages.
///
/// # Errors
/// As [`load_file`].
pub fn load(
    reader: impl Read,
    path: &Path,
    annotations: &[Glob],
    mut take: impl FnMut(Identity),
) -> Result<usize, FileError> {
    let mut count = 0;
    let mut broken: Option<ChangeError> = None;
    let mut each = |object: &Value, kind: Option<&str>| match identity_of(object, kind, annotations) {
        Ok(Some(identity)) => {
            count += 1;
            take(identity);
            true
        }
        Ok(None) => true,
        Err(error) => {
            broken = Some(error);
            false
        }
    };
    let outcome = read_documents(reader, &mut each);
    if let Some(cause) = broken {
        return Err(FileError::Object { path: path.to_owned(), cause });
    }
    outcome.map_err(|cause| FileError::Json { path: path.to_owned(), cause })?;
    if count == 0 {
        return Err(FileError::Empty { path: path.to_owned() });
    }
    Ok(count)
}

/// Takes an object and, for an item of a typed list, its kind; false stops the reading.
type Each<'e> = dyn FnMut(&Value, Option<&str>) -> bool + 'e;

fn read_documents(reader: impl Read, each: &mut Each<'_>) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    loop {
        match deserializer.end() {
            Ok(()) => return Ok(()),
            Err(error) if error.is_io() => return Err(error),
            // There is more: the error says so without taking it.
            Err(_) => deserializer.deserialize_map(Document { each })?,
        }
    }
}

/// An object or a list of objects.
struct Document<'e, 'f> {
    each: &'e mut Each<'f>,
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a Kubernetes object or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut rest = Map::new();
        // Items of a typed list wait for its kind, which may come after them.
        let mut untyped = Vec::new();
        let mut is_list = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                is_list = true;
                map.next_value_seed(Items { each: &mut *self.each, untyped: &mut untyped })?;
            } else {
                rest.insert(key, map.next_value()?);
            }
        }
        let list = Value::Object(rest);
        if !is_list {
            return give(self.each, &list, None);
        }
        let kind = list.get("kind").and_then(Value::as_str).and_then(|kind| kind.strip_suffix("List"));
        untyped.iter().try_for_each(|item| give(self.each, item, kind))
    }
}

struct Items<'e, 'f> {
    each: &'e mut Each<'f>,
    untyped: &'e mut Vec<Value>,
}

impl<'de> DeserializeSeed<'de> for Items<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of Kubernetes objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Value>()? {
            if item.get("kind").is_some() {
                give(self.each, &item, None)?;
            } else {
                self.untyped.push(item);
            }
        }
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        // An empty typed list prints `"items": null`.
        Ok(())
    }
}

/// Gives an object away; the error that stops the reading is replaced by what was wrong with the object.
fn give<E: serde::de::Error>(each: &mut Each<'_>, object: &Value, kind: Option<&str>) -> Result<(), E> {
    if each(object, kind) { Ok(()) } else { Err(E::custom("stopped")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        load(text.as_bytes(), Path::new("ids.json"), &[], |identity| {
            names.push(format!("{}/{}", identity.kind, identity.name));
        })
        .map_err(|error| {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        })?;
        Ok(names)
    }

    #[test]
    fn reads_objects_lists_and_several_documents() {
        for (text, expected) in [
            (r#"{"kind":"Pod","metadata":{"name":"a"}}"#, vec!["Pod/a"]),
            (
                r#"{"apiVersion":"v1","items":[{"kind":"Pod","metadata":{"name":"a"}},{"kind":"Secret"},
                    {"kind":"Node","metadata":{"name":"b"}}],"kind":"List","metadata":{}}"#,
                vec!["Pod/a", "Node/b"],
            ),
            // A typed list leaves the kind of its items out; it may stand before or after them.
            (r#"{"kind":"PodList","items":[{"metadata":{"name":"a"}}]}"#, vec!["Pod/a"]),
            (r#"{"items":[{"metadata":{"name":"a"}}],"kind":"ServiceList"}"#, vec!["Service/a"]),
            (
                "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}\n{\"kind\":\"List\",\"items\":[{\"kind\":\"Job\",\
                 \"metadata\":{\"name\":\"j\"}}]} {\"kind\":\"PodList\",\"items\":null}\n",
                vec!["Pod/a", "Job/j"],
            ),
        ] {
            assert_eq!(names(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_place() {
        for (text, expected) in [
            ("", "holds no pod"),
            ("{\"kind\":\"List\",\"items\":[]}", "kubectl get"),
            ("NAME READY\nweb 1/1", "kubectl get"),
            ("[1]", "line 1"),
            ("{\"kind\":\"Pod\",", "line 1"),
            ("{\"kind\":\"Pod\",\"metadata\":{}}", "a Pod has no metadata.name"),
            (
                "{\"items\":[{\"kind\":\"Pod\",\"metadata\":{\"name\":\"x\",\"creationTimestamp\":\"soon\"}}]}",
                "of Pod x is \"soon\"",
            ),
        ] {
            let message = names(text).unwrap_err();
            assert!(message.contains("ids.json") && message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load_file(Path::new("/nowhere/ids.json"), &[], |_| ()).unwrap_err();
        assert!(matches!(&error, FileError::Open { .. }) && error.to_string().contains("/nowhere/ids.json"));
    }
}
