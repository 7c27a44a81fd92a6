use super::*;

fn head(text: &[u8], side: Side) -> Option<Head> {
    parse_head(text, side, &Limits::default())
}

fn request(text: &str) -> Head {
    head(text.as_bytes(), Side::Request).unwrap()
}

fn line(text: &str) -> Option<(String, Option<String>, Option<String>)> {
    let head = head(format!("{text}\r\n\r\n").as_bytes(), Side::Request)?;
    let line = head.request_line().unwrap();
    let word = |word: &Option<ByteString>| word.as_ref().map(ToString::to_string);
    Some((line.method.to_string(), word(&line.target), word(&line.version)))
}

fn words(
    method: &str,
    target: Option<&str>,
    version: Option<&str>,
) -> (String, Option<String>, Option<String>) {
    (method.into(), target.map(Into::into), version.map(Into::into))
}

#[test]
fn request_lines() {
    assert_eq!(line("GET / HTTP/1.1"), Some(words("GET", Some("/"), Some("1.1"))));
    assert_eq!(line("get  /a b\tHTTP/1.0 "), Some(words("get", Some("/a b"), Some("1.0"))));
    assert_eq!(line("GET /"), Some(words("GET", Some("/"), None)));
    assert_eq!(line("GET HTTP/1.1"), Some(words("GET", None, Some("1.1"))));
    assert_eq!(line("GET / http/2.0"), Some(words("GET", Some("/"), Some("2.0"))));
    for text in ["GET", "G\x01T / HTTP/1.1", "a sentence in prose", "HTTP/1.1 200 OK", "\u{e9} / HTTP/1.1"] {
        assert_eq!(line(text), None, "{text}");
    }
}

#[test]
fn status_lines() {
    let status = |text: &str| {
        let head = head(format!("{text}\r\n\r\n").as_bytes(), Side::Response)?;
        let line = head.status_line().unwrap().clone();
        Some((
            line.version.to_string(),
            line.status.to_string(),
            line.code,
            line.reason.map(|text| text.to_string()),
        ))
    };
    let line = |version: &str, status: &str, code, reason: Option<&str>| {
        Some((version.to_owned(), status.to_owned(), code, reason.map(ToOwned::to_owned)))
    };
    assert_eq!(status("HTTP/1.1 200 OK"), line("1.1", "200", Some(200), Some("OK")));
    assert_eq!(status("HTTP/1.0 404"), line("1.0", "404", Some(404), None));
    assert_eq!(status("HTTP/1.1 999 "), line("1.1", "999", Some(999), None));
    assert_eq!(status("HTTP/1.1   2000 Big"), line("1.1", "2000", None, Some("Big")));
    assert_eq!(status("http/1.1 200 Not Found"), line("1.1", "200", Some(200), Some("Not Found")));
    assert_eq!(status("HTTP/1.1"), line("1.1", "", None, None));
    for text in ["ICY 200 OK", "HTTQ/1.1 200 OK", "", "GET / HTTP/1.1"] {
        assert_eq!(status(text), None, "{text}");
    }
}

#[test]
fn fields_are_slices_of_one_copy() {
    let head = request("GET / HTTP/1.1\r\nHost: h\r\nA:b\r\nEmpty:\r\nBlank: \t \r\nA:  c \r\n\r\n");
    let fields: Vec<_> = head.fields.iter().map(|header| (&*header.name, &*header.value)).collect();
    assert_eq!(fields, [("Host", "h"), ("A", "b"), ("Empty", ""), ("Blank", ""), ("A", "c")]);
    let line = head.request_line().unwrap();
    let start = line.method.as_ptr() as usize;
    let inside = |text: &ByteString| (text.as_ptr() as usize).wrapping_sub(start) < head.text_bytes;
    assert!(head.fields.iter().filter(|header| !header.value.is_empty()).all(|header| inside(&header.value)));
}

#[test]
fn bytes_that_are_no_utf_8_are_read_as_latin_1_value_by_value() {
    let text = b"GET /caf\xe9 HTTP/1.1\r\nHost: h\r\nLatin: \xe9\xff\r\nUtf: \xc3\xa9\r\nN\xe9me: x\r\n\r\n";
    let head = head(text, Side::Request).unwrap();
    assert_eq!(head.request_line().unwrap().target.as_deref(), Some("/caf\u{e9}"));
    let values: Vec<_> = head.fields.iter().map(|header| (&*header.name, &*header.value)).collect();
    assert_eq!(values, [("Host", "h"), ("Latin", "\u{e9}\u{ff}"), ("Utf", "\u{e9}"), ("N\u{e9}me", "x")]);
}

#[test]
fn folds_join_values() {
    let head = request("GET / HTTP/1.1\r\nA: b\r\n c\r\n\t\r\n  d\r\nB:\r\n e\r\nC: f\r\n\r\n");
    let values: Vec<_> = head.fields.iter().map(|header| header.value.to_string()).collect();
    assert_eq!(values[0].split_whitespace().collect::<Vec<_>>(), ["b", "c", "d"]);
    assert_eq!(values[1..], ["e", "f"]);
    assert!(head.findings.has(Rule::FoldedField));
    assert!(!head.findings.has(Rule::FoldedFramingField));
}

#[test]
fn a_bare_carriage_return_becomes_a_space() {
    let head = request("GET / HTTP/1.1\r\nTransfer-Encoding:\rchunked\r\nA: b\rc\r\n\r\n");
    assert_eq!(&*head.fields[0].value, "chunked");
    assert_eq!(&*head.fields[1].value, "b c");
    assert!(head.findings.has(Rule::BareCarriageReturn));
}

#[test]
fn lines_that_are_no_fields() {
    let text = "GET / HTTP/1.1\r\n folded nothing\r\nno colon\r\n: no name\r\nb@d: name\r\n after it\r\n\r\n";
    let head = request(text);
    let fields: Vec<_> = head.fields.iter().map(|header| (&*header.name, header.value.len())).collect();
    assert_eq!(fields, [("b@d", "name".len() + "\r\n ".len() + "after it".len())]);
    assert_eq!(head.first_malformed, Some("GET / HTTP/1.1\r\n".len()));
    assert!(head.findings.has(Rule::SpaceBeforeFirstField));
    assert!(head.findings.has(Rule::MalformedField));
}

#[test]
fn fields_over_the_limit_are_dropped_but_for_those_of_framing() {
    let limits = Limits { header_fields: 3, ..Limits::default() };
    let text = format!("GET / HTTP/1.1\r\n{}Content-Length: 5\r\nB: c\r\n\r\n", "A: b\r\n".repeat(10));
    let head = parse_head(text.as_bytes(), Side::Request, &limits).unwrap();
    let names: Vec<_> = head.fields.iter().map(|header| header.name.to_string()).collect();
    assert_eq!(names, ["A", "A", "A", "Content-Length"]);
    assert!(head.findings.has(Rule::TooManyFields));
    let flood = format!("GET / HTTP/1.1\r\n{}\r\n", "Content-Length: 5\r\n".repeat(1000));
    let head = parse_head(flood.as_bytes(), Side::Request, &limits).unwrap();
    assert_eq!(head.fields.len(), 2 * limits.header_fields);
}

#[test]
fn a_cut_head_tells_what_is_whole() {
    let cut = |text: &str| head(text.as_bytes(), Side::Request);
    assert!(cut("GET").is_none());
    let head = cut("GET /a").unwrap();
    assert_eq!(head.request_line().unwrap().target, None);
    let head = cut("GET /a HTT").unwrap();
    assert_eq!(head.request_line().unwrap().target.as_deref(), Some("/a"));
    assert_eq!(head.request_line().unwrap().version, None);
    let head = cut("GET /a HTTP/1.1\r\nA: b\r\nC: d").unwrap();
    assert_eq!(head.fields.len(), 1);
    assert!(parse_head(b"HTTP/1.1 20", Side::Response, &Limits::default()).is_none());
    assert!(parse_head(b"HTTP/1.1 200 O", Side::Response, &Limits::default()).is_some());
}

#[test]
fn the_end_is_found_once_however_the_bytes_come() {
    for text in ["A\r\nB: c\r\n\r\nrest", "A\nB: c\n\nrest", "A\r\nB: c\n\r\nrest"] {
        let end = text.find("rest").unwrap();
        let mut scan = HeadScan::default();
        for length in 0..=text.len() {
            let found = scan.find_end(&text.as_bytes()[..length]);
            assert_eq!(found, (length == end).then_some(end), "{text:?} {length}");
            if found.is_some() {
                break;
            }
        }
    }
}
