//! Names of common fields as static text: a slice of the head costs two atomic operations, a static costs none, and
//! half of all slices would be names. Only the exact spelling counts, since names are kept as sent.

use bytestring::ByteString;

macro_rules! names {
    ($($name:literal)*) => {
        /// The static text of a common name; none for others.
        pub(super) fn common(name: &str) -> Option<ByteString> {
            match name {
                $($name => Some(ByteString::from_static($name)),)*
                _ => None,
            }
        }
    };
}

names! {
    "Accept" "Accept-Encoding" "Accept-Language" "Accept-Ranges" "Age" "Authorization" "Cache-Control" "Connection"
    "Content-Encoding" "Content-Length" "Content-Type" "Cookie" "Date" "ETag" "Expires" "Host" "Keep-Alive"
    "Last-Modified" "Location" "Origin" "Pragma" "Referer" "Server" "Set-Cookie" "Transfer-Encoding" "User-Agent"
    "Vary" "Via" "X-Forwarded-For" "X-Forwarded-Proto" "X-Request-Id" "X-Request-ID" "X-Powered-By" "traceparent"
    "tracestate" "accept" "accept-encoding" "authorization" "cache-control" "connection" "content-length"
    "content-type" "cookie" "date" "host" "server" "user-agent" "transfer-encoding" "x-request-id"
    "x-forwarded-for" "x-forwarded-proto"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_spelling_is_common() {
        assert_eq!(common("Host").as_deref(), Some("Host"));
        assert_eq!(common("host").as_deref(), Some("host"));
        assert_eq!(common("HOST"), None);
        assert_eq!(common(""), None);
    }
}
