//! An Avro object container file that any Avro tool reads (Avro specification, "Object Container Files").
//!
//! The header is written here because the library draws its sync marker at random and writes its metadata in no fixed
//! order: the same traffic shall give the same bytes. The marker is the schema's fingerprint, twice.

use std::io::{self, Write};

use apache_avro::{Codec, Writer};
use wirecall_schemas::codec::fingerprint;
use wirecall_schemas::{ApiEvent, Record, SchemaError};

use super::EventWriter;

/// Bytes of events in a block: large enough that block headers do not count, small enough to hold.
const BLOCK_BYTES: usize = 64 * 1024;

/// Writes a container file.
pub(super) struct Container<W: Write> {
    writer: Writer<'static, W>,
}

impl<W: Write> Container<W> {
    pub(super) fn new(output: W) -> Result<Self, SchemaError> {
        let failed = |cause: String| SchemaError { name: ApiEvent::NAME, cause };
        let schema = ApiEvent::schema()?;
        let half = fingerprint(schema).to_le_bytes();
        let mut marker = [0; 16];
        marker[..8].copy_from_slice(&half);
        marker[8..].copy_from_slice(&half);

        let mut output = output;
        output.write_all(&header(marker)).map_err(|error| failed(error.to_string()))?;
        let writer = Writer::builder()
            .schema(schema)
            .writer(output)
            .codec(Codec::Null)
            .block_size(BLOCK_BYTES)
            .marker(marker)
            .has_header(true)
            .human_readable(false)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { writer })
    }
}

/// Magic, the two metadata entries, the sync marker.
fn header(marker: [u8; 16]) -> Vec<u8> {
    let mut bytes = b"Obj\x01".to_vec();
    bytes.push(zigzag_small(2));
    for (key, value) in [("avro.codec", "null"), ("avro.schema", ApiEvent::SCHEMA_TEXT)] {
        for part in [key, value] {
            write_length(part.len(), &mut bytes);
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    bytes.push(0);
    bytes.extend_from_slice(&marker);
    bytes
}

/// Zigzag of a number below 64: one byte.
const fn zigzag_small(number: u8) -> u8 {
    number << 1
}

/// A length as an Avro long: zigzag, then seven bits a byte, the lowest first.
fn write_length(length: usize, bytes: &mut Vec<u8>) {
    let mut rest = (length as u64) << 1;
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

impl<W: Write> EventWriter for Container<W> {
    fn write(&mut self, event: &ApiEvent) -> io::Result<()> {
        self.writer.append_ser(event).map(|_| ()).map_err(into_io)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer.flush().map(|_| ()).map_err(into_io)
    }
}

/// The library wraps the output's own error; a closed pipe must still be seen as one.
fn into_io(error: apache_avro::Error) -> io::Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return io::Error::new(io.kind(), error.to_string());
        }
        source = inner.source();
    }
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_reads_the_empty_file() {
        let mut file = Vec::new();
        let mut container = Container::new(&mut file).expect("the schema is usable");
        container.finish().expect("memory does not fail");
        drop(container);
        let reader = apache_avro::Reader::new(&file[..]).expect("a container file");
        assert_eq!(reader.writer_schema(), ApiEvent::schema().expect("usable"));
        assert_eq!(reader.count(), 0);
    }
}
