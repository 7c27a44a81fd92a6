use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

fn run(content: &[u8], whole: bool, encoding: &'static str, limits: &Limits) -> (Vec<u8>, Decoding, bool) {
    let mut findings = Findings::default();
    let lines = [ByteString::from_static(encoding)];
    let decoded = decode(Bytes::copy_from_slice(content), whole, &lines, limits, &mut findings);
    (decoded.content.to_vec(), decoded.decoding, findings.has(Rule::DecompressionLimit))
}

fn text() -> Vec<u8> {
    (0..2_000).flat_map(|number: u32| format!("line {number}\n").into_bytes()).collect()
}

/// `hello`: a stream header, one uncompressed-length meta-block of literals, and the end (RFC 7932).
const BROTLI: &[u8] = b"\x0b\x02\x80hello\x03";

#[test]
fn each_coding_is_undone() {
    let text = text();
    let limits = Limits::default();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&text).unwrap();
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
    raw.write_all(&text).unwrap();
    for (content, encoding) in [
        (gzip(&text), "gzip"),
        (gzip(&text), "X-GZip"),
        (zlib.finish().unwrap(), "deflate"),
        (raw.finish().unwrap(), "deflate"),
        (zstd(&text), "zstd"),
        (gzip(&zstd(&text)), "zstd , identity, gzip"),
        ([gzip(&text[..100]), gzip(&text[100..])].concat(), "gzip"),
    ] {
        assert_eq!(
            run(&content, true, encoding, &limits),
            (text.clone(), Decoding::Decoded, false),
            "{encoding}"
        );
    }
    assert_eq!(run(BROTLI, true, "br", &limits).1, Decoding::Decoded);
    assert_eq!(run(BROTLI, true, "br", &limits).0, b"hello");
}

#[test]
fn cut_content_decodes_as_far_as_it_goes() {
    let text = text();
    for (content, encoding) in [(gzip(&text), "gzip"), (zstd(&text), "zstd")] {
        let half = &content[..content.len() / 2];
        let (decoded, decoding, _) = run(half, false, encoding, &Limits::default());
        assert_eq!(decoding, Decoding::Failed, "{encoding}");
        // A coding whose first block is cut gives nothing: then the bytes stay as transferred.
        assert!(text.starts_with(&decoded) || decoded == half, "{encoding}");
    }
    let (decoded, ..) = run(&gzip(&text)[..2_000], false, "gzip", &Limits::default());
    assert!(!decoded.is_empty() && text.starts_with(&decoded));
}

#[test]
fn damaged_content_stays_as_transferred() {
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let (content, decoding, _) = run(b"\xff\xff\xff\xff", true, encoding, &Limits::default());
        assert_eq!(
            (content.as_slice(), decoding),
            (&b"\xff\xff\xff\xff"[..], Decoding::Failed),
            "{encoding}"
        );
    }
}

#[test]
fn unknown_codings_stay_as_transferred() {
    let plain = b"plain".to_vec();
    let limits = Limits::default();
    assert_eq!(run(&plain, true, "sdch", &limits), (plain.clone(), Decoding::Unsupported, false));
    assert_eq!(run(&plain, true, "gzip, sdch", &limits), (plain.clone(), Decoding::Unsupported, false));
    assert_eq!(run(&plain, true, "identity", &limits), (plain, Decoding::Identity, false));
}

#[test]
fn output_is_capped() {
    let limits = Limits { decoded_bytes: 10_000, ..Limits::default() };
    for (content, encoding) in [(gzip(&text()), "gzip"), (zstd(&text()), "zstd")] {
        let (decoded, decoding, found) = run(&content, true, encoding, &limits);
        assert_eq!((decoded.len(), decoding, found), (10_000, Decoding::Limited, true), "{encoding}");
    }
}

#[test]
fn the_ratio_is_capped() {
    let limits = Limits { decoded_bytes: usize::MAX, ..Limits::default() };
    let bomb = gzip(&vec![0; 10 << 20]);
    let (decoded, decoding, found) = run(&bomb, true, "gzip", &limits);
    assert_eq!(
        (decoded.len(), decoding, found),
        (bomb.len() * limits.decoding_ratio, Decoding::Limited, true)
    );
    // A bomb in a bomb counts from the outermost input.
    let nested = gzip(&bomb);
    let (decoded, decoding, _) = run(&nested, true, "gzip, gzip", &limits);
    assert_eq!(decoding, Decoding::Limited);
    assert!(decoded.len() <= RATIO_FLOOR.max(nested.len() * limits.decoding_ratio));
}

#[test]
fn too_many_codings_are_not_undone() {
    let mut findings = Findings::default();
    let lines = [ByteString::from_static("gzip, gzip, gzip"), ByteString::from_static("gzip, gzip")];
    let decoded = decode(Bytes::from_static(b"x"), true, &lines, &Limits::default(), &mut findings);
    assert_eq!(decoded.decoding, Decoding::Unsupported);
    assert!(findings.has(Rule::TooManyCodings));
}
