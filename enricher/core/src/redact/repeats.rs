//! What was removed at one place and stands at another too.
//!
//! Servers echo: a token of the query in an error message, a header in a debug page, a header's value in a finding
//! that quotes it. A value that was a secret once is one everywhere in the event.

use bytes::Bytes;
use memchr::memmem;
use wirecall_schemas::{ApiEvent, Blob, ByteString, Message};

use super::pairs::MASK;

/// Shortest value that is looked for elsewhere, in bytes. Shorter ones (`1`, `true`, `admin`) occur by chance, and
/// an event full of masks in unrelated places helps nobody.
const SHORTEST: usize = 8;

/// Values that are looked for; each costs a search through the event.
const MOST: usize = 32;

/// Bytes that a secret is made of; the rest parts words.
const IS_INSIDE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'-' | b'_' | b'.' | b'+' | b'/' | b'=' | b'~' | b'%' | b'!' | b'$' | b'@' | b'*'
            );
        byte += 1;
    }
    table
};

/// Values that were removed from the event at hand.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    values: Vec<Vec<u8>>,
}

impl Removed {
    /// Notes a value, and the words of it: `Bearer abc` may be repeated as `abc`.
    pub(crate) fn add(&mut self, value: &[u8]) {
        for word in value.split(|byte| !IS_INSIDE[usize::from(*byte)]) {
            // A number could be part of another number, and JSON would break.
            let searchable = word.len() >= SHORTEST && word.iter().any(|byte| !byte.is_ascii_digit());
            if searchable && self.values.len() < MOST && !self.values.iter().any(|other| other == word) {
                self.values.push(word.to_vec());
            }
        }
    }

    /// Masks every other occurrence in the event, and forgets the values.
    pub(crate) fn mask_repeats(&mut self, event: &mut ApiEvent) {
        if self.values.is_empty() {
            return;
        }
        let mut values = std::mem::take(&mut self.values);
        // The longest first: a value may be the start of another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for value in values {
            mask_in_event(event, &Secret::new(&value));
        }
    }
}

/// A value that is searched for. Most of a search for one event's secret would be the preparation of a long needle, so
/// its first bytes are searched for and the rest compared.
struct Secret<'v> {
    value: &'v [u8],
    start: memmem::Finder<'v>,
}

impl<'v> Secret<'v> {
    /// Bytes searched for: rare enough together, and short enough for the vector search, which needs no preparation.
    const START: usize = 24;

    fn new(value: &'v [u8]) -> Self {
        Self { value, start: memmem::Finder::new(&value[..value.len().min(Self::START)]) }
    }

    /// The next place of the value, from a place on.
    fn find(&self, text: &[u8], mut from: usize) -> Option<usize> {
        while from + self.value.len() <= text.len() {
            let place = from + self.start.find(&text[from..])?;
            if text[place..].starts_with(self.value) {
                return Some(place);
            }
            from = place + 1;
        }
        None
    }
}

fn mask_in_event(event: &mut ApiEvent, secret: &Secret<'_>) {
    for message in [&mut event.request, &mut event.response].into_iter().flatten() {
        mask_in_message(message, secret);
    }
    for field in [&mut event.operation, &mut event.target, &mut event.status].into_iter().flatten() {
        mask_text(field, secret);
    }
    for finding in &mut event.findings {
        finding.detail.iter_mut().for_each(|detail| mask_text(detail, secret));
    }
    if let Some(trace) = &mut event.trace {
        trace.state.iter_mut().for_each(|state| mask_text(state, secret));
    }
    let Some(http) = &mut event.http else { return };
    let fields = [
        &mut http.request_method,
        &mut http.host,
        &mut http.url_path,
        &mut http.url_query,
        &mut http.user_agent,
        &mut http.reason_phrase,
        &mut http.upgrade,
    ];
    fields.into_iter().flatten().for_each(|field| mask_text(field, secret));
}

fn mask_in_message(message: &mut Message, secret: &Secret<'_>) {
    for header in message.headers.iter_mut().chain(&mut message.trailers) {
        mask_text(&mut header.value, secret);
    }
    let Some(body) = &mut message.body else { return };
    for part in &mut body.parts {
        part.name.iter_mut().chain(&mut part.filename).for_each(|text| mask_text(text, secret));
    }
    if let Some(masked) = body.content.as_ref().and_then(|content| mask(content.as_bytes(), secret)) {
        body.content = Some(Blob::new(Bytes::from(masked)));
    }
}

fn mask_text(text: &mut ByteString, secret: &Secret<'_>) {
    if let Some(masked) = mask(text.as_bytes(), secret) {
        *text = super::text_of(masked);
    }
}

fn mask(text: &[u8], secret: &Secret<'_>) -> Option<Vec<u8>> {
    let mut place = secret.find(text, 0)?;
    let mut rewrite = super::pairs::Rewrite::new(text);
    loop {
        let end = place + secret.value.len();
        rewrite.replace(place, end, MASK.as_bytes());
        match secret.find(text, end) {
            Some(next) => place = next,
            None => return rewrite.finish(),
        }
    }
}
