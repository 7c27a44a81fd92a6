//! What the enricher counts. The core counts for itself; the totals are handed over once a commit.

use wirecall_enricher_core::Enricher;
use wirecall_schemas::{ApiEvent, Certainty, Peer};
use wirecall_service::metrics::{Counter, Counters, Gauge, Label, Metrics};

/// Counters of the role that enriches.
#[derive(Clone, Debug)]
pub struct EnricherMetrics {
    /// Events made.
    pub events: Counter,
    /// Copies sent to further topics.
    pub routed: Counter,
    /// Routing conditions without an answer.
    pub route_failures: Counter,
    /// Values taken out of events.
    pub redactions: Counter,
    /// Peers by how sure their identity is.
    pub peers: Counters<PeerCertainty>,
    /// Identity records read.
    pub identities_read: Counter,
    /// Identity records that cannot be read.
    pub identities_undecodable: Counter,
    /// Identity records in memory.
    pub identity_records: Gauge,
    /// Identity records not taken in because memory was full of ones that still hold.
    pub identity_records_refused: Counter,
}

impl EnricherMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            events: metrics.counter("events_total", "API events made"),
            routed: metrics.counter("events_routed_total", "copies of events sent to further topics"),
            route_failures: metrics
                .counter("route_failures_total", "routing conditions that had no answer for an event"),
            redactions: metrics.counter("redactions_total", "values taken out of events"),
            peers: metrics.counters("peers_total", "peers of calls, by how sure their identity is"),
            identities_read: metrics.counter("identities_read_total", "identity records read"),
            identities_undecodable: metrics
                .counter("identities_undecodable_total", "identity records that cannot be read"),
            identity_records: metrics.gauge("identity_records", "identity records in memory"),
            identity_records_refused: metrics
                .counter("identity_records_refused_total", "identity records that found no room"),
        }
    }

    /// Counts an event.
    pub fn event(&self, event: &ApiEvent) {
        self.events.add(1);
        self.redactions.add(event.redactions.len() as u64);
        self.peers.add(PeerCertainty::of(&event.client), 1);
        self.peers.add(PeerCertainty::of(&event.server), 1);
    }

    /// Takes over what the core counts.
    pub fn take_over(&self, enricher: &Enricher) {
        self.route_failures.advance_to(enricher.router().failures().map(|(_, count)| count).sum());
        if let Some(index) = enricher.index() {
            self.identity_records.set(i64::try_from(index.len()).unwrap_or(i64::MAX));
            self.identity_records_refused.advance_to(index.stats().refused);
        }
    }
}

/// The label of [`EnricherMetrics::peers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerCertainty {
    /// Nothing answered.
    Unknown,
    /// One answer.
    Exact,
    /// More than one.
    Ambiguous,
}

impl PeerCertainty {
    const fn of(peer: &Peer) -> Self {
        match peer.certainty {
            Certainty::Unknown => Self::Unknown,
            Certainty::Exact => Self::Exact,
            Certainty::Ambiguous => Self::Ambiguous,
        }
    }
}

impl Label for PeerCertainty {
    const NAME: &'static str = "certainty";
    const ALL: &'static [Self] = &[Self::Unknown, Self::Exact, Self::Ambiguous];

    fn value(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Exact => "exact",
            Self::Ambiguous => "ambiguous",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Counters of the role that watches.
#[derive(Clone, Debug)]
pub struct WatcherMetrics {
    /// Changes seen.
    pub changes: Counter,
    /// Objects that cannot be read.
    pub unreadable: Counter,
    /// Watches that broke off and were taken up again.
    pub interruptions: Counter,
    /// Records written.
    pub records: Counter,
    /// Objects known.
    pub objects: Gauge,
}

impl WatcherMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            changes: metrics.counter("watch_changes_total", "objects that the API server told of"),
            unreadable: metrics.counter("watch_unreadable_total", "objects that lack what makes an identity"),
            interruptions: metrics
                .counter("watch_interruptions_total", "watches that broke off and were taken up again"),
            records: metrics.counter("identities_written_total", "identity records written"),
            objects: metrics.gauge("watched_objects", "objects known to the watcher"),
        }
    }
}
