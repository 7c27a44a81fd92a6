//! Consume, transform, produce: one consumer and one transactional producer per process (KIP-447).
//!
//! One thread does everything, so that the order of things is the order of the code: poll, process, and every commit
//! interval one transaction with the outputs and the offsets. The offsets are our own count of what was processed, and
//! the group's metadata is fetched fresh for each commit: the generation in it is what fences a process whose
//! partitions have moved on.
//!
//! When partitions are taken away, the batch is finished and committed before they go. When something fails, the
//! transaction is aborted and every partition starts again at what is committed; [`Transform`] sees that as a release
//! and a new assignment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::assignment::{Assignment, list, names, offsets};
use crate::client::{create, denied, refused, unreachable};
use crate::config::BusConfig;
use crate::context::{ConsumerNotes, Rebalance, release, take};
use crate::error::is_fenced;
use crate::outbox::Outbox;
use crate::transaction::{Transactions, Trouble};
use crate::transform::{Assigned, Incoming, Release, Start, TopicPartition, Transform};
use crate::{BusError, Metrics};

/// Longest poll, so that a request to stop is seen soon.
const LONGEST_POLL: Duration = Duration::from_millis(100);
/// One attempt at fetching committed offsets.
const ATTEMPT: Duration = Duration::from_secs(5);
/// One attempt at moving the read position.
const SEEK: Duration = Duration::from_secs(10);

/// Something that says when to stop. Asked once a turn, at least every 100 ms while nothing comes, and while waiting for
/// a broker.
pub trait StopSignal {
    /// Whether to stop.
    fn is_requested(&self) -> bool;
}

impl StopSignal for AtomicBool {
    fn is_requested(&self) -> bool {
        self.load(Ordering::Relaxed)
    }
}

impl<F: Fn() -> bool> StopSignal for F {
    fn is_requested(&self) -> bool {
        self()
    }
}

/// A stop signal inside the crate.
pub(crate) type Stop<'s> = &'s dyn Fn() -> bool;

/// A consumer, a transactional producer, and the loop around them.
pub struct Pipeline {
    config: BusConfig,
    topics: Vec<String>,
    consumer: BaseConsumer<ConsumerNotes>,
    transactions: Transactions,
    assignment: Assignment,
    batch: Batch,
    /// Whether the partitions have to start again at what is committed before anything else is processed.
    stale: bool,
    /// Times in a row that something had to be undone.
    undone: u32,
    metrics: Arc<Metrics>,
}

/// What has been done since the last commit.
#[derive(Debug, Default)]
struct Batch {
    records: usize,
    /// When the first of it was done.
    since: Option<Instant>,
}

impl Pipeline {
    /// Makes the clients; connects to nothing yet.
    ///
    /// # Errors
    /// If the configuration or a librdkafka property is not usable.
    pub fn new(config: &BusConfig, topics: &[String], metrics: Arc<Metrics>) -> Result<Self, BusError> {
        config.validate()?;
        if config.group_id.is_empty() {
            let remedy = "name the consumer group".to_owned();
            return Err(BusError::Config { key: "group_id".to_owned(), remedy });
        }
        let notes = ConsumerNotes::new(Arc::clone(&metrics));
        Ok(Self {
            consumer: create(&config.group_consumer(), notes, "making the consumer")?,
            transactions: Transactions::new(config, Arc::clone(&metrics)),
            config: config.clone(),
            topics: topics.to_vec(),
            assignment: Assignment::default(),
            batch: Batch::default(),
            stale: false,
            undone: 0,
            metrics,
        })
    }

    /// Runs until `stop` says so, then finishes the batch, commits and leaves the group.
    ///
    /// # Errors
    /// Whatever cannot be dealt with by aborting and reading again. What was not committed is void; nothing that was
    /// read is lost.
    pub fn run<T: Transform>(&mut self, transform: &mut T, stop: &impl StopSignal) -> Result<(), BusError> {
        let stop: Stop<'_> = &|| stop.is_requested();
        let outcome = self.start(stop).and_then(|()| self.turn(transform, stop));
        let result = match outcome {
            Ok(()) | Err(Trouble::Stopping) => Ok(()),
            Err(Trouble::Stop(error)) => Err(error),
            Err(Trouble::Abort(cause) | Trouble::Recreate(cause)) => Err(BusError::Interrupted { cause }),
        };
        if let Err(trouble) = self.transactions.abort() {
            tracing::warn!(
                ?trouble,
                "the open transaction could not be aborted; the broker ends it by its timeout"
            );
        }
        for partition in names(&list(self.assignment.keys())) {
            self.assignment.remove(&partition);
            transform.revoked(&partition, if result.is_ok() { Release::Committed } else { Release::Aborted });
        }
        self.metrics.partitions.set(0);
        result
    }

    fn start(&mut self, stop: Stop<'_>) -> Result<(), Trouble> {
        self.transactions.connect(Some(self.config.start_timeout()), stop)?;
        let topics: Vec<_> = self.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|cause| BusError::client("subscribing", cause).into())
    }

    fn turn<T: Transform>(&mut self, transform: &mut T, stop: Stop<'_>) -> Result<(), Trouble> {
        while !stop() {
            self.work(transform, stop).or_else(|trouble| self.undo(trouble, stop))?;
        }
        // A last batch that does not commit is read again by whoever comes next.
        match self.commit(transform) {
            Ok(()) => Ok(()),
            Err(Trouble::Stop(error)) => Err(Trouble::Stop(error)),
            Err(trouble) => {
                tracing::warn!(?trouble, "the last batch is not committed and will be read again");
                Err(Trouble::Stopping)
            }
        }
    }

    /// One poll, and a commit if it is due.
    fn work<T: Transform>(&mut self, transform: &mut T, stop: Stop<'_>) -> Result<(), Trouble> {
        if self.stale && !self.rewind(transform, stop)? {
            // What comes now comes again. The poll is for the rebalance that may be the reason.
            let _ = self.consumer.poll(LONGEST_POLL);
        } else {
            self.poll(transform)?;
        }
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            match rebalance {
                Rebalance::Assign(partitions) => {
                    if let Err(trouble) = self.assign(&partitions, transform, stop) {
                        // The group waits for an answer, even for this one.
                        let _ = take(&self.consumer, &TopicPartitionList::new());
                        return Err(trouble);
                    }
                }
                Rebalance::Revoke(partitions) => self.revoke(&partitions, transform, stop)?,
            }
        }
        if self.is_due() { self.commit(transform) } else { Ok(()) }
    }

    fn is_due(&self) -> bool {
        self.batch.records >= self.config.max_records_per_transaction
            || self.batch.since.is_some_and(|since| since.elapsed() >= self.config.commit_interval())
    }

    fn poll<T: Transform>(&mut self, transform: &mut T) -> Result<(), Trouble> {
        let interval = self.config.commit_interval();
        let left = self.batch.since.map_or(interval, |since| interval.saturating_sub(since.elapsed()));
        match self.consumer.poll(left.min(LONGEST_POLL)) {
            None => {
                let mut outbox = Outbox::new(&mut self.transactions, false);
                let outcome = transform.idle(&mut outbox);
                self.batch.note_open(&self.transactions);
                settle(&mut self.transactions, outcome)
            }
            Some(Err(error)) => consumer_error(&self.config, &self.topics, &self.consumer, error),
            Some(Ok(message)) => {
                let place = (message.topic(), message.partition(), message.offset());
                let Some(replayed) = self.assignment.read(place.0, place.1, place.2) else {
                    // Fetched before the partition went; whoever has it now reads it.
                    return Ok(());
                };
                let record = Incoming::new(&message, replayed);
                self.metrics.records_in.increment();
                self.metrics.bytes_in.add(record.size() as u64);
                self.metrics.records_replayed.add(u64::from(replayed));
                self.batch.add();
                let mut outbox = Outbox::new(&mut self.transactions, replayed);
                let outcome = transform.record(&record, &mut outbox);
                settle(&mut self.transactions, outcome)
            }
        }
    }

    fn commit<T: Transform>(&mut self, transform: &mut T) -> Result<(), Trouble> {
        let mut outbox = Outbox::new(&mut self.transactions, false);
        let outcome = transform.before_commit(&mut outbox);
        settle(&mut self.transactions, outcome)?;
        let positions = self.assignment.changed(|partition, next| transform.position(partition, next));
        if positions.is_empty() && !self.transactions.is_open() {
            self.batch = Batch::default();
            return Ok(());
        }
        let list =
            offsets(&positions).map_err(|cause| Trouble::Stop(BusError::client("listing offsets", cause)))?;
        let group = self
            .consumer
            .group_metadata()
            .ok_or_else(|| Trouble::Abort("the consumer is in no group".to_owned()))?;
        self.transactions.commit(&list, &group)?;
        self.undone = 0;
        self.batch = Batch::default();
        self.assignment.committed(positions);
        transform.committed();
        Ok(())
    }

    /// Partitions come: ask what is committed, let the transform say where to start.
    fn assign<T: Transform>(
        &mut self,
        partitions: &TopicPartitionList,
        transform: &mut T,
        stop: Stop<'_>,
    ) -> Result<(), Trouble> {
        let mut starts = self.starts(partitions, stop)?;
        self.accept(&mut starts, transform)?;
        self.metrics.partitions_assigned.add(partitions.count() as u64);
        self.metrics.partitions.set(self.assignment.len() as u64);
        tracing::info!(partitions = ?names(&starts), "partitions assigned");
        take(&self.consumer, &starts)
            .map_err(|cause| Trouble::Stop(BusError::client("taking partitions", cause)))
    }

    /// What is committed for these partitions. Waits for a transaction that still holds offsets back.
    fn starts(&self, partitions: &TopicPartitionList, stop: Stop<'_>) -> Result<TopicPartitionList, Trouble> {
        // A predecessor's transaction may stay open for its whole timeout.
        let limit = self.config.transaction_timeout() + self.config.start_timeout();
        let start = Instant::now();
        while !stop() {
            let bare = list(&names(partitions));
            let error = match self.consumer.committed_offsets(bare, ATTEMPT) {
                Ok(committed) => {
                    match committed.elements().iter().find_map(|element| element.error().err()) {
                        None => return Ok(committed),
                        Some(error) => error,
                    }
                }
                Err(error) => error,
            };
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            if let Some(error) = denied(code, (&self.topics.join(","), "read"), &self.config.group_id, "") {
                return Err(error.into());
            }
            if start.elapsed() >= limit {
                let heard = self.consumer.context().notes.heard();
                return Err(unreachable(&self.config, start.elapsed(), &error, &heard).into());
            }
            tracing::info!(%error, "waiting for the committed offsets");
        }
        Err(Trouble::Stopping)
    }

    /// Tells the transform of each partition, and replaces the committed offsets by where it wants to start.
    fn accept<T: Transform>(
        &mut self,
        starts: &mut TopicPartitionList,
        transform: &mut T,
    ) -> Result<(), Trouble> {
        for mut element in starts.elements() {
            let partition =
                TopicPartition { topic: element.topic().to_owned(), partition: element.partition() };
            let committed = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            let metadata = element.metadata().to_owned();
            let assigned = Assigned { partition: partition.clone(), committed, metadata };
            let offset = start_offset(committed, transform.assigned(&assigned)?);
            element.set_offset(offset).map_err(|cause| BusError::client("setting where to start", cause))?;
            self.assignment.insert(partition, committed.unwrap_or(0));
        }
        Ok(())
    }

    /// Partitions go: finish and commit the batch first, unless they are lost already.
    fn revoke<T: Transform>(
        &mut self,
        partitions: &TopicPartitionList,
        transform: &mut T,
        stop: Stop<'_>,
    ) -> Result<(), Trouble> {
        let outcome = if self.consumer.assignment_lost() {
            Err(Trouble::Abort("the partitions were lost: this member was away for too long".to_owned()))
        } else {
            self.commit(transform)
        };
        let reason = if outcome.is_ok() { Release::Committed } else { Release::Aborted };
        tracing::info!(partitions = ?names(partitions), ?reason, "partitions revoked");
        // They are not ours any more, so that a recovery does not rewind them.
        for partition in names(partitions) {
            if self.assignment.remove(&partition) {
                transform.revoked(&partition, reason);
            }
        }
        self.metrics.partitions_revoked.add(partitions.count() as u64);
        self.metrics.partitions.set(self.assignment.len() as u64);
        let undone = outcome.or_else(|trouble| self.undo(trouble, stop));
        release(&self.consumer, partitions)
            .map_err(|cause| Trouble::Stop(BusError::client("giving partitions back", cause)))?;
        undone
    }

    /// Undoes everything since the last commit, to be read again: aborts the transaction, or throws the producer away
    /// where that cannot be trusted.
    fn undo(&mut self, trouble: Trouble, stop: Stop<'_>) -> Result<(), Trouble> {
        self.batch = Batch::default();
        self.stale = true;
        let outcome = match trouble {
            Trouble::Abort(cause) => {
                tracing::warn!(cause, "the transaction is aborted and its records are read again");
                self.transactions.abort()
            }
            trouble => Err(trouble),
        };
        match outcome {
            Err(Trouble::Abort(cause) | Trouble::Recreate(cause)) => {
                tracing::warn!(
                    cause,
                    "the transactional producer is made anew and the records are read again"
                );
                self.transactions.recreate(stop)?;
            }
            outcome => outcome?,
        }
        pause(self.undone, stop);
        self.undone += 1;
        Ok(())
    }

    /// Starts every partition again at what is committed. False if librdkafka cannot move the read position yet: a
    /// partition is just coming or going. (Giving the partition up and taking it again would not wait, but librdkafka
    /// 2.12 aborts the process when the same partition is stopped twice in quick succession.)
    fn rewind<T: Transform>(&mut self, transform: &mut T, stop: Stop<'_>) -> Result<bool, Trouble> {
        let held = list(self.assignment.keys());
        if held.count() > 0 {
            let mut starts = self.starts(&held, stop)?;
            for partition in names(&held) {
                self.assignment.remove(&partition);
                transform.revoked(&partition, Release::Aborted);
            }
            self.accept(&mut starts, transform)?;
            let refused = match self.consumer.seek_partitions(starts, SEEK) {
                Ok(sought) => sought.elements().iter().find_map(|element| element.error().err()),
                Err(error) => Some(error),
            };
            if let Some(error) = refused {
                tracing::debug!(%error, "the read position cannot be moved yet");
                return Ok(false);
            }
        }
        self.stale = false;
        Ok(true)
    }
}

impl Drop for Pipeline {
    /// Leaves the group. Rebalances that nobody will carry out any more are answered, or closing would wait for them.
    fn drop(&mut self) {
        self.consumer.context().close();
        while let Some(rebalance) = self.consumer.context().next_rebalance() {
            let answered = match rebalance {
                Rebalance::Assign(_) => take(&self.consumer, &TopicPartitionList::new()),
                Rebalance::Revoke(partitions) => release(&self.consumer, &partitions),
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "answering a rebalance while closing");
            }
        }
    }
}

impl Batch {
    fn add(&mut self) {
        self.records += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    /// Output without input opens a transaction too, and it must not stay open.
    fn note_open(&mut self, transactions: &Transactions) {
        if transactions.is_open() {
            self.since.get_or_insert_with(Instant::now);
        }
    }
}

/// The first time nothing is waited for; then up to five seconds, so that what goes wrong again and again does not do so
/// as fast as it can.
#[expect(clippy::disallowed_methods, reason = "a pause before the same is tried again")]
fn pause(times: u32, stop: Stop<'_>) {
    let limit =
        Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(times)).min(Duration::from_secs(5));
    let deadline = Instant::now() + limit;
    while times > 0 && Instant::now() < deadline && !stop() {
        std::thread::sleep(LONGEST_POLL.min(limit));
    }
}

/// The cause that a send met, where there is one, comes before what the transform made of it.
fn settle(transactions: &mut Transactions, outcome: Result<(), BusError>) -> Result<(), Trouble> {
    match (transactions.take_trouble(), outcome) {
        (Some(trouble), _) => Err(trouble),
        (None, outcome) => outcome.map_err(Trouble::Stop),
    }
}

fn start_offset(committed: Option<i64>, start: Start) -> Offset {
    match (committed, start) {
        (Some(committed), Start::Rewind { offset }) => Offset::Offset(offset.min(committed)),
        (None, Start::Rewind { offset }) => Offset::Offset(offset),
        (Some(committed), Start::Committed) => Offset::Offset(committed),
        (None, Start::Committed) => Offset::Beginning,
    }
}

/// Errors that come instead of a record: most of them librdkafka deals with by itself.
fn consumer_error(
    config: &BusConfig,
    topics: &[String],
    consumer: &BaseConsumer<ConsumerNotes>,
    error: KafkaError,
) -> Result<(), Trouble> {
    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
    let names = topics.join(",");
    if is_fenced(code) {
        let id = format!("member {} of group {}", config.instance(), config.group_id);
        return Err(BusError::Fenced { id, cause: error.to_string() }.into());
    }
    if let Some(error) = denied(code, (&names, "read"), &config.group_id, "") {
        return Err(error.into());
    }
    if let Some(error) = refused(config, &error, &consumer.context().notes.heard()) {
        return Err(error.into());
    }
    if let KafkaError::MessageConsumptionFatal(_) = error {
        let servers = config.bootstrap_servers.clone();
        return Err(BusError::Consumer { topics: names, servers, cause: Box::new(error) }.into());
    }
    tracing::warn!(%error, topics = names, "reading is disturbed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_starts_at_the_committed_offset_or_before_it() {
        assert_eq!(start_offset(None, Start::Committed), Offset::Beginning);
        assert_eq!(start_offset(Some(7), Start::Committed), Offset::Offset(7));
        assert_eq!(start_offset(Some(7), Start::Rewind { offset: 3 }), Offset::Offset(3));
        assert_eq!(start_offset(Some(7), Start::Rewind { offset: 9 }), Offset::Offset(7));
        assert_eq!(start_offset(None, Start::Rewind { offset: 3 }), Offset::Offset(3));
    }
}
