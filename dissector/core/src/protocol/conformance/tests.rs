//! The suite's own tests: it passes a right protocol of datagrams, and finds what is wrong with wrong ones.

use bytestring::ByteString;
use wirecall_schemas::{Cause, Completeness, Direction, Ledger, Message, Transport};

use super::{Sample, Suite};
use crate::Registry;
use crate::limits::Counter;
use crate::matching::{Keyed, Opened};
use crate::output::{CallDraft, Output};
use crate::protocol::{Certainty, Opening, Progress, Protocol, Session, Start, Verdict};
use crate::stream::{Datagram, Streams};

/// `?N text` asks under the number N, `!N text` answers.
#[derive(Clone, Copy, Debug)]
struct Numbered {
    flaw: Flaw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// A datagram that was cut short is taken for whole.
    BelievesCut,
    /// Answers are given to the oldest request.
    PairsByOrder,
    /// What is open at the end is dropped.
    Forgets,
    /// An answer without request passes for a whole call.
    Invents,
}

impl Protocol for Numbered {
    fn name(&self) -> &'static str {
        "numbered"
    }

    fn version(&self) -> i32 {
        1
    }

    fn transports(&self) -> &'static [Transport] {
        &[Transport::Udp]
    }

    fn port_hints(&self) -> &'static [u16] {
        &[]
    }

    fn probe(&self, opening: &Opening<'_>) -> Verdict {
        match (opening.client.data.first(), opening.server.data.first()) {
            (Some(b'?'), None | Some(b'!')) | (None, Some(b'!')) => {
                Verdict::Yes { swapped: false, certainty: Certainty::Likely }
            }
            (Some(b'!'), None | Some(b'?')) | (None, Some(b'?')) => {
                Verdict::Yes { swapped: true, certainty: Certainty::Likely }
            }
            (None, None) => Verdict::NotYet,
            _ => Verdict::No,
        }
    }

    fn session(&self, start: Start<'_>) -> Box<dyn Session> {
        Box::new(NumberedSession { flaw: self.flaw, open: Keyed::new(start.limits.open_calls) })
    }
}

struct NumberedSession {
    flaw: Flaw,
    open: Keyed<u8, Datagram>,
}

impl Session for NumberedSession {
    fn advance(&mut self, _: Direction, streams: &mut Streams, output: &mut Output<'_>) -> Progress {
        while streams.client.skip_gap().is_some() {}
        while let Some(datagram) = streams.client.take_datagram() {
            if let Some(&number) = datagram.data.get(1) {
                match self.open.ask(number, datagram) {
                    Opened::New => {}
                    Opened::Displaced(_, request) => {
                        self.emit(Some(request), None, Some(Cause::Limit), output)
                    }
                    Opened::Repeated { .. } => output.count(Counter::Retransmissions, 1),
                }
            }
            while streams.client.skip_gap().is_some() {}
        }
        while streams.server.skip_gap().is_some() {}
        while let Some(datagram) = streams.server.take_datagram() {
            self.answer(datagram, output);
            while streams.server.skip_gap().is_some() {}
        }
        Progress::Continue
    }

    fn close(&mut self, cause: Cause, _: &mut Streams, output: &mut Output<'_>) {
        if self.flaw == Flaw::Forgets {
            return;
        }
        for (_, request) in self.open.drain() {
            self.emit(Some(request), None, Some(cause), output);
        }
    }

    fn held_bytes(&self) -> usize {
        self.open.iter().map(|(_, request)| request.data.len()).sum()
    }

    fn open_calls(&self) -> usize {
        self.open.len()
    }
}

impl NumberedSession {
    fn answer(&mut self, datagram: Datagram, output: &mut Output<'_>) {
        let Some(&number) = datagram.data.get(1) else { return };
        let request = if self.flaw == Flaw::PairsByOrder {
            self.open.take_oldest().map(|(_, request)| request)
        } else {
            self.open.answer(&number).map(|(request, _)| request)
        };
        let cause = if request.is_some() || self.flaw == Flaw::Invents { None } else { Some(Cause::Gap) };
        self.emit(request, Some(datagram), cause, output);
    }

    fn emit(
        &self,
        request: Option<Datagram>,
        answer: Option<Datagram>,
        cause: Option<Cause>,
        output: &mut Output<'_>,
    ) {
        let believes = self.flaw == Flaw::BelievesCut;
        let text = |datagram: &Datagram| {
            (datagram.missing == 0 || believes).then(|| {
                ByteString::from(String::from_utf8_lossy(datagram.data.get(2..).unwrap_or_default()).as_ref())
            })
        };
        let missing =
            |datagram: &Option<Datagram>| datagram.as_ref().map_or(0, |datagram| datagram.missing as i64);
        let message = |datagram: Datagram| Message {
            first_byte_time: Some(datagram.mark.time),
            last_byte_time: Some(datagram.mark.time),
            ..Message::default()
        };
        output.call(CallDraft {
            protocol: ByteString::from_static("numbered"),
            target: request.as_ref().and_then(text),
            status: answer.as_ref().and_then(text),
            completeness: match (&request, &answer) {
                (Some(_), None) => Completeness::RequestOnly,
                (None, Some(_)) if cause.is_some() => Completeness::ResponseOnly,
                _ => Completeness::Matched,
            },
            cause,
            ledger: Ledger {
                request_gap_bytes: missing(&request),
                response_gap_bytes: missing(&answer),
                ..Ledger::default()
            },
            request: request.map(message),
            response: answer.map(message),
            ..CallDraft::default()
        });
    }
}

fn samples() -> Vec<Sample> {
    vec![
        Sample::udp("one", 53, &[b">?1where", b"<!1here"]),
        Sample::udp(
            "out of order",
            5_353,
            &[b">?1one", b">?2two", b">?3three", b"<!3trois", b"<!1un", b">?4last"],
        ),
        Sample::udp("asked twice", 53, &[b">?1one", b">?1one", b"<!1un", b">?2two", b"<!2deux"]),
    ]
}

fn run(flaw: Flaw, samples: &[Sample]) -> Vec<Vec<wirecall_schemas::Call>> {
    Suite { registry: &Registry::empty().with(Numbered { flaw }), tells_sides: true }.run(samples)
}

#[test]
fn a_protocol_of_datagrams_conforms() {
    let calls = run(Flaw::None, &samples());
    let brief: Vec<Vec<_>> = calls
        .iter()
        .map(|calls| calls.iter().map(|call| (call.target.as_deref(), call.status.as_deref())).collect())
        .collect();
    assert_eq!(brief[0], [(Some("where"), Some("here"))]);
    assert_eq!(
        brief[1],
        [
            (Some("three"), Some("trois")),
            (Some("one"), Some("un")),
            (Some("two"), None),
            (Some("last"), None)
        ]
    );
    assert_eq!(brief[2], [(Some("one"), Some("un")), (Some("two"), Some("deux"))]);
}

#[test]
#[should_panic(expected = "no true call is numbered None Some(\"\")")]
fn finds_a_protocol_that_believes_what_was_cut() {
    run(Flaw::BelievesCut, &[Sample::udp("one", 53, &[b">?1where", b"<!1here"])]);
}

#[test]
#[should_panic(expected = "no true call is")]
fn finds_a_protocol_that_pairs_wrongly_after_a_loss() {
    run(Flaw::PairsByOrder, &[Sample::udp("two", 53, &[b">?1one", b">?2two", b"<!1un", b"<!2deux"])]);
}

#[test]
#[should_panic(expected = "gives no call")]
fn finds_a_protocol_that_gives_nothing() {
    run(Flaw::Forgets, &[Sample::udp("unanswered", 53, &[b">?1one"])]);
}

#[test]
#[should_panic(expected = "half a conversation matched")]
fn finds_a_protocol_that_invents_a_half() {
    run(Flaw::Invents, &[Sample::udp("one", 53, &[b">?1where", b"<!1here"])]);
}
