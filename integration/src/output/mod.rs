//! How API events are shown: JSON lines, a table, or an Avro file.

mod avro;
mod json;
mod table;

use std::io::{self, Write};

use clap::ValueEnum;
use wirecall_schemas::{ApiEvent, SchemaError};

/// A format for API events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// One aligned line a call, for people.
    Table,
    /// An Avro object container file.
    Avro,
}

/// Where events go.
pub trait EventWriter {
    /// Writes one event.
    ///
    /// # Errors
    /// What the output says; a closed pipe comes as [`io::ErrorKind::BrokenPipe`].
    fn write(&mut self, event: &ApiEvent) -> io::Result<()>;

    /// Writes what is still held and flushes.
    ///
    /// # Errors
    /// What the output says.
    fn finish(&mut self) -> io::Result<()>;
}

/// Whether a table is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Escape sequences colour the status.
    On,
    /// Plain text.
    Off,
}

/// A writer of this format on this output.
///
/// # Errors
/// When the schema of the events is not usable (Avro only).
pub fn writer<'o>(
    format: Format,
    colour: Colour,
    output: impl Write + 'o,
) -> Result<Box<dyn EventWriter + 'o>, SchemaError> {
    Ok(match format {
        Format::Jsonl => Box::new(json::JsonLines::new(output)),
        Format::Table => Box::new(table::Table::new(output, colour)),
        Format::Avro => Box::new(avro::Container::new(output)?),
    })
}
