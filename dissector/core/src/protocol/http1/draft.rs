//! Makes the draft of a call out of an exchange: the last step, where bodies are decoded and described.

use bytestring::ByteString;
use wirecall_schemas::{
    Blob, Body, CaptureMethod, Cause, Completeness, Decoding, Http, Message, StatusClass,
};

use super::body::{BodyKeeper, signed};
use super::coding::decode;
use super::exchange::Exchange;
use super::findings::{Findings, Rule};
use super::framing::Framing;
use super::incoming::Incoming;
use super::message::{Known, StartLine};
use super::pairing::{Ready, Why};
use super::{parts, target, trace};
use crate::limits::{Counter, Limits};
use crate::output::{CallDraft, Output};

/// The draft of a call. `cause` is why a half is missing, where the pairing does not know; `ended` is how the
/// connection ended, if it has.
pub(super) fn draft(
    ready: Ready,
    cause: Cause,
    ended: Option<Cause>,
    limits: &Limits,
    output: &mut Output<'_>,
) -> CallDraft {
    let Ready { exchange, why } = ready;
    let completeness = match (&exchange.request, &exchange.response) {
        (Some(_), Some(_)) => Completeness::Matched,
        (Some(_), None) => Completeness::RequestOnly,
        (None, Some(_)) => Completeness::ResponseOnly,
        (None, None) => Completeness::Unknown,
    };
    let cause = match why {
        Why::Ask => cause,
        Why::Gap => Cause::Gap,
        Why::Limit => Cause::Limit,
    };
    let mut draft = CallDraft {
        protocol: ByteString::from_static("http"),
        completeness,
        cause: (completeness != Completeness::Matched).then_some(cause),
        ..CallDraft::default()
    };
    let Exchange { request, response, interim, upgrade, .. } = exchange;
    let mut http = Http {
        interim_status_codes: interim.into_iter().map(i32::from).collect(),
        upgrade,
        ..Http::default()
    };
    let mut findings = Findings::default();
    let mut work = Work { ended, limits, output, findings: &mut findings };
    if let Some(request) = request {
        add_request(*request, &mut draft, &mut http, &mut work);
    }
    if let Some(response) = response {
        add_response(*response, &mut draft, &mut http, &mut work);
    }
    draft.protocol_version = http.request_version.clone().or_else(|| http.response_version.clone());
    draft.http = Some(http);
    draft.findings = findings.into_records().collect();
    draft
}

/// What the making of one draft needs.
struct Work<'w, 'o> {
    ended: Option<Cause>,
    limits: &'w Limits,
    output: &'w mut Output<'o>,
    findings: &'w mut Findings,
}

fn add_request(mut request: Incoming, draft: &mut CallDraft, http: &mut Http, work: &mut Work<'_, '_>) {
    if let Some(line) = request.head.request_line() {
        draft.operation = Some(line.method.clone());
        draft.target.clone_from(&line.target);
        http.request_method = Some(line.method.clone());
        http.request_version.clone_from(&line.version);
        if let Some(sent) = &line.target {
            let target = target::parse(sent, &line.method);
            http.target_form = Some(ByteString::from_static(target.form));
            http.url_scheme = target.scheme.or_else(|| scheme(target.form, work));
            http.host = target.authority;
            http.url_path = target.path;
            http.url_query = target.query;
        }
    }
    if http.host.is_none() {
        http.host.clone_from(&request.head.known.host);
    }
    http.user_agent.clone_from(&request.head.known.user_agent);
    http.request_framing = request.framing.name();
    if request.head.known.has_trace {
        draft.trace = trace::trace_context(&request.head.fields);
    }
    draft.ledger.request_gap_bytes = signed(request.gap_bytes);
    add_ledger(&request, draft);
    work.findings.append(&mut request.head.findings);
    draft.request = Some(message(request, work));
}

/// A target without a scheme has the one of the connection (RFC 9112 section 3.3): `https` where the bytes were
/// captured inside TLS.
fn scheme(form: &str, work: &Work<'_, '_>) -> Option<ByteString> {
    let tls = matches!(work.output.facts().capture_method, CaptureMethod::TlsOpenssl | CaptureMethod::TlsGo);
    (form == "origin" || form == "asterisk")
        .then(|| ByteString::from_static(if tls { "https" } else { "http" }))
}

fn add_response(mut response: Incoming, draft: &mut CallDraft, http: &mut Http, work: &mut Work<'_, '_>) {
    if let Some(line) = response.head.status_line() {
        draft.status = (!line.status.is_empty()).then(|| line.status.clone());
        draft.status_class = line.code.map_or(StatusClass::Unknown, status_class);
        http.response_version = Some(line.version.clone());
        http.response_status_code = line.code.map(i32::from);
        http.reason_phrase.clone_from(&line.reason);
    }
    http.response_framing = response.framing.name();
    draft.ledger.response_gap_bytes = signed(response.gap_bytes);
    add_ledger(&response, draft);
    work.findings.append(&mut response.head.findings);
    draft.response = Some(message(response, work));
}

fn status_class(code: u16) -> StatusClass {
    match code {
        100..=399 => StatusClass::Ok,
        400..=499 => StatusClass::ClientError,
        500..=599 => StatusClass::ServerError,
        _ => StatusClass::Unknown,
    }
}

fn add_ledger(message: &Incoming, draft: &mut CallDraft) {
    draft.ledger.headers_affected |= message.headers_affected;
    draft.ledger.body_affected |= message.body_affected;
    draft.ledger.resynchronised |= message.resynchronised;
    draft.marks.cover_range(message.marks);
}

fn message(incoming: Incoming, work: &mut Work<'_, '_>) -> Message {
    let told = matches!(incoming.framing, Framing::Length(_) | Framing::Chunked);
    let broken_off = matches!(work.ended, Some(Cause::Closed | Cause::Reset));
    if told && !incoming.whole && broken_off && !incoming.body_affected {
        work.findings.add(Rule::IncompleteBody);
    }
    let has_body = told
        || incoming.framing == Framing::Close
        || (incoming.framing == Framing::Unknown && !incoming.body.is_untouched());
    let body = has_body.then(|| body(incoming.body, incoming.whole, &incoming.head.known, work));
    let absent = incoming.head.start == StartLine::Absent;
    debug_assert!(!absent || incoming.head.fields.is_empty());
    Message {
        first_byte_time: incoming.first.map(|mark| mark.time),
        last_byte_time: incoming.last.map(|mark| mark.time),
        wire_bytes: signed(incoming.wire_bytes),
        headers: incoming.head.fields,
        trailers: incoming.trailers,
        body,
    }
}

fn body(keeper: BodyKeeper, ended: bool, known: &Known, work: &mut Work<'_, '_>) -> Body {
    let size = ended.then(|| signed(keeper.position()));
    let damaged = keeper.missing() > 0;
    let (kept, all_kept, holes, holes_unlisted) = keeper.into_parts();
    let truncated = !(ended && all_kept);
    if !all_kept && !damaged {
        work.output.count(Counter::BodiesTruncated, 1);
    }
    if holes_unlisted {
        work.output.count(Counter::ListsLimited, 1);
    }
    let decoded = decode(kept, !truncated, &known.content_encoding, work.limits, work.findings);
    if decoded.decoding == Decoding::Limited {
        work.output.count(Counter::DecodingsLimited, 1);
    }
    let decoded_size = match decoded.decoding {
        Decoding::Decoded => Some(signed(decoded.content.len() as u64)),
        Decoding::Identity if !truncated => size,
        _ => None,
    };
    let content_type = known.content_type.as_deref().unwrap_or_default();
    let media_type = parts::media_type(content_type);
    let described = media_type.as_deref().map_or_else(Vec::new, |media_type| {
        parts::describe(media_type, content_type, &decoded.content, work.limits.body_parts, work.findings)
    });
    if described.len() >= work.limits.body_parts {
        work.output.count(Counter::ListsLimited, 1);
    }
    Body {
        size,
        decoded_size,
        truncated: truncated || decoded.decoding == Decoding::Limited,
        content_encoding: joined(&known.content_encoding),
        decoding: decoded.decoding,
        media_type,
        parts: described,
        holes,
        content: (!decoded.content.is_empty()).then(|| Blob::new(decoded.content)),
    }
}

/// The lines of a field as one value (RFC 9110 section 5.3).
fn joined(lines: &[ByteString]) -> Option<ByteString> {
    match lines {
        [] => None,
        [line] => Some(line.clone()),
        lines => Some(ByteString::from(lines.iter().map(|line| &**line).collect::<Vec<_>>().join(", "))),
    }
}
