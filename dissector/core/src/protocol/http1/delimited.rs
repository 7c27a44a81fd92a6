//! Bodies that a length or the end of the connection delimits (RFC 9112 section 6.3, rules 6 to 8).

use super::incoming::Incoming;
use super::parser::Event;
use crate::limits::Limits;
use crate::stream::Stream;

/// A body whose length is known: a gap inside it is a hole, and the reader stays in step.
pub(super) fn length_body(
    left: &mut u64,
    stream: &mut Stream,
    message: &mut Incoming,
    limits: &Limits,
) -> Event {
    loop {
        *left -= message.body.read(stream, *left, limits);
        if *left == 0 {
            message.finish(stream, true);
            return Event::End;
        }
        let Some(gap) = stream.skip_gap() else { return Event::Wait };
        let inside = gap.length.min(*left);
        message.miss(inside, gap.length, limits);
        *left -= inside;
        if *left == 0 {
            message.finish(stream, false);
            return if gap.length > inside { Event::Lost } else { Event::End };
        }
    }
}

/// A body that the end of the connection ends.
pub(super) fn close_body(stream: &mut Stream, message: &mut Incoming, limits: &Limits) -> Event {
    loop {
        message.body.read(stream, u64::MAX, limits);
        match stream.skip_gap() {
            Some(gap) => message.miss(gap.length, gap.length, limits),
            None => return Event::Wait,
        }
    }
}
