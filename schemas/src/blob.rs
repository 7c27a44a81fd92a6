//! Bytes that are binary in Avro and still readable in JSON.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Kept bytes of a body. Avro: `bytes`. JSON: `{"text": "…"}` when they are UTF-8, else `{"base64": "…"}`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Blob(Bytes);

impl Blob {
    /// Wraps bytes without copying them.
    pub const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, given up.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Blob({:?})", self.0)
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        match std::str::from_utf8(&self.0) {
            Ok(text) => map.serialize_entry("text", text)?,
            Err(_) => map.serialize_entry("base64", &STANDARD.encode(&self.0))?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_map(ReadableVisitor)
        } else {
            serde_bytes::ByteBuf::deserialize(deserializer).map(|bytes| Self(Bytes::from(bytes.into_vec())))
        }
    }
}

struct ReadableVisitor;

impl<'de> de::Visitor<'de> for ReadableVisitor {
    type Value = Blob;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with one key, text or base64")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Blob, A::Error> {
        let (key, value): (String, String) =
            map.next_entry()?.ok_or_else(|| de::Error::missing_field("text"))?;
        match key.as_str() {
            "text" => Ok(Blob(Bytes::from(value))),
            "base64" => {
                STANDARD.decode(&value).map(|bytes| Blob(Bytes::from(bytes))).map_err(de::Error::custom)
            }
            other => Err(de::Error::unknown_field(other, &["text", "base64"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_text_where_it_can_be_and_base64_where_not() {
        for (bytes, json) in [
            (&b"hello \"you\""[..], r#"{"text":"hello \"you\""}"#),
            (&[0xff, 0x00][..], r#"{"base64":"/wA="}"#),
        ] {
            let blob = Blob::new(Bytes::copy_from_slice(bytes));
            assert_eq!(serde_json::to_string(&blob).unwrap(), json);
            assert_eq!(serde_json::from_str::<Blob>(json).unwrap(), blob);
        }
    }
}
