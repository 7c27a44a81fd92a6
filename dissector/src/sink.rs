//! Calls become records of the calls' topic.

use wirecall_bus::registry::Registry;
use wirecall_bus::{BusConfig, BusError, Outbox, Outgoing};
use wirecall_schemas::codec::Encoder;
use wirecall_schemas::topic::{Topic, partition_of};
use wirecall_schemas::{Call, Message};

/// Writes calls. A call goes where its connection goes.
pub(crate) struct Sink {
    topic: String,
    partitions: i32,
    encoder: Encoder<Call>,
    buffer: Vec<u8>,
}

impl Sink {
    pub(crate) fn new(config: &BusConfig, registry: &Registry) -> Result<Self, BusError> {
        let topic = config.topic(Topic::Calls);
        Ok(Self {
            encoder: registry.encoder(&topic)?,
            topic,
            partitions: config.partitions_of(Topic::Calls),
            buffer: Vec::new(),
        })
    }

    /// Sends a call. One that is too large for the broker goes without the kept bytes of its bodies, which are then
    /// marked as truncated; true if so.
    pub(crate) fn send(&mut self, mut call: Call, out: &mut Outbox<'_>) -> Result<bool, BusError> {
        match self.send_as_is(&call, out) {
            Err(BusError::MessageTooLarge { .. }) => {
                call.request.as_mut().map(strip);
                call.response.as_mut().map(strip);
                self.send_as_is(&call, out).map(|()| true)
            }
            outcome => outcome.map(|()| false),
        }
    }

    fn send_as_is(&mut self, call: &Call, out: &mut Outbox<'_>) -> Result<(), BusError> {
        self.buffer.clear();
        self.encoder.encode(call, &mut self.buffer)?;
        let key = call.connection_id.as_bytes();
        out.send(&Outgoing {
            topic: &self.topic,
            partition: Some(partition_of(key, self.partitions)),
            key,
            value: Some(&self.buffer),
            timestamp_ms: None,
        })
    }
}

/// Takes the kept bytes out of a message's body.
fn strip(message: &mut Message) {
    if let Some(body) = &mut message.body
        && body.content.take().is_some_and(|content| !content.is_empty())
    {
        body.truncated = true;
    }
}
