//! The suite that every protocol runs on itself: given sample conversations, it disturbs them in every way that the wire
//! and the capture can, and holds what comes out against the undisturbed calls.
//!
//! Where nothing is lost, the calls must be equal, field for field. Where bytes are lost, no call may be wrong: its
//! operation, target and status are those of one true call or unknown, and no half of a call is seen more often than
//! it was sent. It is library code, so that protocols outside this crate can run it too; it reports by panicking, as tests
//! do.

mod script;
#[cfg(test)]
mod tests;

use wirecall_schemas::{Call, ChunkCause, Completeness, Direction, Message, Timestamp, Transport};

pub use script::Sample;
use script::Script;

use crate::{Dissector, Registry};

/// Longest gap and disturbed positions are bounded, so that the suite stays fast on long samples.
const MOST_POSITIONS: usize = 1_500;

/// Lengths of the gaps that are tried at every position, beside one that reaches to the end of the sample.
const GAPS: [usize; 6] = [1, 2, 3, 8, 40, 200];

/// A protocol under test.
#[derive(Debug)]
pub struct Suite<'r> {
    /// The registry with the protocol, and with others that must not disturb it.
    pub registry: &'r Registry,
    /// The protocol can tell client from server by the bytes alone.
    pub tells_sides: bool,
}

impl Suite<'_> {
    /// Runs everything on each sample; the sample's calls as they are undisturbed, for further checks, in one list each.
    ///
    /// # Panics
    /// When a rule is broken; the message says which, at which position.
    #[must_use]
    pub fn run(&self, samples: &[Sample]) -> Vec<Vec<Call>> {
        samples.iter().map(|sample| self.run_sample(sample)).collect()
    }

    fn run_sample(&self, sample: &Sample) -> Vec<Call> {
        let truth = normal(Script::of(sample).play(self.registry, |_| {}));
        assert!(!truth.is_empty(), "{}: the undisturbed sample gives no call", sample.name);
        self.cut_everywhere(sample, &truth);
        self.in_pieces(sample, &truth);
        self.delivered_twice(sample, &truth);
        self.restored_everywhere(sample, &truth);
        if self.tells_sides {
            self.swapped(sample, &truth);
        }
        self.one_sided(sample, &truth);
        self.closed_everywhere(sample, &truth);
        self.joined_everywhere(sample, &truth);
        self.gaps_everywhere(sample, &truth);
        truth
    }

    /// Every position where the conversation can be cut; every one for short samples. Datagrams are not cut.
    fn positions(sample: &Sample) -> Vec<usize> {
        if sample.transport == Transport::Udp {
            return sample.boundaries();
        }
        (0..=sample.len()).step_by(sample.len() / MOST_POSITIONS + 1).collect()
    }

    /// The gaps to try, as position and length. Of datagrams whole ones are lost, or the end of one is cut off.
    fn gaps(sample: &Sample) -> Vec<(usize, usize)> {
        let positions = Self::positions(sample);
        if sample.transport != Transport::Udp {
            let lengths = GAPS.into_iter().chain([sample.len()]);
            return lengths
                .flat_map(|length| positions.iter().map(move |&position| (position, length)))
                .collect();
        }
        let lost = positions
            .iter()
            .enumerate()
            .flat_map(|(index, &from)| positions.iter().skip(index + 1).map(move |&to| (from, to - from)));
        let cut = positions
            .windows(2)
            .flat_map(|ends| (ends[0] + 1..ends[1]).map(move |from| (from, ends[1] - from)));
        lost.chain(cut).collect()
    }

    fn cut_everywhere(&self, sample: &Sample, truth: &[Call]) {
        for position in Self::positions(sample) {
            let calls = Script::of(sample).cut_at(position).play(self.registry, |_| {});
            equal(normal(calls), truth, sample, "cut", position);
        }
    }

    fn in_pieces(&self, sample: &Sample, truth: &[Call]) {
        let sizes: &[usize] =
            if sample.transport == Transport::Udp { &[usize::MAX] } else { &[1, 2, 3, 7, 64, 1460] };
        for &size in sizes {
            for per_record in [1, 2, usize::MAX] {
                let mut script = Script::of(sample).in_pieces(size);
                script.per_record = per_record;
                equal(normal(script.play(self.registry, |_| {})), truth, sample, "pieces of", size);
            }
        }
    }

    fn delivered_twice(&self, sample: &Sample, truth: &[Call]) {
        // Datagrams without bytes have no offset that could tell them from their repetition.
        let size = if sample.transport == Transport::Udp { usize::MAX } else { 5 };
        for per_record in [1, usize::MAX] {
            let mut script = Script::of(sample).in_pieces(size);
            (script.per_record, script.times) = (per_record, 2);
            equal(
                normal(script.play(self.registry, |_| {})),
                truth,
                sample,
                "delivered twice, events a record",
                per_record,
            );
        }
    }

    /// Saves and restores the session after every record, where it can be saved.
    fn restored_everywhere(&self, sample: &Sample, truth: &[Call]) {
        let mut script = Script::of(sample);
        if sample.transport != Transport::Udp {
            script = script.in_pieces(1);
        }
        script.per_record = 1;
        let calls = script.play(self.registry, |dissector: &mut Dissector| {
            if let Err(error) = dissector.restore_sessions() {
                panic!("{}: a session does not read what it saved: {error}", sample.name);
            }
        });
        equal(normal(calls), truth, sample, "restored after pieces of", 1);
    }

    /// The agent guessed wrong who the client is.
    fn swapped(&self, sample: &Sample, truth: &[Call]) {
        let mut script = Script::of(sample);
        script.reversed = true;
        let mut calls = normal(script.play(self.registry, |_| {}));
        for call in &mut calls {
            assert!(call.ledger.orientation_guessed, "{}: a guess is marked", sample.name);
            call.ledger.orientation_guessed = false;
        }
        equal(calls, truth, sample, "swapped", 0);
    }

    fn one_sided(&self, sample: &Sample, truth: &[Call]) {
        for direction in [Direction::ClientToServer, Direction::ServerToClient] {
            let calls = Script::of(sample).only(direction).play(self.registry, |_| {});
            for call in &calls {
                assert!(
                    call.completeness != Completeness::Matched,
                    "{}: half a conversation matched",
                    sample.name
                );
                assert!(call.ledger.one_sided, "{}: one side is marked", sample.name);
            }
            honest(&calls, truth, sample, "one side", 0);
        }
    }

    fn closed_everywhere(&self, sample: &Sample, truth: &[Call]) {
        for position in Self::positions(sample) {
            for close in [ChunkCause::Fin, ChunkCause::Reset, ChunkCause::EndOfCapture] {
                let calls = Script::of(sample).until(position, close).play(self.registry, |_| {});
                honest(&calls, truth, sample, "closed at", position);
            }
        }
    }

    fn joined_everywhere(&self, sample: &Sample, truth: &[Call]) {
        for position in Self::positions(sample).into_iter().skip(1) {
            let calls = Script::of(sample).joined_at(position).play(self.registry, |_| {});
            assert!(
                calls.iter().all(|call| call.ledger.mid_stream),
                "{}: a late start is marked",
                sample.name
            );
            honest(&calls, truth, sample, "joined at", position);
        }
    }

    fn gaps_everywhere(&self, sample: &Sample, truth: &[Call]) {
        for (position, length) in Self::gaps(sample) {
            for stated in [true, false] {
                if !stated
                    && sample.transport == Transport::Udp
                    && !Self::positions(sample).contains(&position)
                {
                    // Unstated, the cut datagram would be a whole one.
                    continue;
                }
                let script = Script::of(sample).with_gap(position, length);
                let script = if stated { script } else { script.unstated() };
                let how = if stated { "gap at" } else { "hole at" };
                honest(&script.play(self.registry, |_| {}), truth, sample, how, position);
            }
        }
    }
}

/// The calls without what tells in which record their bytes came.
fn normal(mut calls: Vec<Call>) -> Vec<Call> {
    for call in &mut calls {
        call.provenance.first_sequence = None;
        call.provenance.last_sequence = None;
    }
    calls
}

fn equal(calls: Vec<Call>, truth: &[Call], sample: &Sample, how: &str, number: usize) {
    for (index, (call, expected)) in calls.iter().zip(truth).enumerate() {
        assert_eq!(call, expected, "{}: {how} {number}: call {index} differs", sample.name);
    }
    assert_eq!(calls.len(), truth.len(), "{}: {how} {number}: number of calls", sample.name);
}

/// No call is wrong, and no half is seen more often than it was sent.
fn honest(calls: &[Call], truth: &[Call], sample: &Sample, how: &str, position: usize) {
    let place = || format!("{}: {how} {position}", sample.name);
    for call in calls {
        assert!(
            truth.iter().any(|expected| agrees(call, expected)),
            "{}: no true call is {}",
            place(),
            brief(call)
        );
    }
    for expected in truth {
        let asked = |call: &&Call| {
            call.request.is_some()
                && (&call.operation, &call.target) == (&expected.operation, &expected.target)
        };
        let (seen, sent) = (calls.iter().filter(asked).count(), truth.iter().filter(asked).count());
        assert!(seen <= sent, "{}: {} seen {seen} times, sent {sent} times", place(), brief(expected));
    }
    let answers = |calls: &[Call]| calls.iter().filter(|call| call.response.is_some()).count();
    assert!(answers(calls) <= answers(truth), "{}: more answers than were sent", place());
    let marked =
        |call: &Call| call.completeness == Completeness::Matched || call.completeness_cause.is_some();
    assert!(calls.iter().all(marked), "{}: a half of a call has no cause", place());
}

/// What is known of a call is true of one that was sent: fields, and the moments its halves began.
fn agrees(call: &Call, truth: &Call) -> bool {
    let fits = |seen: &Option<_>, sent: &Option<_>| seen.is_none() || seen == sent;
    call.protocol == truth.protocol
        && fits(&call.operation, &truth.operation)
        && fits(&call.target, &truth.target)
        && fits(&call.status, &truth.status)
        && within(call.request.as_ref(), truth.request.as_ref(), asked_until(truth))
        && within(call.response.as_ref(), truth.response.as_ref(), None)
}

/// A datagram may be asked again until its answer comes.
fn asked_until(truth: &Call) -> Option<Timestamp> {
    let answered = truth.response.as_ref().and_then(|response| response.first_byte_time);
    answered.filter(|_| truth.transport == Transport::Udp)
}

/// A half begins while the true one lasts; this finds answers given to the wrong request.
fn within(half: Option<&Message>, truth: Option<&Message>, until: Option<Timestamp>) -> bool {
    let Some(begun) = half.and_then(|half| half.first_byte_time) else { return true };
    truth.is_some_and(|truth| {
        truth.first_byte_time.is_none_or(|first| first <= begun)
            && until.max(truth.last_byte_time).is_none_or(|last| begun <= last)
    })
}

fn brief(call: &Call) -> String {
    format!(
        "{} {:?} {:?} {:?} ({})",
        call.protocol,
        call.operation,
        call.target,
        call.status,
        call.completeness.as_str()
    )
}
