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

/// Values that were removed from the event at hand.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    values: Vec<Vec<u8>>,
}

impl Removed {
    /// Notes a value, and the words of it: `Bearer abc` may be repeated as `abc`.
    pub(crate) fn add(&mut self, value: &[u8]) {
        let is_inside = |byte: &u8| {
            byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'-' | b'_' | b'.' | b'+' | b'/' | b'=' | b'~' | b'%' | b'!' | b'$' | b'@' | b'*'
                )
        };
        for word in value.split(|byte| !is_inside(byte)) {
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
            mask_in_event(event, &memmem::Finder::new(&value), value.len());
        }
    }
}

fn mask_in_event(event: &mut ApiEvent, finder: &memmem::Finder<'_>, length: usize) {
    for message in [&mut event.request, &mut event.response].into_iter().flatten() {
        mask_in_message(message, finder, length);
    }
    for field in [&mut event.operation, &mut event.target, &mut event.status].into_iter().flatten() {
        mask_text(field, finder, length);
    }
    for finding in &mut event.findings {
        finding.detail.iter_mut().for_each(|detail| mask_text(detail, finder, length));
    }
    if let Some(trace) = &mut event.trace {
        trace.state.iter_mut().for_each(|state| mask_text(state, finder, length));
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
    fields.into_iter().flatten().for_each(|field| mask_text(field, finder, length));
}

fn mask_in_message(message: &mut Message, finder: &memmem::Finder<'_>, length: usize) {
    for header in message.headers.iter_mut().chain(&mut message.trailers) {
        mask_text(&mut header.value, finder, length);
    }
    let Some(body) = &mut message.body else { return };
    for part in &mut body.parts {
        part.name.iter_mut().chain(&mut part.filename).for_each(|text| mask_text(text, finder, length));
    }
    if let Some(masked) = body.content.as_ref().and_then(|content| mask(content.as_bytes(), finder, length)) {
        body.content = Some(Blob::new(Bytes::from(masked)));
    }
}

fn mask_text(text: &mut ByteString, finder: &memmem::Finder<'_>, length: usize) {
    if let Some(masked) = mask(text.as_bytes(), finder, length) {
        *text = super::text_of(masked);
    }
}

fn mask(text: &[u8], finder: &memmem::Finder<'_>, length: usize) -> Option<Vec<u8>> {
    if text.len() < length {
        return None;
    }
    let mut rewrite = super::pairs::Rewrite::new(text);
    for place in finder.find_iter(text) {
        rewrite.replace(place, place + length, MASK.as_bytes());
    }
    rewrite.finish()
}
