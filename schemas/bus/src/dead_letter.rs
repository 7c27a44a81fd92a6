//! Dead letters: records that could not be processed go to a topic of their own, with the reason, in the same
//! transaction as everything else. So a poisonous record neither stops the pipeline nor vanishes.

use bytes::Bytes;
use wirecall_schemas::codec::{Encoder, Framing};
use wirecall_schemas::topic::Topic;
use wirecall_schemas::{Blob, ByteString, DeadLetter, Timestamp};

use crate::{BusConfig, BusError, Incoming, Outbox, Outgoing};

/// The reason of a record that is not what its topic says.
pub const UNDECODABLE: &str = "undecodable";

/// Sends dead letters of one service.
pub struct DeadLetters {
    stage: ByteString,
    topic: String,
    encoder: Encoder<DeadLetter>,
    buffer: Vec<u8>,
}

impl DeadLetters {
    /// For the service `stage`.
    ///
    /// # Errors
    /// If the schema is not usable.
    pub fn new(stage: &'static str, config: &BusConfig, framing: Framing) -> Result<Self, BusError> {
        Ok(Self {
            stage: ByteString::from_static(stage),
            topic: config.topic(Topic::DeadLetters),
            encoder: Encoder::new(framing)?,
            buffer: Vec::new(),
        })
    }

    /// Sends `record` to the dead letters. A record that is too large to be kept goes without its bytes: topic,
    /// partition and offset still say where it lies.
    ///
    /// # Errors
    /// Those of [`Outbox::send`].
    pub fn send(
        &mut self,
        record: &Incoming<'_>,
        reason: &'static str,
        error: &str,
        out: &mut Outbox<'_>,
    ) -> Result<(), BusError> {
        out.count_dead_letter();
        let mut letter = self.letter(record, reason, error);
        match self.send_letter(record, &letter, out) {
            Err(BusError::MessageTooLarge { .. }) => {
                letter.value = None;
                letter.key = None;
                self.send_letter(record, &letter, out)
            }
            outcome => outcome,
        }
    }

    fn letter(&self, record: &Incoming<'_>, reason: &'static str, error: &str) -> DeadLetter {
        let blob = |bytes: &[u8]| Blob::new(Bytes::copy_from_slice(bytes));
        DeadLetter {
            stage: self.stage.clone(),
            topic: record.topic().into(),
            partition: record.partition(),
            offset: record.offset(),
            time: record
                .timestamp_ms()
                .map(|milliseconds| Timestamp::from_micros(milliseconds.saturating_mul(1_000))),
            reason: ByteString::from_static(reason),
            error: error.into(),
            key: record.key().map(blob),
            value: record.value().map(blob),
        }
    }

    fn send_letter(
        &mut self,
        record: &Incoming<'_>,
        letter: &DeadLetter,
        out: &mut Outbox<'_>,
    ) -> Result<(), BusError> {
        self.buffer.clear();
        self.encoder.encode(letter, &mut self.buffer)?;
        out.send(&Outgoing {
            topic: &self.topic,
            partition: None,
            key: letter.key.as_ref().and(record.key()).unwrap_or_default(),
            value: Some(&self.buffer),
            timestamp_ms: None,
        })
    }
}
