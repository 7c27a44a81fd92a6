//! Routing: further topics that an event goes to, and its key.

use serde::{Deserialize, Serialize};
use wirecall_schemas::{ApiEvent, ByteString};

use crate::filter::{Fields, Filter, FilterError};

/// One routing rule: the events that fit all its conditions also go to its topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// Name of the rule, for messages and metrics.
    pub name: String,
    /// The topic's full name.
    pub topic: String,
    /// Protocols; any when empty.
    pub protocols: Vec<String>,
    /// Namespaces, of either peer; any when empty.
    pub namespaces: Vec<String>,
    /// A CEL condition over the event; none is always true.
    pub condition: Option<String>,
}

/// Why routing rules cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The rule has no name or no topic.
    #[error("routing rule number {number} has no {field}")]
    MissingField {
        /// Position in the list, from 1.
        number: usize,
        /// `name` or `topic`.
        field: &'static str,
    },
    /// The rule's condition is not usable.
    #[error("routing rule {rule:?} has an unusable condition")]
    Condition {
        /// Name of the rule.
        rule: String,
        /// What is wrong with it.
        #[source]
        cause: FilterError,
    },
}

/// The compiled rules.
#[derive(Debug, Default)]
pub struct Router {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    config: RouteConfig,
    filter: Option<Filter>,
    /// Events for which the condition had no answer; they count as not fitting.
    failures: u64,
}

impl Router {
    /// Compiles the rules.
    ///
    /// # Errors
    /// When a rule has no name or topic, or a condition that is not usable; the error names the rule.
    pub fn new(rules: Vec<RouteConfig>) -> Result<Self, RouteError> {
        let rules = rules.into_iter().enumerate().map(|(place, config)| Rule::new(place + 1, config));
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// The further topics of an event, each once, in the order of the rules.
    pub fn topics(&mut self, event: &ApiEvent) -> Vec<&str> {
        let mut topics: Vec<&str> = Vec::new();
        if self.rules.is_empty() {
            return topics;
        }
        let fields = Fields::of(event);
        for rule in &mut self.rules {
            if rule.fits(event, &fields) && !topics.contains(&rule.config.topic.as_str()) {
                topics.push(&rule.config.topic);
            }
        }
        topics
    }

    /// Name of each rule and how often its condition had no answer.
    pub fn failures(&self) -> impl Iterator<Item = (&str, u64)> {
        self.rules.iter().map(|rule| (rule.config.name.as_str(), rule.failures))
    }

    /// The topics that events may go to, for creating and checking them at start.
    pub fn all_topics(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.config.topic.as_str())
    }
}

impl Rule {
    fn new(number: usize, config: RouteConfig) -> Result<Self, RouteError> {
        for (field, text) in [("name", &config.name), ("topic", &config.topic)] {
            if text.is_empty() {
                return Err(RouteError::MissingField { number, field });
            }
        }
        let filter = config.condition.as_deref().map(Filter::compile).transpose();
        let filter = filter.map_err(|cause| RouteError::Condition { rule: config.name.clone(), cause })?;
        Ok(Self { config, filter, failures: 0 })
    }

    /// The cheap conditions first.
    fn fits(&mut self, event: &ApiEvent, fields: &Fields<'_>) -> bool {
        if !contains(&self.config.protocols, Some(&event.protocol)) {
            return false;
        }
        let namespaces = [event.client.namespace.as_ref(), event.server.namespace.as_ref()];
        if !namespaces.into_iter().any(|namespace| contains(&self.config.namespaces, namespace)) {
            return false;
        }
        match self.filter.as_ref().map(|filter| filter.matches_fields(fields)) {
            None => true,
            Some(Ok(fits)) => fits,
            Some(Err(_)) => {
                self.failures += 1;
                false
            }
        }
    }
}

/// True when the list is empty or has the name.
fn contains(list: &[String], name: Option<&ByteString>) -> bool {
    list.is_empty() || name.is_some_and(|name| list.iter().any(|other| other.as_str() == &**name))
}

/// The key of an event: the workload that was called as `namespace/kind/name`, so that its events lie in order in one
/// partition; the connection id in hex where the workload is not known.
pub fn event_key(event: &ApiEvent) -> Vec<u8> {
    let mut key = Vec::new();
    write_event_key(event, &mut key);
    key
}

/// As [`event_key`], into a buffer that can be used again.
pub fn write_event_key(event: &ApiEvent, key: &mut Vec<u8>) {
    key.clear();
    let server = &event.server;
    let (Some(kind), Some(name)) = (&server.workload_kind, &server.workload_name) else {
        key.extend_from_slice(event.connection_id.encode_hex(&mut [0; 32]).as_bytes());
        return;
    };
    for (place, part) in [server.namespace.as_deref().unwrap_or_default(), kind, name].into_iter().enumerate()
    {
        if place > 0 {
            key.push(b'/');
        }
        key.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    fn route(name: &str, topic: &str) -> RouteConfig {
        RouteConfig { name: name.into(), topic: topic.into(), ..RouteConfig::default() }
    }

    #[test]
    fn all_conditions_of_a_rule_hold_and_a_topic_comes_once() {
        let mut router = Router::new(vec![
            RouteConfig { protocols: vec!["http".into()], ..route("by-protocol", "a") },
            RouteConfig { protocols: vec!["redis".into()], ..route("other-protocol", "b") },
            RouteConfig { namespaces: vec!["shop".into()], ..route("by-namespace", "c") },
            RouteConfig { condition: Some("server.port == 8080".into()), ..route("by-condition", "d") },
            RouteConfig { condition: Some("server.port == 1".into()), ..route("not", "e") },
            RouteConfig { protocols: vec!["http".into()], ..route("again", "a") },
            RouteConfig { namespaces: vec!["other".into()], ..route("other-namespace", "f") },
        ])
        .unwrap();
        let mut event = event("http");
        event.client.namespace = Some("shop".into());
        assert_eq!(router.topics(&event), ["a", "c", "d"]);
        assert_eq!(router.all_topics().count(), 7);
    }

    #[test]
    fn a_condition_without_an_answer_is_counted() {
        let broken =
            RouteConfig { condition: Some("target.startsWith('/')".into()), ..route("targets", "t") };
        let mut router = Router::new(vec![broken, route("all", "a")]).unwrap();
        assert_eq!(router.topics(&event("http")), ["a"]);
        assert_eq!(router.failures().collect::<Vec<_>>(), [("targets", 1), ("all", 0)]);
    }

    #[test]
    fn an_unusable_rule_is_named() {
        let bad = RouteConfig { condition: Some("protocol ==".into()), ..route("broken", "t") };
        assert!(Router::new(vec![bad]).unwrap_err().to_string().contains("broken"));
        assert_eq!(
            Router::new(vec![route("all", "a"), route("b", "")]).unwrap_err(),
            RouteError::MissingField { number: 2, field: "topic" }
        );
        assert_eq!(
            Router::new(vec![route("", "a")]).unwrap_err(),
            RouteError::MissingField { number: 1, field: "name" }
        );
    }

    #[test]
    fn the_key_is_the_workload_else_the_connection() {
        let mut event = event("http");
        assert_eq!(event_key(&event), b"02020202020202020202020202020202");
        event.server.workload_kind = Some("Deployment".into());
        event.server.workload_name = Some("web".into());
        event.server.namespace = Some("shop".into());
        assert_eq!(event_key(&event), b"shop/Deployment/web");
    }
}
