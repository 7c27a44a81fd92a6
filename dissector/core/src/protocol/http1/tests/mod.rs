//! Whole conversations through the dissector.

use wirecall_schemas::{Call, Completeness};

use super::Http1;
use crate::Registry;
use crate::protocol::conformance::{Sample, Suite};

#[test]
fn conforms() {
    let registry = Registry::empty().with(Http1);
    let samples = [Sample::tcp(
        "keep-alive",
        80,
        &[
            b">GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
            b"<HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b">POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
            b"<HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nworld\r\n0\r\n\r\n",
            b">DELETE /c HTTP/1.1\r\nHost: h\r\n\r\n",
            b"<HTTP/1.1 204 No Content\r\n\r\n",
        ],
    )];
    let calls = Suite { registry: &registry, tells_sides: true }.run(&samples);
    let matched = Completeness::Matched;
    assert_eq!(
        calls[0].iter().map(brief).collect::<Vec<_>>(),
        [
            ("GET /a 200".to_owned(), matched),
            ("POST /b 404".to_owned(), matched),
            ("DELETE /c 204".to_owned(), matched)
        ]
    );
}

fn brief(call: &Call) -> (String, Completeness) {
    let text = |part: &Option<bytestring::ByteString>| part.as_deref().unwrap_or("-").to_owned();
    (format!("{} {} {}", text(&call.operation), text(&call.target), text(&call.status)), call.completeness)
}
