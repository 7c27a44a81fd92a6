//! A connection with a session: it works, withdraws or hands over.

use wirecall_schemas::Direction;

use super::{Connection, Probing, State, Surroundings, Trial};
use crate::limits::{Counter, Limits};
use crate::output::Output;
use crate::protocol::{Certainty, HandOver, Progress};
use crate::registry::Refused;

impl Connection {
    /// Lets the session work on what is there.
    pub(super) fn dissect(&mut self, facing: Direction, around: &mut Surroundings<'_>) -> Progress {
        let both = [Direction::ClientToServer, Direction::ServerToClient];
        let directions = if facing == Direction::Unknown { &both[..] } else { std::slice::from_ref(&facing) };
        for &direction in directions {
            let progress = self.advance(direction, around);
            if !matches!(progress, Progress::Continue) {
                return progress;
            }
            if self.shed(direction, around) {
                let progress = self.advance(direction, around);
                if !matches!(progress, Progress::Continue) {
                    return progress;
                }
            }
        }
        self.end_trial(around.limits);
        Progress::Continue
    }

    pub(super) fn advance(&mut self, direction: Direction, around: &mut Surroundings<'_>) -> Progress {
        let State::Dissecting { session, .. } = &mut self.state else { return Progress::Continue };
        let stream = self.streams.of(direction);
        if !stream.is_ready() {
            return Progress::Continue;
        }
        stream.set_wanted(0);
        let mut output = Output::new(&mut self.facts, around.queue, around.stats);
        session.advance(direction, &mut self.streams, &mut output)
    }

    /// A stream that its session does not read is bounded: the oldest half becomes a gap. True when it did.
    pub(super) fn shed(&mut self, direction: Direction, around: &mut Surroundings<'_>) -> bool {
        let most = around.limits.stream_bytes;
        let stream = self.streams.of(direction);
        if stream.held_bytes() <= most {
            return false;
        }
        let shed = stream.shed(most / 2);
        around.stats.add(Counter::StreamBytesShed, shed as u64);
        self.has_gap = true;
        true
    }

    pub(super) fn end_trial(&mut self, limits: &Limits) {
        if let State::Dissecting { trial, .. } = &mut self.state {
            let emitted = self.facts.next_index;
            let over =
                |trial: &Trial| trial.emitted < emitted || trial.streams.held_bytes() > limits.trial_bytes;
            if trial.as_deref().is_some_and(over) {
                *trial = None;
            }
        }
    }

    /// A protocol took its yes back: the others get the same bytes.
    pub(super) fn withdraw(&mut self, around: &mut Surroundings<'_>) {
        around.stats.add(Counter::ProtocolsWithdrawn, 1);
        self.facts.parser = "";
        self.facts.parser_version = 0;
        let emitted = self.facts.next_index;
        if let State::Dissecting { index, trial, .. } = std::mem::replace(&mut self.state, State::Opaque) {
            self.refused.add(index);
            let mut mid_stream = true;
            if let Some(trial) = trial.filter(|trial| trial.emitted == emitted) {
                mid_stream = trial.mid_stream;
                let ended = self.streams.client.is_ended();
                self.streams = trial.streams;
                if ended {
                    self.streams.client.finish();
                    self.streams.server.finish();
                }
            }
            self.state = State::Probing(Box::new(Probing { mid_stream, ..Probing::default() }));
        }
    }

    /// The conversation goes on in another protocol.
    pub(super) fn hand_over(&mut self, hand_over: HandOver, around: &mut Surroundings<'_>) {
        let accepting = around.registry.accepting(&hand_over.to, self.facts.transport);
        let tunnel = &*hand_over.to == "tunnel";
        self.refused = Refused::default();
        self.state = State::Probing(Box::new(Probing { hand_over: Some(hand_over), ..Probing::default() }));
        if self.hand_overs_left == 0 {
            around.stats.add(Counter::HandOversRefused, 1);
            return self.become_opaque(around);
        }
        self.hand_overs_left -= 1;
        around.stats.add(Counter::ProtocolsHandedOver, 1);
        match accepting {
            Some(index) => self.begin(index, false, Certainty::Certain, false, around),
            None if tunnel => {}
            None => self.become_opaque(around),
        }
    }
}
