//! One capture through the whole pipeline, in this process, and what came of it.

use std::io::{self, Cursor};

use anyhow::Result;
use wirecall::offline::{Offline, Options};
use wirecall::stats::Account;
use wirecall_capture::source::pcap::Reader;
use wirecall_capture_core::Packet;
use wirecall_schemas::ApiEvent;

use super::compare::Key;

/// What one run gave.
#[derive(Debug)]
pub(crate) struct Run {
    /// The HTTP calls, in order of completion.
    pub(crate) calls: Vec<Key>,
    /// All events as JSON lines.
    pub(crate) lines: Vec<u8>,
    /// Where every packet and byte went.
    pub(crate) account: Account,
    /// Why the capture was not read whole.
    pub(crate) fault: Option<String>,
}

/// The events that one input can reasonably give: one for each packet, and one for each shortest request in its bytes.
/// More come of a loop without progress.
const SHORTEST_REQUEST: u64 = 16;

/// Runs the bytes of a capture file through the pipeline.
///
/// # Errors
/// A pipeline that cannot be made or refuses its own records, or events without end. A file that cannot be read whole
/// is no error: it is noted.
pub(crate) fn run(file: Vec<u8>, options: &Options) -> Result<Run> {
    let mut offline = Offline::new(options)?;
    let most = 16 + file.len() as u64 / SHORTEST_REQUEST.min(RECORD_HEADER);
    let mut collected = Collected { calls: Vec::new(), lines: Vec::new(), events: 0, most };
    let mut emit = |event: &ApiEvent| collected.event(event);
    let fault = read(file, |packet| offline.packet(packet, &mut emit))?;
    offline.finish(&mut emit)?;
    let account = offline.account();
    Ok(Run { calls: collected.calls, lines: collected.lines, account, fault })
}

/// The smallest record of a capture file, in bytes: its header.
const RECORD_HEADER: u64 = 16;

/// Hands the packets of a file on; gives why it could not be read whole.
fn read(file: Vec<u8>, mut each: impl FnMut(Packet<'_>) -> Result<()>) -> Result<Option<String>> {
    let mut reader = match Reader::new(Cursor::new(file)) {
        Ok(reader) => reader,
        Err(error) => return Ok(Some(error.to_string())),
    };
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) => each(packet)?,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error.to_string())),
        }
    }
}

/// Gathers events.
struct Collected {
    calls: Vec<Key>,
    lines: Vec<u8>,
    events: u64,
    most: u64,
}

impl Collected {
    fn event(&mut self, event: &ApiEvent) -> io::Result<()> {
        self.events += 1;
        if self.events > self.most {
            return Err(io::Error::other("more events than the bytes of the capture can hold"));
        }
        if &*event.protocol == "http" {
            let text = |field: &Option<wirecall_schemas::ByteString>| {
                field.as_deref().unwrap_or_default().to_owned()
            };
            self.calls.push(Key {
                method: text(&event.operation),
                target: text(&event.target),
                status: text(&event.status),
            });
        }
        serde_json::to_writer(&mut self.lines, event)?;
        self.lines.push(b'\n');
        Ok(())
    }
}
