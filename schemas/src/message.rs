//! Messages: the two halves of a call.

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use crate::positional::positional;
use crate::{Blob, Timestamp};

/// One protocol message: a request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Message {
    /// Capture time of the packet with the first byte; none when not seen.
    pub first_byte_time: Option<Timestamp>,
    /// Capture time of the packet with the last byte; none when not seen.
    pub last_byte_time: Option<Timestamp>,
    /// Bytes seen on the wire for this message, framing included.
    pub wire_bytes: i64,
    /// Header fields in the order sent.
    pub headers: Vec<Header>,
    /// Trailer fields in the order sent.
    pub trailers: Vec<Header>,
    /// The body; none when the message has none.
    pub body: Option<Body>,
}

positional!(Message { first_byte_time, last_byte_time, wire_bytes, headers, trailers, body });

impl Message {
    /// Value of the first header field with this name, compared without case.
    pub fn header(&self, name: &str) -> Option<&ByteString> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| &header.value)
    }
}

/// One header field.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// Field name as sent.
    pub name: ByteString,
    /// Field value as sent, without surrounding white space; bytes that are not UTF-8 are read as ISO 8859-1.
    pub value: ByteString,
}

positional!(Header { name, value });

/// A message body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Body {
    /// The kept bytes, with the content coding undone where `decoding` says so; none when none were kept.
    pub content: Option<Blob>,
    /// Size in bytes after the transfer coding and before the content coding is undone; none when the end was not seen.
    pub size: Option<i64>,
    /// Size in bytes of the decoded content; none when it was not decoded whole.
    pub decoded_size: Option<i64>,
    /// True when `content` holds less than the whole body.
    pub truncated: bool,
    /// Content-Encoding as sent.
    pub content_encoding: Option<ByteString>,
    /// What became of the content coding.
    pub decoding: Decoding,
    /// Media type, lower case, without parameters.
    pub media_type: Option<ByteString>,
    /// Parts of a multipart body or fields of a form, without their values.
    pub parts: Vec<BodyPart>,
    /// Bytes that are missing.
    pub holes: Vec<Hole>,
}

positional!(Body {
    content,
    size,
    decoded_size,
    truncated,
    content_encoding,
    decoding,
    media_type,
    parts,
    holes,
});

/// One part of a multipart body or one field of a form.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BodyPart {
    /// Field name.
    pub name: Option<ByteString>,
    /// File name, where the part is a file.
    pub filename: Option<ByteString>,
    /// Media type of the part.
    pub media_type: Option<ByteString>,
    /// Size of the part's value in bytes.
    pub size: i64,
}

positional!(BodyPart { name, filename, media_type, size });

/// Bytes missing from a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Hole {
    /// Offset in the body as transferred, counted with earlier holes.
    pub offset: i64,
    /// Missing bytes.
    pub length: i64,
}

positional!(Hole { offset, length });

/// What became of a content coding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoding {
    /// Not known.
    #[default]
    Unknown,
    /// None was applied.
    Identity,
    /// It was undone.
    Decoded,
    /// It was undone up to a limit on output or ratio.
    Limited,
    /// The data was damaged or cut; `content` holds what could be decoded, else the bytes as transferred.
    Failed,
    /// The coding is not supported; `content` holds the bytes as transferred.
    Unsupported,
}
