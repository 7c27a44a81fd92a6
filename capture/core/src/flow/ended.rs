//! What is remembered of a TCP connection that has ended: enough to tell its stragglers from a new connection with the
//! same addresses and ports. Small, because there are as many of these as a busy server ends in a minute.

use crate::packet::{ACK, RST, SYN, TcpHeader};

/// Bytes that a SYN can carry: what a SYN-ACK may acknowledge beyond it (RFC 7413).
const MOST_SYN_DATA: u32 = 0xffff;

/// See the module; index 0 is the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(super) client_initial: Option<u32>,
    pub(super) client_timestamp: Option<u32>,
    /// Sequence number behind the last byte, for each side that was heard.
    pub(super) expected: [Option<u32>; 2],
}

impl Ended {
    /// Whether a packet belongs to a new connection.
    pub(crate) fn is_replaced_by(
        &self,
        side: usize,
        header: &TcpHeader,
        payload: usize,
        window: usize,
    ) -> bool {
        match (header.has(SYN), header.has(ACK)) {
            _ if header.has(RST) => false,
            (true, false) => !self.repeats_syn(side, header),
            // The server was never heard, so the refusal was not its own: somebody forged it, and the handshake goes on.
            (true, true) if self.expected[side].is_none() => true,
            (true, true) => self.client_initial.is_none_or(|initial| {
                !(1..=MOST_SYN_DATA).contains(&header.acknowledgement.wrapping_sub(initial))
            }),
            // Data at a wholly other place: a connection whose SYN was not captured.
            (false, _) => {
                payload > 0
                    && self.expected[side].is_some_and(|expected| {
                        let distance = header.sequence.wrapping_sub(expected).cast_signed();
                        usize::try_from(distance.unsigned_abs()).unwrap_or(usize::MAX) > window
                    })
            }
        }
    }

    /// A copy of the SYN: a new attempt would have another number or, by the clock of RFC 7323, another TSval.
    fn repeats_syn(&self, side: usize, header: &TcpHeader) -> bool {
        side == 0
            && self.client_initial == Some(header.sequence)
            && self.client_timestamp.is_some()
            && self.client_timestamp == header.timestamp
    }
}
