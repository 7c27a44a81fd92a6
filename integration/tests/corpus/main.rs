//! The whole pipeline over a corpus of real captures that nobody here made, held against what other programs say of
//! them, and over the same captures damaged.
//!
//! `WIRECALL_CORPUS` names the corpus; without it, the folder `shared/corpus` beside the workspace; without that, the
//! tests say that they are skipped.

mod compare;
mod damage;
mod files;
mod oracle;
mod parallel;
mod run;
mod verdicts;

use std::fmt::Write as _;

use anyhow::{Context, Result};
use wirecall::offline::Options;
use wirecall_capture_core::Limits as CaptureLimits;
use wirecall_dissector_core::Limits as DissectorLimits;
use wirecall_test_support::or_skip;

use compare::{Differences, Key};
use files::{Capture, Corpus};
use oracle::Tshark;
use run::Run;
use verdicts::Verdicts;

/// Options that change nothing of what was sent, so that it can be compared.
fn plain() -> Options {
    Options { redact: false, ..Options::default() }
}

fn run_file(capture: &Capture, options: &Options) -> Result<Run> {
    let bytes = std::fs::read(&capture.path).with_context(|| format!("cannot read {}", capture.name))?;
    run::run(bytes, options).with_context(|| capture.name.clone())
}

/// Fails with all lines at once, so that one run shows everything that is wrong.
fn fail_on(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn http_calls_are_those_that_others_see() {
    let corpus = or_skip!(Corpus::open());
    let tshark = Tshark::read(&corpus).unwrap();
    let differing = parallel::map(&corpus.captures, |capture| differences(capture, &tshark).unwrap());
    let mut verdicts = Verdicts::read("http1-differences.tsv").unwrap();
    for (capture, differing) in corpus.captures.iter().zip(differing) {
        for (oracle, differences) in differing {
            verdicts.note(&capture.name, oracle, differences);
        }
    }
    let disagreement = verdicts.disagreement();
    assert!(disagreement.is_empty(), "not as http1-differences.tsv says:\n{disagreement}");
}

/// The differences from each oracle that lists the capture's calls. TShark read every capture, so a capture that its
/// table does not have holds no HTTP.
fn differences(capture: &Capture, tshark: &Tshark) -> Result<Vec<(&'static str, Differences)>> {
    let found = run_file(capture, &plain())?.calls;
    let mut all = vec![("tshark", compare::differences(tshark.calls(capture), &found))];
    for opinion in oracle::beside(capture)? {
        let differences = match opinion.oracle {
            "zeek" => compare::differences(&decoded(&opinion.calls), &decoded(&found)),
            _ => compare::differences(&opinion.calls, &found),
        };
        all.push((opinion.oracle, differences));
    }
    Ok(all)
}

fn decoded(calls: &[Key]) -> Vec<Key> {
    let decode = |call: &Key| Key { target: oracle::percent_decoded(&call.target), ..call.clone() };
    calls.iter().map(decode).collect()
}

#[test]
fn every_capture_is_conserved_and_gives_the_same_twice() {
    let corpus = or_skip!(Corpus::open());
    let problems = parallel::map(&corpus.captures, |capture| {
        let first = run_file(capture, &plain()).unwrap();
        let second = run_file(capture, &plain()).unwrap();
        let mut problems = conservation(&first);
        if first != second {
            problems.push("two runs differ".to_owned());
        }
        if let Some(frames) = capture.frames
            && frames != first.account.packets_read
        {
            let read = first.account.packets_read;
            problems.push(format!("{read} packets read of {frames} ({:?})", first.fault));
        }
        named(&capture.name, problems)
    });
    fail_on(&problems.concat());
}

/// What is wrong with the account of a run.
fn conservation(run: &Run) -> Vec<String> {
    let mut problems = Vec::new();
    if !run.account.is_conserved() {
        problems.push(format!("packets or bytes are lost or doubled: {:?}", run.account));
    }
    let lines = run.lines.iter().filter(|byte| **byte == b'\n').count() as u64;
    if lines != run.account.calls {
        problems.push(format!("{} calls counted, {lines} events given", run.account.calls));
    }
    problems
}

fn named(name: &str, problems: Vec<String>) -> Vec<String> {
    problems.into_iter().map(|problem| format!("{name}: {problem}")).collect()
}
