//! Captures of other projects: each is read as an independent reader reads it, or ends with a clear error.
//!
//! The corpus is no part of this repository. It is looked for at `WIRECALL_CORPUS`, or beside the workspace.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use wirecall_capture::source::pcap::{PcapError, Reader};
use wirecall_test_support::skip;

/// Time in microseconds, captured and original length of a packet.
type Seen = (i64, usize, u32);

/// Captures that the other reader counts otherwise, and why.
const EXPLAINED: [(&str, &str); 14] = [
    ("suricata-verify/http1/http-mime-truncated.pcap", "one byte follows the last packet: cut short"),
    ("pcap_file_ex/truncated/corrupted.pcap", "a record length is damaged, as the name says"),
    ("libpcap/pcap-format/pcapng-invalid-vers-1.pcapng", "an invalid version, as the name says"),
    (
        "wireshark-wiki/pcap-format/http.bigendian.ntar",
        "its version has the wrong byte order; the other reader refuses it too",
    ),
    ("wireshark-wiki/ldap/protos-ldapv3-app-first3000frames.pcap", "the table has no count"),
    ("wireshark-wiki/ldap/protos-ldapv3-enc-first3000frames.pcap", "the table has no count"),
    ("pcapng-test-generator/pcap-format/output_be__advanced__test102.pcapng", NO_PACKETS),
    ("pcapng-test-generator/pcap-format/output_be__basic__test017.pcapng", NO_PACKETS),
    ("pcapng-test-generator/pcap-format/output_be__basic__test018.pcapng", NO_PACKETS),
    ("pcapng-test-generator/pcap-format/output_be__difficult__test202.pcapng", NO_PACKETS),
    ("pcapng-test-generator/pcap-format/output_le__advanced__test102.pcapng", NO_PACKETS),
    ("pcapng-test-generator/pcap-format/output_le__basic__test017.pcapng", NO_PACKETS),
    ("pcapng-test-generator/pcap-format/output_le__basic__test018.pcapng", NO_PACKETS),
    ("pcapng-test-generator/pcap-format/output_le__difficult__test202.pcapng", NO_PACKETS),
];

const NO_PACKETS: &str = "custom blocks and journal entries are no packets; the other reader counts them";

fn corpus() -> Option<PathBuf> {
    let folder = match std::env::var_os("WIRECALL_CORPUS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"),
    };
    folder.join("manifest.tsv").is_file().then_some(folder)
}

fn read(file: &Path) -> (Vec<Seen>, Result<(), PcapError>) {
    let mut seen = Vec::new();
    let mut reader = match Reader::open(file) {
        Ok(reader) => reader,
        Err(error) => return (seen, Err(error)),
    };
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) => {
                seen.push((packet.time.as_micros(), packet.data.len(), packet.original_length));
            }
            Ok(None) => return (seen, Ok(())),
            Err(error) => return (seen, Err(error)),
        }
    }
}

/// The rows of a table of tab-separated values with a header, as maps from column to value.
fn table(file: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read(file).unwrap();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let columns: Vec<_> = lines.next().unwrap().split('\t').map(str::to_owned).collect();
    lines.map(|line| columns.iter().cloned().zip(line.split('\t').map(str::to_owned)).collect()).collect()
}

/// Seconds with nine decimals as microseconds; none where there is no time.
fn micros(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.')?;
    let fraction: i64 = fraction.get(..6)?.parse().ok()?;
    // Times of the year 584554 exist in broken captures; they are held at the end of the range.
    Some(seconds.parse::<i64>().ok()?.saturating_mul(1_000_000).saturating_add(fraction))
}

#[test]
fn packets_have_the_times_and_lengths_that_another_reader_sees() {
    let Some(corpus) = corpus() else { skip!("no corpus of captures: set WIRECALL_CORPUS to its folder") };
    let mut expected = BTreeMap::<String, Vec<BTreeMap<String, String>>>::new();
    for row in table(&corpus.join("oracle/packets.tsv")) {
        expected.entry(row["capture"].clone()).or_default().push(row);
    }
    assert!(expected.len() > 100, "the table of packets is not what it was");
    let mut differences = Vec::new();
    for (capture, rows) in expected {
        // Its fractions of a second are above a second, where the other reader's arithmetic overflows.
        if capture == "tcpflow/tcp-nasty/bug8.pcap" {
            continue;
        }
        let (seen, _) = read(&corpus.join(&capture));
        let sections = fs::read(corpus.join(&capture)).unwrap().starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]);
        // The other reader also lists journal entries and custom blocks, which belong to no interface.
        let rows: Vec<_> =
            rows.iter().filter(|row| !sections || !row["frame.interface_id"].is_empty()).collect();
        if rows.len() != seen.len() {
            differences.push(format!("{capture}: {} packets, expected {}", seen.len(), rows.len()));
        }
        for (row, packet) in rows.iter().zip(&seen) {
            let length = |column: &str| row[column].parse::<u32>().unwrap();
            let time = micros(&row["frame.time_epoch"]).is_none_or(|time| time == packet.0);
            let whole = length("frame.len").max(length("frame.cap_len"));
            if !time || length("frame.cap_len") as usize != packet.1 || whole != packet.2 {
                differences
                    .push(format!("{capture}, packet {}: {packet:?}, expected {row:?}", row["frame.number"]));
                break;
            }
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// What is different from the table of captures, if anything is.
fn difference(corpus: &Path, row: &BTreeMap<String, String>) -> Option<String> {
    match read(&corpus.join(&row["path"])) {
        // Which link types can be decoded is the core's matter, and grows.
        (seen, Ok(()) | Err(PcapError::UnknownLinkType { .. }))
            if row["frames"].parse() == Ok(seen.len()) =>
        {
            None
        }
        (seen, Ok(())) => Some(format!("{} packets, expected {}", seen.len(), row["frames"])),
        (seen, Err(error)) => Some(format!("{} packets of {}, then: {error}", seen.len(), row["frames"])),
    }
}

#[test]
fn every_capture_is_read_whole_or_ends_with_a_clear_error() {
    let Some(corpus) = corpus() else { skip!("no corpus of captures: set WIRECALL_CORPUS to its folder") };
    let rows = table(&corpus.join("manifest.tsv"));
    let captures: Vec<_> = rows.iter().filter(|row| !row["path"].ends_with(".json")).collect();
    assert!(captures.len() > 1_000, "the table of captures is not what it was");
    let different: BTreeMap<_, _> =
        captures.iter().filter_map(|row| Some((row["path"].as_str(), difference(&corpus, row)?))).collect();
    let unexplained: Vec<_> =
        different.iter().filter(|(path, _)| !EXPLAINED.iter().any(|(known, _)| known == *path)).collect();
    assert!(unexplained.is_empty(), "unexplained: {unexplained:#?}");
    let vanished: Vec<_> = EXPLAINED.iter().filter(|(path, _)| !different.contains_key(path)).collect();
    assert!(vanished.is_empty(), "explained, but not different any more: {vanished:#?}");
}

/// What is no capture is refused by its first bytes.
#[test]
fn files_that_are_no_captures_are_refused() {
    let Some(corpus) = corpus() else { skip!("no corpus of captures: set WIRECALL_CORPUS to its folder") };
    for file in ["manifest.tsv", "README.md"] {
        assert!(matches!(read(&corpus.join(file)), (_, Err(PcapError::UnknownFormat { .. }))), "{file}");
    }
}
