//! Reads API events from a topic, committed ones only, and decodes them.

use std::time::Duration;

use anyhow::Context as _;
use wirecall_bus::registry::{ReadError, Registry};
use wirecall_bus::{BusConfig, Incoming, Reader, StartAt};
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
            reader: Reader::topics(config, &[topic], start).map_err(crate::exit_of_bus)?,
            registry: Registry::new(config).map_err(crate::exit_of_bus)?,
            decoder: Decoder::new()?,
        })
    }

    /// The next record, or none when none came within `limit`.
    ///
    /// # Errors
    /// A broker or a registry that is gone for good.
    pub fn next(&mut self, limit: Duration) -> anyhow::Result<Option<Received<R>>> {
        let Self { reader, registry, decoder } = self;
        let polled = reader
            .poll(limit, |incoming| receive(registry, decoder, incoming))
            .map_err(crate::exit_of_bus)?;
        polled.transpose().map(Option::flatten)
    }

    /// Reads everything from `start` to what is the end by then. False when `limit` was over before.
    ///
    /// # Errors
    /// A broker or a registry that is gone for good, or what `take` says.
    pub fn read_to_end(
        &mut self,
        start: StartAt,
        limit: Duration,
        mut take: impl FnMut(Received<R>) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let Self { reader, registry, decoder } = self;
        let mut outcome = Ok(());
        let whole = reader
            .read_to_end(start, limit, |incoming| {
                if outcome.is_ok() {
                    outcome = receive(registry, decoder, incoming)
                        .and_then(|received| received.map_or(Ok(()), &mut take));
                }
            })
            .map_err(crate::exit_of_bus)?;
        outcome.map(|()| whole)
    }
}

/// A record decoded; none for a tombstone.
fn receive<R: Record>(
    registry: &Registry,
    decoder: &mut Decoder<R>,
    incoming: &Incoming<'_>,
) -> anyhow::Result<Option<Received<R>>> {
    let Some(value) = incoming.value() else { return Ok(None) };
    match registry.decode(decoder, value) {
        Ok(record) => Ok(Some(Received::Record(Box::new(record)))),
        Err(ReadError::Undecodable(error)) => Ok(Some(Received::Undecodable {
            partition: incoming.partition(),
            offset: incoming.offset(),
            error,
        })),
        Err(ReadError::Bus(error)) => {
            Err(crate::exit_of_bus(error)).context("cannot read the record's schema")
        }
    }
}
