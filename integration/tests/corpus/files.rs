//! Finds the corpus of real captures and reads its inventory.
//!
//! The corpus is not part of the project: it holds other projects' captures under their own licences, passwords and
//! malware among them. It is read where it lies, and tests that need it say so and skip where it is absent.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wirecall_test_support::skip::Unavailable;

/// The environment variable that names the corpus folder.
const VARIABLE: &str = "WIRECALL_CORPUS";

/// The captures and what the inventory says of each.
#[derive(Debug)]
pub(crate) struct Corpus {
    /// The folder that holds `manifest.tsv`.
    pub(crate) root: PathBuf,
    /// Every file of the inventory, in its order.
    pub(crate) captures: Vec<Capture>,
}

/// One file of the inventory.
#[derive(Debug)]
pub(crate) struct Capture {
    /// Path below the corpus folder; the name that all tables use.
    pub(crate) name: String,
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Size of the file in bytes.
    pub(crate) bytes: u64,
    /// Frames that TShark read; none where it could not read the file.
    pub(crate) frames: Option<u64>,
}

impl Corpus {
    /// Reads the inventory.
    ///
    /// # Errors
    /// [`Unavailable`] where there is no corpus; any other error is a defect of the corpus.
    pub(crate) fn open() -> Result<Self> {
        let root = root();
        let manifest = root.join("manifest.tsv");
        if !manifest.is_file() {
            return Err(Unavailable::error(format!(
                "no corpus of captures: {} is absent; set {VARIABLE} to a folder that has it",
                manifest.display()
            )));
        }
        let captures = Table::read(&manifest)?.rows(|row| Self::capture(&root, row))?;
        Ok(Self { root, captures })
    }

    fn capture(root: &Path, row: &Row<'_>) -> Result<Capture> {
        let name = row.field("path")?.to_owned();
        Ok(Capture {
            path: root.join(&name),
            bytes: row.field("bytes")?.parse().context("bytes is not a number")?,
            frames: row.field("frames")?.parse().ok().filter(|frames| *frames > 0),
            name,
        })
    }
}

/// The corpus beside the workspace, unless the environment names another.
fn root() -> PathBuf {
    std::env::var_os(VARIABLE)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"), PathBuf::from)
}

/// A table of tab-separated values whose first line names the columns.
pub(crate) struct Table {
    path: PathBuf,
    text: String,
}

/// One line of a [`Table`].
pub(crate) struct Row<'t> {
    columns: &'t [&'t str],
    values: Vec<&'t str>,
}

impl Table {
    /// Reads a file; bytes that are not UTF-8 become replacement characters.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), text: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// Makes a value of each line below the first.
    pub(crate) fn rows<T>(&self, mut make: impl FnMut(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
        let mut lines = self.text.split('\n').map(|line| line.trim_end_matches('\r'));
        let columns: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
        let numbered = lines.zip(2..).filter(|(line, _)| !line.is_empty());
        numbered
            .map(|(line, number)| {
                let row = Row { columns: &columns, values: line.split('\t').collect() };
                make(&row).with_context(|| format!("{} line {number}", self.path.display()))
            })
            .collect()
    }
}

impl Row<'_> {
    /// The value in a named column.
    pub(crate) fn field(&self, column: &str) -> Result<&str> {
        let position = self.columns.iter().position(|name| *name == column);
        position
            .and_then(|position| self.values.get(position))
            .copied()
            .with_context(|| format!("no value in column {column}"))
    }
}
