//! What a stream writes: its bytes, its gaps, and what becomes of each packet in the counters.

use wirecall_schemas::{Chunk, ChunkCause, ChunkKind};

use super::pair::{Context, direction};
use super::stream::{Span, Stream};
use crate::segment::{Channel, Moment, signed};
use crate::stats::{Reason, Stats};

/// A buffered piece, or the end of one, turned out to lie behind the FIN.
pub(super) fn drop_after_finish(packets: u64, bytes: usize, context: &mut Context<'_>) {
    context.output.release(bytes);
    context.stats.release(packets, bytes as u64);
    context.stats.count(Reason::AfterFin, packets, bytes as u64);
}

pub(super) fn deliver(
    stream: &mut Stream,
    side: usize,
    span: Span<'_>,
    moment: Moment,
    channel: &mut Channel,
    context: &mut Context<'_>,
) {
    context.output.data(channel, context.stats, direction(side), span.offset, moment, span.data);
    stream.advance(span.offset + signed(span.data.len()));
    if span.missing > 0 {
        let moment = Moment { time: moment.time, now: context.moment.now };
        let end = span.end();
        declare_gap_at(stream, side, end, ChunkCause::Snaplen, moment, channel, context);
    }
}

pub(super) fn declare_gap(
    stream: &mut Stream,
    side: usize,
    end: i64,
    cause: ChunkCause,
    channel: &mut Channel,
    context: &mut Context<'_>,
) {
    declare_gap_at(stream, side, end, cause, context.moment, channel, context);
}

fn declare_gap_at(
    stream: &mut Stream,
    side: usize,
    end: i64,
    cause: ChunkCause,
    moment: Moment,
    channel: &mut Channel,
    context: &mut Context<'_>,
) {
    let length = end - stream.next;
    let chunk = Chunk {
        direction: direction(side),
        kind: ChunkKind::Gap,
        cause,
        offset: stream.next,
        length,
        time: moment.time,
    };
    context.output.push(channel, context.stats, chunk, moment.now);
    context.stats.gaps.packets += 1;
    context.stats.gaps.bytes += u64::try_from(length).unwrap_or_default();
    stream.note_gap(end);
    stream.advance(end);
}

/// How a packet of stream bytes is counted: its bytes one by one, itself once.
pub(super) struct Settle {
    /// 0 once a buffered piece has taken them over.
    pub(super) packets: u64,
    /// The first reason for which bytes were dropped.
    pub(super) reason: Option<Reason>,
    pub(super) effective: bool,
}

impl Settle {
    pub(super) fn drop_bytes(&mut self, reason: Reason, span: &Span<'_>, stats: &mut Stats) {
        if !span.is_empty() {
            stats.count(reason, 0, span.data.len() as u64);
            self.reason = self.reason.or(Some(reason));
        }
    }

    /// Counts the packet unless a piece did; true if it only repeated bytes.
    pub(super) fn finish(self, stats: &mut Stats) -> bool {
        if self.packets == 0 {
            return false;
        }
        match self.reason {
            Some(reason) if !self.effective => stats.count(reason, self.packets, 0),
            _ => stats.deliver(self.packets, 0),
        }
        self.reason == Some(Reason::Duplicate) && !self.effective
    }
}
