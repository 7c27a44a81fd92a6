//! Redaction rules: what they are in a configuration, and how they decide about a named value.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use wirecall_schemas::{ApiEvent, ByteString};

use crate::glob::Glob;

/// Rules at most, own and built-in together: a decision is a set of bits in a machine word.
pub const MAX_RULES: usize = 64;

/// Names whose verdict is remembered. Peers choose names, so the memory has to end somewhere; beyond it a verdict is
/// computed each time.
const MAX_REMEMBERED: usize = 4096;

/// Longest name that is remembered, in bytes.
const MAX_REMEMBERED_NAME: usize = 64;

/// Names up to this length are looked for with what stands around a name.
const SHORT_NAME: usize = 4;

/// What is taken out of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedactionConfig {
    /// Whether the built-in rules for credentials, cookies, keys, passwords and tokens follow the own ones.
    pub defaults: bool,
    /// Own rules. They come before the built-in ones, and the first that fits decides.
    pub rules: Vec<RedactionRule>,
}

impl Default for RedactionConfig {
    fn default() -> Self {
        Self { defaults: true, rules: Vec::new() }
    }
}

/// A rule about named values: header and trailer fields, query and form parameters, cookies, keys of JSON bodies.
///
/// All conditions that are given must hold. Names and paths are patterns with `*`, compared without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedactionRule {
    /// Name of the rule, which the event records.
    pub name: String,
    /// What happens to a value that fits.
    pub action: Action,
    /// Names of values, for example `x-*-token`; any when empty.
    #[serde(default)]
    pub names: Vec<Glob>,
    /// Places, for example `request.headers.*`, `http.url_query.*`, `response.body.user.*`, or `request.body` for a
    /// body as a whole; any when empty.
    #[serde(default)]
    pub paths: Vec<Glob>,
    /// Protocols; any when empty.
    #[serde(default)]
    pub protocols: Vec<String>,
    /// Namespaces, of either peer; any when empty.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// What happens to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays, whatever later rules say.
    Include,
    /// It is removed: a header or parameter with its name, a JSON value leaves `null`, a body as a whole its content.
    Exclude,
    /// It is replaced by `[redacted]`; its name stays.
    Mask,
}

/// Why redaction rules cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedactionError {
    /// Too many.
    #[error(
        "{count} redaction rules are more than the {MAX_RULES} that can be, built-in ones included; join rules that share an action"
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A rule without a name.
    #[error("redaction rule number {number} has no name; events record rules by name")]
    NoName {
        /// Position in the list, from 1.
        number: usize,
    },
}

/// The decision about a value: remove or replace it, by this rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) rule: ByteString,
    pub(crate) remove: bool,
}

impl Verdict {
    /// What the event records as the action.
    pub(crate) const fn action(&self) -> ByteString {
        ByteString::from_static(if self.remove { "removed" } else { "masked" })
    }
}

/// The rules, ready to decide.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// Rules whose protocol and namespace conditions hold for the event at hand; bit 0 is the first rule.
    applicable: u64,
    /// Rules without a condition on names.
    nameless: u64,
    /// For each name the rules whose name condition holds.
    remembered: HashMap<Box<[u8]>, u64, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct Rule {
    name: ByteString,
    config: RedactionRule,
}

impl Rules {
    pub(crate) fn new(config: RedactionConfig) -> Result<Self, RedactionError> {
        let mut rules = config.rules;
        if let Some(place) = rules.iter().position(|rule| rule.name.is_empty()) {
            return Err(RedactionError::NoName { number: place + 1 });
        }
        if config.defaults {
            rules.extend(super::defaults::rules());
        }
        if rules.len() > MAX_RULES {
            return Err(RedactionError::TooMany { count: rules.len() });
        }
        let nameless = rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.names.is_empty())
            .fold(0, |set, (place, _)| set | 1 << place);
        let rules =
            rules.into_iter().map(|config| Rule { name: config.name.as_str().into(), config }).collect();
        Ok(Self { rules, applicable: 0, nameless, remembered: HashMap::default() })
    }

    /// Texts of which at least one, in any case, is in every name that a rule can fit; none when a rule fits too much
    /// for that.
    pub(crate) fn literals(&self) -> Option<Vec<String>> {
        let removing = self.rules.iter().filter(|rule| rule.config.action != Action::Include);
        let mut literals = Vec::new();
        for rule in removing {
            if rule.config.names.is_empty() {
                return None;
            }
            for glob in &rule.config.names {
                let literal = glob.longest_literal();
                // Short whole names are in many words; with the quotes of a key they are not.
                if literal == glob.as_str() && literal.len() <= SHORT_NAME {
                    literals.extend([
                        format!("\"{literal}\""),
                        format!("'{literal}'"),
                        format!("={literal}"),
                    ]);
                } else if literal.len() > 2 {
                    literals.push(literal.to_owned());
                } else {
                    return None;
                }
            }
        }
        Some(literals)
    }

    /// Chooses the rules whose conditions on the event hold; false when none does.
    pub(crate) fn choose(&mut self, event: &ApiEvent) -> bool {
        self.applicable = 0;
        for (place, rule) in self.rules.iter().enumerate() {
            if rule.applies(event) {
                self.applicable |= 1 << place;
            }
        }
        self.applicable != 0
    }

    /// The verdict about a value with this name; `path` is asked only for rules with conditions on it.
    pub(crate) fn decide(&mut self, name: &[u8], path: impl Fn() -> String) -> Option<Verdict> {
        let mut fitting = self.fitting(name) & self.applicable;
        while fitting != 0 {
            let rule = self.rules.get(fitting.trailing_zeros() as usize)?;
            if rule.config.paths.is_empty() || rule.fits_path(&path()) {
                return rule.verdict();
            }
            fitting &= fitting - 1;
        }
        None
    }

    /// True when an applicable rule could decide about a body as a whole.
    pub(crate) fn has_whole_body_rules(&self) -> bool {
        self.nameless & self.applicable != 0
    }

    /// The verdict about a body as a whole. Only rules that name the path decide about it, or those that have no
    /// condition on names: a rule for names must not drop a body because it is called one.
    pub(crate) fn decide_whole(&self, path: &str) -> Option<(Option<Verdict>, Action)> {
        let mut rules = self.rules.iter().enumerate().filter(|(place, rule)| {
            self.applicable & 1 << place != 0
                && rule.config.names.is_empty()
                && (rule.config.paths.is_empty() || rule.fits_path(path))
        });
        rules.next().map(|(_, rule)| (rule.verdict(), rule.config.action))
    }

    /// The rules whose name condition holds.
    fn fitting(&mut self, name: &[u8]) -> u64 {
        if let Some(fitting) = self.remembered.get(name) {
            return *fitting;
        }
        let mut fitting = 0;
        for (place, rule) in self.rules.iter().enumerate() {
            let names = &rule.config.names;
            if names.is_empty() || names.iter().any(|glob| glob.matches_bytes(name)) {
                fitting |= 1 << place;
            }
        }
        if name.len() <= MAX_REMEMBERED_NAME && self.remembered.len() < MAX_REMEMBERED {
            self.remembered.insert(name.into(), fitting);
        }
        fitting
    }
}

impl Rule {
    fn applies(&self, event: &ApiEvent) -> bool {
        let RedactionRule { protocols, namespaces, .. } = &self.config;
        let protocol = protocols.is_empty() || protocols.iter().any(|name| name.as_str() == &*event.protocol);
        protocol
            && (namespaces.is_empty()
                || [&event.client, &event.server].into_iter().any(|peer| {
                    peer.namespace
                        .as_ref()
                        .is_some_and(|namespace| namespaces.iter().any(|name| name.as_str() == &**namespace))
                }))
    }

    fn fits_path(&self, path: &str) -> bool {
        self.config.paths.iter().any(|glob| glob.matches(path))
    }

    fn verdict(&self) -> Option<Verdict> {
        match self.config.action {
            Action::Include => None,
            Action::Exclude => Some(Verdict { rule: self.name.clone(), remove: true }),
            Action::Mask => Some(Verdict { rule: self.name.clone(), remove: false }),
        }
    }
}
