//! The topics: names, partitioning and retention. The bus creates them so, and checks existing ones against it.

/// Default prefix of every topic.
pub const DEFAULT_PREFIX: &str = "wirecall.";

/// Default number of partitions of the topics that carry connections.
pub const DEFAULT_PARTITIONS: i32 = 12;

/// A topic of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Reassembled bytes and gaps.
    Segments,
    /// Calls without identity.
    Calls,
    /// The product.
    ApiEvents,
    /// Cluster identity as a history.
    Identities,
    /// Checkpoints of open connections.
    DissectorState,
    /// Records that could not be processed.
    DeadLetters,
    /// Heartbeats of agents.
    Agents,
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Records are deleted after this many milliseconds.
    Delete {
        /// `retention.ms`.
        milliseconds: i64,
    },
    /// The last record of each key is kept.
    Compact,
}

/// Milliseconds of an hour.
const HOUR: i64 = 3_600_000;

impl Topic {
    /// All topics, in the order the data flows.
    pub const ALL: [Self; 7] = [
        Self::Segments,
        Self::Calls,
        Self::ApiEvents,
        Self::Identities,
        Self::DissectorState,
        Self::DeadLetters,
        Self::Agents,
    ];

    /// Name without the prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Calls => "calls",
            Self::ApiEvents => "api-events",
            Self::Identities => "identities",
            Self::DissectorState => "dissector-state",
            Self::DeadLetters => "dead-letters",
            Self::Agents => "agents",
        }
    }

    /// Name with the prefix, as the broker knows it.
    pub fn full_name(self, prefix: &str) -> String {
        format!("{prefix}{}", self.name())
    }

    /// Retention that the topic is created with.
    pub const fn retention(self) -> Retention {
        match self {
            Self::Segments | Self::Calls => Retention::Delete { milliseconds: 24 * HOUR },
            Self::ApiEvents | Self::DeadLetters => Retention::Delete { milliseconds: 7 * 24 * HOUR },
            Self::Identities | Self::DissectorState | Self::Agents => Retention::Compact,
        }
    }

    /// Partitions that the topic is created with. `dissector-state` must have as many as `segments`, because the
    /// state of a partition lives in the partition of the same number; the small topics have one.
    pub const fn partitions(self, connections: i32) -> i32 {
        match self {
            Self::Segments | Self::Calls | Self::ApiEvents | Self::DissectorState => connections,
            Self::Identities | Self::DeadLetters | Self::Agents => 1,
        }
    }
}

/// The partition that a key belongs to: Kafka's murmur2 placement, as Java producers compute it, so that other
/// clients that key by connection agree with ours.
///
/// `partitions` must be positive; with none, everything is partition 0.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    if partitions <= 0 {
        return 0;
    }
    i32::try_from(murmur2(key) & 0x7fff_ffff).unwrap_or(0) % partitions
}

/// MurmurHash2, 32 bits, with the seed that Kafka fixed.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut mixed = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(MULTIPLIER);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_java() {
        // The vectors of Kafka's own UtilsTest, as unsigned.
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn a_partition_is_always_in_range() {
        for partitions in [-1, 0, 1, 3, 12] {
            for key in 0_u32..100 {
                let partition = partition_of(&key.to_be_bytes(), partitions);
                assert!((0..partitions.max(1)).contains(&partition));
            }
        }
    }

    #[test]
    fn state_has_as_many_partitions_as_segments() {
        assert_eq!(Topic::DissectorState.partitions(7), Topic::Segments.partitions(7));
    }
}
