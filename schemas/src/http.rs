//! HTTP fields of a call.

use bytestring::ByteString;
use serde::Deserialize;

use crate::positional::positional;

/// HTTP fields, named after the OpenTelemetry semantic conventions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Http {
    /// `http.request.method`: the method as sent.
    pub request_method: Option<ByteString>,
    /// Version in the request line, for example `1.1`.
    pub request_version: Option<ByteString>,
    /// Form of the request target (RFC 9112 section 3.2): origin, absolute, authority, asterisk or other.
    pub target_form: Option<ByteString>,
    /// `url.scheme`.
    pub url_scheme: Option<ByteString>,
    /// Authority of the target, else the Host field.
    pub host: Option<ByteString>,
    /// `url.path`.
    pub url_path: Option<ByteString>,
    /// `url.query`, without the question mark.
    pub url_query: Option<ByteString>,
    /// `user_agent.original`.
    pub user_agent: Option<ByteString>,
    /// Version in the status line.
    pub response_version: Option<ByteString>,
    /// `http.response.status_code`.
    pub response_status_code: Option<i32>,
    /// Reason phrase as sent.
    pub reason_phrase: Option<ByteString>,
    /// How the end of the request body was told: none, content_length, chunked, close or tunnel.
    pub request_framing: Option<ByteString>,
    /// How the end of the response body was told.
    pub response_framing: Option<ByteString>,
    /// 1xx responses that came before the final one.
    pub interim_status_codes: Vec<i32>,
    /// Protocol the connection changed to after this call.
    pub upgrade: Option<ByteString>,
}

positional!(Http {
    request_method,
    request_version,
    target_form,
    url_scheme,
    host,
    url_path,
    url_query,
    user_agent,
    response_version,
    response_status_code,
    reason_phrase,
    request_framing,
    response_framing,
    interim_status_codes,
    upgrade,
});
