//! What a connection changes to after 101 Switching Protocols or a successful CONNECT.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use bytestring::ByteString;
use wirecall_schemas::Header;

/// Anything may come after CONNECT.
pub(super) const TUNNEL: ByteString = ByteString::from_static("tunnel");

/// The protocol of an Upgrade field: the first, lower case, without version (RFC 9110 section 7.8).
pub(super) fn protocol(upgrade: &ByteString) -> ByteString {
    let first = upgrade.split(',').next().unwrap_or_default();
    let name = first.split('/').next().unwrap_or_default().trim_matches([' ', '\t']);
    if name.is_empty() { TUNNEL } else { ByteString::from(name.to_ascii_lowercase()) }
}

/// The payload of the SETTINGS frame that an h2c request carries (RFC 7540 section 3.2.1); empty when there is none.
pub(super) fn h2c_settings(fields: &[Header]) -> Bytes {
    fields
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("http2-settings"))
        .and_then(|header| URL_SAFE_NO_PAD.decode(header.value.trim_end_matches('=')).ok())
        .map_or_else(Bytes::new, Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_protocol_counts() {
        for (field, name) in [
            ("websocket", "websocket"),
            ("WebSocket", "websocket"),
            ("h2c", "h2c"),
            ("TLS/1.0, HTTP/1.1", "tls"),
            ("", "tunnel"),
        ] {
            assert_eq!(protocol(&ByteString::from_static(field)), name);
        }
    }

    #[test]
    fn settings_are_base64url() {
        let field = |value: &'static str| Header {
            name: ByteString::from_static("HTTP2-Settings"),
            value: ByteString::from_static(value),
        };
        assert_eq!(h2c_settings(&[field("AAMAAABk")]), Bytes::from_static(&[0, 3, 0, 0, 0, 100]));
        assert!(h2c_settings(&[field("*")]).is_empty());
        assert!(h2c_settings(&[]).is_empty());
    }
}
