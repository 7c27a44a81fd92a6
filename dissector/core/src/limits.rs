//! The named bounds of the dissector. Everything that a peer can make grow has one, with its reason, a counter in
//! [`Stats`] and a test that reaches it.

/// Bounds for one dissector. All sizes are in bytes, all times in microseconds of capture time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// First bytes of each direction that probes see. No protocol here needs more to be told apart; a guess.
    pub probe_bytes: usize,
    /// Bytes of each direction kept so that a likely but unproven protocol can be withdrawn and others tried on them.
    pub trial_bytes: usize,
    /// How often a connection that no protocol claimed is probed again where the talk turns around.
    pub reprobes: u32,
    /// Protocols that one connection may change to, one after another (CONNECT in CONNECT in …).
    pub hand_overs: u32,
    /// Unconsumed bytes per direction; beyond it the oldest become a gap. Must exceed what a protocol wants in one piece.
    pub stream_bytes: usize,
    /// Connections open at once; beyond it the longest silent one is closed as evicted. An idle one costs about 1 KiB.
    pub connections: usize,
    /// Capture time after which a silent connection is closed, measured by the newest time in the partition's log. The
    /// agents close idle connections themselves; this catches those whose agent died. Twice the 2 h after which TCP
    /// keep-alive probes begin (RFC 9293 section 3.8.4).
    pub idle_micros: i64,
    /// How far one record or heartbeat may move the clock of the log. An agent whose clock is wrong, or a jump in a
    /// capture file, then cannot end all connections at once, before their own agents' close records are read. A guess:
    /// above the pace of heartbeats, far below the idle time.
    pub clock_step_micros: i64,
    /// Closed connections remembered so that segments delivered twice are not taken for new connections.
    pub closed_remembered: usize,
    /// Capture agents whose names are shared between connections.
    pub agents: usize,
    /// Requests of a connection that wait for their answers. HTTP/1 clients pipeline a handful, Redis clients thousands.
    pub open_calls: usize,
    /// Bytes of a message head (start line and header section). Servers commonly refuse more than 8 to 64 KiB.
    pub head_bytes: usize,
    /// Fields of a header section. Servers commonly refuse more than 100 to 1000.
    pub header_fields: usize,
    /// Bytes of a body that are kept; the size is counted beyond it.
    pub body_bytes: usize,
    /// Bytes that a kept body may decode to.
    pub decoded_bytes: usize,
    /// Decoded bytes per encoded byte. DEFLATE reaches 1032 by design (zlib's technical notes); real JSON stays below 40.
    pub decoding_ratio: usize,
    /// Parts of a multipart body or fields of a form that are described.
    pub body_parts: usize,
    /// Interim responses before a final one that are listed.
    pub interim_responses: usize,
    /// Holes of one body that are listed; later ones are counted in the ledger alone.
    pub body_holes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            probe_bytes: 4 << 10,
            trial_bytes: 64 << 10,
            reprobes: 16,
            hand_overs: 8,
            stream_bytes: 1 << 20,
            connections: 200_000,
            idle_micros: 4 * 3_600 * 1_000_000,
            clock_step_micros: 10 * 1_000_000,
            closed_remembered: 65_536,
            agents: 4_096,
            open_calls: 1_024,
            head_bytes: 64 << 10,
            header_fields: 512,
            body_bytes: 64 << 10,
            decoded_bytes: 256 << 10,
            decoding_ratio: 128,
            body_parts: 128,
            interim_responses: 16,
            body_holes: 64,
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $label:literal,)*) => {
        /// What is counted: a closed set, so that metrics have fixed labels.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// All counters in the order of [`Stats`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The label that metrics carry.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

counters! {
    /// Segment records read.
    Segments => "segments",
    /// Segment records refused because they contradict themselves.
    SegmentsRefused => "segments_refused",
    /// Bytes delivered to streams.
    BytesDelivered => "bytes_delivered",
    /// Bytes cut off because they had been delivered before.
    BytesDuplicate => "bytes_duplicate",
    /// Bytes missing as the agents state.
    GapBytes => "gap_bytes",
    /// Bytes missing between records without an agent's statement.
    HoleBytes => "hole_bytes",
    /// Connections opened.
    Connections => "connections",
    /// Connections joined while under way.
    ConnectionsMidStream => "connections_mid_stream",
    /// Connections closed because the log says so.
    ConnectionsClosed => "connections_closed",
    /// Connections closed because they fell silent ([`Limits::idle_micros`]).
    ConnectionsExpired => "connections_expired",
    /// Connections closed because too many were open ([`Limits::connections`]).
    ConnectionsEvicted => "connections_evicted",
    /// Segments of connections that had ended, delivered again.
    SegmentsAfterClose => "segments_after_close",
    /// Openings that no protocol claimed; a connection that is looked at again counts again.
    ConnectionsOpaque => "connections_opaque",
    /// Protocols withdrawn after a wrong yes.
    ProtocolsWithdrawn => "protocols_withdrawn",
    /// Connections handed from one protocol to the next.
    ProtocolsHandedOver => "protocols_handed_over",
    /// Hand-overs refused ([`Limits::hand_overs`]).
    HandOversRefused => "hand_overs_refused",
    /// Bytes of unconsumed streams given up ([`Limits::stream_bytes`]).
    StreamBytesShed => "stream_bytes_shed",
    /// Bytes of connections without a protocol, read past.
    OpaqueBytes => "opaque_bytes",
    /// Calls emitted.
    Calls => "calls",
    /// Requests that no longer wait for their answers ([`Limits::open_calls`]).
    OpenCallsLimited => "open_calls_limited",
    /// Requests or answers seen again under the same id.
    Retransmissions => "retransmissions",
    /// Message heads cut ([`Limits::head_bytes`] or [`Limits::header_fields`]).
    HeadsLimited => "heads_limited",
    /// Bodies kept in part ([`Limits::body_bytes`]).
    BodiesTruncated => "bodies_truncated",
    /// Bodies decoded in part ([`Limits::decoded_bytes`] or [`Limits::decoding_ratio`]).
    DecodingsLimited => "decodings_limited",
    /// Lists cut: body parts, interim responses, holes.
    ListsLimited => "lists_limited",
    /// Messages that broke their protocol's rules.
    MessagesMalformed => "messages_malformed",
    /// Searches for the next plausible start that succeeded.
    Resynchronisations => "resynchronisations",
    /// Bytes read past in such searches.
    BytesSkipped => "bytes_skipped",
}

/// Sums by [`Counter`]. They only grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    sums: [u64; Counter::ALL.len()],
}

impl Default for Stats {
    fn default() -> Self {
        Self { sums: [0; Counter::ALL.len()] }
    }
}

impl Stats {
    /// Adds to a counter.
    pub const fn add(&mut self, counter: Counter, count: u64) {
        let sum = &mut self.sums[counter as usize];
        *sum = sum.saturating_add(count);
    }

    /// The sum of a counter.
    #[must_use]
    pub const fn sum(&self, counter: Counter) -> u64 {
        self.sums[counter as usize]
    }

    /// All counters with their sums.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.iter().map(|&counter| (counter, self.sum(counter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct() {
        let mut labels: Vec<_> = Counter::ALL.iter().map(|counter| counter.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Counter::ALL.len());
    }

    #[test]
    fn each_counter_has_its_own_sum() {
        let mut stats = Stats::default();
        for (index, &counter) in Counter::ALL.iter().enumerate() {
            stats.add(counter, index as u64 + 1);
        }
        for (index, (_, sum)) in stats.iter().enumerate() {
            assert_eq!(sum, index as u64 + 1);
        }
    }
}
