//! What other programs say of the captures: TShark's tables, Zeek's HTTP logs, HAR files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::compare::Key;
use super::files::{Capture, Corpus, Row, Table};

/// What one program says of one capture.
#[derive(Debug)]
pub(crate) struct Opinion {
    /// The program: `tshark`, `zeek` or `har`.
    pub(crate) oracle: &'static str,
    /// The calls it lists.
    pub(crate) calls: Vec<Key>,
}

/// TShark's HTTP/1 tables.
#[derive(Debug)]
pub(crate) struct Tshark {
    captures: BTreeMap<String, Vec<Key>>,
}

/// The calls of each stream of each capture.
type Streams = BTreeMap<(String, String), Vec<Key>>;

impl Tshark {
    /// Reads both tables: the one with out-of-order reassembly, and the one without it.
    ///
    /// Each setting stalls where the other goes on (at a gap, at a reordering), so for each stream the list that
    /// knows more messages counts.
    pub(crate) fn read(corpus: &Corpus) -> Result<Self> {
        let mut streams = Self::table(&corpus.root.join("oracle/http1.tsv"))?;
        for (stream, calls) in Self::table(&corpus.root.join("oracle/http1-ooo-off.tsv"))? {
            let known = streams.entry(stream).or_default();
            if messages(&calls) > messages(known) {
                *known = calls;
            }
        }
        let mut captures: BTreeMap<String, Vec<Key>> = BTreeMap::new();
        for ((capture, _), calls) in streams {
            captures.entry(capture).or_default().extend(calls);
        }
        Ok(Self { captures })
    }

    fn table(path: &Path) -> Result<Streams> {
        let mut streams = Streams::new();
        let rows = Table::read(path)?.rows(|row| {
            let stream = (row.field("capture")?.to_owned(), row.field("tcp_stream")?.to_owned());
            Ok((stream, call(row)?))
        })?;
        for (stream, call) in rows {
            streams.entry(stream).or_default().extend(call);
        }
        Ok(streams)
    }

    /// The calls of a capture; none where the tables do not have it.
    pub(crate) fn calls(&self, capture: &Capture) -> &[Key] {
        self.captures.get(&capture.name).map_or(&[], Vec::as_slice)
    }
}

/// The call of a row; none for a row that says that TShark's output could not be read.
fn call(row: &Row<'_>) -> Result<Option<Key>> {
    let key = Key::new(row.field("method")?, row.field("uri")?, row.field("status")?);
    Ok((row.field("host")? != "XMLERROR").then_some(key))
}

/// Requests and responses in a list.
fn messages(calls: &[Key]) -> usize {
    calls.iter().map(|call| usize::from(!call.method.is_empty()) + usize::from(!call.status.is_empty())).sum()
}

/// What other projects' expectations beside a capture list, where they list calls.
pub(crate) fn beside(capture: &Capture) -> Result<Vec<Opinion>> {
    let folder = capture
        .path
        .with_file_name(format!("{}.expect", capture.path.file_name().unwrap_or_default().to_string_lossy()));
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    let mut opinions = Vec::new();
    for path in paths {
        let name = path.to_string_lossy().into_owned();
        let calls = if name.ends_with("http.log") {
            zeek(&path)?.map(|calls| Opinion { oracle: "zeek", calls })
        } else if name.ends_with(".har") {
            Some(Opinion { oracle: "har", calls: har(&path)? })
        } else {
            None
        };
        opinions.extend(calls);
    }
    Ok(opinions)
}

/// Zeek's `http.log`, without records of which nothing is known; none where it does not have the columns.
fn zeek(path: &Path) -> Result<Option<Vec<Key>>> {
    let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
    let Some(fields) = text.lines().find_map(|line| line.strip_prefix("#fields\t")) else { return Ok(None) };
    let columns: Vec<&str> = fields.split('\t').collect();
    let position = |name: &str| columns.iter().position(|column| *column == name);
    let (Some(method), Some(target), Some(status)) =
        (position("method"), position("uri"), position("status_code"))
    else {
        return Ok(None);
    };
    let records = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let calls = records.filter_map(|line| {
        let values: Vec<&str> = line.split('\t').collect();
        let value = |position: usize| match values.get(position).copied().unwrap_or_default() {
            "-" | "(empty)" => "",
            value => value,
        };
        // Status 0 stands for an answer without a status line, as in HTTP/0.9.
        let status = Some(value(status)).filter(|status| *status != "0").unwrap_or_default();
        let key = Key::new(value(method), value(target), status);
        (key != Key::new("", "", "")).then_some(key)
    });
    Ok(Some(calls.collect()))
}

/// The entries of a HAR file. Its addresses are absolute; what was sent is their part after the authority.
fn har(path: &Path) -> Result<Vec<Key>> {
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let entries = file["log"]["entries"].as_array().context("a HAR file has log.entries")?;
    let calls = entries.iter().map(|entry| {
        let method = entry["request"]["method"].as_str().unwrap_or_default();
        let url = entry["request"]["url"].as_str().unwrap_or_default();
        let path = url.find("://").and_then(|scheme| {
            let authority = &url[scheme + 3..];
            authority.find('/').map(|slash| &authority[slash..])
        });
        let status = entry["response"]["status"].as_u64().map(|status| status.to_string());
        Key::new(method, path.unwrap_or(url), &status.unwrap_or_default())
    });
    Ok(calls.collect())
}

/// Undoes percent encoding, as Zeek does in the targets that it logs.
pub(crate) fn percent_decoded(target: &str) -> String {
    let bytes = target.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while position < bytes.len() {
        let digits = target.get(position + 1..position + 3).filter(|_| bytes[position] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                position += 3;
            }
            None => {
                decoded.push(bytes[position]);
                position += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone_where_it_is_one() {
        assert_eq!(percent_decoded("/a%2Fb%zz%"), "/a/b%zz%");
    }
}
