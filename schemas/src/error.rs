//! What can go wrong with a schema or a framed record.

/// A schema that does not parse or does not fit its type.
#[derive(Debug, thiserror::Error)]
#[error("schema {name} is not usable: {cause}")]
pub struct SchemaError {
    /// Name of the record.
    pub name: &'static str,
    /// What the Avro library says.
    pub cause: String,
}

/// A record that cannot be framed, written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Too short for any framing.
    #[error("{length} bytes are too short for a framed Avro record")]
    TooShort {
        /// Bytes there were.
        length: usize,
    },
    /// Neither Confluent framing nor a single-object header.
    #[error(
        "the record starts with 0x{first:02x}, which is neither Confluent framing (00) nor a single object (c3 01)"
    )]
    UnknownFraming {
        /// The first byte.
        first: u8,
    },
    /// Confluent framing with a schema id that is not known yet; ask the registry for it, then try again.
    #[error("schema id {id} is not known; the registry has to be asked")]
    UnknownSchemaId {
        /// The id.
        id: u32,
    },
    /// A single object with another schema's fingerprint.
    #[error(
        "the record was written with the schema of fingerprint {fingerprint:016x}, which this program does not know"
    )]
    UnknownFingerprint {
        /// The fingerprint, as read little-endian from the header.
        fingerprint: u64,
    },
    /// The Avro data does not match the schema.
    #[error("the record does not match its schema: {cause}")]
    Malformed {
        /// What the Avro library says.
        cause: String,
    },
    /// Bytes were left over after the record.
    #[error("{left} bytes follow the record")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// The value cannot be written with its schema.
    #[error("the value does not fit its schema: {cause}")]
    Unwritable {
        /// What the Avro library says.
        cause: String,
    },
}
