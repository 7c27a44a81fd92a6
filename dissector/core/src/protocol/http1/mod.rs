//! HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112), read passively.
//!
//! Bytes flow top down through the modules: [`probe`] recognises them, [`parser`] finds where messages start and end
//! (with [`head`] and [`chunked`] for the grammar, [`framing`] for the rules, [`resync`] after a loss), [`pairing`]
//! brings requests and responses together for the [`session`], and [`draft`] makes calls of them, with bodies decoded
//! ([`coding`]) and described ([`parts`]).

mod body;
mod chunked;
mod coding;
mod delimited;
mod draft;
mod exchange;
mod findings;
mod framing;
mod head;
mod incoming;
mod limits;
mod message;
mod names;
mod overflow;
mod pairing;
mod parser;
mod parts;
mod probe;
mod resync;
mod session;
mod target;
mod trace;
mod upgrade;

#[cfg(test)]
mod tests;

use wirecall_schemas::Transport;

use super::{Opening, Protocol, Session, Start, Verdict};

/// HTTP/1.0 and HTTP/1.1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Http1;

impl Protocol for Http1 {
    fn name(&self) -> &'static str {
        "http"
    }

    fn version(&self) -> i32 {
        1
    }

    fn transports(&self) -> &'static [Transport] {
        &[Transport::Tcp]
    }

    fn port_hints(&self) -> &'static [u16] {
        &[80, 8000, 8008, 8080, 8081, 8888, 3000, 3128]
    }

    fn probe(&self, opening: &Opening<'_>) -> Verdict {
        probe::probe(opening)
    }

    fn session(&self, start: Start<'_>) -> Box<dyn Session> {
        Box::new(session::Http1Session::new(&start))
    }
}
