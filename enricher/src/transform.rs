//! Calls to events inside the pipeline's transaction.
//!
//! An event is enriched at once with what is known by then, and says up to what time that was
//! (`identity_watermark`); holding back calls that are younger is a later step.

use wirecall_bus::dead_letter::{DeadLetters, UNDECODABLE};
use wirecall_bus::registry::{ReadError, Registry};
use wirecall_bus::{BusConfig, BusError, Incoming, Outbox, Outgoing, Transform};
use wirecall_enricher_core::Enricher;
use wirecall_enricher_core::route::write_event_key;
use wirecall_schemas::codec::{Decoder, Encoder};
use wirecall_schemas::topic::Topic;
use wirecall_schemas::{ApiEvent, Call, DeadLetter};
use wirecall_service::drain::Shutdown;
use wirecall_service::health::Health;

use crate::metrics::EnricherMetrics;
use crate::source::kafka::Feed;

/// Reason of a dead letter: the event is larger than the broker takes.
pub const TOO_LARGE: &str = "too_large";

/// Turns call records into event records.
pub struct EnrichTransform {
    enricher: Enricher,
    feed: Option<Feed>,
    registry: Registry,
    decoder: Decoder<Call>,
    encoder: Encoder<ApiEvent>,
    dead_letters: DeadLetters,
    topic: String,
    metrics: EnricherMetrics,
    health: Health,
    shutdown: Shutdown,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl EnrichTransform {
    /// Makes encoder and decoder; asks the registry, if there is one.
    ///
    /// # Errors
    /// When a schema is not usable or the registry refuses.
    pub fn new(
        config: &BusConfig,
        enricher: Enricher,
        feed: Option<Feed>,
        metrics: EnricherMetrics,
        health: Health,
        shutdown: Shutdown,
    ) -> Result<Self, BusError> {
        let registry = Registry::new(config)?;
        let topic = config.topic(Topic::ApiEvents);
        let dead_letters = registry.framing::<DeadLetter>(&config.topic(Topic::DeadLetters))?;
        Ok(Self {
            encoder: registry.encoder(&topic)?,
            dead_letters: DeadLetters::new("enricher", config, dead_letters)?,
            decoder: Decoder::new()?,
            registry,
            enricher,
            feed,
            topic,
            metrics,
            health,
            shutdown,
            key: Vec::new(),
            value: Vec::new(),
        })
    }

    /// Gives the feed back, to end it.
    pub fn into_feed(self) -> Option<Feed> {
        self.feed
    }

    /// Takes in what the history has got since.
    fn take_changes(&mut self) -> Result<(), BusError> {
        let Some(feed) = &self.feed else { return Ok(()) };
        loop {
            match feed.next() {
                Ok(None) => return Ok(()),
                Ok(Some(change)) => {
                    self.metrics.identities_read.add(1);
                    if !change.apply(self.enricher.index_mut()) {
                        self.metrics.identities_undecodable.add(1);
                    }
                }
                Err(_) if self.shutdown.is_requested() => return Ok(()),
                Err(_) => {
                    return Err(BusError::Transform(FOLLOWING_ENDED.into()));
                }
            }
        }
    }

    fn send(
        &mut self,
        event: &ApiEvent,
        record: &Incoming<'_>,
        out: &mut Outbox<'_>,
    ) -> Result<(), BusError> {
        self.value.clear();
        self.encoder.encode(event, &mut self.value)?;
        write_event_key(event, &mut self.key);
        let topics = self.enricher.routes(event);
        self.metrics.routed.add(topics.len() as u64);
        for topic in std::iter::once(self.topic.as_str()).chain(topics) {
            out.send(&Outgoing {
                topic,
                partition: None,
                key: &self.key,
                value: Some(&self.value),
                // The time of the call's record, so that a replay writes the same.
                timestamp_ms: record.timestamp_ms(),
            })?;
        }
        Ok(())
    }
}

/// An event without its bodies is worth more than a dead letter; it says that they are not whole.
fn drop_bodies(event: &mut ApiEvent) {
    let messages = [&mut event.request, &mut event.response].into_iter().flatten();
    for body in messages.filter_map(|message| message.body.as_mut()) {
        if body.content.take().is_some() {
            body.truncated = true;
        }
    }
}

const FOLLOWING_ENDED: &str = "the identity history is not followed any more; its thread has said why";

impl Transform for EnrichTransform {
    fn record(&mut self, record: &Incoming<'_>, out: &mut Outbox<'_>) -> Result<(), BusError> {
        self.health.beat();
        self.take_changes()?;
        let call = match self.registry.decode(&mut self.decoder, record.value().unwrap_or_default()) {
            Ok(call) => call,
            Err(ReadError::Undecodable(error)) => {
                return self.dead_letters.send(record, UNDECODABLE, &error, out);
            }
            Err(ReadError::Bus(error)) => return Err(error),
        };
        let mut event = self.enricher.enrich(call);
        self.metrics.event(&event);
        match self.send(&event, record, out) {
            Err(BusError::MessageTooLarge { .. }) => drop_bodies(&mut event),
            outcome => return outcome,
        }
        match self.send(&event, record, out) {
            Err(error @ BusError::MessageTooLarge { .. }) => {
                self.dead_letters.send(record, TOO_LARGE, &error.to_string(), out)
            }
            outcome => outcome,
        }
    }

    fn idle(&mut self, _out: &mut Outbox<'_>) -> Result<(), BusError> {
        self.health.beat();
        self.take_changes()
    }

    fn committed(&mut self) {
        // A file's history is whole and stays so.
        if self.feed.is_some() {
            self.enricher.index_mut().expire();
        }
        self.metrics.take_over(&self.enricher);
    }
}
