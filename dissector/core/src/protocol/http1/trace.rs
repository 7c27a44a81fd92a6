//! Trace context that a request carries: W3C `traceparent` and `tracestate`, B3 in one header or in several.

use bytestring::ByteString;
use wirecall_schemas::{Header, TraceContext};

/// The trace context in the fields; W3C before B3 when both are there. A malformed one is none.
pub(super) fn trace_context(fields: &[Header]) -> Option<TraceContext> {
    let field = |name: &str| {
        fields.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| &header.value)
    };
    field("traceparent")
        .and_then(|parent| w3c(parent, field("tracestate")))
        .or_else(|| field("b3").and_then(b3_single))
        .or_else(|| {
            let sampled = field("x-b3-sampled").map(|value| &**value);
            let debug = field("x-b3-flags").is_some_and(|flags| flags == "1");
            let sampling = if debug { Some("d") } else { sampled };
            let trace_id = field("x-b3-traceid")?;
            let span_id = field("x-b3-spanid").map(|value| (value, &**value));
            b3((trace_id, &**trace_id), span_id, sampling)
        })
}

/// `version-trace id-parent id-flags` (W3C Trace Context section 3.2). Later versions may append fields.
fn w3c(parent: &ByteString, state: Option<&ByteString>) -> Option<TraceContext> {
    let mut fields = parent.split('-');
    let version = hex_field(parent, fields.next()?, &[2])?;
    let trace_id = hex_field(parent, fields.next()?, &[32])?;
    let span_id = hex_field(parent, fields.next()?, &[16])?;
    let flags = i32::from_str_radix(&hex_field(parent, fields.next()?, &[2])?, 16).ok()?;
    let more = fields.next().is_some();
    if version == "ff" || (version == "00" && more) || is_zero(&trace_id) || is_zero(&span_id) {
        return None;
    }
    Some(TraceContext {
        format: ByteString::from_static("w3c"),
        trace_id,
        span_id: Some(span_id),
        flags: Some(flags),
        state: state.cloned(),
    })
}

/// `trace id-span id-sampling-parent span id`, the last two optional; a bare sampling decision names no trace.
fn b3_single(value: &ByteString) -> Option<TraceContext> {
    let mut fields = value.split('-');
    b3((value, fields.next()?), Some((value, fields.next()?)), fields.next())
}

/// Ids come with the value they are a part of.
fn b3(
    trace_id: (&ByteString, &str),
    span_id: Option<(&ByteString, &str)>,
    sampling: Option<&str>,
) -> Option<TraceContext> {
    let trace_id = hex_field(trace_id.0, trace_id.1, &[16, 32])?;
    if is_zero(&trace_id) {
        return None;
    }
    let span_id = match span_id {
        Some((value, span_id)) => Some(hex_field(value, span_id, &[16])?),
        None => None,
    };
    // Debug implies that the trace is sampled.
    let flags = match sampling {
        Some("1" | "d" | "true") => Some(1),
        Some("0" | "false") => Some(0),
        _ => None,
    };
    Some(TraceContext { format: ByteString::from_static("b3"), trace_id, span_id, flags, state: None })
}

/// Lower-case hex digits of one of the lengths; a slice of `whole` where they are lower case already.
fn hex_field(whole: &ByteString, text: &str, lengths: &[usize]) -> Option<ByteString> {
    if !lengths.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(ByteString::from(text.to_ascii_lowercase()));
    }
    Some(whole.slice_ref(text))
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn trace(fields: &[(&'static str, &str)]) -> Option<TraceContext> {
        let headers: Vec<_> = fields
            .iter()
            .map(|(name, value)| Header {
                name: ByteString::from_static(name),
                value: ByteString::from(*value),
            })
            .collect();
        trace_context(&headers)
    }

    fn context(format: &'static str, span_id: Option<&str>, flags: Option<i32>) -> TraceContext {
        TraceContext {
            format: ByteString::from_static(format),
            trace_id: ByteString::from(TRACE),
            span_id: span_id.map(ByteString::from),
            flags,
            state: None,
        }
    }

    #[test]
    fn w3c_with_its_state() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let expected =
            TraceContext { state: Some(ByteString::from("a=b")), ..context("w3c", Some(SPAN), Some(1)) };
        assert_eq!(trace(&[("Traceparent", &parent), ("tracestate", "a=b")]), Some(expected));
    }

    #[test]
    fn later_versions_of_w3c_may_append_fields() {
        let parent = format!("01-{TRACE}-{SPAN}-00-more");
        assert_eq!(trace(&[("traceparent", &parent)]), Some(context("w3c", Some(SPAN), Some(0))));
    }

    #[test]
    fn malformed_w3c_is_no_context() {
        let zero_trace = format!("00-{}-{SPAN}-01", "0".repeat(32));
        let zero_span = format!("00-{TRACE}-{}-01", "0".repeat(16));
        let version_ff = format!("ff-{TRACE}-{SPAN}-01");
        let too_long = format!("00-{TRACE}-{SPAN}-01-x");
        for parent in ["", "00", "00-x-y-01", &zero_trace, &zero_span, &version_ff, &too_long] {
            assert_eq!(trace(&[("traceparent", parent)]), None, "{parent}");
        }
    }

    #[test]
    fn b3_in_one_header() {
        let full = format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90");
        assert_eq!(trace(&[("b3", &full)]), Some(context("b3", Some(SPAN), Some(1))));
        let debug = format!("{TRACE}-{SPAN}-d");
        assert_eq!(trace(&[("b3", &debug)]), Some(context("b3", Some(SPAN), Some(1))));
        assert_eq!(trace(&[("b3", &format!("{TRACE}-{SPAN}"))]), Some(context("b3", Some(SPAN), None)));
        assert_eq!(trace(&[("b3", "0")]), None);
    }

    #[test]
    fn b3_in_several_headers() {
        let upper = TRACE.to_ascii_uppercase();
        let fields = [("X-B3-TraceId", &*upper), ("X-B3-SpanId", SPAN), ("X-B3-Sampled", "0")];
        assert_eq!(trace(&fields), Some(context("b3", Some(SPAN), Some(0))));
        let debug = [("X-B3-TraceId", TRACE), ("X-B3-Flags", "1")];
        assert_eq!(trace(&debug), Some(context("b3", None, Some(1))));
    }

    #[test]
    fn a_broken_w3c_header_leaves_b3_standing() {
        let b3 = format!("{TRACE}-{SPAN}-0");
        assert_eq!(
            trace(&[("traceparent", "broken"), ("b3", &b3)]),
            Some(context("b3", Some(SPAN), Some(0)))
        );
    }
}
