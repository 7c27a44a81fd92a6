//! Conservation: every packet and byte read is delivered, held, or counted under exactly one named reason.

use crate::limits::Limit;

/// Packets and captured bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Frames.
    pub packets: u64,
    /// Captured bytes of frames.
    pub bytes: u64,
}

impl Count {
    const fn add(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name used in metrics and statistics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.name())
            }
        }
    };
}
pub(crate) use closed_set;

closed_set! {
    /// Why a packet, or a part of its bytes, is not in a segment.
    Reason {
        /// Headers of packets that were delivered or repeated (bytes only).
        Headers = "headers",
        /// Ethernet padding and trailers (bytes only).
        Padding = "padding",
        /// Bytes that were there before: retransmissions, keep-alive probes, repeated fragments.
        Duplicate = "duplicate",
        /// Bytes that came after their gap had been published.
        Late = "late",
        /// A sequence number that fits nothing of the connection.
        OutOfWindow = "out_of_window",
        /// Bytes of a connection joined mid-stream that lie before its first packet seen.
        BeforeStart = "before_start",
        /// Bytes behind a FIN.
        AfterFin = "after_fin",
        /// A packet of a connection that has ended.
        AfterClose = "after_close",
        /// A reset for a connection that is not known.
        Stray = "stray",
        /// An endpoint that the filter leaves out, such as the agent's own Kafka connections.
        ExcludedEndpoint = "excluded_endpoint",
        /// A port or network that the filter leaves out.
        Filtered = "filtered",
        /// A link type that cannot be read.
        UnknownLink = "unknown_link",
        /// ARP and RARP.
        Arp = "arp",
        /// A network protocol other than IP, or a frame that carries none.
        OtherNetwork = "other_network",
        /// ICMP and ICMPv6.
        Icmp = "icmp",
        /// SCTP.
        Sctp = "sctp",
        /// An IP protocol that is neither followed nor named.
        OtherTransport = "other_transport",
        /// The capture cut the frame inside its headers, or cut a fragment.
        Truncated = "truncated",
        /// A header that contradicts itself or the frame.
        Malformed = "malformed",
        /// More headers than the limit allows.
        NestingLimit = "nesting_limit",
        /// A fragment whose datagram was never completed.
        FragmentIncomplete = "fragment_incomplete",
        /// A fragment whose datagram was dropped at a limit.
        FragmentLimit = "fragment_limit",
        /// A fragment whose datagram had overlapping fragments (RFC 5722).
        FragmentOverlap = "fragment_overlap",
    }
}

/// The counters of a capture.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Everything read.
    pub read: Count,
    /// Packets that took effect, and the bytes that are in segments.
    pub delivered: Count,
    /// Packets and bytes that wait in a buffer: out of order, or fragments. Zero after `finish`.
    pub held: Count,
    reasons: [Count; Reason::ALL.len()],
    limits: [u64; Limit::ALL.len()],
    /// Segments given out.
    pub segments: u64,
    /// Connections begun, by all transports.
    pub connections: u64,
    /// Gaps declared, and the stream bytes missing in them.
    pub gaps: Count,
    /// Gaps (wholly or partly) filled by late data before they were published.
    pub gaps_filled: u64,
    /// Most bytes held at any time: run buffers, reorder buffers, fragments.
    pub peak_held_bytes: usize,
}

impl Stats {
    /// What was counted under a reason.
    #[must_use]
    pub const fn reason(&self, reason: Reason) -> Count {
        self.reasons[reason as usize]
    }

    /// All reasons with their counts, zeros included.
    pub fn reasons(&self) -> impl Iterator<Item = (Reason, Count)> + '_ {
        Reason::ALL.iter().map(|reason| (*reason, self.reason(*reason)))
    }

    /// How often a limit was reached.
    #[must_use]
    pub const fn limit(&self, limit: Limit) -> u64 {
        self.limits[limit as usize]
    }

    /// All limits with how often each was reached.
    pub fn limits(&self) -> impl Iterator<Item = (Limit, u64)> + '_ {
        Limit::ALL.iter().map(|limit| (*limit, self.limit(*limit)))
    }

    /// True when what was read is exactly what was delivered, is held, or was counted by reason.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        let mut sum = self.delivered;
        sum.add(self.held.packets, self.held.bytes);
        for count in &self.reasons {
            sum.add(count.packets, count.bytes);
        }
        sum == self.read
    }

    pub(crate) const fn count(&mut self, reason: Reason, packets: u64, bytes: u64) {
        self.reasons[reason as usize].add(packets, bytes);
    }

    pub(crate) const fn deliver(&mut self, packets: u64, bytes: u64) {
        self.delivered.add(packets, bytes);
    }

    pub(crate) const fn hold(&mut self, packets: u64, bytes: u64) {
        self.held.add(packets, bytes);
    }

    pub(crate) const fn release(&mut self, packets: u64, bytes: u64) {
        self.held.packets -= packets;
        self.held.bytes -= bytes;
    }

    pub(crate) const fn reach(&mut self, limit: Limit) {
        self.limits[limit as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert_eq!(Reason::Headers.to_string(), "headers");
    }

    #[test]
    fn a_byte_nobody_counted_breaks_conservation() {
        let mut stats = Stats::default();
        stats.read.add(1, 60);
        stats.deliver(1, 6);
        stats.count(Reason::Headers, 0, 53);
        assert!(!stats.is_conserved());
        stats.count(Reason::Padding, 0, 1);
        assert!(stats.is_conserved());
    }
}
