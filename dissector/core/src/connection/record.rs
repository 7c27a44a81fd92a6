//! The record of a whole connection, for traffic that no protocol dissected.

use bytestring::ByteString;
use wirecall_schemas::{Cause, ChunkCause, Completeness, ConnectionSummary, Ledger, Totals, Transport};

use super::{Connection, Surroundings};
use crate::output::{CallDraft, Output};

impl Connection {
    pub(super) fn emit_record(
        &mut self,
        reason: ChunkCause,
        totals: Option<Totals>,
        around: &mut Surroundings<'_>,
    ) {
        let end_seen = end_seen(self.facts.transport, reason);
        let (completeness, cause) = completeness(self.opened, end_seen, reason);
        let dissected_as =
            (!self.facts.parser.is_empty()).then(|| ByteString::from_static(self.facts.parser));
        let open_time = self.seen.first_time.filter(|_| self.opened);
        let summary = ConnectionSummary {
            open_time,
            close_time: self.seen.last_time.filter(|_| end_seen),
            close_reason: reason,
            totals: totals.unwrap_or_else(|| self.seen_totals()),
            client_stream_bytes: signed(self.seen.client.bytes),
            server_stream_bytes: signed(self.seen.server.bytes),
            dissected_as,
        };
        let draft = CallDraft {
            protocol: ByteString::from_static(match self.facts.transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
                Transport::Unknown => "unknown",
            }),
            completeness,
            cause,
            marks: self.seen.marks,
            ledger: Ledger {
                request_gap_bytes: signed(self.seen.client.missing),
                response_gap_bytes: signed(self.seen.server.missing),
                ..Ledger::default()
            },
            ..CallDraft::default()
        };
        let end_time = self.seen.last_time;
        self.undo_swap();
        self.facts.parser = "connection";
        self.facts.parser_version = VERSION;
        Output::new(&mut self.facts, around.queue, around.stats)
            .connection(draft, open_time, end_time, summary);
    }

    /// The record speaks of client and server as the agent does, since its totals do.
    fn undo_swap(&mut self) {
        if self.swapped {
            self.swap();
        }
    }

    /// What a connection without its agent's totals had at least.
    fn seen_totals(&self) -> Totals {
        Totals {
            client_packets: signed(self.seen.client.packets),
            client_bytes: signed(self.seen.client.bytes),
            server_packets: signed(self.seen.server.packets),
            server_bytes: signed(self.seen.server.bytes),
            ..Totals::default()
        }
    }
}

/// Version of these records; raised whenever they change.
const VERSION: i32 = 1;

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Whether the reason is an end that was seen. UDP has no other end than silence.
const fn end_seen(transport: Transport, reason: ChunkCause) -> bool {
    match reason {
        ChunkCause::Fin | ChunkCause::Reset => true,
        ChunkCause::Idle => matches!(transport, Transport::Udp),
        _ => false,
    }
}

const fn completeness(opened: bool, end_seen: bool, reason: ChunkCause) -> (Completeness, Option<Cause>) {
    match (opened, end_seen) {
        (true, true) => (Completeness::Complete, None),
        (false, _) => (Completeness::Partial, Some(Cause::MidStream)),
        (true, false) => (Completeness::Partial, Some(cause(reason))),
    }
}

/// Why what is open stays open.
pub(super) const fn cause(reason: ChunkCause) -> Cause {
    match reason {
        ChunkCause::Fin => Cause::Closed,
        ChunkCause::Reset => Cause::Reset,
        ChunkCause::Idle => Cause::Idle,
        ChunkCause::Evicted => Cause::Evicted,
        ChunkCause::EndOfCapture => Cause::EndOfCapture,
        ChunkCause::AgentShutdown => Cause::AgentShutdown,
        ChunkCause::AgentRestart => Cause::Restart,
        // The end itself was not seen, only that something else began on the same ports.
        ChunkCause::PortReuse
        | ChunkCause::None
        | ChunkCause::Loss
        | ChunkCause::Snaplen
        | ChunkCause::Limit
        | ChunkCause::BackPressure => Cause::Unknown,
    }
}
