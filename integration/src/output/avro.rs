//! An Avro object container file that any Avro tool reads (Avro specification, "Object Container Files").
//!
//! ```text
//! Obj 01 | metadata: codec and schema | sync marker | blocks: count, bytes, records, sync marker
//! ```
//!
//! The file is framed here because the library draws its sync marker at random and writes its metadata in no fixed
//! order: the same traffic shall give the same bytes. The marker is the schema's fingerprint, twice.

use std::io::{self, Write};

use wirecall_schemas::codec::{Encoder, Framing, fingerprint};
use wirecall_schemas::{ApiEvent, Record, SchemaError};

use super::EventWriter;

/// Bytes of events in a block: large enough that block headers do not count, small enough to hold.
const BLOCK_BYTES: usize = 64 * 1024;

/// Writes a container file.
pub(super) struct Container<W: Write> {
    output: W,
    encoder: Encoder<ApiEvent>,
    marker: [u8; 16],
    /// Whether the header was written.
    begun: bool,
    block: Vec<u8>,
    events: u64,
}

impl<W: Write> Container<W> {
    pub(super) fn new(output: W) -> Result<Self, SchemaError> {
        let half = fingerprint(ApiEvent::schema()?).to_le_bytes();
        let mut marker = [0; 16];
        marker[..8].copy_from_slice(&half);
        marker[8..].copy_from_slice(&half);
        let encoder = Encoder::new(Framing::SingleObject)?;
        Ok(Self { output, encoder, marker, begun: false, block: Vec::new(), events: 0 })
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        let mut header = b"Obj\x01".to_vec();
        let metadata = [("avro.codec", "null"), ("avro.schema", ApiEvent::SCHEMA_TEXT)];
        write_long(metadata.len() as u64, &mut header);
        for text in metadata.into_iter().flat_map(|(key, value)| [key, value]) {
            write_long(text.len() as u64, &mut header);
            header.extend_from_slice(text.as_bytes());
        }
        write_long(0, &mut header);
        header.extend_from_slice(&self.marker);
        self.output.write_all(&header)
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.begin()?;
        if self.events == 0 {
            return Ok(());
        }
        let mut sizes = Vec::with_capacity(20);
        write_long(self.events, &mut sizes);
        write_long(self.block.len() as u64, &mut sizes);
        self.output.write_all(&sizes)?;
        self.output.write_all(&self.block)?;
        self.output.write_all(&self.marker)?;
        self.block.clear();
        self.events = 0;
        Ok(())
    }
}

/// A count or length as an Avro long: zigzag, then seven bits a byte, the lowest first.
fn write_long(number: u64, bytes: &mut Vec<u8>) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

impl<W: Write> EventWriter for Container<W> {
    fn write(&mut self, event: &ApiEvent) -> io::Result<()> {
        self.encoder.encode_datum(event, &mut self.block).map_err(io::Error::other)?;
        self.events += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.end_block()?;
        self.output.flush()
    }
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
