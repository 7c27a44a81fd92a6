//! The parts of a request target (RFC 9112 section 3.2), as slices of it.

use bytestring::ByteString;

/// A request target taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Its form.
    pub(super) form: &'static str,
    /// Scheme of the absolute form.
    pub(super) scheme: Option<ByteString>,
    /// Host and port, without user information: that may hold a password.
    pub(super) authority: Option<ByteString>,
    /// Path.
    pub(super) path: Option<ByteString>,
    /// Query, without its question mark.
    pub(super) query: Option<ByteString>,
}

/// Takes a target apart.
pub(super) fn parse(target: &ByteString, method: &str) -> Target {
    let empty = Target { form: "other", scheme: None, authority: None, path: None, query: None };
    if target.starts_with('/') {
        let (path, query) = path_and_query(target, target);
        return Target { form: "origin", path, query, ..empty };
    }
    if target == "*" {
        return Target { form: "asterisk", ..empty };
    }
    if method == "CONNECT" {
        return Target { form: "authority", authority: Some(target.clone()), ..empty };
    }
    match target.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let authority = &rest[..end];
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let (path, query) = path_and_query(target, &rest[end..]);
            Target {
                form: "absolute",
                scheme: Some(target.slice_ref(scheme)),
                authority: (!host.is_empty()).then(|| target.slice_ref(host)),
                path,
                query,
            }
        }
        _ => empty,
    }
}

fn path_and_query(target: &ByteString, text: &str) -> (Option<ByteString>, Option<ByteString>) {
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(target.slice_ref(query))),
        None => (text, None),
    };
    ((!path.is_empty()).then(|| target.slice_ref(path)), query)
}

/// A letter, then letters, digits, plus, minus and dot (RFC 3986 section 3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str, method: &str) -> (&'static str, [Option<String>; 4]) {
        let target = parse(&ByteString::from(target), method);
        let text = |part: Option<ByteString>| part.map(|part| part.to_string());
        (target.form, [text(target.scheme), text(target.authority), text(target.path), text(target.query)])
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_four_forms() {
        assert_eq!(parts("/a/b?c=d?e", "GET"), ("origin", [None, None, some("/a/b"), some("c=d?e")]));
        assert_eq!(parts("/a?", "GET"), ("origin", [None, None, some("/a"), some("")]));
        assert_eq!(parts("*", "OPTIONS"), ("asterisk", [None, None, None, None]));
        assert_eq!(parts("h:443", "CONNECT"), ("authority", [None, some("h:443"), None, None]));
        assert_eq!(
            parts("http://u:p@h:80/x?y", "GET"),
            ("absolute", [some("http"), some("h:80"), some("/x"), some("y")])
        );
        assert_eq!(parts("http://h", "GET"), ("absolute", [some("http"), some("h"), None, None]));
        assert_eq!(parts("http://h?q", "GET"), ("absolute", [some("http"), some("h"), None, some("q")]));
    }

    #[test]
    fn anything_else_is_other() {
        for target in ["x", "index.html", "1a://h", "://h", "h:443"] {
            assert_eq!(parts(target, "GET"), ("other", [None, None, None, None]), "{target}");
        }
    }
}
