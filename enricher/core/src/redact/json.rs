//! Values of JSON by their key, replaced in place.
//!
//! One pass over the bytes without building a tree: what is not a secret keeps its bytes, numbers of any length among
//! them, and text that was cut off in the middle is redacted as far as it goes. Several values after one another
//! (newline-delimited JSON, JSON text sequences) are read too.

use std::borrow::Cow;
use std::fmt::Write as _;

use memchr::memchr2;
use smallvec::SmallVec;

use super::pairs::{Rewrite, may_be_url, redact_url};
use super::rule::Verdict;

/// Nesting that is followed. Parsers in wide use stop at 128 (serde_json) to 1000; deeper text is an attack or an
/// accident and counts as unreadable.
const MAX_DEPTH: usize = 128;

/// JSON inside strings of JSON that is followed: log shippers wrap once, queues of notifications twice.
const MAX_WRAPPING: usize = 3;

/// The text is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotJson;

/// Who decides about a value.
pub(crate) trait JsonJudge {
    /// By its key and, when a rule asks, the path of keys down to it.
    fn judge(&mut self, key: &[u8], path: &dyn Fn() -> String) -> Option<Verdict>;

    /// Sees a value that goes.
    fn gone(&mut self, value: &[u8]);
}

/// Redacts JSON; none when nothing is to be redacted.
pub(crate) fn redact_json(text: &[u8], judge: &mut dyn JsonJudge) -> Result<Option<Vec<u8>>, NotJson> {
    redact_nested(text, judge, MAX_WRAPPING)
}

fn redact_nested(
    text: &[u8],
    judge: &mut dyn JsonJudge,
    wrapping: usize,
) -> Result<Option<Vec<u8>>, NotJson> {
    let mut scanner =
        Scanner { text, at: 0, frames: SmallVec::new(), rewrite: Rewrite::new(text), judge, wrapping };
    scanner.run()?;
    Ok(scanner.rewrite.finish())
}

struct Scanner<'t, 'j> {
    text: &'t [u8],
    at: usize,
    frames: SmallVec<[Frame<'t>; 16]>,
    rewrite: Rewrite<'t>,
    judge: &'j mut dyn JsonJudge,
    wrapping: usize,
}

/// An open object, with the key that is being read, or an open array.
#[derive(Clone, Debug)]
enum Frame<'t> {
    Object(Cow<'t, [u8]>),
    Array,
}

/// A string, number or literal, by its place.
struct Scalar {
    start: usize,
    end: usize,
}

impl<'t> Scanner<'t, '_> {
    /// Reads values until the text ends.
    fn run(&mut self) -> Result<(), NotJson> {
        while let Some(byte) = self.peek() {
            match byte {
                b'{' => {
                    self.open(Frame::Object(Cow::Borrowed(b"")))?;
                    self.key()?;
                }
                b'[' => self.open(Frame::Array)?,
                b'}' | b']' => self.close(byte)?,
                b',' => {
                    self.at += 1;
                    match self.frames.last() {
                        Some(Frame::Object(_)) => self.key()?,
                        Some(Frame::Array) => {}
                        None => return Err(NotJson),
                    }
                }
                _ => {
                    let scalar = self.scalar()?;
                    self.look_inside(&scalar);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, frame: Frame<'t>) -> Result<(), NotJson> {
        if self.frames.len() == MAX_DEPTH {
            return Err(NotJson);
        }
        self.at += 1;
        self.frames.push(frame);
        Ok(())
    }

    fn close(&mut self, byte: u8) -> Result<(), NotJson> {
        self.at += 1;
        match (self.frames.pop(), byte) {
            (Some(Frame::Object(_)), b'}') | (Some(Frame::Array), b']') => Ok(()),
            _ => Err(NotJson),
        }
    }

    /// Reads a key and its colon, and deals with the value when it has to go.
    fn key(&mut self) -> Result<(), NotJson> {
        match self.peek() {
            Some(b'"') => {}
            // An empty object, or the end of a text that was cut off.
            Some(b'}') | None => return Ok(()),
            Some(_) => return Err(NotJson),
        }
        let Scalar { start, end } = self.scalar()?;
        let key = decode_key(self.text.get(start + 1..end - 1).unwrap_or_default());
        match self.peek() {
            Some(b':') => self.at += 1,
            None => return Ok(()),
            Some(_) => return Err(NotJson),
        }
        if let Some(frame) = self.frames.last_mut() {
            *frame = Frame::Object(key);
        }
        self.value_of_key()
    }

    fn value_of_key(&mut self) -> Result<(), NotJson> {
        let Some(first) = self.peek() else { return Ok(()) };
        let Some(Frame::Object(key)) = self.frames.last() else { return Ok(()) };
        let start = self.at;
        // What says nothing is no secret, and `null` differs from masked.
        if [&b"null"[..], b"true", b"false", b"\"\""]
            .iter()
            .any(|empty| self.text[start..].starts_with(empty))
        {
            return Ok(());
        }
        let frames = &self.frames;
        let Some(verdict) = self.judge.judge(key, &|| path(frames)) else { return Ok(()) };
        self.skip_value(first)?;
        self.judge.gone(&self.text[start..self.at]);
        self.rewrite.replace(start, self.at, if verdict.remove { b"null" } else { b"\"[redacted]\"" });
        Ok(())
    }

    /// Goes past a value of any kind.
    fn skip_value(&mut self, first: u8) -> Result<(), NotJson> {
        if !matches!(first, b'{' | b'[') {
            return self.scalar().map(|_| ());
        }
        let mut depth = 0_usize;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.scalar()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The byte that the next token starts with. The record separator of RFC 7464 counts as white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x1e) {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Goes past a string, number or literal. A string that the text's end cuts off ends there.
    fn scalar(&mut self) -> Result<Scalar, NotJson> {
        let start = self.at;
        if self.text.get(start) == Some(&b'"') {
            self.at += 1;
            while let Some(step) = memchr2(b'"', b'\\', &self.text[self.at..]) {
                self.at += step + 1;
                if self.text[self.at - 1] == b'"' {
                    return Ok(Scalar { start, end: self.at });
                }
                self.at = (self.at + 1).min(self.text.len());
            }
            self.at = self.text.len();
            // As if the quote stood behind the end.
            return Ok(Scalar { start, end: self.at + 1 });
        }
        let rest = &self.text[start..];
        let length = rest
            .iter()
            .position(
                |byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'N' | b'I' | b'+' | b'-' | b'.'),
            )
            .unwrap_or(rest.len());
        if length == 0 {
            return Err(NotJson);
        }
        self.at += length;
        Ok(Scalar { start, end: self.at })
    }

    /// A string may hold JSON or a URL with secrets of its own.
    fn look_inside(&mut self, scalar: &Scalar) {
        let end = (scalar.end - 1).min(self.text.len());
        let Some(content) = self.text.get(scalar.start + 1..end) else { return };
        if self.text.get(scalar.start) != Some(&b'"') || content.is_empty() {
            return;
        }
        let is_json = (content.starts_with(b"{") || content.starts_with(b"["))
            && memchr::memmem::find(content, b"\\\"").is_some();
        let changed = if is_json { self.wrapped_json(content) } else { self.url(content) };
        if let Some(changed) = changed {
            self.rewrite.replace(scalar.start + 1, end, &changed);
        }
    }

    fn wrapped_json(&mut self, content: &[u8]) -> Option<Vec<u8>> {
        let wrapping = self.wrapping.checked_sub(1)?;
        let inner = unescape(content)?;
        let changed = redact_nested(inner.as_bytes(), self.judge, wrapping).ok()??;
        let text = serde_json::to_string(&String::from_utf8(changed).ok()?).ok()?;
        Some(text.as_bytes().get(1..text.len() - 1)?.to_vec())
    }

    fn url(&mut self, content: &[u8]) -> Option<Vec<u8>> {
        // Only what can be a reference: spaces mean prose, in which `name=value` is somebody's sentence.
        if !may_be_url(content) || memchr2(b' ', b'\\', content).is_some() {
            return None;
        }
        let (frames, judge) = (&self.frames, &mut self.judge);
        redact_url(content, &mut |name: &[u8], value: &[u8]| {
            let verdict =
                judge.judge(name, &|| format!("{}.{}", path(frames), String::from_utf8_lossy(name)))?;
            judge.gone(value);
            Some(verdict)
        })
    }
}

/// The keys of the open objects, joined by dots.
fn path(frames: &[Frame<'_>]) -> String {
    let mut path = String::new();
    for frame in frames {
        if let Frame::Object(key) = frame {
            let dot = if path.is_empty() { "" } else { "." };
            let _ = write!(path, "{dot}{}", String::from_utf8_lossy(key));
        }
    }
    path
}

/// A key with its escapes undone: `pass\u0077ord` is a password for the server.
fn decode_key(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    unescape(raw).map_or(Cow::Borrowed(raw), |text| Cow::Owned(text.into_bytes()))
}

fn unescape(raw: &[u8]) -> Option<String> {
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice(&quoted).ok()
}
