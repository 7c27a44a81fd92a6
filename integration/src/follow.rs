//! Reads API events from a topic, committed ones only, and decodes them.

use std::time::Duration;

use anyhow::Context as _;
use wirecall_bus::{BusConfig, ReadError, Reader, Registry, StartAt};
use wirecall_schemas::codec::Decoder;
use wirecall_schemas::{ApiEvent, Record};

/// A record as it came: decoded, or why not.
#[derive(Debug)]
pub enum Received<R> {
    /// A record.
    Record(Box<R>),
    /// Bytes that are no such record, and where they lie.
    Undecodable {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// What is wrong.
        error: String,
    },
}

/// Follows a topic of records; API events unless told otherwise.
pub struct Follow<R: Record = ApiEvent> {
    reader: Reader,
    registry: Registry,
    decoder: Decoder<R>,
}

impl<R: Record> Follow<R> {
    /// Starts reading all partitions of a topic.
    ///
    /// # Errors
    /// Unreachable brokers, refused credentials, a topic that is not there.
    pub fn new(config: &BusConfig, topic: &str, start: StartAt) -> anyhow::Result<Self> {
        Ok(Self {
            reader: Reader::topics(config, &[topic], start)?,
            registry: Registry::new(config)?,
            decoder: Decoder::new()?,
        })
    }

    /// The next record, or none when none came within `limit`.
    ///
    /// # Errors
    /// A broker or a registry that is gone for good.
    pub fn next(&mut self, limit: Duration) -> anyhow::Result<Option<Received<R>>> {
        let Self { reader, registry, decoder } = self;
        let polled = reader.poll(limit, |incoming| {
            let value = incoming.value()?;
            let received = match registry.decode(decoder, value) {
                Ok(record) => Ok(Received::Record(Box::new(record))),
                Err(ReadError::Undecodable(error)) => {
                    Ok(Received::Undecodable { partition: incoming.partition(), offset: incoming.offset(), error })
                }
                Err(ReadError::Bus(error)) => Err(error),
            };
            Some(received)
        })?;
        polled.flatten().transpose().context("cannot read the record's schema")
    }

    /// True when everything that was committed by the time `ends` was taken has been read.
    ///
    /// # Errors
    /// When a broker does not answer.
    pub fn is_at_end(&self) -> anyhow::Result<bool> {
        let ends = self.reader.ends()?;
        let positions = self.reader.positions()?;
        Ok(ends.iter().all(|(partition, end)| *end == 0 || positions.get(partition).is_some_and(|at| at >= end)))
    }
}
