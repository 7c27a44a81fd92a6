//! Named values inside text: query strings, forms, URLs, cookies.
//!
//! Nothing is decoded and encoded again: what is not a secret keeps its bytes. When nothing is a secret nothing is
//! allocated.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem};

use super::rule::Verdict;

/// What stands in place of a value.
pub(crate) const MASK: &str = "[redacted]";

/// Text that is copied only from the first change on.
pub(crate) struct Rewrite<'t> {
    text: &'t [u8],
    output: Vec<u8>,
    /// How much of the text is in the output or left out.
    done: usize,
}

impl<'t> Rewrite<'t> {
    pub(crate) const fn new(text: &'t [u8]) -> Self {
        Self { text, output: Vec::new(), done: 0 }
    }

    /// Puts `with` in place of the bytes from `start` to `end`. Places must come in order.
    pub(crate) fn replace(&mut self, start: usize, end: usize, with: &[u8]) {
        self.output.extend_from_slice(self.text.get(self.done..start).unwrap_or_default());
        self.output.extend_from_slice(with);
        self.done = end;
    }

    /// The new text; none when nothing was replaced.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if self.done == 0 {
            return None;
        }
        self.output.extend_from_slice(self.text.get(self.done..).unwrap_or_default());
        Some(self.output)
    }
}

/// Who decides about a value, by its decoded name, and sees the value that goes.
pub(crate) trait Judge {
    fn judge(&mut self, name: &[u8], value: &[u8]) -> Option<Verdict>;
}

impl<F: FnMut(&[u8], &[u8]) -> Option<Verdict>> Judge for F {
    fn judge(&mut self, name: &[u8], value: &[u8]) -> Option<Verdict> {
        self(name, value)
    }
}

/// Redacts `name=value&name=value`; none when nothing is to be redacted.
pub(crate) fn redact_pairs(text: &[u8], judge: &mut impl Judge) -> Option<Vec<u8>> {
    let mut rewrite = Rewrite::new(text);
    rewrite_pairs(&mut rewrite, text, 0, judge);
    rewrite.finish()
}

/// Redacts a URL or a reference: its password, its path parameters, its query and its fragment, in which some
/// authorisation flows hand tokens over (RFC 6749 section 4.2.2).
pub(crate) fn redact_url(text: &[u8], judge: &mut impl Judge) -> Option<Vec<u8>> {
    let mut rewrite = Rewrite::new(text);
    rewrite_password(&mut rewrite, text, judge);
    if let Some(start) = text.iter().position(|byte| matches!(byte, b'?' | b'#' | b';')) {
        rewrite_pairs(&mut rewrite, text, start + 1, judge);
    }
    rewrite.finish()
}

/// True when [`redact_url`] can find something.
pub(crate) fn may_be_url(text: &[u8]) -> bool {
    memchr2(b'=', b'@', text).is_some()
}

/// Walks pairs from `at` on. A pair that stays ends at any of `& ; ? #`, so that names are found in whatever way a
/// text was put together; a value that goes ends only at `&` or `#`, so that no rest of it stays.
fn rewrite_pairs(rewrite: &mut Rewrite<'_>, text: &[u8], mut at: usize, judge: &mut impl Judge) {
    while at < text.len() {
        let rest = &text[at..];
        let end =
            rest.iter().position(|byte| matches!(byte, b'&' | b';' | b'?' | b'#')).unwrap_or(rest.len());
        let Some(equals) = memchr(b'=', &rest[..end]) else {
            at += end + 1;
            continue;
        };
        let value_end = memchr2(b'&', b'#', rest).unwrap_or(rest.len());
        let value = &rest[equals + 1..value_end];
        let verdict = if value.is_empty() { None } else { judge.judge(&decode_name(&rest[..equals]), value) };
        match verdict {
            None => at += end + 1,
            Some(verdict) => {
                if verdict.remove {
                    rewrite.replace(at, (at + value_end + 1).min(text.len()), b"");
                } else {
                    rewrite.replace(at + equals + 1, at + value_end, MASK.as_bytes());
                }
                at += value_end + 1;
            }
        }
    }
}

/// `scheme://user:password@host`.
fn rewrite_password(rewrite: &mut Rewrite<'_>, text: &[u8], judge: &mut impl Judge) {
    let Some(start) = memmem::find(text, b"://").map(|place| place + 3) else { return };
    let authority = &text[start..];
    let end = authority.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(authority.len());
    let Some(at_sign) = memchr::memrchr(b'@', &authority[..end]) else { return };
    let Some(colon) = memchr(b':', &authority[..at_sign]) else { return };
    let password = &authority[colon + 1..at_sign];
    if !password.is_empty() && judge.judge(b"userinfo", password).is_some() {
        rewrite.replace(start + colon + 1, start + at_sign, MASK.as_bytes());
    }
}

/// Redacts the values of `Cookie` (RFC 6265 section 4.2) or, with `first_only`, of `Set-Cookie`, where the pairs after
/// the first are attributes and no secrets. The values that go are told to `seen`.
pub(crate) fn redact_cookies(text: &[u8], first_only: bool, mut seen: impl FnMut(&[u8])) -> Option<Vec<u8>> {
    let mut rewrite = Rewrite::new(text);
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let end = memchr(b';', rest).unwrap_or(rest.len());
        // A cookie without a name is all value (RFC 6265bis section 5.6).
        let start = memchr(b'=', &rest[..end]).map_or_else(
            || rest[..end].iter().position(|byte| *byte != b' ').unwrap_or(end),
            |equals| equals + 1,
        );
        if start < end {
            seen(&rest[start..end]);
            rewrite.replace(at + start, at + end, MASK.as_bytes());
        }
        if first_only {
            break;
        }
        at += end + 1;
    }
    rewrite.finish()
}

/// A parameter's name with `%xx` and `+` undone: `pass%77ord` is a password for the server.
fn decode_name(name: &[u8]) -> Cow<'_, [u8]> {
    if memchr2(b'%', b'+', name).is_none() {
        return Cow::Borrowed(name);
    }
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, others @ ..] = rest {
        let (byte, next) = match (first, others) {
            (b'%', [high, low, next @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, next),
                _ => (b'%', others),
            },
            (b'+', _) => (b' ', others),
            _ => (*first, others),
        };
        decoded.push(byte);
        rest = next;
    }
    Cow::Owned(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
