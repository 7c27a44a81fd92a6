//! The transform: segments of the partitions held become calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use wirecall_bus::dead_letter::{DeadLetters, UNDECODABLE};
use wirecall_bus::registry::{ReadError, Registry as SchemaRegistry};
use wirecall_bus::{
    Assigned, BusConfig, BusError, Incoming, Outbox, Release, Start, TopicPartition, Transform,
};
use wirecall_dissector_core::{ConnectionRecords, Counter, Dissector, Limits, Registry, Stats};
use wirecall_schemas::topic::Topic;

use crate::metrics::Board;
use crate::partition::Partition;
use crate::sink::Sink;
use crate::source::Source;

/// The reason of a segment that contradicts itself.
const REFUSED: &str = "refused";

/// Dissects the partitions that the group gives us.
pub struct Dissection {
    registry: Registry,
    limits: Limits,
    connection_records: ConnectionRecords,
    source: Source,
    sink: Sink,
    dead_letters: DeadLetters,
    partitions: BTreeMap<TopicPartition, Partition>,
    /// Sums of the partitions that went.
    past: Stats,
    board: Arc<Board>,
}

impl Dissection {
    /// For these protocols and bounds. Asks the schema registry, if there is one.
    ///
    /// # Errors
    /// A schema registry that cannot be reached or refuses.
    pub fn new(
        registry: Registry,
        limits: Limits,
        connection_records: ConnectionRecords,
        bus: &BusConfig,
        board: Arc<Board>,
    ) -> Result<Self, BusError> {
        let schemas = SchemaRegistry::new(bus)?;
        let framing = schemas.framing::<wirecall_schemas::DeadLetter>(&bus.topic(Topic::DeadLetters))?;
        Ok(Self {
            registry,
            limits,
            connection_records,
            sink: Sink::new(bus, &schemas)?,
            dead_letters: DeadLetters::new("dissector", bus, framing)?,
            source: Source::new(schemas)?,
            partitions: BTreeMap::new(),
            past: Stats::default(),
            board,
        })
    }

    fn post(&self) {
        let mut stats = self.past.clone();
        let (mut open, mut held) = (0, 0);
        for partition in self.partitions.values() {
            let dissector = partition.dissector();
            add(&mut stats, dissector.stats());
            open += dissector.open_connections();
            held += dissector.held_bytes();
        }
        self.board.set(&stats, open, held);
    }
}

fn add(sums: &mut Stats, stats: &Stats) {
    for (counter, sum) in stats.iter() {
        sums.add(counter, sum);
    }
}

/// The partition of a record among those held.
fn held<'p>(
    partitions: &'p mut BTreeMap<TopicPartition, Partition>,
    record: &Incoming<'_>,
) -> Option<&'p mut Partition> {
    // A process holds few partitions; a lookup by borrowed parts would need another kind of map.
    partitions
        .iter_mut()
        .find(|(key, _)| key.partition == record.partition() && key.topic == record.topic())
        .map(|(_, partition)| partition)
}

impl Transform for Dissection {
    fn assigned(&mut self, assigned: &Assigned) -> Result<Start, BusError> {
        let dissector = Dissector::new(self.registry.clone(), self.limits.clone())
            .with_connection_records(self.connection_records);
        let TopicPartition { topic, partition } = &assigned.partition;
        let fresh = Partition::new(dissector, topic, *partition);
        self.partitions.insert(assigned.partition.clone(), fresh);
        Ok(Start::Committed)
    }

    /// The state goes with the partition. Whoever reads on, here or elsewhere, joins its connections mid-stream.
    fn revoked(&mut self, partition: &TopicPartition, release: Release) {
        let Some(gone) = self.partitions.remove(partition) else { return };
        let open = gone.dissector().open_connections();
        if open > 0 {
            self.board.forget(open);
            tracing::warn!(%partition, connections = open, ?release, "open connections are forgotten; they go on mid-stream");
        }
        // What an aborted transaction had done is done, and counted, again.
        if release == Release::Committed {
            add(&mut self.past, gone.dissector().stats());
        }
        self.post();
    }

    fn record(&mut self, record: &Incoming<'_>, out: &mut Outbox<'_>) -> Result<(), BusError> {
        let Some(partition) = held(&mut self.partitions, record) else { return Ok(()) };
        let segment = match self.source.read(record) {
            Ok(segment) => segment,
            Err(ReadError::Undecodable(error)) => {
                return self.dead_letters.send(record, UNDECODABLE, &error, out);
            }
            // The segment is sound as far as we know; it is read again when the registry answers.
            Err(ReadError::Bus(error)) => return Err(out.abort(error.to_string())),
        };
        if let Err(refused) = partition.handle(&segment, record.offset()) {
            return self.dead_letters.send(record, REFUSED, &refused.to_string(), out);
        }
        while let Some(call) = partition.poll_call() {
            if self.sink.send(call, out)? {
                self.board.strip();
            }
        }
        Ok(())
    }

    fn committed(&mut self) {
        self.post();
        tracing::trace!(calls = self.board.sum(Counter::Calls), "committed");
    }
}
