//! Name patterns: letters of either case, and `*` for any run of characters.
//!
//! Enough for header names, paths and annotation keys, and linear: a pattern from a configuration file must not be
//! able to make a hostile name expensive, which regular expressions with backtracking would.

use serde::{Deserialize, Serialize};

/// A pattern such as `x-*-token`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    /// A pattern from its text; every text is one.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when the whole of `name` fits, compared without regard to ASCII case.
    pub fn matches(&self, name: &str) -> bool {
        self.matches_bytes(name.as_bytes())
    }

    /// As [`matches`](Self::matches), for names that need not be text.
    pub fn matches_bytes(&self, name: &[u8]) -> bool {
        let pattern = self.0.as_bytes();
        let (mut at, mut place) = (0, 0);
        // Where to go on after a mismatch: behind the last star, one character of the name further each time.
        let mut retry: Option<(usize, usize)> = None;
        while place < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    retry = Some((at + 1, place));
                    at += 1;
                }
                Some(letter) if letter.eq_ignore_ascii_case(&name[place]) => {
                    at += 1;
                    place += 1;
                }
                _ => {
                    let Some((after_star, from)) = retry else { return false };
                    retry = Some((after_star, from + 1));
                    at = after_star;
                    place = from + 1;
                }
            }
        }
        pattern[at..].iter().all(|letter| *letter == b'*')
    }

    /// The longest run of characters between stars: a text that does not hold it, in any case, has no match.
    pub(crate) fn longest_literal(&self) -> &str {
        self.0.split('*').max_by_key(|part| part.len()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_whole_names_without_regard_to_case() {
        for (pattern, name, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("cookie", "Cookie", true),
            ("cookie", "set-cookie", false),
            ("*-token", "X-Auth-Token", true),
            ("*-token", "x-token-id", false),
            ("x-*-key", "x-api-key", true),
            ("x-*-key", "x-key", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*ab", "aab", true),
            ("a**", "a", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn the_longest_literal_is_in_every_match() {
        assert_eq!(Glob::new("*api*secret*").longest_literal(), "secret");
        assert_eq!(Glob::new("*").longest_literal(), "");
    }
}
