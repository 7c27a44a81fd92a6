//! Captures with packets taken out and exchanged, as a lossy or disordered capture has them.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use wirecall_capture::source::pcap::Reader;

use super::damage::Random;

/// A packet record of a classic pcap file, and the link type that its file would name.
struct Record {
    bytes: Vec<u8>,
    link_type: u32,
}

/// The packets of a capture, ready to be written again.
pub(crate) struct Packets(Vec<Record>);

impl Packets {
    /// Reads a capture; none where a classic pcap file cannot hold its packets (several link types, times that do not
    /// fit) or it has none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let mut reader =
            Reader::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)?;
        let mut records: Vec<Record> = Vec::new();
        while let Ok(Some(packet)) = reader.next_packet() {
            let micros = packet.time.as_micros();
            let Ok(seconds) = u32::try_from(micros.div_euclid(1_000_000)) else { return Ok(None) };
            let below = u32::try_from(micros.rem_euclid(1_000_000))?;
            let mut bytes = Vec::with_capacity(16 + packet.data.len());
            for field in [seconds, below, u32::try_from(packet.data.len())?, packet.original_length] {
                bytes.extend(field.to_le_bytes());
            }
            bytes.extend(packet.data);
            records.push(Record { bytes, link_type: packet.link_type.0 });
        }
        let alike = records.windows(2).all(|pair| pair[0].link_type == pair[1].link_type);
        Ok((alike && !records.is_empty()).then_some(Self(records)))
    }

    /// The capture without about one packet in `every`.
    pub(crate) fn without(&self, every: u64, seed: u64) -> Vec<u8> {
        let mut random = Random::new(seed);
        file(self.0.iter().filter(|_| !random.next().is_multiple_of(every)))
    }

    /// The capture with neighbours exchanged, about one pair in `every`.
    pub(crate) fn disordered(&self, every: u64, seed: u64) -> Vec<u8> {
        let mut random = Random::new(seed);
        let mut records: Vec<&Record> = self.0.iter().collect();
        for index in 1..records.len() {
            if random.next().is_multiple_of(every) {
                records.swap(index - 1, index);
            }
        }
        file(records.into_iter())
    }
}

/// A classic pcap file: little endian, microseconds.
fn file<'r>(records: impl Iterator<Item = &'r Record>) -> Vec<u8> {
    let mut records = records.peekable();
    let link_type = records.peek().map_or(1, |record| record.link_type);
    let mut bytes = Vec::new();
    for field in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, link_type] {
        bytes.extend(u32::to_le_bytes(field));
    }
    records.for_each(|record| bytes.extend(&record.bytes));
    bytes
}
