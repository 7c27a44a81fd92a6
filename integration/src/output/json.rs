//! JSON lines: one object an event. Field names and shapes are those of the Avro schema; times are ISO 8601.

use std::io::{self, Write};

use wirecall_schemas::ApiEvent;

use super::EventWriter;

/// Writes JSON lines.
pub(super) struct JsonLines<W: Write> {
    output: W,
    line: Vec<u8>,
}

impl<W: Write> JsonLines<W> {
    pub(super) const fn new(output: W) -> Self {
        Self { output, line: Vec::new() }
    }
}

impl<W: Write> EventWriter for JsonLines<W> {
    fn write(&mut self, event: &ApiEvent) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event)?;
        self.line.push(b'\n');
        self.output.write_all(&self.line)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
