//! A quick look at a body: can it hold anything that a rule fits?
//!
//! Most bodies cannot, and this look is what they cost. The names that the rules know are boiled down to short texts
//! of which at least one is in every name that can fit; the body is searched for all of them at once. The search that
//! is fastest for that (Teddy: some gigabytes a second with SIMD) knows no case, so the body goes through it in
//! windows on the stack, in lower case. Where the processor or the number of texts does not allow it, an automaton
//! does the same more slowly.

use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, Input, Span};

use super::rule::Rules;

/// Bytes that are put into lower case and searched at a time: small enough for the stack and the first-level cache.
const WINDOW: usize = 4096;

/// The search.
#[derive(Debug)]
pub(crate) enum Suspicion {
    /// There is a rule that fits anything.
    Always,
    /// A search for texts.
    Texts {
        search: Search,
        /// Length of the longest text less one: what two windows share, so that none is cut.
        overlap: usize,
    },
}

/// Finds any of several texts.
#[derive(Debug)]
pub(crate) enum Search {
    Packed(Searcher),
    Automaton(Box<AhoCorasick>),
}

impl Suspicion {
    pub(crate) fn of(rules: &Rules) -> Self {
        rules.literals().map_or(Self::Always, |texts| Self::for_texts(texts, |texts| Searcher::new(texts)))
    }

    fn for_texts(texts: Vec<String>, packed: impl Fn(&[Vec<u8>]) -> Option<Searcher>) -> Self {
        // Escapes hide letters from a plain search.
        let mut texts: Vec<_> =
            texts.into_iter().chain(["\\u00".to_owned()]).map(String::into_bytes).collect();
        texts.iter_mut().for_each(|text| fold(text));
        texts.sort_by_key(Vec::len);
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for text in texts {
            // What holds a shorter text is found by it.
            if !kept.iter().any(|shorter| memchr::memmem::find(&text, shorter).is_some()) {
                kept.push(text);
            }
        }
        let overlap = kept.iter().map(Vec::len).max().unwrap_or(1) - 1;
        if overlap >= WINDOW / 2 {
            return Self::Always;
        }
        let automaton =
            || AhoCorasick::new(&kept).ok().map(|automaton| Search::Automaton(Box::new(automaton)));
        let search = packed(&kept).map(Search::Packed).or_else(automaton);
        search.map_or(Self::Always, |search| Self::Texts { search, overlap })
    }

    /// False when no rule can fit anything in the text.
    pub(crate) fn is_raised_by(&self, text: &[u8]) -> bool {
        self.is_raised_where(text, |_| true)
    }

    /// As [`Suspicion::is_raised_by`] for JSON, where only names matter: a word inside a value (`"status": "token
    /// expired"`) raises no suspicion, so that a body which merely speaks of tokens need not be read.
    pub(crate) fn is_raised_by_json(&self, text: &[u8]) -> bool {
        self.is_raised_where(text, could_be_a_name)
    }

    /// `confirm` is given what follows the start of a find, and says whether it counts.
    fn is_raised_where(&self, text: &[u8], confirm: impl Fn(&[u8]) -> bool) -> bool {
        let Self::Texts { search, overlap } = self else { return true };
        let mut window = [0; WINDOW];
        let mut start = 0;
        loop {
            let part = &text[start..text.len().min(start + WINDOW)];
            let folded = &mut window[..part.len()];
            folded.copy_from_slice(part);
            fold(folded);
            let mut from = 0;
            while let Some(place) = search.find_in(folded, from) {
                if confirm(&text[start + place..]) {
                    return true;
                }
                from = place + 1;
            }
            if start + part.len() >= text.len() {
                return false;
            }
            start += WINDOW - overlap;
        }
    }
}

/// Longest rest of a name that is looked through for its end; a longer one counts as a name unseen.
const NAME_END: usize = 256;

/// Whether a text that starts inside a JSON string could be a name in it: the string ends here and a colon follows, or
/// something in it could give a name to a value by other means (a URL's query, JSON or a header inside a string, an
/// escape). Cut short, it could.
fn could_be_a_name(text: &[u8]) -> bool {
    let rest = &text[..text.len().min(NAME_END)];
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\'' | b':' | b'=' | b'%' | b'\\'));
    let Some(end) = end else { return true };
    // A quote that opens the name, as in `"sig"`, is part of what was found.
    let (end, quote) = match rest.get(end) {
        Some(quote @ (b'"' | b'\'')) if end == 0 => {
            match rest[1..].iter().position(|byte| matches!(byte, b'"' | b'\'' | b':' | b'=' | b'%' | b'\\'))
            {
                Some(next) => (next + 1, *quote),
                None => return true,
            }
        }
        Some(other) => (end, *other),
        None => return true,
    };
    if !matches!(rest.get(end), Some(b'"' | b'\'')) || !matches!(quote, b'"' | b'\'') {
        return true;
    }
    // Only what ends a value leaves no doubt: JSON may be broken, and a name followed by something else.
    !matches!(text[end + 1..].iter().find(|byte| !byte.is_ascii_whitespace()), Some(b',' | b'}' | b']'))
}

impl Search {
    /// Where the next find starts, from a place on.
    fn find_in(&self, text: &[u8], from: usize) -> Option<usize> {
        let found = match self {
            Self::Packed(searcher) => searcher.find_in(text, Span::from(from..text.len())),
            Self::Automaton(automaton) => automaton.find(Input::new(text).range(from..)),
        };
        found.map(|found| found.start())
    }
}

/// Lower case, and `-` for `_`: `api_key` and `API-Key` are then one text, and the search takes no more than 64.
fn fold(text: &mut [u8]) {
    for byte in text {
        *byte = match *byte {
            b'_' => b'-',
            other => other.to_ascii_lowercase(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_it_lies_in_whatever_case() {
        let texts = || vec!["token".to_owned(), "Secret".to_owned(), "client_secret".to_owned()];
        let slow = Suspicion::for_texts(texts(), |_| None);
        assert!(matches!(slow, Suspicion::Texts { search: Search::Automaton(_), .. }));
        for suspicion in [Suspicion::for_texts(texts(), |texts| Searcher::new(texts)), slow] {
            assert!(!suspicion.is_raised_by(b""));
            assert!(!suspicion.is_raised_by(&[b'x'; 3 * WINDOW]));
            for place in (0..64).chain(WINDOW - 64..WINDOW + 64).chain(2 * WINDOW - 64..2 * WINDOW + 64) {
                for word in ["ToKeN", "SECRET"] {
                    let mut text = vec![b'x'; 3 * WINDOW];
                    text[place..place + word.len()].copy_from_slice(word.as_bytes());
                    assert!(suspicion.is_raised_by(&text), "{word} at {place}");
                }
            }
        }
    }

    #[test]
    fn in_json_only_names_count_and_what_could_hide_one() {
        let suspicion = Suspicion::of(&Rules::new(super::super::RedactionConfig::default()).unwrap());
        for calm in [
            r#"{"status":"token expired","tags":["token", "secret"],"kind":"password"}"#,
            r#"["token","csrf" , "it's a secret"]"#,
            r#"{"a":"sig","b":"pass"}"#,
        ] {
            assert!(!suspicion.is_raised_by_json(calm.as_bytes()), "{calm}");
        }
        for named in [
            r#"{"token":"x"}"#,
            r#"{"access_token" : "x"}"#,
            "{\"token\"\n:\"x\"}",
            r#"{"password for ada":"x"}"#,
            r#"{'token':'x'}"#,
            r#"{token:1}"#,
            r#"{"sig":"x"}"#,
            r#"{"url":"https://a/?token=x"}"#,
            r#"{"url":"https://a/?to=b%3Ftoken%3Dx"}"#,
            r#"{"inner":"{\"token\":\"x\"}"}"#,
            r#"{"log":["Authorization: Bearer x"]}"#,
            r#"{"a":"token expired","token":"x"}"#,
            r#"{"cut":1,"token"#,
            r#"{"cut":1,"token""#,
        ] {
            assert!(suspicion.is_raised_by_json(named.as_bytes()), "{named}");
        }
        for length in [WINDOW - 30, WINDOW, 2 * WINDOW - 40] {
            let body = format!(r#"{{"pad":"{}","kind":"token","token":"x"}}"#, "x".repeat(length));
            assert!(suspicion.is_raised_by_json(body.as_bytes()), "{length}");
        }
    }

    #[test]
    fn the_built_in_rules_get_the_fast_search_where_there_is_one() {
        let rules = Rules::new(super::super::RedactionConfig::default()).unwrap();
        let suspicion = Suspicion::of(&rules);
        if Searcher::new(["token"]).is_some() {
            assert!(matches!(suspicion, Suspicion::Texts { search: Search::Packed(_), .. }));
        }
        assert!(!suspicion.is_raised_by(br#"{"design":"passage","signal":1,"option":"otp-free"}"#));
        for name in ["sig", "pass", "otp", "pwd", "jwt", "db_pwd", "Access-Token"] {
            assert!(suspicion.is_raised_by(format!(r#"{{"{name}":"x"}}"#).as_bytes()), "{name}");
        }
    }
}
