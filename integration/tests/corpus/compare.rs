//! What is compared of a call, and how two lists of calls differ.
//!
//! Lists are compared as multisets, for each capture as a whole: the oracles number connections in their own way and
//! list calls in an order of their own, and neither order is what the comparison is about.

use std::collections::BTreeMap;
use std::fmt;

/// What is compared of a call. An absent half leaves its fields empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Method as sent; empty where the request is not known.
    pub(crate) method: String,
    /// Request target as sent.
    pub(crate) target: String,
    /// Status as sent; empty where the response is not known.
    pub(crate) status: String,
}

/// How often one difference was met.
pub(crate) type Differences = BTreeMap<String, usize>;

/// The longest part of a target that a difference shows.
const SHOWN_TARGET: usize = 120;

impl Key {
    /// A key of three texts.
    pub(crate) fn new(method: &str, target: &str, status: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), status: status.to_owned() }
    }

    fn request(&self) -> String {
        match (&*self.method, &*self.target) {
            ("", "") => "-".to_owned(),
            (method, target) => format!("{} {}", or_dash(method), shown(target)),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} → {}", self.request(), or_dash(&self.status))
    }
}

/// The differences of `found` from `expected`; none where they are equal as multisets.
pub(crate) fn differences(expected: &[Key], found: &[Key]) -> Differences {
    let (mut missing, mut extra) = remainders(expected, found);
    let mut differences = Differences::new();
    missing.retain(|wanted| {
        let same_request = extra.iter().position(|have| {
            !wanted.method.is_empty() && have.method == wanted.method && have.target == wanted.target
        });
        let Some(position) = same_request else { return true };
        let have = extra.remove(position);
        let text = format!(
            "status of {}: {} expected, {} found",
            wanted.request(),
            or_dash(&wanted.status),
            or_dash(&have.status)
        );
        *differences.entry(text).or_default() += 1;
        false
    });
    for key in missing {
        *differences.entry(format!("missing {key}")).or_default() += 1;
    }
    for key in extra {
        *differences.entry(format!("extra {key}")).or_default() += 1;
    }
    differences
}

/// What is left of each list when equal members have cancelled each other, in order.
fn remainders(expected: &[Key], found: &[Key]) -> (Vec<Key>, Vec<Key>) {
    let mut balance: BTreeMap<&Key, i64> = BTreeMap::new();
    for key in expected {
        *balance.entry(key).or_default() += 1;
    }
    for key in found {
        *balance.entry(key).or_default() -= 1;
    }
    let repeat = |key: &Key, count: i64| vec![key.clone(); usize::try_from(count).unwrap_or(0)];
    let missing = balance.iter().flat_map(|(key, count)| repeat(key, *count)).collect();
    let extra = balance.iter().flat_map(|(key, count)| repeat(key, -*count)).collect();
    (missing, extra)
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// A target made fit for one cell of a table.
fn shown(target: &str) -> String {
    let mut shown: String = or_dash(target).chars().take(SHOWN_TARGET).flat_map(char::escape_debug).collect();
    if target.chars().count() > SHOWN_TARGET {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_multisets_do_not_differ() {
        let first =
            [Key::new("GET", "/a", "200"), Key::new("GET", "/b", "200"), Key::new("GET", "/a", "200")];
        let mut second = first.clone();
        second.reverse();
        assert!(differences(&first, &second).is_empty());
    }

    #[test]
    fn each_kind_of_difference_is_named_and_counted() {
        let expected = [
            Key::new("GET", "/a", "200"),
            Key::new("GET", "/a", "200"),
            Key::new("GET", "/b", "404"),
            Key::new("", "", "500"),
        ];
        let found = [Key::new("GET", "/b", ""), Key::new("PUT", "/c", "201")];
        let differences: Vec<_> = differences(&expected, &found).into_iter().collect();
        assert_eq!(
            differences,
            [
                ("extra PUT /c → 201".to_owned(), 1),
                ("missing - → 500".to_owned(), 1),
                ("missing GET /a → 200".to_owned(), 2),
                ("status of GET /b: 404 expected, - found".to_owned(), 1),
            ]
        );
    }

    #[test]
    fn a_target_stays_in_its_cell() {
        let long = "/\t".repeat(200);
        let text = Key::new("GET", &long, "").to_string();
        assert!(!text.contains('\t') && text.contains('…'), "{text}");
    }
}
