//! A plain reader that sees committed records only: for `wirecall tail`, audits, restores and tests. It belongs to no
//! group and commits nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::{create, denied, metadata, refused};
use crate::config::BusConfig;
use crate::context::ConsumerNotes;
use crate::transform::{Incoming, TopicPartition};
use crate::{BusError, Metrics};

/// Where to start reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the oldest record kept.
    Beginning,
    /// Behind the newest record.
    End,
    /// At this offset of each partition.
    Offset(i64),
    /// At the first record whose timestamp is this or later, in milliseconds since the epoch.
    Timestamp(i64),
}

/// A reader of topics.
pub struct Reader {
    consumer: BaseConsumer<ConsumerNotes>,
    config: BusConfig,
    partitions: Vec<TopicPartition>,
}

impl Reader {
    /// Reads all partitions of these topics.
    ///
    /// # Errors
    /// Unreachable brokers, refused credentials, a topic that is not there.
    pub fn topics(config: &BusConfig, topics: &[&str], start: StartAt) -> Result<Self, BusError> {
        let mut reader = Self::unassigned(config)?;
        for topic in topics {
            for partition in 0..reader.partition_count(topic)? {
                reader.partitions.push(TopicPartition { topic: (*topic).to_owned(), partition });
            }
        }
        reader.seek(start)?;
        Ok(reader)
    }

    /// Reads these partitions.
    ///
    /// # Errors
    /// As [`Reader::topics`].
    pub fn partitions(
        config: &BusConfig,
        partitions: &[TopicPartition],
        start: StartAt,
    ) -> Result<Self, BusError> {
        let mut reader = Self::unassigned(config)?;
        reader.partitions = partitions.to_vec();
        reader.seek(start)?;
        Ok(reader)
    }

    fn unassigned(config: &BusConfig) -> Result<Self, BusError> {
        config.validate()?;
        // librdkafka delivers records only to consumers with a group; nothing is ever committed to this one.
        let mut properties = config.reader();
        properties
            .set("group.id", group(config))
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true");
        let notes = ConsumerNotes::new(Arc::new(Metrics::default()));
        Ok(Self {
            consumer: create(&properties, notes, "making the reader")?,
            config: config.clone(),
            partitions: Vec::new(),
        })
    }

    /// The number of partitions of a topic.
    ///
    /// # Errors
    /// As [`Reader::topics`].
    pub fn partition_count(&self, topic: &str) -> Result<i32, BusError> {
        let metadata = metadata(&self.config, &self.consumer, Some(topic), self.config.start_timeout())?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let code = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
        if let Some(error) = code.and_then(|code| denied(code, (topic, "read"), "", "")) {
            return Err(error);
        }
        match found {
            Some(found) if code.is_none() => Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX)),
            _ => Err(BusError::MissingTopic { topic: topic.to_owned(), partitions: self.config.partitions }),
        }
    }

    /// Goes on from another place.
    ///
    /// # Errors
    /// If the brokers cannot tell where a timestamp lies.
    pub fn seek(&mut self, start: StartAt) -> Result<(), BusError> {
        self.assign(&self.starts(&self.partitions, start)?)
    }

    fn assign(&self, list: &TopicPartitionList) -> Result<(), BusError> {
        self.consumer.assign(list).map_err(|cause| BusError::client("reading partitions", cause))
    }

    fn starts(&self, partitions: &[TopicPartition], start: StartAt) -> Result<TopicPartitionList, BusError> {
        let failed = |cause| BusError::client("finding where to start", cause);
        let offset = match start {
            StartAt::Beginning => Offset::Beginning,
            StartAt::End => Offset::End,
            // The question for a time carries it in the place of the offset.
            StartAt::Offset(number) | StartAt::Timestamp(number) => Offset::Offset(number),
        };
        let mut list = TopicPartitionList::new();
        for TopicPartition { topic, partition } in partitions {
            list.add_partition_offset(topic, *partition, offset).map_err(failed)?;
        }
        match start {
            StartAt::Timestamp(_) => {
                self.consumer.offsets_for_times(list, self.config.start_timeout()).map_err(failed)
            }
            _ => Ok(list),
        }
    }

    /// The next record, or `None` if none came within `limit`.
    ///
    /// # Errors
    /// Refused credentials, missing permission, and errors that librdkafka calls fatal.
    pub fn poll<T>(
        &mut self,
        limit: Duration,
        take: impl FnOnce(&Incoming<'_>) -> T,
    ) -> Result<Option<T>, BusError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.step(left)? {
                Step::Record(message) => {
                    return Ok(Some(take(&Incoming::new(&message, false))));
                }
                _ if left.is_zero() => return Ok(None),
                Step::Nothing | Step::End(_) => {}
            }
        }
    }

    /// Reads everything from `start` to what is the end by then, topic by topic. False if `limit` was over before.
    ///
    /// # Errors
    /// As [`Reader::poll`].
    pub fn read_to_end(
        &mut self,
        start: StartAt,
        limit: Duration,
        mut take: impl FnMut(&Incoming<'_>),
    ) -> Result<bool, BusError> {
        let deadline = Instant::now() + limit;
        let topics: BTreeSet<_> = self.partitions.iter().map(|partition| partition.topic.clone()).collect();
        for topic in topics {
            // librdkafka names only the partition whose end it met, so one topic is read at a time.
            let partitions: Vec<_> =
                self.partitions.iter().filter(|partition| partition.topic == topic).cloned().collect();
            self.assign(&self.starts(&partitions, start)?)?;
            let mut open: BTreeSet<_> = partitions.iter().map(|partition| partition.partition).collect();
            while !open.is_empty() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(false);
                }
                match self.step(left)? {
                    Step::Record(message) => {
                        take(&Incoming::new(&message, false));
                    }
                    Step::End(partition) => {
                        open.remove(&partition);
                    }
                    Step::Nothing => {}
                }
            }
        }
        Ok(true)
    }

    fn step(&self, limit: Duration) -> Result<Step<'_>, BusError> {
        let error = match self.consumer.poll(limit) {
            None => return Ok(Step::Nothing),
            Some(Ok(message)) => return Ok(Step::Record(message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => return Ok(Step::End(partition)),
            Some(Err(error)) => error,
        };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let topic = self.partitions.first().map(|first| first.topic.clone()).unwrap_or_default();
        if let Some(error) = denied(code, (&topic, "read"), &group(&self.config), "") {
            return Err(error);
        }
        if let Some(error) = refused(&self.config, &error, &self.consumer.context().notes.heard()) {
            return Err(error);
        }
        if let KafkaError::MessageConsumptionFatal(_) = error {
            return Err(BusError::client("reading", error));
        }
        tracing::warn!(%error, topic, "reading is disturbed");
        Ok(Step::Nothing)
    }

    /// The end of each partition, as far as committed: the offset behind the last record that can be read.
    ///
    /// # Errors
    /// If a broker does not answer.
    pub fn ends(&self) -> Result<BTreeMap<TopicPartition, i64>, BusError> {
        let mut ends = BTreeMap::new();
        for partition in &self.partitions {
            let (_, end) = self
                .consumer
                .fetch_watermarks(&partition.topic, partition.partition, self.config.start_timeout())
                .map_err(|cause| BusError::client("asking for the end of a partition", cause))?;
            ends.insert(partition.clone(), end);
        }
        Ok(ends)
    }
}

/// The group of readers: nothing is committed to it, but brokers with permissions want it allowed.
fn group(config: &BusConfig) -> String {
    format!("{}reader", config.topic_prefix)
}

/// What a poll gave.
enum Step<'r> {
    Record(BorrowedMessage<'r>),
    /// The end of this partition was met.
    End(i32),
    Nothing,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.consumer.context().close();
    }
}
