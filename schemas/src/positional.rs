//! Serialisation by position for Avro, by name for JSON.
//!
//! The Avro library looks each field of a struct up by its name and keeps the ones that come out of order; for a tuple
//! struct it takes the fields as they come. The types of this crate have their schemas' order, which the golden tests
//! hold, so they go the short way: an API event costs less than half.

/// Implements `Serialize` for a record. Fields in the order of the schema; `field via Wrapper` writes
/// `Wrapper(&self.field)` where the field's own form is not the schema's.
macro_rules! positional {
    ($record:ident { $($field:ident $(via $wrapper:path)?),+ $(,)? }) => {
        impl serde::Serialize for $record {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                const FIELDS: usize = [$(stringify!($field)),+].len();
                if serializer.is_human_readable() {
                    use serde::ser::SerializeStruct as _;
                    let mut record = serializer.serialize_struct(stringify!($record), FIELDS)?;
                    $(record.serialize_field(stringify!($field), &$crate::positional::positional!(@value self $field $($wrapper)?))?;)+
                    record.end()
                } else {
                    use serde::ser::SerializeTupleStruct as _;
                    let mut record = serializer.serialize_tuple_struct(stringify!($record), FIELDS)?;
                    $(record.serialize_field(&$crate::positional::positional!(@value self $field $($wrapper)?))?;)+
                    record.end()
                }
            }
        }
    };
    (@value $self:ident $field:ident) => { $self.$field };
    (@value $self:ident $field:ident $wrapper:path) => { $wrapper(&$self.$field) };
}

pub(crate) use positional;
