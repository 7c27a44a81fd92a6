//! One exchange on its way to become a call: a request, its response, or both.

use bytestring::ByteString;
use smallvec::SmallVec;
use wirecall_schemas::Timestamp;

use super::framing::Asked;
use super::incoming::Incoming;

/// A request, its response, or both.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The request.
    pub(super) request: Option<Box<Incoming>>,
    /// The response.
    pub(super) response: Option<Box<Incoming>>,
    /// 1xx responses before it.
    pub(super) interim: SmallVec<[u16; 4]>,
    /// Protocol that the connection changes to after this exchange.
    pub(super) upgrade: Option<ByteString>,
    /// Why its response may be another's.
    pub(super) doubt: Doubt,
    /// Offset that the server's stream had reached when the request came.
    pub(super) answered_to: u64,
}

/// Why the response of a request may be another's: an earlier request that was not seen may still be unanswered.
///
/// A doubtful pair is kept until the client speaks again, which a client that takes turns does only when it has its
/// answer, or until one more response comes: then all belonged to the request before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It may not.
    #[default]
    None,
    /// The connection was joined right before it, and the server had not spoken since.
    Joined,
    /// Bytes that may be of a request are missing before it, and the server had not spoken since.
    Lost,
    /// Bytes that may be of its response are missing before the response. Where packets are lost, they are often lost
    /// in a burst of both directions: then the next request is missing too, and that shows only when the client goes on.
    Skipped,
}

impl Exchange {
    /// A request without response; the server's stream had reached `answered_to`.
    pub(super) fn of_request(request: Box<Incoming>, answered_to: u64) -> Self {
        Self { request: Some(request), answered_to, ..Self::default() }
    }

    /// True when both halves were read as far as they go.
    pub(super) fn is_complete(&self) -> bool {
        let done = |half: &Option<Box<Incoming>>| half.as_ref().is_some_and(|message| message.done);
        done(&self.request) && done(&self.response)
    }

    /// Capture time of the request's first byte.
    pub(super) fn request_time(&self) -> Option<Timestamp> {
        self.request.as_ref().and_then(|request| request.first_time())
    }

    /// What the request asks, as far as that steers the reading of the response.
    pub(super) fn asked(&self) -> Asked {
        let line = self.request.as_ref().and_then(|request| request.head.request_line());
        line.map_or(Asked::Plain, |line| Asked::by(&line.method))
    }

    /// Bytes of memory held.
    pub(super) fn held_bytes(&self) -> usize {
        let half = |half: &Option<Box<Incoming>>| half.as_ref().map_or(0, |message| message.held_bytes());
        half(&self.request) + half(&self.response)
    }
}
