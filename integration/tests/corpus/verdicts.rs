//! The checked-in table that explains where we and an oracle differ: who is right, and how the bytes prove it.
//!
//! A difference without a row fails the test, and so does a row without its difference: the table says neither less
//! nor more than what is so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::compare::Differences;
use super::files::{Row, Table};

/// Who is right.
const VERDICTS: [&str; 3] = ["ours_right", "oracle_right", "not_decidable"];

/// A reason shorter than this does not say which frames prove it.
const SHORTEST_REASON: usize = 20;

/// The capture, the oracle, and the difference in words.
type Case = (String, String, String);

/// The rows of the table, and what was found.
#[derive(Debug)]
pub(crate) struct Verdicts {
    name: String,
    explained: BTreeMap<Case, usize>,
    found: BTreeMap<Case, usize>,
}

impl Verdicts {
    /// Reads the table.
    pub(crate) fn read(name: &str) -> Result<Self> {
        let rows = Table::read(&path(name))?.rows(explained)?;
        let count = rows.len();
        let explained: BTreeMap<Case, usize> = rows.into_iter().collect();
        ensure!(explained.len() == count, "{name} explains a difference twice");
        Ok(Self { name: name.to_owned(), explained, found: BTreeMap::new() })
    }

    /// Notes what was found for one capture and oracle.
    pub(crate) fn note(&mut self, capture: &str, oracle: &str, differences: Differences) {
        for (difference, count) in differences {
            self.found.insert((capture.to_owned(), oracle.to_owned(), difference), count);
        }
    }

    /// Fails with all rows that are missing or stale.
    pub(crate) fn assert_agreement(&self) {
        let disagreement = self.disagreement();
        assert!(disagreement.is_empty(), "not as tests/corpus/{} says:\n{disagreement}", self.name);
    }

    /// What does not agree with the table, in rows ready for it; empty when all is explained.
    fn disagreement(&self) -> String {
        let mut text = String::new();
        let unexplained = self.found.iter().filter(|(case, count)| self.explained.get(*case) != Some(count));
        for ((capture, oracle, difference), count) in unexplained {
            _ = writeln!(text, "unexplained\t{capture}\t{oracle}\t{difference}\t{count}");
        }
        let stale = self.explained.iter().filter(|(case, count)| self.found.get(*case) != Some(count));
        for ((capture, oracle, difference), count) in stale {
            _ = writeln!(text, "stale\t{capture}\t{oracle}\t{difference}\t{count}");
        }
        text
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn explained(row: &Row<'_>) -> Result<(Case, usize)> {
    let verdict = row.field("verdict")?;
    ensure!(VERDICTS.contains(&verdict), "the verdict {verdict:?} is none of {VERDICTS:?}");
    ensure!(row.field("reason")?.len() >= SHORTEST_REASON, "the reason says too little");
    let case = (
        row.field("capture")?.to_owned(),
        row.field("oracle")?.to_owned(),
        row.field("difference")?.to_owned(),
    );
    Ok((case, row.field("count")?.parse().context("count is not a number")?))
}
