//! A call joined with the identity of both peers.

use serde::{Deserialize, Serialize};
use wirecall_schemas::{ApiEvent, Call, Endpoint, Peer, Timestamp};

use crate::identity::index::{Index, IndexLimits, Role};
use crate::redact::{RedactionConfig, RedactionError, Redactor};
use crate::route::{self, RouteConfig, RouteError, Router};

/// What the enricher does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnrichConfig {
    /// Bounds of the identity history.
    pub identity: IndexLimits,
    /// What is taken out of events.
    pub redaction: RedactionConfig,
    /// Further topics.
    pub routes: Vec<RouteConfig>,
}

/// Why an enricher cannot be made of its configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A redaction rule is not usable.
    #[error("the redaction rules are not usable")]
    Redaction(#[from] RedactionError),
    /// A routing rule is not usable.
    #[error("the routing rules are not usable")]
    Route(#[from] RouteError),
}

/// Turns calls into API events.
///
/// ```
/// # use wirecall_enricher_core::{EnrichConfig, Enricher};
/// # use wirecall_schemas::{Call, Identity};
/// # fn run(call: Call, records: Vec<Identity>) -> Result<(), wirecall_enricher_core::ConfigError> {
/// let mut enricher = Enricher::new(EnrichConfig::default())?;
/// for record in records {
///     enricher.index_mut().apply(record);
/// }
/// let event = enricher.enrich(call);
/// let key = Enricher::event_key(&event);
/// let further_topics = enricher.routes(&event);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Enricher {
    /// None until an identity source feeds it: then nothing is claimed about identity, not even a watermark.
    index: Option<Index>,
    limits: IndexLimits,
    redactor: Redactor,
    router: Router,
}

impl Enricher {
    /// An enricher that knows no identities yet.
    ///
    /// # Errors
    /// When a rule is not usable; the error names it.
    pub fn new(config: EnrichConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            index: None,
            limits: config.identity,
            redactor: Redactor::new(config.redaction)?,
            router: Router::new(config.routes)?,
        })
    }

    /// The identity history, to be fed. From the first use on, events carry its watermark.
    pub fn index_mut(&mut self) -> &mut Index {
        self.index.get_or_insert_with(|| Index::new(self.limits))
    }

    /// The identity history; none when no source is configured.
    pub const fn index(&self) -> Option<&Index> {
        self.index.as_ref()
    }

    /// The event of a call: both peers as of the call's time, and secrets taken out.
    pub fn enrich(&mut self, call: Call) -> ApiEvent {
        let time = time_of(&call);
        let client = self.peer(call.client, Role::Client, time);
        let server = self.peer(call.server, Role::Server, time);
        let watermark = self.index.as_ref().and_then(Index::watermark);
        let mut event = ApiEvent::new(call, client, server, watermark);
        self.redactor.redact(&mut event);
        event
    }

    /// The further topics of an event, beside the one of all events.
    pub fn routes(&mut self, event: &ApiEvent) -> Vec<&str> {
        self.router.topics(event)
    }

    /// The routing rules, for their topics and counters.
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// The record's key; see [`route::event_key`].
    pub fn event_key(event: &ApiEvent) -> Vec<u8> {
        route::event_key(event)
    }

    fn peer(&self, endpoint: Endpoint, role: Role, time: Option<Timestamp>) -> Peer {
        match (&self.index, time) {
            (Some(index), Some(time)) => index.peer(endpoint, role, time),
            _ => Peer::unresolved(endpoint),
        }
    }
}

/// The time at which the peers are asked for: the first that the call knows, in the order of the exchange.
fn time_of(call: &Call) -> Option<Timestamp> {
    let first_byte = |message: &Option<wirecall_schemas::Message>| {
        message.as_ref().and_then(|message| message.first_byte_time.or(message.last_byte_time))
    };
    call.start_time
        .or_else(|| first_byte(&call.request))
        .or_else(|| first_byte(&call.response))
        .or(call.end_time)
}

#[cfg(test)]
mod tests {
    use wirecall_schemas::{Certainty, Header, Identity, Message, ResolvedBy};

    use super::*;
    use crate::testing::{call, time};

    fn pod(name: &str, address: &str) -> Identity {
        Identity {
            kind: "Pod".into(),
            uid: format!("uid-{name}").into(),
            namespace: Some("shop".into()),
            name: name.into(),
            valid_from: time("2026-01-01T00:00:00Z"),
            addresses: vec![address.into()],
            ..Identity::default()
        }
    }

    #[test]
    fn without_an_identity_source_nothing_is_claimed() {
        let mut enricher = Enricher::new(EnrichConfig::default()).unwrap();
        let event = enricher.enrich(call("http"));
        assert_eq!(event.client, Peer::unresolved(call("http").client));
        assert_eq!(event.server, Peer::unresolved(call("http").server));
        assert_eq!(event.identity_watermark, None);
        assert!(enricher.index().is_none());
    }

    #[test]
    fn both_peers_are_resolved_as_of_the_call() {
        let mut enricher = Enricher::new(EnrichConfig::default()).unwrap();
        enricher.index_mut().apply(pod("web", "10.1.0.1"));
        enricher.index_mut().apply(pod("db", "10.1.0.2"));
        enricher.index_mut().advance_watermark(time("2026-01-01T01:00:00Z"));
        let mut call = call("http");
        call.request = Some(Message {
            headers: vec![Header { name: "authorization".into(), value: "Bearer x".into() }],
            ..Message::default()
        });
        let event = enricher.enrich(call.clone());
        assert_eq!(event.client.pod.as_deref(), Some("web"));
        assert_eq!(event.server.pod.as_deref(), Some("db"));
        assert_eq!(event.server.resolved_by, ResolvedBy::PodIp);
        assert_eq!(event.identity_watermark, Some(time("2026-01-01T01:00:00Z")));
        assert_eq!(event.redactions.len(), 1);
        assert_eq!(Enricher::event_key(&event), b"shop/Pod/db");
        // A call before the pods were.
        call.start_time = Some(time("2025-01-01T00:00:00Z"));
        assert_eq!(enricher.enrich(call).client.certainty, Certainty::Unknown);
    }

    #[test]
    fn a_call_without_a_start_has_the_time_of_what_was_seen_of_it() {
        let mut enricher = Enricher::new(EnrichConfig::default()).unwrap();
        enricher.index_mut().apply(pod("web", "10.1.0.1"));
        let mut call = call("http");
        call.start_time = None;
        assert_eq!(enricher.enrich(call.clone()).client.pod, None);
        call.response =
            Some(Message { last_byte_time: Some(time("2026-01-01T00:10:00Z")), ..Message::default() });
        assert_eq!(enricher.enrich(call).client.pod.as_deref(), Some("web"));
    }

    #[test]
    fn unknown_keys_of_the_configuration_are_refused() {
        for text in [
            r#"{"identity":{"max":1}}"#,
            r#"{"redaction":{"rules":[{"name":"x","action":"mask","nams":["y"]}]}}"#,
            r#"{"routes":[{"name":"x","topik":"y"}]}"#,
        ] {
            assert!(serde_json::from_str::<EnrichConfig>(text).is_err(), "{text}");
        }
        let text = r#"{"redaction":{"rules":[{"name":"x","action":"exclude","paths":["request.body"]}]}}"#;
        assert_eq!(serde_json::from_str::<EnrichConfig>(text).unwrap().redaction.rules.len(), 1);
    }
}
