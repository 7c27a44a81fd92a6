//! Parts of multipart bodies by their field name (RFC 7578).

use memchr::memmem;

use super::pairs::{Judge, MASK, Rewrite};

/// Parts that are looked at. More is an attack on whoever reads them; the rest then counts as unreadable.
const MAX_PARTS: usize = 1000;

/// The body is not what its media type says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotMultipart;

/// Redacts parts; none when nothing is to be redacted. A part that goes keeps its headers.
pub(crate) fn redact_multipart(text: &[u8], judge: &mut impl Judge) -> Result<Option<Vec<u8>>, NotMultipart> {
    // The boundary is a parameter of the media type, which a body alone does not have; but the body starts with it.
    let first_line = memmem::find(text, b"\r\n").ok_or(NotMultipart)?;
    let delimiter = &text[..first_line];
    if !delimiter.starts_with(b"--") || delimiter.len() < 3 {
        return Err(NotMultipart);
    }
    let next_delimiter = [b"\r\n", delimiter].concat();
    let finder = memmem::Finder::new(&next_delimiter);
    let mut rewrite = Rewrite::new(text);
    let mut at = first_line;
    for _ in 0..MAX_PARTS {
        let Some(headers) = memmem::find(&text[at..], b"\r\n\r\n") else { return Ok(rewrite.finish()) };
        let (headers, start) = (&text[at..at + headers], at + headers + 4);
        let end = finder.find(&text[start..]).map_or(text.len(), |length| start + length);
        if let Some(name) = field_name(headers).filter(|_| start < end)
            && judge.judge(name, &text[start..end]).is_some()
        {
            rewrite.replace(start, end, MASK.as_bytes());
        }
        at = end + next_delimiter.len();
        if at >= text.len() {
            return Ok(rewrite.finish());
        }
    }
    Err(NotMultipart)
}

/// The `name` parameter of `Content-Disposition`, not to be taken for `filename`.
fn field_name(headers: &[u8]) -> Option<&[u8]> {
    let place = memmem::find_iter(headers, b"name=")
        .find(|place| *place > 0 && matches!(headers[place - 1], b' ' | b';' | b'\t'))?;
    let value = &headers[place + 5..];
    match value.strip_prefix(b"\"") {
        Some(quoted) => quoted.get(..memchr::memchr(b'"', quoted)?),
        None => {
            let end =
                value.iter().position(|byte| matches!(byte, b';' | b'\r' | b' ')).unwrap_or(value.len());
            value.get(..end)
        }
    }
}
