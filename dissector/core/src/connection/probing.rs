//! The opening of a connection: the probes look at the first bytes of both sides until one protocol is chosen or none is
//! left.

use super::{Connection, State, Surroundings, Trial, is_datagrams};
use crate::limits::Counter;
use crate::output::Output;
use crate::protocol::{Certainty, HandOver, Opening, OpeningSide, Start};
use crate::registry::{Choice, ProtocolIndex};
use crate::stream::{Front, Gap, Stream};

impl Connection {
    /// Asks the probes; true when the state changed.
    pub(super) fn probe(&mut self, around: &mut Surroundings<'_>) -> bool {
        let State::Probing(probing) = &mut self.state else { return false };
        step_over_gaps(&mut self.streams.client, &mut probing.client_gap);
        step_over_gaps(&mut self.streams.server, &mut probing.server_gap);
        let held = self.streams.client.held_bytes().max(self.streams.server.held_bytes());
        let window = around.limits.probe_bytes;
        let last_chance = held > around.limits.trial_bytes || self.streams.client.is_ended();
        let opening = Opening {
            transport: self.facts.transport,
            client: opening_side(&mut self.streams.client, window, last_chance),
            server: opening_side(&mut self.streams.server, window, last_chance),
            mid_stream: probing.mid_stream || !is_datagrams(&self.facts) && probing.has_gap(),
        };
        let mid_stream = opening.mid_stream;
        let ports = [self.facts.server.port, self.facts.client.port];
        let swap_allowed = self.facts.orientation_guessed;
        match around.registry.choose(&opening, ports, swap_allowed, &mut self.refused) {
            Choice::NotYet => false,
            Choice::None => {
                self.become_opaque(around);
                true
            }
            Choice::Chosen { index, swapped, certainty } => {
                self.begin(index, swapped, certainty, mid_stream, around);
                true
            }
        }
    }

    /// Starts the session of a chosen protocol.
    pub(super) fn begin(
        &mut self,
        index: ProtocolIndex,
        swapped: bool,
        certainty: Certainty,
        mid_stream: bool,
        around: &Surroundings<'_>,
    ) {
        let mut hand_over = None;
        if let State::Probing(probing) = &mut self.state {
            hand_over = probing.hand_over.take();
            for (stream, gap) in [
                (&mut self.streams.client, probing.client_gap.take()),
                (&mut self.streams.server, probing.server_gap.take()),
            ] {
                if let Some(gap) = gap {
                    stream.restore_gap(gap);
                }
            }
        }
        if swapped {
            self.swap();
        }
        let trial = (certainty == Certainty::Likely).then(|| {
            Box::new(Trial { streams: self.streams.clone(), mid_stream, emitted: self.facts.next_index })
        });
        self.start_session(index, mid_stream, hand_over, trial, around);
    }

    pub(super) fn start_session(
        &mut self,
        index: ProtocolIndex,
        mid_stream: bool,
        hand_over: Option<HandOver>,
        trial: Option<Box<Trial>>,
        around: &Surroundings<'_>,
    ) {
        let Some(protocol) = around.registry.protocol(index) else { return };
        self.facts.parser = protocol.name();
        self.facts.parser_version = protocol.version();
        let start = Start { limits: around.limits, transport: self.facts.transport, mid_stream, hand_over };
        self.state = State::Dissecting { session: protocol.session(start), index, trial };
    }

    pub(super) fn swap(&mut self) {
        self.swapped = !self.swapped;
        std::mem::swap(&mut self.facts.client, &mut self.facts.server);
        std::mem::swap(&mut self.streams.client, &mut self.streams.server);
    }

    pub(super) fn become_opaque(&mut self, around: &mut Surroundings<'_>) {
        if let State::Probing(probing) = &mut self.state
            && let Some(open_call) = probing.hand_over.take().and_then(|hand_over| hand_over.open_call)
        {
            Output::new(&mut self.facts, around.queue, around.stats).call(*open_call);
        }
        around.stats.add(Counter::ConnectionsOpaque, 1);
        self.state = State::Opaque;
    }
}

fn step_over_gaps(stream: &mut Stream, gap: &mut Option<Gap>) {
    while let Front::Gap(_) = stream.front() {
        let Some(next) = stream.skip_gap() else { return };
        match gap {
            Some(gap) => gap.length = gap.length.saturating_add(next.length),
            None => *gap = Some(next),
        }
    }
}

fn opening_side(stream: &mut Stream, window: usize, last_chance: bool) -> OpeningSide<'_> {
    let cut = stream.is_cut() && stream.available() > 0;
    let data = stream.contiguous(window);
    let data = data.get(..window).unwrap_or(data);
    OpeningSide { is_final: last_chance || cut || data.len() >= window, data }
}
