//! What the agent says of itself to whoever reads the topic `agents`: coverage on the record.

use wirecall_capture_core::Reason;
use wirecall_schemas::{Agent, ByteString, CaptureMethod, Count, PartitionProgress, Timestamp};

use crate::{board::Board, sink::SinkCounts};

/// What stays the same from heartbeat to heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) agent_id: ByteString,
    pub(crate) agent_epoch: i64,
    pub(crate) node: ByteString,
    pub(crate) capture_method: CaptureMethod,
    pub(crate) interfaces: Vec<ByteString>,
}

/// A heartbeat of this moment.
pub(crate) fn heartbeat(
    identity: &Identity,
    board: &Board,
    sink: &SinkCounts,
    partitions: Vec<PartitionProgress>,
    time: Timestamp,
    stopping: bool,
) -> Agent {
    let total = |number: fn(&crate::board::Snapshot) -> u64| signed(board.sum(number));
    Agent {
        agent_id: identity.agent_id.clone(),
        agent_epoch: identity.agent_epoch,
        node: Some(identity.node.clone()),
        version: ByteString::from_static(env!("CARGO_PKG_VERSION")),
        time,
        capture_method: identity.capture_method,
        interfaces: identity.interfaces.clone(),
        packets_read: total(|worker| worker.stats.read.packets),
        bytes_read: total(|worker| worker.stats.read.bytes),
        counts: counts(board, sink),
        kernel_dropped_packets: total(|worker| worker.kernel_drops),
        open_connections: total(|worker| worker.open_connections),
        held_bytes: total(|worker| worker.held_bytes) + signed(sink.waiting_bytes + sink.under_way_bytes),
        partitions,
        cannot_see: cannot_see(identity.capture_method),
        stopping,
    }
}

/// Where packets went: delivered, each reason that occurred, and what the sink dropped afterwards. The sink knows bytes
/// and records, not packets.
fn counts(board: &Board, sink: &SinkCounts) -> Vec<Count> {
    let count = |reason: &'static str, packets, bytes| Count {
        reason: ByteString::from_static(reason),
        packets: signed(packets),
        bytes: signed(bytes),
    };
    let mut counts = vec![count(
        "delivered",
        board.sum(|worker| worker.stats.delivered.packets),
        board.sum(|worker| worker.stats.delivered.bytes),
    )];
    counts.extend(Reason::ALL.iter().map(|reason| {
        count(
            reason.name(),
            board.sum(|worker| worker.stats.reason(*reason).packets),
            board.sum(|worker| worker.stats.reason(*reason).bytes),
        )
    }));
    counts.push(count("back_pressure", 0, sink.back_pressure.bytes));
    counts.push(count("undelivered", 0, sink.undelivered.bytes));
    counts.retain(|count| count.packets != 0 || count.bytes != 0);
    counts
}

fn cannot_see(method: CaptureMethod) -> Vec<ByteString> {
    match method {
        CaptureMethod::AfPacket => {
            vec![
                ByteString::from_static("the content of TLS connections: packets carry it encrypted"),
                ByteString::from_static("the process at the end of a connection: packets do not name it"),
            ]
        }
        _ => Vec::new(),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
