//! Records of the segments' topic become segments, or dead letters.

use wirecall_bus::registry::{ReadError, Registry};
use wirecall_bus::{BusError, Incoming};
use wirecall_schemas::Segment;
use wirecall_schemas::codec::Decoder;

/// Reads segments.
pub(crate) struct Source {
    registry: Registry,
    decoder: Decoder<Segment>,
}

impl Source {
    pub(crate) fn new(registry: Registry) -> Result<Self, BusError> {
        Ok(Self { registry, decoder: Decoder::new()? })
    }

    pub(crate) fn read(&mut self, record: &Incoming<'_>) -> Result<Segment, ReadError> {
        let Some(value) = record.value() else {
            return Err(ReadError::Undecodable("the record has no value".to_owned()));
        };
        self.registry.decode(&mut self.decoder, value)
    }
}
