//! One capture through the whole pipeline, in this process, and what came of it.

use std::io;
use std::path::Path;

use anyhow::Result;
use wirecall::offline::{Input, Offline, Options, play};
use wirecall::stats::Account;
use wirecall_capture::source::pcap::PcapError;
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

impl Run {
    /// The HTTP calls of which both halves are known: client, method, target and status.
    pub(crate) fn pairs(&self) -> Vec<Vec<String>> {
        let lines = self.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let events = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap_or_default());
        let fields = ["/client/address", "/client/port", "/operation", "/target", "/status"];
        let pair = |event: serde_json::Value| {
            let texts = fields
                .map(|field| event.pointer(field).filter(|value| !value.is_null()).map(ToString::to_string));
            texts.into_iter().collect::<Option<Vec<_>>>().filter(|_| event["protocol"] == "http")
        };
        events.filter_map(pair).collect()
    }
}

/// Bytes of a file that one event takes at least: the header of a packet's record, or the shortest request. More events
/// than that come of a loop without progress.
const SHORTEST: u64 = 16;

/// Runs a capture file through the pipeline.
///
/// # Errors
/// A pipeline that cannot be made or refuses its own records, or events without end. A file that cannot be read whole
/// is no error: it is noted.
pub(crate) fn run(path: &Path, options: &Options) -> Result<Run> {
    let mut offline = Offline::new(options)?;
    let most = 16 + std::fs::metadata(path)?.len() / SHORTEST;
    let mut collected = Collected { calls: Vec::new(), lines: Vec::new(), events: 0, most };
    let files = [path.to_owned()];
    let input = Input { files: &files, rounds: 1, speed: 0.0 };
    let played = play(&input, &mut offline, &mut |_, _| {}, &mut |event| collected.event(event));
    let fault = match played {
        Ok(()) => None,
        Err(error) if error.chain().any(|cause| cause.is::<PcapError>()) => {
            Some(error.root_cause().to_string())
        }
        Err(error) => return Err(error),
    };
    Ok(Run { calls: collected.calls, lines: collected.lines, account: offline.account(), fault })
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
