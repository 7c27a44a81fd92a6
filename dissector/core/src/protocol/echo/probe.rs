//! Is this echo? The server's first line must be the client's.

use memchr::memchr;

use crate::protocol::{Certainty, Opening, Verdict};

/// Shorter lines are equal by chance too easily: many protocols greet with `OK` on both sides.
const LEAST_LINE: usize = 4;

/// Lines of each side that are compared mid-stream: each is searched among the others, so that their number is squared.
const MOST_LINES: usize = 64;

/// Judges an opening. Joined mid-stream, the first line of each side may be the rest of one, and the sides may stand at
/// different lines: then from the first line that both sent, all lines must agree.
pub fn probe(opening: &Opening<'_>) -> Verdict {
    let (client, server) = (opening.client.data, opening.server.data);
    if opening.mid_stream {
        return probe_mid_stream(opening);
    }
    let common = client.len().min(server.len());
    if client[..common] != server[..common] || !plausible(client) || !plausible(server) {
        return Verdict::No;
    }
    match (first_line(client), first_line(server)) {
        (Some(line), Some(_)) if line.len() < LEAST_LINE => Verdict::No,
        (Some(_), Some(_)) => Verdict::Yes { swapped: false, certainty: Certainty::Likely },
        _ => Verdict::NotYet,
    }
}

fn probe_mid_stream(opening: &Opening<'_>) -> Verdict {
    let (client, server) = (opening.client.data, opening.server.data);
    if !plausible(client) || !plausible(server) {
        return Verdict::No;
    }
    let asked: Vec<_> = whole_lines(client).take(MOST_LINES).collect();
    let answered: Vec<_> = whole_lines(server).take(MOST_LINES).collect();
    let meeting = answered.iter().enumerate().find_map(|(index, line)| {
        let place = asked.iter().position(|request| request == line)?;
        Some(answered[index..].iter().zip(&asked[place..]))
    });
    let Some(mut pairs) = meeting else { return Verdict::NotYet };
    let long = pairs.clone().any(|(answer, _)| answer.len() > LEAST_LINE);
    match pairs.all(|(answer, request)| answer == request) {
        true if long => Verdict::Yes { swapped: false, certainty: Certainty::Likely },
        true => Verdict::NotYet,
        false => Verdict::No,
    }
}

/// Printable text that does not look like a protocol of its own.
fn plausible(bytes: &[u8]) -> bool {
    let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
    bytes.iter().all(printable)
        && memchr::memmem::find(bytes, b" HTTP/").is_none()
        && !bytes.starts_with(b"HTTP/")
}

fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    memchr(b'\n', bytes).map(|end| &bytes[..end])
}

/// The lines between the first and the last line end.
fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let start = memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
    bytes[start..].split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
}
