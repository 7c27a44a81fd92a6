//! The identity history from its topic.
//!
//! Read to its end before the first call is enriched, so that a restart does not make events of nobody; then followed
//! on a thread of its own. The records wait in a bounded channel for the pipeline's thread, which owns the index.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wirecall_bus::registry::{ReadError, Registry};
use wirecall_bus::{BusConfig, BusError, Incoming, Reader, StartAt};
use wirecall_enricher_core::Index;
use wirecall_schemas::Identity;
use wirecall_schemas::codec::Decoder;
use wirecall_schemas::topic::Topic;
use wirecall_service::drain::Shutdown;

/// Changes that may wait for the pipeline's thread; then the reader waits.
const WAITING: usize = 10_000;

/// How long one poll of the topic may take: how soon a request to stop is seen.
const POLL: Duration = Duration::from_millis(100);

/// Why the history cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The bus.
    #[error("the identity history cannot be read")]
    Bus(#[from] BusError),
    /// The schema.
    #[error("the identity schema is not usable")]
    Schema(#[from] wirecall_schemas::SchemaError),
    /// It took too long.
    #[error("the identity history was not read within {} s; raise identities.read_timeout_seconds, or look at the brokers", limit.as_secs())]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// No thread.
    #[error("no thread for following the identity history")]
    Thread(#[source] std::io::Error),
}

/// A change of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A record.
    Record(Box<Identity>),
    /// The record with this key is gone.
    Gone(String),
    /// A record that cannot be read.
    Undecodable,
}

impl Change {
    /// Takes the change into an index; tells whether it could be read.
    pub fn apply(self, index: &mut Index) -> bool {
        match self {
            Self::Record(identity) => index.apply(*identity),
            Self::Gone(key) => index.apply_tombstone(&key),
            Self::Undecodable => return false,
        }
        true
    }
}

/// Reads records of the history.
struct History {
    registry: Registry,
    decoder: Decoder<Identity>,
}

impl History {
    fn change(&mut self, record: &Incoming<'_>) -> Result<Change, BusError> {
        let Some(value) = record.value() else {
            let key = record.key().unwrap_or_default();
            return Ok(Change::Gone(String::from_utf8_lossy(key).into_owned()));
        };
        match self.registry.decode(&mut self.decoder, value) {
            Ok(identity) => Ok(Change::Record(Box::new(identity))),
            Err(ReadError::Undecodable(error)) => {
                tracing::warn!(offset = record.offset(), error, "an identity record cannot be read");
                Ok(Change::Undecodable)
            }
            Err(ReadError::Bus(error)) => Err(error),
        }
    }
}

/// Reads the whole history as it is now, and gives each change to `take`.
///
/// # Errors
/// When the topic cannot be read, or not in time.
pub fn read_history(config: &BusConfig, limit: Duration, take: impl FnMut(Change)) -> Result<(), FeedError> {
    read_whole(config, limit, take).map(drop)
}

fn read_whole(
    config: &BusConfig,
    limit: Duration,
    mut take: impl FnMut(Change),
) -> Result<(Reader, History), FeedError> {
    let topic = config.topic(Topic::Identities);
    let mut reader = Reader::topics(config, &[&topic], StartAt::Beginning)?;
    let mut history = History { registry: Registry::new(config)?, decoder: Decoder::new()? };
    let mut failure = None;
    let whole = reader.read_to_end(StartAt::Beginning, limit, |record| match history.change(record) {
        Ok(change) => take(change),
        Err(error) => failure = Some(error),
    })?;
    match failure {
        Some(error) => Err(error.into()),
        None if whole => Ok((reader, history)),
        None => Err(FeedError::TooSlow { limit }),
    }
}

/// The history, as it goes on.
#[derive(Debug)]
pub struct Feed {
    changes: Receiver<Change>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Reads the whole history into `take`, then follows it until `shutdown`.
    ///
    /// # Errors
    /// When the topic cannot be read, or not in time.
    pub fn start(
        config: &BusConfig,
        limit: Duration,
        shutdown: &Shutdown,
        take: impl FnMut(Change),
    ) -> Result<Self, FeedError> {
        let (reader, history) = read_whole(config, limit, take)?;
        let (sender, changes) = sync_channel(WAITING);
        let shutdown = shutdown.clone();
        let thread = std::thread::Builder::new()
            .name("identities".to_owned())
            .spawn(move || follow(reader, history, &sender, &shutdown))
            .map_err(FeedError::Thread)?;
        Ok(Self { changes, thread: Some(thread) })
    }

    /// The next change, if one has come; an error when the history is not followed any more.
    ///
    /// # Errors
    /// [`TryRecvError::Disconnected`] when the following thread ended.
    pub fn next(&self) -> Result<Option<Change>, TryRecvError> {
        match self.changes.try_recv() {
            Ok(change) => Ok(Some(change)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(TryRecvError::Disconnected),
        }
    }

    /// Waits for the following thread; to be called after `shutdown`.
    pub fn join(mut self) {
        // A thread that waits for room ends when nobody listens any more.
        drop(self.changes);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that follows the identity history had panicked");
        }
    }
}

fn follow(mut reader: Reader, mut history: History, sender: &SyncSender<Change>, shutdown: &Shutdown) {
    while !shutdown.is_requested() {
        let outcome = reader.poll(POLL, |record| history.change(record));
        let change = match outcome {
            Ok(None) => continue,
            Ok(Some(Ok(change))) => change,
            Ok(Some(Err(error))) | Err(error) => {
                // Ends the channel, and with it the pipeline: events without identity would be worse than none.
                tracing::error!(%error, "the identity history cannot be followed any more");
                return;
            }
        };
        if sender.send(change).is_err() {
            return;
        }
    }
}
