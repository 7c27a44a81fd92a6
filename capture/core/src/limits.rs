//! Limits are security limits: everything a sender can make grow ends somewhere, and each end has a counter and a test.

use crate::stats::closed_set;

/// A second in microseconds.
const SECOND: i64 = 1_000_000;

/// The bounds of a capture. Times are microseconds of capture time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections and UDP flows tracked at once; the least recently used one is closed for a new one.
    /// About 1 KiB each.
    pub connections: usize,
    /// Bytes held in all: run buffers, reorder buffers, fragments. Over it, the oldest fragments go first, then
    /// the reorder buffer that waited longest (as a gap), then the oldest runs are published early.
    pub held_bytes: usize,
    /// How far ahead of the next expected byte a direction buffers before it gives up on a hole. A guess at what
    /// a fast path reorders: the receive windows of common hosts grow to some MiB, real reordering is far less.
    pub reorder_bytes: usize,
    /// Pieces buffered per direction: bounds the bookkeeping when a sender splits its window into single bytes.
    pub reorder_pieces: usize,
    /// How long bytes that are acknowledged but not seen may wait, and a hole in a one-sided capture. Ring buffers of
    /// several queues disorder packets by milliseconds.
    pub reorder_time: i64,
    /// How long a hole may wait that the receiver has not acknowledged either: the sender will fill it. The time-out
    /// for a retransmission is at least 200 ms in Linux and doubles each time (RFC 6298); this covers five of them.
    pub retransmission_time: i64,
    /// Silence after which a TCP connection is closed.
    pub tcp_idle_time: i64,
    /// Silence after which a connection is closed whose handshake was never completed.
    pub handshake_time: i64,
    /// Silence after which a UDP flow is closed.
    pub udp_idle_time: i64,
    /// How long an ended connection is remembered, so that its stragglers do not begin a new one (Linux's TIME_WAIT).
    /// It counts under [`Limits::connections`] too, and is the first to go.
    pub linger_time: i64,
    /// Ended connections remembered at once, about 400 bytes each; the oldest is forgotten for a new one.
    pub ended_connections: usize,
    /// Headers of one frame, all layers and tunnels counted.
    pub headers: u8,
    /// Datagrams that wait for fragments at once.
    pub fragment_datagrams: usize,
    /// Fragments of one datagram. 64 KiB in Ethernet frames are 45.
    pub fragments_per_datagram: usize,
    /// How long a datagram waits for its fragments (Linux's default).
    pub fragment_time: i64,
    /// Chunks of one record: keeps a run of tiny packets under the broker's limit.
    pub run_chunks: usize,
    /// Recent connection ids kept to notice when a capture uses one twice.
    pub recent_ids: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 131_072,
            held_bytes: 256 << 20,
            reorder_bytes: 1 << 20,
            reorder_pieces: 2_048,
            reorder_time: SECOND / 2,
            retransmission_time: 10 * SECOND,
            tcp_idle_time: 3_600 * SECOND,
            handshake_time: 60 * SECOND,
            udp_idle_time: 60 * SECOND,
            linger_time: 60 * SECOND,
            ended_connections: 32_768,
            headers: 24,
            fragment_datagrams: 1_024,
            fragments_per_datagram: 128,
            fragment_time: 30 * SECOND,
            run_chunks: 4_096,
            recent_ids: 65_536,
        }
    }
}

closed_set! {
    /// A limit that was reached, for the counters.
    Limit {
        /// [`Limits::connections`].
        Connections = "connections",
        /// [`Limits::ended_connections`].
        EndedConnections = "ended_connections",
        /// [`Limits::held_bytes`].
        HeldBytes = "held_bytes",
        /// [`Limits::reorder_bytes`].
        ReorderBytes = "reorder_bytes",
        /// [`Limits::reorder_pieces`].
        ReorderPieces = "reorder_pieces",
        /// [`Limits::reorder_time`] or [`Limits::retransmission_time`].
        ReorderTime = "reorder_time",
        /// [`Limits::headers`].
        Headers = "headers",
        /// [`Limits::fragment_datagrams`].
        FragmentDatagrams = "fragment_datagrams",
        /// [`Limits::fragments_per_datagram`].
        FragmentsPerDatagram = "fragments_per_datagram",
        /// [`Limits::run_chunks`].
        RunChunks = "run_chunks",
        /// [`Limits::recent_ids`].
        RecentIds = "recent_ids",
    }
}
