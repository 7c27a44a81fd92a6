//! Echo: the smallest complete protocol, to be copied.
//!
//! A line protocol over TCP in the spirit of RFC 862: the client sends a line, the server sends the same line back. It is
//! not in the default registry, so that it claims nothing in the wild; configuration can add it for a try.

pub mod message;
pub mod parser;
pub mod probe;
pub mod session;
#[cfg(test)]
mod tests;

use wirecall_schemas::Transport;

use super::{Opening, Protocol, Session, Start, Verdict};

/// The protocol for the registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Protocol for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn version(&self) -> i32 {
        1
    }

    fn transports(&self) -> &'static [Transport] {
        &[Transport::Tcp]
    }

    fn port_hints(&self) -> &'static [u16] {
        &[7]
    }

    fn probe(&self, opening: &Opening<'_>) -> Verdict {
        probe::probe(opening)
    }

    fn session(&self, start: Start<'_>) -> Box<dyn Session> {
        Box::new(session::EchoSession::new(start.limits, start.mid_stream))
    }
}
