//! The one message of echo: a line.

use bytestring::ByteString;
use wirecall_schemas::Message;

use crate::output::MarkRange;

/// A line, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its text; bytes that are not UTF-8 are replaced.
    pub text: ByteString,
    /// Its times and size.
    pub message: Message,
    /// Where its bytes lie.
    pub marks: MarkRange,
    /// It is the first one after a gap or a late start.
    pub resynchronised: bool,
    /// Bytes that were missing before it.
    pub missing_before: u64,
}
