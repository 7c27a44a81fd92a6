//! Runs every case folder under `cases/`: `input.pcap` (and `identities.json` where there is one) must give `expect.jsonl`.
//!
//! `UPDATE_CASES=1 cargo test -p wirecall --test cases` writes the expectations anew; look at the difference before you
//! commit it.

use std::path::{Path, PathBuf};

use serde_json::Value;
use wirecall::difference;
use wirecall::offline::{self, Options};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut cases: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    cases
}

fn options(case: &Path) -> Options {
    let identities = case.join("identities.json");
    Options { identities: identities.exists().then_some(identities), ..Options::default() }
}

/// The events of a case as JSON lines, with the account checked.
fn run(case: &Path) -> String {
    let mut lines = String::new();
    let account = offline::replay(&case.join("input.pcap"), &options(case), |event| {
        lines.push_str(&serde_json::to_string(event).expect("an event is JSON"));
        lines.push('\n');
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{}: {error:#}", case.display()));
    assert!(account.is_conserved(), "{}: packets or bytes are unaccounted for: {account:?}", case.display());
    lines
}

fn parse(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

#[test]
fn every_case_gives_what_it_expects() {
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut failures = Vec::new();
    for case in cases() {
        let found = run(&case);
        let path = case.join("expect.jsonl");
        if update {
            std::fs::write(&path, &found).expect("writes the expectation");
        }
        let expected =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Some(difference) = difference::of_events(&parse(&expected), &parse(&found)) {
            failures.push(format!("{}:\n{difference}", case.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_case_says_where_its_capture_comes_from() {
    for case in cases() {
        let readme = std::fs::read_to_string(case.join("README.md")).unwrap_or_default();
        assert!(
            readme.contains("Origin:"),
            "{}/README.md must name the origin of the capture",
            case.display()
        );
    }
}

#[test]
fn the_same_capture_gives_the_same_bytes() {
    for case in cases() {
        assert_eq!(run(&case), run(&case), "{}", case.display());
    }
}
