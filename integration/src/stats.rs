//! The account that `--stats` prints: where every packet and byte went, and what calls came out.

use std::collections::BTreeMap;

use serde::Serialize;
use wirecall_schemas::ApiEvent;

/// Packets and bytes under one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of captured frames.
    pub bytes: u64,
}

/// One JSON line: packets and bytes read = delivered + counted by reason; calls by protocol and by completeness.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Account {
    /// Packets read from the source.
    pub packets_read: u64,
    /// Bytes of captured frames read from the source.
    pub bytes_read: u64,
    /// Packets of which anything took effect.
    pub packets_delivered: u64,
    /// Bytes delivered in streams and datagrams.
    pub bytes_delivered: u64,
    /// Everything else, each under one reason.
    pub counted: BTreeMap<String, Count>,
    /// Segment records made.
    pub segments: u64,
    /// Events written.
    pub calls: u64,
    /// Events by protocol.
    pub calls_by_protocol: BTreeMap<String, u64>,
    /// Events by completeness.
    pub calls_by_completeness: BTreeMap<&'static str, u64>,
    /// Most bytes held at once by reassembly, streams and open calls.
    pub peak_held_bytes: u64,
}

impl Account {
    /// Counts an event.
    pub fn count(&mut self, event: &ApiEvent) {
        self.calls += 1;
        match self.calls_by_protocol.get_mut(&*event.protocol) {
            Some(count) => *count += 1,
            None => _ = self.calls_by_protocol.insert(event.protocol.to_string(), 1),
        }
        *self.calls_by_completeness.entry(event.completeness.as_str()).or_default() += 1;
    }

    /// True when packets and bytes read equal those delivered and counted.
    pub fn is_conserved(&self) -> bool {
        let packets: u64 = self.counted.values().map(|count| count.packets).sum();
        let bytes: u64 = self.counted.values().map(|count| count.bytes).sum();
        self.packets_read == self.packets_delivered + packets
            && self.bytes_read == self.bytes_delivered + bytes
    }
}
