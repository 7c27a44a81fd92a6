//! The whole pipeline over a corpus of real captures that nobody here made, held against what other programs say of
//! them, and over the same captures damaged.
//!
//! `WIRECALL_CORPUS` names the corpus; without it, the folder `shared/corpus` beside the workspace; without that, the
//! tests say that they are skipped.

mod compare;
mod damage;
mod files;
mod loss;
mod oracle;
mod parallel;
mod run;
mod verdicts;

use std::collections::HashSet;

use anyhow::{Context, Result};
use wirecall::offline::Options;
use wirecall_capture_core::{CaptureConfig, Limits as CaptureLimits};
use wirecall_dissector_core::Limits as DissectorLimits;
use wirecall_test_support::or_skip;

use compare::{Differences, Key};
use files::{Capture, Corpus};
use loss::Packets;
use oracle::Tshark;
use run::Run;
use verdicts::Verdicts;

/// Options that change nothing of what was sent, so that it can be compared.
fn plain() -> Options {
    let mut options = Options::default();
    options.enrich.redaction.defaults = false;
    options
}

fn run_file(capture: &Capture, options: &Options) -> Result<Run> {
    run::run(&capture.path, options).with_context(|| capture.name.clone())
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
    verdicts.assert_agreement();
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
    let results = parallel::map(&corpus.captures, |capture| {
        let first = run_file(capture, &plain()).unwrap();
        let second = run_file(capture, &plain()).unwrap();
        let mut problems = conservation(&first);
        if first.lines != second.lines || first.fault != second.fault {
            problems.push("two runs differ".to_owned());
        }
        (named(&capture.name, problems), first.account.packets_read)
    });
    let mut verdicts = Verdicts::read("frames-differences.tsv").unwrap();
    for (capture, (_, read)) in corpus.captures.iter().zip(&results) {
        if let Some(frames) = capture.frames.filter(|frames| frames != read) {
            let difference = format!("{frames} frames expected, {read} read");
            verdicts.note(&capture.name, "tshark", Differences::from([(difference, 1)]));
        }
    }
    fail_on(&results.into_iter().flat_map(|(problems, _)| problems).collect::<Vec<_>>());
    verdicts.assert_agreement();
}

#[test]
fn damaged_captures_are_read_as_far_as_they_go() {
    let corpus = or_skip!(Corpus::open());
    let problems = parallel::map(&corpus.captures, |capture| {
        let folder = tempfile::tempdir().unwrap();
        let bytes = std::fs::read(&capture.path).unwrap();
        let variants = if capture.bytes > LARGE { 1 } else { FLIPPED.len() };
        let cut =
            damage::cuts(bytes.len()).into_iter().map(|cut| (format!("cut at {cut}"), bytes[..cut].to_vec()));
        let flipped = FLIPPED.iter().zip(0..).take(variants).map(|(every, seed)| {
            (format!("flipped with seed {seed}"), damage::flipped(&bytes, seed, *every))
        });
        let damaged = cut.chain(flipped).flat_map(|(how, file)| {
            let path = folder.path().join("damaged");
            std::fs::write(&path, file).unwrap();
            let run =
                run::run(&path, &tight()).unwrap_or_else(|error| panic!("{} {how}: {error:#}", capture.name));
            named(&format!("{} {how}", capture.name), conservation(&run))
        });
        damaged.collect::<Vec<_>>()
    });
    fail_on(&problems.concat());
}

/// One byte in so many is replaced; each is a variant with a seed of its own.
const FLIPPED: [u64; 4] = [1_000, 300, 3_000, 50];

/// Captures larger than this are flipped once only.
const LARGE: u64 = 256 << 10;

#[test]
fn lost_packets_invent_no_call() {
    let corpus = or_skip!(Corpus::open());
    let http: Vec<&Capture> = corpus
        .captures
        .iter()
        .filter(|capture| capture.name.contains("/http1/") && capture.bytes < LARGE)
        .collect();
    let problems = parallel::map(&http, |capture| {
        let Some(packets) = Packets::read(&capture.path).unwrap_or_default() else { return Vec::new() };
        let folder = tempfile::tempdir().unwrap();
        let play = |file: Vec<u8>| {
            let path = folder.path().join("lossy");
            std::fs::write(&path, file).unwrap();
            run::run(&path, &plain()).unwrap()
        };
        let truth: HashSet<Vec<String>> = play(packets.without(u64::MAX, 0)).pairs().into_iter().collect();
        let lossy = (0..LOSSY).map(|seed| {
            (format!("loss with seed {seed}"), packets.without([3, 10, 30][seed as usize % 3], seed))
        });
        let disordered = [("disorder".to_owned(), packets.disordered(4, 1))];
        let found = lossy.chain(disordered).flat_map(|(how, file)| {
            let run = play(file);
            let invented = run.pairs().into_iter().filter(|pair| !truth.contains(pair));
            let mut problems: Vec<_> =
                invented.map(|pair| format!("{how}: {} was never said", pair.join(" "))).collect();
            problems.extend(conservation(&run));
            named(&capture.name, problems)
        });
        found.collect::<Vec<_>>()
    });
    fail_on(&problems.concat());
}

/// Lossy copies of each capture; each has another rate and seed.
const LOSSY: u64 = 6;

#[test]
fn no_capture_grows_memory_past_its_bound() {
    let corpus = or_skip!(Corpus::open());
    let options = tight();
    let problems = parallel::map(&corpus.captures, |capture| {
        let run = run_file(capture, &options).unwrap();
        let mut problems = conservation(&run);
        if run.account.peak_held_bytes > MOST_HELD {
            problems.push(format!("{} bytes held", run.account.peak_held_bytes));
        }
        named(&capture.name, problems)
    });
    fail_on(&problems.concat());
}

/// What [`tight`] allows: the capture's bound, and for the dissector the streams and open calls of the connections that
/// the busiest of these captures has at once.
const MOST_HELD: u64 = 768 << 10;

/// Bounds far below the usual ones, so that small captures reach them.
fn tight() -> Options {
    Options {
        capture: CaptureConfig {
            limits: CaptureLimits {
                connections: 16,
                held_bytes: 256 << 10,
                reorder_bytes: 32 << 10,
                reorder_pieces: 16,
                fragment_datagrams: 8,
                recent_ids: 16,
                ..CaptureLimits::default()
            },
            ..CaptureConfig::default()
        },
        limits: DissectorLimits {
            connections: 16,
            stream_bytes: 32 << 10,
            trial_bytes: 8 << 10,
            head_bytes: 16 << 10,
            body_bytes: 8 << 10,
            decoded_bytes: 16 << 10,
            open_calls: 8,
            closed_remembered: 16,
            ..DissectorLimits::default()
        },
        ..plain()
    }
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
