//! Protocols that misbehave as told, for the tests of the framework.

use bytestring::ByteString;
use wirecall_schemas::{Cause, Completeness, Direction, Message, Transport};

use super::{Certainty, HandOver, Opening, Progress, Protocol, Session, Start, Verdict};
use crate::output::{CallDraft, Output};
use crate::stream::{Found, Streams};

/// A protocol that says yes too easily.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scripted {
    name: &'static str,
    ports: &'static [u16],
    probe: fn(&Opening<'_>) -> Verdict,
    advance: fn(&mut Streams, &mut Output<'_>) -> Progress,
}

impl Scripted {
    /// Reads the client's first bytes and takes its yes back when the server speaks.
    pub(crate) fn withdrawing() -> Self {
        Self {
            name: "withdraws",
            ports: &[],
            probe: |_| Verdict::Yes { swapped: false, certainty: Certainty::Likely },
            advance: |streams, _| {
                streams.client.consume(usize::MAX);
                if streams.server.is_started() { Progress::Withdraw } else { Progress::Continue }
            },
        }
    }

    /// Reads a line `!NAME` and hands the connection over to NAME.
    pub(crate) fn handing_over() -> Self {
        Self {
            name: "hands_over",
            ports: &[],
            probe: |opening| match opening.client.data.first() {
                Some(b'!') => Verdict::Yes { swapped: false, certainty: Certainty::Certain },
                Some(_) => Verdict::No,
                None => Verdict::NotYet,
            },
            advance: |streams, output| {
                let Found::At(end) = streams.client.find(b"\n", 100) else { return Progress::Continue };
                let line = streams.client.take(end + 1);
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                let to = ByteString::from(line.trim_start_matches('!'));
                let draft = CallDraft {
                    protocol: ByteString::from_static("hands_over"),
                    target: Some(ByteString::from(line)),
                    completeness: Completeness::RequestOnly,
                    cause: Some(Cause::Upgraded),
                    request: Some(Message::default()),
                    ..CallDraft::default()
                };
                // For `elsewhere` the next protocol is to answer it.
                let mut open_call = None;
                if &*to == "elsewhere" {
                    open_call = Some(Box::new(draft))
                } else {
                    output.call(draft)
                }
                Progress::HandOver(Box::new(HandOver { to, open_call, ..HandOver::default() }))
            },
        }
    }

    /// Claims everything and reads nothing.
    pub(crate) fn idle() -> Self {
        Self {
            name: "idles",
            ports: &[],
            probe: |_| Verdict::Yes { swapped: false, certainty: Certainty::Certain },
            advance: |_, _| Progress::Continue,
        }
    }

    /// Answers every probe with `verdict`.
    pub(crate) fn saying(
        name: &'static str,
        ports: &'static [u16],
        probe: fn(&Opening<'_>) -> Verdict,
    ) -> Self {
        Self { name, ports, probe, advance: |_, _| Progress::Continue }
    }
}

impl Protocol for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> i32 {
        1
    }

    fn transports(&self) -> &'static [Transport] {
        &[Transport::Tcp]
    }

    fn port_hints(&self) -> &'static [u16] {
        self.ports
    }

    fn probe(&self, opening: &Opening<'_>) -> Verdict {
        (self.probe)(opening)
    }

    fn session(&self, _: Start<'_>) -> Box<dyn Session> {
        Box::new(ScriptedSession(self.advance))
    }
}

struct ScriptedSession(fn(&mut Streams, &mut Output<'_>) -> Progress);

impl Session for ScriptedSession {
    fn advance(&mut self, _: Direction, streams: &mut Streams, output: &mut Output<'_>) -> Progress {
        (self.0)(streams, output)
    }

    fn close(&mut self, _: Cause, _: &mut Streams, _: &mut Output<'_>) {}

    fn held_bytes(&self) -> usize {
        0
    }

    fn open_calls(&self) -> usize {
        0
    }
}
