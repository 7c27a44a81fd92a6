//! One partition of the segments and the dissector that belongs to it.
//!
//! State is per partition and never shared: so a call does not depend on which other partitions the process holds.

use wirecall_dissector_core::{Dissector, LogPosition, SegmentRefused};
use wirecall_schemas::{ByteString, Call, Segment};

/// A partition's dissector and its place in the log.
pub(crate) struct Partition {
    dissector: Dissector,
    position: LogPosition,
}

impl Partition {
    pub(crate) fn new(dissector: Dissector, topic: &str, partition: i32) -> Self {
        let position = LogPosition { topic: ByteString::from(topic), partition, offset: 0 };
        Self { dissector, position }
    }

    /// Reads the segment at `offset`.
    pub(crate) fn handle(&mut self, segment: &Segment, offset: i64) -> Result<(), SegmentRefused> {
        self.position.offset = offset;
        self.dissector.handle_segment(segment, Some(&self.position))
    }

    pub(crate) fn poll_call(&mut self) -> Option<Call> {
        self.dissector.poll_call()
    }

    pub(crate) const fn dissector(&self) -> &Dissector {
        &self.dissector
    }
}
