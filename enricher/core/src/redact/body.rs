//! Bodies: JSON, forms, multipart; and what to do with those that cannot be read.

use bytes::Bytes;
use wirecall_schemas::{Blob, Body, ByteString, Redaction};

use super::json::{JsonJudge, redact_json};
use super::multipart::redact_multipart;
use super::pairs::redact_pairs;
use super::repeats::Removed;
use super::rule::{Action, Rules, Verdict};
use super::suspicion::Suspicion;
use super::{NamedJudge, note};

/// Name of the built-in rule for bodies that speak of a password and cannot be read.
const UNREADABLE: ByteString = ByteString::from_static("unreadable-body");

/// Redaction of bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    suspicion: Suspicion,
}

/// How a body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Pairs,
    Multipart,
    /// No structure is known.
    Opaque,
}

impl Bodies {
    pub(crate) fn new(rules: &Rules) -> Self {
        Self { suspicion: Suspicion::of(rules) }
    }

    pub(crate) fn redact(
        &self,
        body: &mut Body,
        half: &str,
        rules: &mut Rules,
        removed: &mut Removed,
        log: &mut Vec<Redaction>,
    ) {
        let Some(content) = body.content.as_ref().map(|content| content.as_bytes().clone()) else { return };
        if content.is_empty() {
            return;
        }
        let path = || format!("{half}.body");
        if rules.has_whole_body_rules() {
            match rules.decide_whole(&path()) {
                Some((Some(verdict), _)) => return drop_content(body, path(), &verdict, log),
                Some((None, Action::Include)) => return,
                _ => {}
            }
        }
        let form = form_of(body, &content);
        // Pairs are as quick to read as to search, and escapes hide their names.
        let suspicious = match form {
            Form::Pairs => true,
            Form::Json => self.suspicion.is_raised_by_json(&content),
            Form::Multipart | Form::Opaque => self.suspicion.is_raised_by(&content),
        };
        if !suspicious {
            return;
        }
        let outcome = match form {
            Form::Opaque => return,
            Form::Json => {
                let mut judge = BodyJudge { rules, removed, half, log };
                redact_json(&content, &mut judge).map_err(|_| ())
            }
            Form::Pairs => {
                let mut judge = NamedJudge { rules, removed, base: &path, log };
                Ok(redact_pairs(&content, &mut judge))
            }
            Form::Multipart => {
                let mut judge = NamedJudge { rules, removed, base: &path, log };
                redact_multipart(&content, &mut judge).map_err(|_| ())
            }
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(changed)) => body.content = Some(Blob::new(Bytes::from(changed))),
            Err(()) => drop_content(body, path(), &Verdict { rule: UNREADABLE, remove: true }, log),
        }
    }
}

fn drop_content(body: &mut Body, path: String, verdict: &Verdict, log: &mut Vec<Redaction>) {
    body.content = None;
    note(log, path, &Verdict { rule: verdict.rule.clone(), remove: true });
}

/// By the media type; by the first bytes where it says nothing, because clients leave it out or say `text/plain`.
fn form_of(body: &Body, content: &[u8]) -> Form {
    let media_type = body.media_type.as_deref().unwrap_or_default();
    if media_type.contains("json") {
        return Form::Json;
    }
    if media_type == "application/x-www-form-urlencoded" {
        return Form::Pairs;
    }
    if media_type.starts_with("multipart/") {
        return Form::Multipart;
    }
    match content.trim_ascii_start().first() {
        Some(b'{' | b'[') => Form::Json,
        _ if starts_with_pair(content) && matches!(media_type, "" | "text/plain") => Form::Pairs,
        _ => Form::Opaque,
    }
}

/// `name=`, as a form starts.
fn starts_with_pair(content: &[u8]) -> bool {
    let end = content.iter().position(|byte| {
        !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'%' | b'+' | b'[' | b']'))
    });
    end.is_some_and(|end| end > 0 && content[end] == b'=')
}

/// Decides about keys of a body, and keeps the books.
struct BodyJudge<'r> {
    rules: &'r mut Rules,
    removed: &'r mut Removed,
    half: &'r str,
    log: &'r mut Vec<Redaction>,
}

impl JsonJudge for BodyJudge<'_> {
    fn judge(&mut self, key: &[u8], path: &dyn Fn() -> String) -> Option<Verdict> {
        let half = self.half;
        let path = || format!("{half}.body.{}", path());
        let verdict = self.rules.decide(key, path)?;
        note(self.log, path(), &verdict);
        Some(verdict)
    }

    fn gone(&mut self, value: &[u8]) {
        self.removed.add(value);
    }
}
