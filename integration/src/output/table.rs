//! One aligned line a call: when, what protocol, who asked whom, what, with what result, how long, how much.

use std::fmt::Write as _;
use std::io::{self, Write};

use wirecall_schemas::{ApiEvent, Completeness, Message, Peer, StatusClass};

use super::{Colour, EventWriter};

/// Width of the peers' column: `client -> server` of two pods fits without wrapping a terminal.
const PEERS_WIDTH: usize = 50;
/// Width of the target's column.
const TARGET_WIDTH: usize = 46;

/// Writes the table; the heading comes with the first event.
pub(super) struct Table<W: Write> {
    output: W,
    colour: Colour,
    line: String,
    headed: bool,
}

impl<W: Write> Table<W> {
    pub(super) const fn new(output: W, colour: Colour) -> Self {
        Self { output, colour, line: String::new(), headed: false }
    }

    fn heading(&mut self) -> io::Result<()> {
        self.headed = true;
        writeln!(
            self.output,
            "{:<15} {:<6} {:<PEERS_WIDTH$} {:<8} {:<TARGET_WIDTH$} {:>6} {:>10} {:>9} NOTE",
            "TIME", "PROTO", "CLIENT -> SERVER", "OP", "TARGET", "STATUS", "LATENCY", "BYTES"
        )
    }
}

impl<W: Write> EventWriter for Table<W> {
    fn write(&mut self, event: &ApiEvent) -> io::Result<()> {
        if !self.headed {
            self.heading()?;
        }
        self.line.clear();
        // Writing to a String does not fail.
        let _ = row(event, self.colour, &mut self.line);
        self.output.write_all(self.line.as_bytes())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn row(event: &ApiEvent, colour: Colour, line: &mut String) -> std::fmt::Result {
    let time = event.start_time.or(event.end_time).map(|time| time.to_string());
    let clock = time.as_deref().and_then(|time| time.get(11..26)).unwrap_or("-");
    let peers = format!("{} -> {}", peer(&event.client), peer(&event.server));
    let operation = event.operation.as_deref().unwrap_or("-");
    let target = event.target.as_deref().unwrap_or("-");
    write!(
        line,
        "{clock:<15} {:<6} {:<PEERS_WIDTH$} {:<8} {:<TARGET_WIDTH$} ",
        event.protocol,
        fit(&peers, PEERS_WIDTH),
        fit(operation, 8),
        fit(target, TARGET_WIDTH),
    )?;
    let (start, end) = escape(event.status_class, colour);
    write!(line, "{start}{:>6}{end} ", event.status.as_deref().unwrap_or("-"))?;
    writeln!(line, "{:>10} {:>9} {}", latency(event), bytes(event), note(event))
}

/// Namespace and workload where they are known, else address and port.
fn peer(peer: &Peer) -> String {
    let name =
        peer.workload_name.as_ref().or(peer.pod.as_ref()).or(peer.service.as_ref()).or(peer.node.as_ref());
    match (name, &peer.namespace) {
        (Some(name), Some(namespace)) => format!("{namespace}/{name}"),
        (Some(name), None) => name.to_string(),
        (None, _) if peer.address.is_ipv6() => format!("[{}]:{}", peer.address, peer.port),
        (None, _) => format!("{}:{}", peer.address, peer.port),
    }
}

/// The text cut to a width, with control characters shown as dots: the bytes come from strangers.
fn fit(text: &str, width: usize) -> String {
    let mut cut: String = text
        .chars()
        .map(|character| if character.is_control() { '.' } else { character })
        .take(width)
        .collect();
    if text.chars().nth(width).is_some() {
        cut.pop();
        cut.push('…');
    }
    cut
}

const fn escape(class: StatusClass, colour: Colour) -> (&'static str, &'static str) {
    match (colour, class) {
        (Colour::Off, _) | (_, StatusClass::Unknown) => ("", ""),
        (Colour::On, StatusClass::Ok) => ("\x1b[32m", "\x1b[0m"),
        (Colour::On, StatusClass::ClientError) => ("\x1b[33m", "\x1b[0m"),
        (Colour::On, StatusClass::ServerError) => ("\x1b[31m", "\x1b[0m"),
    }
}

/// From the request's last byte to the response's first: what the server took, as seen at the capture.
fn latency(event: &ApiEvent) -> String {
    let asked = event.request.as_ref().and_then(|request| request.last_byte_time);
    let answered = event.response.as_ref().and_then(|response| response.first_byte_time);
    let (Some(asked), Some(answered)) = (asked, answered) else { return "-".to_owned() };
    match answered.micros_since(asked) {
        micros @ 0..10_000 => format!("{micros} us"),
        micros => format!("{}.{:01} ms", micros / 1_000, micros.rem_euclid(1_000) / 100),
    }
}

/// Bytes of both messages, or of both streams of a connection.
fn bytes(event: &ApiEvent) -> i64 {
    let wire = |message: &Option<Message>| message.as_ref().map_or(0, |message| message.wire_bytes);
    event.connection.as_ref().map_or_else(
        || wire(&event.request) + wire(&event.response),
        |connection| connection.client_stream_bytes + connection.server_stream_bytes,
    )
}

/// What deserves a second look: a missing half, missing bytes, findings.
fn note(event: &ApiEvent) -> String {
    let mut notes: Vec<String> = Vec::new();
    if !matches!(event.completeness, Completeness::Matched | Completeness::Complete) {
        notes.push(event.completeness.as_str().to_owned());
    }
    let missing = event.ledger.request_gap_bytes + event.ledger.response_gap_bytes;
    if missing > 0 {
        notes.push(format!("{missing} bytes missing"));
    }
    notes.extend(event.findings.iter().map(|finding| finding.code.to_string()));
    notes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_hostile_text_fits() {
        assert_eq!(fit("short", 8), "short");
        assert_eq!(fit("exactly8", 8), "exactly8");
        assert_eq!(fit("far too long", 8), "far too…");
        assert_eq!(fit("\x1b[2J", 8), ".[2J");
    }
}
