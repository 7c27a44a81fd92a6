//! Which protocols are looked for, and how one is chosen among those that say yes.

use std::fmt;
use std::sync::Arc;

use wirecall_schemas::Transport;

use crate::protocol::echo::Echo;
use crate::protocol::http1::Http1;
use crate::protocol::{Certainty, Opening, Protocol, Verdict};

/// Most protocols of one registry: their refusals are remembered as bits of one word per connection.
pub const MAX_PROTOCOLS: usize = 64;

/// The protocols of a dissector, in the order that breaks the last ties.
#[derive(Clone)]
pub struct Registry {
    protocols: Vec<Arc<dyn Protocol>>,
}

/// Place of a protocol in its [`Registry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolIndex(u8);

/// The protocols that said no to an opening; no is final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused(u64);

impl Refused {
    pub(crate) const fn add(&mut self, index: ProtocolIndex) {
        self.0 |= 1 << index.0;
    }

    const fn contains(self, index: ProtocolIndex) -> bool {
        self.0 >> index.0 & 1 == 1
    }
}

/// What all probes together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This protocol it is.
    Chosen { index: ProtocolIndex, swapped: bool, certainty: Certainty },
    /// None of them.
    None,
    /// More bytes are needed.
    NotYet,
}

impl Default for Registry {
    /// All protocols that are looked for unless configured otherwise.
    fn default() -> Self {
        Self::empty().with(Http1)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.names()).finish()
    }
}

impl Registry {
    /// A registry without protocols.
    #[must_use]
    pub const fn empty() -> Self {
        Self { protocols: Vec::new() }
    }

    /// All protocols that there are, with those that are only looked for when configuration names them
    /// ([`Registry::only`]).
    #[must_use]
    pub fn known() -> Self {
        Self::default().with(Echo)
    }

    /// Adds a protocol behind the others. A name that is there already, or a protocol beyond [`MAX_PROTOCOLS`], is not
    /// added.
    #[must_use]
    pub fn with(mut self, protocol: impl Protocol + 'static) -> Self {
        if self.protocols.len() < MAX_PROTOCOLS && self.names().all(|name| name != protocol.name()) {
            self.protocols.push(Arc::new(protocol));
        }
        self
    }

    /// Keeps the protocols with these names.
    ///
    /// # Errors
    /// The first name that no protocol has.
    pub fn only<'n>(mut self, names: &[&'n str]) -> Result<Self, &'n str> {
        if let Some(unknown) = names.iter().find(|name| self.names().all(|known| known != **name)) {
            return Err(unknown);
        }
        self.protocols.retain(|protocol| names.contains(&protocol.name()));
        Ok(self)
    }

    /// The protocols' names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.protocols.iter().map(|protocol| protocol.name())
    }

    /// The protocols.
    pub fn protocols(&self) -> impl Iterator<Item = &dyn Protocol> + '_ {
        self.protocols.iter().map(|protocol| &**protocol)
    }

    pub(crate) fn protocol(&self, index: ProtocolIndex) -> Option<&dyn Protocol> {
        self.protocols.get(usize::from(index.0)).map(|protocol| &**protocol)
    }

    /// The protocol that takes over connections handed over under this name.
    pub(crate) fn accepting(&self, hand_over: &str, transport: Transport) -> Option<ProtocolIndex> {
        self.indexed()
            .find(|(_, protocol)| protocol.transports().contains(&transport) && protocol.accepts(hand_over))
            .map(|(index, _)| index)
    }

    /// Runs all probes that have not refused yet. A certain yes wins at once; a likely one when no probe waits for more
    /// bytes, or there are none. Ties go to the protocol with the server's port as a hint, then to the earlier one.
    /// `swap_allowed` is false when a handshake told client and server apart: then only an unswapped yes counts.
    pub(crate) fn choose(
        &self,
        opening: &Opening<'_>,
        server_ports: [u16; 2],
        swap_allowed: bool,
        refused: &mut Refused,
    ) -> Choice {
        let mut best: Option<(Certainty, bool, ProtocolIndex, bool)> = None;
        let mut waiting = false;
        for (index, protocol) in self.indexed() {
            if refused.contains(index) {
                continue;
            }
            if !protocol.transports().contains(&opening.transport) {
                refused.add(index);
                continue;
            }
            match protocol.probe(opening) {
                Verdict::Yes { swapped, certainty } if swap_allowed || !swapped => {
                    let hinted = protocol.port_hints().contains(&server_ports[usize::from(swapped)]);
                    if best.is_none_or(|(known, known_hint, ..)| (certainty, hinted) > (known, known_hint)) {
                        best = Some((certainty, hinted, index, swapped));
                    }
                }
                Verdict::NotYet if !opening.is_final() => waiting = true,
                // What is undecided when no more bytes come stays so.
                Verdict::NotYet => {}
                Verdict::No | Verdict::Yes { .. } => refused.add(index),
            }
        }
        match best {
            Some((certainty, _, index, swapped)) if certainty == Certainty::Certain || !waiting => {
                Choice::Chosen { index, swapped, certainty }
            }
            _ if waiting => Choice::NotYet,
            _ => Choice::None,
        }
    }

    fn indexed(&self) -> impl Iterator<Item = (ProtocolIndex, &dyn Protocol)> + '_ {
        (0_u8..).map(ProtocolIndex).zip(self.protocols())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::OpeningSide;
    use crate::protocol::testing::Scripted;

    const LIKELY: Verdict = Verdict::Yes { swapped: false, certainty: Certainty::Likely };
    const CERTAIN: Verdict = Verdict::Yes { swapped: false, certainty: Certainty::Certain };
    const SWAPPED: Verdict = Verdict::Yes { swapped: true, certainty: Certainty::Certain };

    fn likely(name: &'static str, ports: &'static [u16]) -> Scripted {
        Scripted::saying(name, ports, |_| LIKELY)
    }

    fn choose(registry: &Registry, is_final: bool, swap_allowed: bool) -> Option<&'static str> {
        let side = OpeningSide { data: b"opening", is_final };
        let opening = Opening { transport: Transport::Tcp, client: side, server: side, mid_stream: false };
        match registry.choose(&opening, [80, 40_000], swap_allowed, &mut Refused::default()) {
            Choice::Chosen { index, .. } => registry.protocol(index).map(Protocol::name),
            Choice::None => Some("none"),
            Choice::NotYet => None,
        }
    }

    #[test]
    fn a_certain_yes_wins_at_once() {
        let registry = Registry::empty()
            .with(likely("likely", &[80]))
            .with(Scripted::saying("waits", &[], |_| Verdict::NotYet))
            .with(Scripted::saying("certain", &[], |_| CERTAIN));
        assert_eq!(choose(&registry, false, false), Some("certain"));
    }

    #[test]
    fn a_likely_yes_waits_for_the_undecided_until_the_end() {
        let registry = Registry::empty()
            .with(Scripted::saying("waits", &[], |_| Verdict::NotYet))
            .with(likely("likely", &[]));
        assert_eq!(choose(&registry, false, false), None);
        assert_eq!(choose(&registry, true, false), Some("likely"));
    }

    #[test]
    fn port_hints_break_ties_and_nothing_else() {
        let registry = Registry::empty().with(likely("first", &[])).with(likely("hinted", &[80]));
        assert_eq!(choose(&registry, false, false), Some("hinted"));
        let registry = registry.with(Scripted::saying("certain", &[], |_| CERTAIN));
        assert_eq!(choose(&registry, false, false), Some("certain"));
        let registry = Registry::empty().with(Scripted::saying("hinted", &[80], |_| Verdict::No));
        assert_eq!(choose(&registry, false, false), Some("none"));
    }

    #[test]
    fn a_handshake_outweighs_a_probe_that_swaps() {
        let registry = Registry::empty().with(Scripted::saying("swaps", &[], |_| SWAPPED));
        assert_eq!(choose(&registry, false, true), Some("swaps"));
        assert_eq!(choose(&registry, false, false), Some("none"));
    }

    #[test]
    fn a_refusal_is_final() {
        let registry = Registry::empty().with(Scripted::saying("fickle", &[], |opening| {
            if opening.client.data.len() == 1 { Verdict::No } else { CERTAIN }
        }));
        let mut refused = Refused::default();
        for (data, expected) in [(&b"x"[..], Choice::None), (b"xy", Choice::None)] {
            let side = OpeningSide { data, is_final: false };
            let opening =
                Opening { transport: Transport::Tcp, client: side, server: side, mid_stream: false };
            assert_eq!(registry.choose(&opening, [0; 2], false, &mut refused), expected);
        }
    }

    #[test]
    fn echo_claims_nothing_unless_it_is_named() {
        assert!(Registry::default().names().all(|name| name != "echo"));
        assert_eq!(Registry::known().only(&["echo"]).unwrap().names().collect::<Vec<_>>(), ["echo"]);
    }

    #[test]
    fn names_are_unique_and_can_be_selected() {
        let registry = Registry::empty().with(likely("a", &[])).with(likely("b", &[])).with(likely("a", &[]));
        assert_eq!(registry.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(registry.clone().only(&["b"]).unwrap().names().collect::<Vec<_>>(), ["b"]);
        assert_eq!(registry.only(&["a", "c"]).unwrap_err(), "c");
    }
}
