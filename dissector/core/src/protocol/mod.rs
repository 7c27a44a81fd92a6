//! The contract between the framework and a protocol.
//!
//! # How to add a protocol
//!
//! 1. Copy `protocol/echo/`; every protocol has the same files: `mod` (the [`Protocol`]), `probe`, `message` (plain
//!    types), `parser` (bytes to messages, over [`Cursor`](crate::cursor::Cursor)), `session` (the [`Session`]),
//!    `tests` and `testdata/`.
//! 2. `probe` looks at the first bytes of both directions and answers [`Verdict`]. It is a pure function; ports are not
//!    its business. Say [`Certainty::Certain`] only for bytes that no other protocol would start with.
//! 3. `parser` returns a message and how many bytes it used, or how many more are needed, or the broken rule and whether
//!    the stream can go on. No panic, no allocation sized by an unchecked length, no re-scan from the start
//!    ([`Stream::find`](crate::stream::Stream::find) remembers where it stopped).
//! 4. `session` consumes what it can in [`Session::advance`], pairs requests with responses
//!    ([`matching`](crate::matching)), and emits [`CallDraft`]s. A gap
//!    ([`Front::Gap`](crate::stream::Front::Gap)) is an input: let the body have a hole, or search the next plausible start
//!    and try it before believing it. Never invent. What was skipped goes into the draft's ledger.
//! 5. Keep slices only through [`Stream::take_kept`](crate::stream::Stream::take_kept), count them in
//!    [`Session::held_bytes`], and hold every collection under a named [`Limits`] entry with a counter.
//! 6. Add one line to [`Registry::default`](crate::registry::Registry), run
//!    [`conformance`] on your sample conversations, add a case folder.
//!
//! # How the framework calls
//!
//! It appends a run of bytes or a gap to the stream of one direction and calls [`Session::advance`] once for that
//! direction. Both streams are at hand: a session that waited for the request before it reads the response goes on with
//! the other stream by itself. What is not consumed stays. At the end [`Session::close`] is called once.
//! Datagram transports use the same calls; [`Stream::take_datagram`](crate::stream::Stream::take_datagram) keeps the
//! datagrams apart, and one UDP flow (address and port pair) is one connection.

pub mod conformance;
pub mod echo;
pub mod http1;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use wirecall_schemas::{Cause, Direction, Transport};

use crate::limits::Limits;
use crate::output::{CallDraft, Output};
use crate::stream::Streams;

/// A protocol in the registry: stateless, shared by all connections.
pub trait Protocol: Send + Sync {
    /// Name, as in configuration and in the provenance of calls.
    fn name(&self) -> &'static str;

    /// Version of the parser; raised whenever its output changes.
    fn version(&self) -> i32;

    /// Transports that carry it.
    fn transports(&self) -> &'static [Transport];

    /// Server ports it is usually found on. They break ties between protocols that both say yes, and nothing else.
    fn port_hints(&self) -> &'static [u16];

    /// Judges the first bytes of a connection. Pure: the same opening gives the same verdict.
    fn probe(&self, opening: &Opening<'_>) -> Verdict;

    /// True when the protocol takes over connections that another hands over under this name
    /// ([`HandOver::to`]), without a probe. `h2c` is an example.
    fn accepts(&self, hand_over: &str) -> bool {
        let _ = hand_over;
        false
    }

    /// Starts a session.
    fn session(&self, start: Start<'_>) -> Box<dyn Session>;

    /// Continues a session from what [`Session::save`] gave.
    ///
    /// # Errors
    /// When the state was written by another version or is damaged; the connection then starts anew, as joined
    /// mid-stream.
    fn restore(&self, state: &[u8], limits: &Arc<Limits>) -> Result<Box<dyn Session>, StateError> {
        let _ = (state, limits);
        Err(StateError::Unsupported { protocol: self.name() })
    }
}

/// What a session starts with.
#[derive(Debug)]
pub struct Start<'s> {
    /// The bounds.
    pub limits: &'s Arc<Limits>,
    /// Transport protocol.
    pub transport: Transport,
    /// The streams begin in the middle of the conversation: joined late, or after a gap or an opaque stretch.
    pub mid_stream: bool,
    /// What the protocol before handed over, if there was one.
    pub hand_over: Option<HandOver>,
}

/// The state of one connection's conversation.
pub trait Session: Send {
    /// Consumes what can be consumed. Called once after each run of bytes or gap of `direction`; see
    /// [`Stream::set_wanted`](crate::stream::Stream::set_wanted) for how to be called less often.
    ///
    /// Both streams may be read. Bytes that cannot be used yet stay in their stream; a gap that the session does not
    /// skip blocks its stream.
    fn advance(&mut self, direction: Direction, streams: &mut Streams, output: &mut Output<'_>) -> Progress;

    /// Ends the conversation: everything open is emitted with its cause. The streams hold what `advance` left, and
    /// nothing more will come. `cause` is [`Cause::Closed`] only when both sides ended the connection in order: a
    /// message delimited by the close is whole only then.
    fn close(&mut self, cause: Cause, streams: &mut Streams, output: &mut Output<'_>);

    /// The state for a checkpoint, for [`Protocol::restore`]; starts with a version. `None` when the session cannot
    /// be saved: the connection is then replayed from the log, or starts anew as mid-stream.
    fn save(&self) -> Option<Vec<u8>> {
        None
    }

    /// Bytes held outside the streams: kept bodies, heads, tables.
    fn held_bytes(&self) -> usize;

    /// Calls that were started and not emitted.
    fn open_calls(&self) -> usize;
}

/// How a session left its streams.
#[derive(Debug)]
pub enum Progress {
    /// Go on with the next bytes.
    Continue,
    /// This is not the session's protocol after all. The bytes since the connection's start go to the other protocols
    /// when no call was emitted and they are few enough ([`Limits::trial_bytes`]), else those still in the streams.
    Withdraw,
    /// The conversation goes on in another protocol, with the bytes still in the streams.
    HandOver(Box<HandOver>),
}

/// A change of protocol within a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandOver {
    /// What comes next: the name of a protocol or of a way to reach it, lower case (`h2c`, `websocket`, `tls`), or
    /// `tunnel` when anything may come (CONNECT): the opening is then probed.
    pub to: ByteString,
    /// Bytes that the next session needs, for example the HTTP2-Settings of an h2c upgrade.
    pub settings: Bytes,
    /// A call that the next protocol answers: an upgraded request becomes HTTP/2 stream 1 (RFC 7540 section 3.2).
    /// A session that does not know what to do with it must emit it.
    pub open_call: Option<Box<CallDraft>>,
}

/// The first bytes of a connection, or of what follows a change of protocol.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'o> {
    /// Transport protocol.
    pub transport: Transport,
    /// What the client sent first. Client and server may be exchanged where no handshake told them apart.
    pub client: OpeningSide<'o>,
    /// What the server sent first.
    pub server: OpeningSide<'o>,
    /// The bytes may begin anywhere in a message: joined late, or after a gap.
    pub mid_stream: bool,
}

impl<'o> Opening<'o> {
    /// The opening with client and server exchanged.
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self { client: self.server, server: self.client, ..self }
    }

    /// True when neither side will show more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.client.is_final && self.server.is_final
    }
}

/// The first bytes of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpeningSide<'o> {
    /// The bytes, at most [`Limits::probe_bytes`]; for a datagram transport the first datagram.
    pub data: &'o [u8],
    /// No more of this side will be shown: the window is full, a gap follows, or the connection ended.
    pub is_final: bool,
}

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These are the protocol's bytes.
    Yes {
        /// The end that the framework takes for the server is the client.
        swapped: bool,
        /// How sure that is.
        certainty: Certainty,
    },
    /// These are not.
    No,
    /// More bytes are needed.
    NotYet,
}

/// How sure a yes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// It fits, but other protocols' bytes could too: the framework waits for those that have not decided.
    Likely,
    /// No other protocol starts so: it wins at once.
    Certain,
}

/// A session's saved state that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The protocol keeps no state across restarts.
    #[error("{protocol} sessions are not saved; the connection starts anew as mid-stream")]
    Unsupported {
        /// The protocol.
        protocol: &'static str,
    },
    /// The state is of a version that this program does not read.
    #[error(
        "{protocol} state has version {found}, this program reads up to {newest}; the connection starts anew as mid-stream"
    )]
    Version {
        /// The protocol.
        protocol: &'static str,
        /// Version found.
        found: u32,
        /// Newest version known.
        newest: u32,
    },
    /// The state contradicts itself.
    #[error("{protocol} state is damaged: {rule}; the connection starts anew as mid-stream")]
    Damaged {
        /// The protocol.
        protocol: &'static str,
        /// The broken rule.
        rule: &'static str,
    },
}
