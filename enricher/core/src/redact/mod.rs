//! Redaction: what must not leave is taken out of an event, and the event says what was.
//!
//! ```text
//! event ─▶ rules that apply to it ─▶ headers, trailers ─▶ target, query ─▶ bodies ─▶ what repeats a removed value
//! ```
//!
//! A body that is said to be JSON or a form, cannot be read as such, and speaks of a password loses its content: what
//! cannot be redacted does not leave. The usual event has nothing to redact; deciding that allocates nothing.

mod body;
mod defaults;
mod json;
mod multipart;
mod pairs;
mod repeats;
mod rule;
mod suspicion;

#[cfg(test)]
mod tests;

use wirecall_schemas::{ApiEvent, ByteString, Header, Message, Redaction};

pub use self::rule::{Action, MAX_RULES, RedactionConfig, RedactionError, RedactionRule};

use self::body::Bodies;
use self::pairs::{MASK, may_be_url, redact_cookies, redact_url};
use self::repeats::Removed;
use self::rule::{Rules, Verdict};

/// Redactions that an event lists. A body can hold thousands of keys; the list of them must not outgrow the body.
const MAX_LISTED: usize = 256;

/// Takes secrets out of events.
#[derive(Debug)]
pub struct Redactor {
    rules: Rules,
    bodies: Bodies,
    removed: Removed,
}

impl Redactor {
    /// Compiles the rules.
    ///
    /// # Errors
    /// When there are too many rules or one has no name.
    pub fn new(config: RedactionConfig) -> Result<Self, RedactionError> {
        let rules = Rules::new(config)?;
        let bodies = Bodies::new(&rules);
        Ok(Self { rules, bodies, removed: Removed::default() })
    }

    /// Takes out what the rules say, and lists it in the event's `redactions`.
    pub fn redact(&mut self, event: &mut ApiEvent) {
        if !self.rules.choose(event) {
            return;
        }
        let mut log = std::mem::take(&mut event.redactions);
        if let Some(request) = &mut event.request {
            self.message(request, "request", &mut log);
        }
        if let Some(response) = &mut event.response {
            self.message(response, "response", &mut log);
        }
        self.url_field(event.target.as_mut(), "target", &mut log);
        if let Some(http) = &mut event.http {
            self.query_field(http.url_query.as_mut(), "http.url_query", &mut log);
            self.url_field(http.url_path.as_mut(), "http.url_path", &mut log);
            self.url_field(http.host.as_mut(), "http.host", &mut log);
        }
        self.removed.mask_repeats(event);
        event.redactions = log;
    }

    fn message(&mut self, message: &mut Message, half: &str, log: &mut Vec<Redaction>) {
        self.headers(&mut message.headers, half, "headers", log);
        self.headers(&mut message.trailers, half, "trailers", log);
        if let Some(body) = &mut message.body {
            self.bodies.redact(body, half, &mut self.rules, &mut self.removed, log);
        }
    }

    fn headers(&mut self, headers: &mut Vec<Header>, half: &str, section: &str, log: &mut Vec<Redaction>) {
        let mut dropped = false;
        for header in headers.iter_mut() {
            let path = |name: &str| format!("{half}.{section}.{}", name.to_ascii_lowercase());
            let verdict = self.rules.decide(header.name.as_bytes(), || path(&header.name));
            if let Some(verdict) = verdict.filter(|_| !header.value.is_empty()) {
                note(log, path(&header.name), &verdict);
                self.header_value(header, &verdict);
                dropped |= verdict.remove;
            } else if may_be_url(header.value.as_bytes()) {
                let base = || path(&header.name);
                self.header_url(&mut header.value, &base, log);
            }
        }
        if dropped {
            // An empty name marks what is to be dropped; no parser gives one.
            headers.retain(|header| !header.name.is_empty());
        }
    }

    fn header_value(&mut self, header: &mut Header, verdict: &Verdict) {
        let value = header.value.as_bytes();
        let is_cookie = header.name.eq_ignore_ascii_case("cookie");
        let is_set_cookie = header.name.eq_ignore_ascii_case("set-cookie");
        if verdict.remove {
            self.removed.add(value);
            header.name = ByteString::new();
            header.value = ByteString::new();
        } else if is_cookie || is_set_cookie {
            let removed = &mut self.removed;
            let masked = redact_cookies(value, is_set_cookie, |cookie| removed.add(cookie));
            header.value = text_of(masked.unwrap_or_else(|| MASK.into()));
        } else {
            self.removed.add(value);
            header.value = ByteString::from_static(MASK);
        }
    }

    /// `Referer`, `Location` and every other field that carries a reference with a query.
    fn header_url(&mut self, value: &mut ByteString, base: &dyn Fn() -> String, log: &mut Vec<Redaction>) {
        let mut judge = NamedJudge { rules: &mut self.rules, removed: &mut self.removed, base, log };
        if let Some(changed) = redact_url(value.as_bytes(), &mut judge) {
            *value = text_of(changed);
        }
    }

    fn url_field(&mut self, field: Option<&mut ByteString>, base: &str, log: &mut Vec<Redaction>) {
        if let Some(value) = field.filter(|value| may_be_url(value.as_bytes())) {
            self.header_url(value, &|| base.to_owned(), log);
        }
    }

    fn query_field(&mut self, field: Option<&mut ByteString>, base: &str, log: &mut Vec<Redaction>) {
        let Some(value) = field else { return };
        let base = || base.to_owned();
        let mut judge = NamedJudge { rules: &mut self.rules, removed: &mut self.removed, base: &base, log };
        if let Some(changed) = pairs::redact_pairs(value.as_bytes(), &mut judge) {
            *value = text_of(changed);
        }
    }
}

/// Decides about named values at one place, and keeps the books.
struct NamedJudge<'r> {
    rules: &'r mut Rules,
    removed: &'r mut Removed,
    /// Path of the place, without the value's name.
    base: &'r dyn Fn() -> String,
    log: &'r mut Vec<Redaction>,
}

impl pairs::Judge for NamedJudge<'_> {
    fn judge(&mut self, name: &[u8], value: &[u8]) -> Option<Verdict> {
        let base = self.base;
        let path = || format!("{}.{}", base(), String::from_utf8_lossy(name).to_ascii_lowercase());
        let verdict = self.rules.decide(name, path)?;
        self.removed.add(value);
        note(self.log, path(), &verdict);
        Some(verdict)
    }
}

/// Lists a redaction, each place once.
fn note(log: &mut Vec<Redaction>, path: String, verdict: &Verdict) {
    if log.len() < MAX_LISTED && !log.iter().any(|entry| *entry.path == path) {
        log.push(Redaction { path: path.into(), rule: verdict.rule.clone(), action: verdict.action() });
    }
}

/// Text stays text: only whole values between ASCII characters were replaced. Should a value have been cut inside a
/// character all the same, it goes as a whole.
fn text_of(bytes: Vec<u8>) -> ByteString {
    String::from_utf8(bytes).map_or_else(|_| ByteString::from_static(MASK), ByteString::from)
}
