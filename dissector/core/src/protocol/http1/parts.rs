//! Describes multipart bodies and forms: names, file names, media types and sizes, never values.

use bytestring::ByteString;
use memchr::memchr;
use memchr::memmem::Finder;
use wirecall_schemas::BodyPart;

use super::findings::{Findings, Rule};
use super::head::is_empty_line;
use super::message::{is_blank, trim_blanks};

/// Longest boundary (RFC 2046 section 5.1.1).
const BOUNDARY_BYTES: usize = 70;

/// The media type of a Content-Type value: lower case, without parameters; none when it is empty.
pub(super) fn media_type(content_type: &str) -> Option<ByteString> {
    let end = content_type.find(';').unwrap_or(content_type.len());
    let name = content_type[..end].trim_matches([' ', '\t']);
    (!name.is_empty()).then(|| ByteString::from(name.to_ascii_lowercase()))
}

/// Describes the content when its type has parts.
pub(super) fn describe(
    media_type: &str,
    content_type: &str,
    content: &[u8],
    limit: usize,
    findings: &mut Findings,
) -> Vec<BodyPart> {
    let mut parts: Vec<BodyPart> = Vec::new();
    let mut add = |part: BodyPart| {
        let room = parts.len() < limit;
        if room {
            parts.push(part);
        } else {
            findings.add(Rule::TooManyParts);
        }
        room
    };
    if media_type == "application/x-www-form-urlencoded" {
        fields_of_form(content, &mut add);
    } else if media_type.starts_with("multipart/")
        && let Some(boundary) = parameter(content_type.as_bytes(), b"boundary")
        && (1..=BOUNDARY_BYTES).contains(&boundary.len())
    {
        parts_of_multipart(&boundary, content, &mut add);
    }
    parts
}

/// `name=value` pairs (WHATWG URL, application/x-www-form-urlencoded parsing).
fn fields_of_form(content: &[u8], add: &mut impl FnMut(BodyPart) -> bool) {
    for pair in content.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let equals = memchr(b'=', pair).unwrap_or(pair.len());
        let name = percent_decode(&pair[..equals], true);
        let size = percent_decode(pair.get(equals + 1..).unwrap_or_default(), true).len();
        if !add(part(Some(text(&name)), None, None, size)) {
            return;
        }
    }
}

/// The parts between the delimiter lines of a multipart body (RFC 2046 section 5.1).
fn parts_of_multipart(boundary: &[u8], content: &[u8], add: &mut impl FnMut(BodyPart) -> bool) {
    let delimiter = [b"--", boundary].concat();
    let finder = Finder::new(&delimiter);
    let mut start = None;
    for found in finder.find_iter(content) {
        let after = &content[found + delimiter.len()..];
        let last = after.starts_with(b"--");
        let line_end = memchr(b'\n', after).unwrap_or(after.len());
        let blank = after[..line_end].trim_ascii_end().iter().all(|&byte| is_blank(byte));
        let at_line_start = found == 0 || content[found - 1] == b'\n';
        if !at_line_start || !(last || blank) {
            continue;
        }
        if let Some(start) = start.take()
            && !add(multipart_part(&content[start..strip_line_end(content, found).max(start)]))
        {
            return;
        }
        if last {
            return;
        }
        start = Some(found + delimiter.len() + line_end + 1);
    }
    // The kept body ends inside this part: its size is what is there of it.
    if let Some(start) = start.filter(|&start| start < content.len()) {
        add(multipart_part(&content[start..]));
    }
}

/// The line end before a delimiter belongs to the delimiter.
fn strip_line_end(content: &[u8], end: usize) -> usize {
    match &content[..end] {
        [.., b'\r', b'\n'] => end - 2,
        [.., b'\n'] => end - 1,
        _ => end,
    }
}

fn multipart_part(bytes: &[u8]) -> BodyPart {
    let (mut name, mut filename, mut media) = (None, None, None);
    let mut rest = bytes;
    while let Some(line_end) = memchr(b'\n', rest) {
        let line = &rest[..line_end];
        rest = &rest[line_end + 1..];
        if is_empty_line(line) {
            return part(name, filename, media, rest.len());
        }
        let Some(colon) = memchr(b':', line) else { continue };
        let value = trim_blanks(line[colon + 1..].trim_ascii_end());
        let field = trim_blanks(&line[..colon]);
        if field.eq_ignore_ascii_case(b"content-disposition") {
            name = parameter(value, b"name").map(|value| text(&value));
            filename = extended_parameter(value, b"filename*")
                .or_else(|| parameter(value, b"filename").map(|value| text(&value)));
        } else if field.eq_ignore_ascii_case(b"content-type") {
            media = media_type(&String::from_utf8_lossy(value));
        }
    }
    part(name, filename, media, 0)
}

fn part(
    name: Option<ByteString>,
    filename: Option<ByteString>,
    media_type: Option<ByteString>,
    size: usize,
) -> BodyPart {
    BodyPart { name, filename, media_type, size: i64::try_from(size).unwrap_or(i64::MAX) }
}

/// Value of a parameter (RFC 9110 section 5.6.6), unquoted.
fn parameter(value: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let mut rest = &value[memchr(b';', value)?..];
    while let Some((b';', after)) = rest.split_first() {
        let after = trim_blanks(after);
        let end = after.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(after.len());
        let name = trim_blanks(&after[..end]);
        let (value, next) = match after.get(end) {
            Some(b'=') => parameter_value(trim_blanks(&after[end + 1..])),
            _ => (Vec::new(), &after[end..]),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = &next[memchr(b';', next)?..];
    }
    None
}

/// A parameter's value and what follows it.
fn parameter_value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = memchr(b';', text).unwrap_or(text.len());
        return (trim_blanks(&text[..end]).to_vec(), &text[end..]);
    };
    let mut value = Vec::new();
    let mut index = 0;
    while let Some(&byte) = quoted.get(index) {
        match byte {
            b'"' => return (value, &quoted[index + 1..]),
            // Browsers do not escape with a backslash but for the quote: a Windows path keeps its separators.
            b'\\' if matches!(quoted.get(index + 1), Some(b'"' | b'\\')) => {
                value.push(quoted[index + 1]);
                index += 1;
            }
            _ => value.push(byte),
        }
        index += 1;
    }
    (value, &[])
}

/// Value of an extended parameter, `charset'language'percent-encoded` (RFC 8187 section 3.2).
fn extended_parameter(value: &[u8], wanted: &[u8]) -> Option<ByteString> {
    let value = parameter(value, wanted)?;
    let mut fields = value.splitn(3, |&byte| byte == b'\'');
    let encoded = fields.nth(2)?;
    Some(text(&percent_decode(encoded, false)))
}

fn percent_decode(bytes: &[u8], plus_is_space: bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match (byte, after) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = tail;
                hex(*high) << 4 | hex(*low)
            }
            (b'+', _) if plus_is_space => b' ',
            _ => byte,
        });
    }
    decoded
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// UTF-8 where it is that, else ISO 8859-1, as header values are read.
fn text(bytes: &[u8]) -> ByteString {
    match std::str::from_utf8(bytes) {
        Ok(text) => ByteString::from(text),
        Err(_) => ByteString::from(bytes.iter().map(|&byte| char::from(byte)).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(content_type: &str, content: &[u8]) -> Vec<(String, String, String, i64)> {
        let media_type = media_type(content_type).unwrap();
        describe(&media_type, content_type, content, 8, &mut Findings::default())
            .into_iter()
            .map(|part| {
                let text = |value: Option<ByteString>| value.map_or("-".into(), |value| value.to_string());
                (text(part.name), text(part.filename), text(part.media_type), part.size)
            })
            .collect()
    }

    fn row(name: &str, filename: &str, media_type: &str, size: i64) -> (String, String, String, i64) {
        (name.into(), filename.into(), media_type.into(), size)
    }

    #[test]
    fn media_type_is_lower_case_and_bare() {
        assert_eq!(media_type("Text/HTML; charset=utf-8").as_deref(), Some("text/html"));
        assert_eq!(media_type(" ; charset=utf-8"), None);
    }

    #[test]
    fn form_fields_without_values() {
        let form = parts("application/x-www-form-urlencoded", b"a=1&b+c=%20x&&d&p%C3%A9=&%ff=1");
        let expected = [
            row("a", "-", "-", 1),
            row("b c", "-", "-", 2),
            row("d", "-", "-", 0),
            row("p\u{e9}", "-", "-", 0),
            row("\u{ff}", "-", "-", 1),
        ];
        assert_eq!(form, expected);
    }

    #[test]
    fn multipart_parts() {
        let body = b"preamble\r\n--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhello\r\n\
            --xx\r\ncontent-disposition: form-data; name=\"f\"; filename=\"C:\\dir\\\"q\\\".txt\"\r\n\
            Content-Type: Text/Plain; charset=x\r\n\r\nline\r\n--xxnot\r\n--xx--\r\nepilogue";
        let found = parts("multipart/form-data; boundary=\"xx\"", body);
        let file = row("f", "C:\\dir\"q\".txt", "text/plain", "line\r\n--xxnot".len() as i64);
        assert_eq!(found, [row("a", "-", "-", 5), file]);
    }

    #[test]
    fn multipart_with_bare_line_feeds_and_no_end() {
        let body = b"--b\nContent-Disposition: form-data; name=x; filename*=UTF-8''na%C3%AFve.txt\n\nabc";
        assert_eq!(parts("multipart/mixed; a=b; boundary=b", body), [row("x", "na\u{ef}ve.txt", "-", 3)]);
    }

    #[test]
    fn a_part_without_end_of_its_head_has_no_size() {
        assert_eq!(
            parts("multipart/mixed; boundary=b", b"--b\r\nContent-Type: a/b"),
            [row("-", "-", "-", 0)]
        );
    }

    #[test]
    fn multipart_without_usable_boundary_is_not_described() {
        let long = format!("multipart/mixed; boundary={}", "b".repeat(71));
        for content_type in
            ["multipart/mixed", "multipart/mixed; boundary", "multipart/mixed; boundary=", &long]
        {
            assert_eq!(parts(content_type, b"--\r\n\r\nx"), [], "{content_type}");
        }
    }

    #[test]
    fn too_many_parts_are_a_finding() {
        let mut findings = Findings::default();
        let media_type = "application/x-www-form-urlencoded";
        let found = describe(media_type, media_type, b"a&b&c", 2, &mut findings);
        assert_eq!(found.len(), 2);
        assert!(findings.has(Rule::TooManyParts));
    }
}
