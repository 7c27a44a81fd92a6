//! Framing and encoding of records: Confluent framing when a registry gave a schema id, Avro single objects when not.
//!
//! ```text
//! Confluent      00 | id (4 bytes, big-endian)                  | Avro datum
//! single object  c3 01 | CRC-64-AVRO fingerprint, little-endian | Avro datum
//! ```
//!
//! A reader accepts both, whatever it writes itself, so that a topic survives the day a registry is introduced. Data
//! is read with the schema it was written with; fields that the reader does not know are skipped, fields that the
//! writer did not know take their default.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::OnceLock;

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{Name, ResolvedSchema, UnionSchema};
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Agent, ApiEvent, Call, CodecError, DeadLetter, Identity, SchemaError, Segment};

/// First byte of Confluent framing.
const CONFLUENT_MAGIC: u8 = 0;
/// Length of Confluent framing: the magic byte and the schema id.
const CONFLUENT_LENGTH: usize = 5;
/// First bytes of an Avro single object (Avro specification, "Single-object encoding").
const SINGLE_OBJECT_MARKER: [u8; 2] = [0xc3, 0x01];
/// Length of a single-object header: the marker and the fingerprint.
const SINGLE_OBJECT_LENGTH: usize = 10;

/// A type that has an Avro schema and a topic.
pub trait Record: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Name of the record in the schema.
    const NAME: &'static str;
    /// The schema's text: the file under `avro/`.
    const SCHEMA_TEXT: &'static str;

    /// The parsed schema.
    ///
    /// # Errors
    /// When the schema's text does not parse; a test holds every record against that.
    fn schema() -> Result<&'static Schema, SchemaError>;

    /// The schema with each reference to a named type replaced by the type: the same bytes, and no look-up by name for
    /// every header of every message.
    ///
    /// # Errors
    /// As [`Record::schema`].
    fn inlined() -> Result<&'static Schema, SchemaError>;
}

macro_rules! record {
    ($type:ty, $name:literal, $file:literal) => {
        impl Record for $type {
            const NAME: &'static str = $name;
            const SCHEMA_TEXT: &'static str = include_str!(concat!("../avro/", $file));

            fn schema() -> Result<&'static Schema, SchemaError> {
                static SCHEMA: OnceLock<Schema> = OnceLock::new();
                if let Some(schema) = SCHEMA.get() {
                    return Ok(schema);
                }
                let schema = Schema::parse_str(Self::SCHEMA_TEXT)
                    .map_err(|error| SchemaError { name: Self::NAME, cause: error.to_string() })?;
                Ok(SCHEMA.get_or_init(|| schema))
            }

            fn inlined() -> Result<&'static Schema, SchemaError> {
                static SCHEMA: OnceLock<Schema> = OnceLock::new();
                if let Some(schema) = SCHEMA.get() {
                    return Ok(schema);
                }
                let schema = Self::schema()?;
                Ok(SCHEMA.get_or_init(|| inline(schema, &mut HashMap::new())))
            }
        }
    };
}

record!(Segment, "Segment", "segment.avsc");
record!(Call, "Call", "call.avsc");
record!(ApiEvent, "ApiEvent", "api-event.avsc");
record!(Identity, "Identity", "identity.avsc");
record!(Agent, "Agent", "agent.avsc");
record!(DeadLetter, "DeadLetter", "dead-letter.avsc");

/// How records are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Confluent framing with the schema id that the registry gave.
    Confluent {
        /// The id.
        id: u32,
    },
    /// Avro single-object encoding with the schema's fingerprint.
    SingleObject,
}

/// Writes records of one type. Cheap to share; holds no buffer.
pub struct Encoder<R: Record> {
    writer: GenericDatumWriter<'static>,
    header: Vec<u8>,
    record: PhantomData<fn(&R)>,
}

impl<R: Record> Encoder<R> {
    /// An encoder with this framing.
    ///
    /// # Errors
    /// When the record's schema is not usable.
    pub fn new(framing: Framing) -> Result<Self, SchemaError> {
        let schema = R::schema()?;
        let failed = |error: apache_avro::Error| SchemaError { name: R::NAME, cause: error.to_string() };
        let writer = GenericDatumWriter::builder(R::inlined()?)
            .resolved_schemata(ResolvedSchema::try_from(schema).map_err(failed)?)
            .human_readable(false)
            .build()
            .map_err(failed)?;
        let header = match framing {
            Framing::Confluent { id } => [&[CONFLUENT_MAGIC][..], &id.to_be_bytes()].concat(),
            Framing::SingleObject => [&SINGLE_OBJECT_MARKER[..], &fingerprint(schema).to_le_bytes()].concat(),
        };
        Ok(Self { writer, header, record: PhantomData })
    }

    /// Appends the record without framing to `buffer`, as container files want it; on an error the buffer is as before.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_datum(&self, record: &R, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        self.encode_after(&[], record, buffer)
    }

    /// Appends the framed record to `buffer`; on an error the buffer is as before.
    ///
    /// # Errors
    /// When the value does not fit its schema, which for the types of this crate would be a defect.
    pub fn encode(&self, record: &R, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        self.encode_after(&self.header, record, buffer)
    }

    fn encode_after(&self, header: &[u8], record: &R, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = buffer.len();
        buffer.extend_from_slice(header);
        match self.writer.write_ser(buffer, record) {
            Ok(_) => Ok(()),
            Err(error) => {
                buffer.truncate(start);
                Err(CodecError::Unwritable { cause: error.to_string() })
            }
        }
    }
}

/// Reads records of one type, whichever framing they have.
pub struct Decoder<R: Record> {
    by_fingerprint: HashMap<u64, GenericDatumReader<'static>>,
    by_id: HashMap<u32, GenericDatumReader<'static>>,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> Decoder<R> {
    /// A decoder that knows the program's own schema by fingerprint; ids are learnt with [`Decoder::learn`].
    ///
    /// # Errors
    /// When the record's schema is not usable.
    pub fn new() -> Result<Self, SchemaError> {
        let schema = R::schema()?;
        let by_fingerprint = HashMap::from([(fingerprint(schema), reader::<R>(schema)?)]);
        Ok(Self { by_fingerprint, by_id: HashMap::new(), record: PhantomData })
    }

    /// Teaches the schema behind a registry's id, so that records written with it can be read.
    ///
    /// The parsed schema lives as long as the program: a registry hands out few ids, and each is learnt once.
    ///
    /// # Errors
    /// When the schema does not parse.
    pub fn learn(&mut self, id: u32, schema_text: &str) -> Result<(), SchemaError> {
        if self.by_id.contains_key(&id) {
            return Ok(());
        }
        let schema = Schema::parse_str(schema_text)
            .map_err(|error| SchemaError { name: R::NAME, cause: error.to_string() })?;
        self.by_id.insert(id, reader::<R>(Box::leak(Box::new(schema)))?);
        Ok(())
    }

    /// Reads one framed record.
    ///
    /// # Errors
    /// [`CodecError::UnknownSchemaId`] asks the caller to [`Decoder::learn`] and try again; all others mean that the
    /// record belongs to the dead letters.
    pub fn decode(&self, framed: &[u8]) -> Result<R, CodecError> {
        let (reader, mut datum) = self.reader_of(framed)?;
        let record = reader
            .read_deser(&mut datum)
            .map_err(|error| CodecError::Malformed { cause: error.to_string() })?;
        if datum.is_empty() { Ok(record) } else { Err(CodecError::TrailingBytes { left: datum.len() }) }
    }

    fn reader_of<'f>(
        &self,
        framed: &'f [u8],
    ) -> Result<(&GenericDatumReader<'static>, &'f [u8]), CodecError> {
        let too_short = CodecError::TooShort { length: framed.len() };
        match framed {
            [CONFLUENT_MAGIC, ..] => {
                let (header, datum) = framed.split_first_chunk::<CONFLUENT_LENGTH>().ok_or(too_short)?;
                let id = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
                Ok((self.by_id.get(&id).ok_or(CodecError::UnknownSchemaId { id })?, datum))
            }
            [0xc3, 0x01, ..] => {
                let (header, datum) = framed.split_first_chunk::<SINGLE_OBJECT_LENGTH>().ok_or(too_short)?;
                let [_, _, digits @ ..] = *header;
                let fingerprint = u64::from_le_bytes(digits);
                let reader = self
                    .by_fingerprint
                    .get(&fingerprint)
                    .ok_or(CodecError::UnknownFingerprint { fingerprint })?;
                Ok((reader, datum))
            }
            [first, ..] => Err(CodecError::UnknownFraming { first: *first }),
            [] => Err(too_short),
        }
    }
}

/// Replaces references by what they refer to. A type is defined before it is referred to, and none holds itself.
fn inline(schema: &Schema, known: &mut HashMap<Name, Schema>) -> Schema {
    match schema {
        Schema::Ref { name } => known.get(name).cloned().unwrap_or_else(|| schema.clone()),
        Schema::Record(record) => {
            let mut record = record.clone();
            for field in &mut record.fields {
                field.schema = inline(&field.schema, known);
            }
            let whole = Schema::Record(record.clone());
            known.insert(record.name, whole.clone());
            whole
        }
        Schema::Enum(symbols) => {
            known.insert(symbols.name.clone(), schema.clone());
            schema.clone()
        }
        Schema::Array(array) => {
            let mut array = array.clone();
            array.items = Box::new(inline(&array.items, known));
            Schema::Array(array)
        }
        Schema::Map(map) => {
            let mut map = map.clone();
            map.types = Box::new(inline(&map.types, known));
            Schema::Map(map)
        }
        Schema::Union(union) => {
            let branches = union.variants().iter().map(|branch| inline(branch, known)).collect();
            UnionSchema::new(branches).map_or_else(|_| schema.clone(), Schema::Union)
        }
        other => other.clone(),
    }
}

fn reader<R: Record>(schema: &'static Schema) -> Result<GenericDatumReader<'static>, SchemaError> {
    GenericDatumReader::builder(schema)
        .human_readable(false)
        .build()
        .map_err(|error| SchemaError { name: R::NAME, cause: error.to_string() })
}

/// CRC-64-AVRO of the schema's parsing canonical form.
pub fn fingerprint(schema: &Schema) -> u64 {
    let bytes = schema.fingerprint::<Rabin>().bytes;
    // The library gives the digits of the checksum little-endian, as the single-object header wants them.
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
