//! Undoes content codings of a kept body, within limits.
//!
//! Compressed bodies are a weapon: a kilobyte can ask for a gigabyte. So output and ratio are capped before anything
//! is decoded, decoders work on a small buffer, and their windows are capped where the format lets a peer choose them.

use std::io::{self, Read};

use brotli_decompressor::Decompressor;
use bytes::Bytes;
use bytestring::ByteString;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use wirecall_schemas::Decoding;

use super::findings::{Findings, Rule};
use super::limits::CODINGS;
use crate::limits::Limits;

/// Bytes decoded at a time, so that a limit is noticed soon after it is passed.
const STEP: usize = 8 * 1024;

/// Bytes of input that a brotli decoder buffers; the format does not depend on it.
const BROTLI_BUFFER: usize = 4 * 1024;

/// Largest zstd window as a power of two: 8 MiB, what RFC 9659 allows in Content-Encoding.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Output below which the ratio is not looked at: a few bytes of header can stand for a page of white space.
const RATIO_FLOOR: usize = 64 * 1024;

/// Content after decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// The bytes: decoded as far as that went, else as transferred.
    pub(super) content: Bytes,
    /// What became of the codings.
    pub(super) decoding: Decoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// By its name in the IANA registry (RFC 9110 section 8.4.1), `x-gzip` included.
    fn by(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("gzip") => Some(Self::Gzip),
            6 if is("x-gzip") => Some(Self::Gzip),
            7 if is("deflate") => Some(Self::Deflate),
            2 if is("br") => Some(Self::Brotli),
            4 if is("zstd") => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// How the decoding of one coding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Limited,
    Failed,
}

/// Undoes the codings that the lines of Content-Encoding name, in the reverse of their order.
///
/// `whole` is false when `content` lacks bytes: then no coding can be undone to its end.
pub(super) fn decode(
    content: Bytes,
    whole: bool,
    lines: &[ByteString],
    limits: &Limits,
    findings: &mut Findings,
) -> Decoded {
    let names = lines
        .iter()
        .flat_map(|line| line.split(','))
        .map(|name| name.trim_matches([' ', '\t']))
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    let mut codings = Vec::new();
    for name in names {
        if codings.len() == CODINGS {
            findings.add(Rule::TooManyCodings);
            return Decoded { content, decoding: Decoding::Unsupported };
        }
        match Coding::by(name) {
            Some(coding) => codings.push(coding),
            None => return Decoded { content, decoding: Decoding::Unsupported },
        }
    }
    if codings.is_empty() || content.is_empty() {
        return Decoded { content, decoding: Decoding::Identity };
    }
    undo(content, whole, &codings, limits, findings)
}

fn undo(
    transferred: Bytes,
    whole: bool,
    codings: &[Coding],
    limits: &Limits,
    findings: &mut Findings,
) -> Decoded {
    let mut content = transferred.clone();
    let mut worst = if whole { Decoding::Decoded } else { Decoding::Failed };
    for &coding in codings.iter().rev() {
        let (output, end) = undo_one(&content, coding, transferred.len(), limits);
        if output.is_empty() && end == End::Failed {
            return Decoded { content: transferred, decoding: Decoding::Failed };
        }
        content = Bytes::from(output);
        match end {
            End::Whole => {}
            End::Limited => {
                findings.add(Rule::DecompressionLimit);
                worst = Decoding::Limited;
            }
            End::Failed if worst == Decoding::Decoded => worst = Decoding::Failed,
            End::Failed => {}
        }
    }
    Decoded { content, decoding: worst }
}

fn undo_one(input: &[u8], coding: Coding, transferred: usize, limits: &Limits) -> (Vec<u8>, End) {
    let ratio = transferred.saturating_mul(limits.decoding_ratio).max(RATIO_FLOOR);
    let most = limits.decoded_bytes.min(ratio);
    match coding {
        Coding::Gzip => read_within(MultiGzDecoder::new(input), most),
        Coding::Deflate if is_zlib(input) => read_within(ZlibDecoder::new(input), most),
        Coding::Deflate => read_within(DeflateDecoder::new(input), most),
        Coding::Brotli => read_within(Decompressor::new(input, BROTLI_BUFFER), most),
        Coding::Zstd => match zstd_decoder(input) {
            Ok(decoder) => read_within(decoder, most),
            Err(_) => (Vec::new(), End::Failed),
        },
    }
}

fn zstd_decoder(input: &[u8]) -> io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

/// `deflate` means the zlib format (RFC 9110 section 8.4.1.2), but some servers send the bare one. The zlib header
/// is a multiple of 31 with method 8 (RFC 1950 section 2.2).
fn is_zlib(input: &[u8]) -> bool {
    match input {
        [first, second, ..] => first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31),
        _ => false,
    }
}

/// Reads to the end, a failure, or `most` bytes.
fn read_within(mut reader: impl Read, most: usize) -> (Vec<u8>, End) {
    let mut output = Vec::new();
    let mut buffer = [0; STEP];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return (output, End::Whole),
            Ok(count) => {
                let room = most - output.len();
                output.extend_from_slice(&buffer[..count.min(room)]);
                if count > room {
                    return (output, End::Limited);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return (output, End::Failed),
        }
    }
}

#[cfg(test)]
mod tests;
