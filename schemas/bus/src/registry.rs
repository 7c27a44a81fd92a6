//! Schema ids: from a Confluent-compatible registry, or none.
//!
//! The registry is asked at start, and when a record comes with an id not met before; never per record. The REST calls
//! are schema_registry_converter's, the encoding is our own. Blocking, with a small runtime of its own.

use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, perform_sr_call, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{SchemaType, SrCall, SuppliedSchema};
use tokio::runtime::Runtime;
use wirecall_schemas::codec::{Decoder, Encoder, Framing};
use wirecall_schemas::{CodecError, Record};

use crate::BusError;
use crate::config::{BusConfig, RegistryConfig, SubjectStrategy};

/// What evolution must hold to: every version can read every other.
const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// Where schema ids come from.
pub struct Registry {
    client: Option<Client>,
}

struct Client {
    config: RegistryConfig,
    settings: SrSettings,
    http: reqwest::Client,
    runtime: Runtime,
}

impl Registry {
    /// The configured registry, or none. Asks nothing yet.
    ///
    /// # Errors
    /// If the address or the credentials cannot be used.
    pub fn new(config: &BusConfig) -> Result<Self, BusError> {
        config.validate()?;
        Ok(Self { client: config.registry.as_ref().map(Client::new).transpose()? })
    }

    /// How records of `R` are framed in `topic`: with the id that the registry gives, or with the fingerprint. With
    /// `auto_register` the schema is registered, and its subject held to FULL_TRANSITIVE; without, it must be there.
    ///
    /// # Errors
    /// A registry that cannot be reached, refuses us, or refuses the schema.
    pub fn framing<R: Record>(&self, topic: &str) -> Result<Framing, BusError> {
        match &self.client {
            None => Ok(Framing::SingleObject),
            Some(client) => Ok(Framing::Confluent { id: client.id(topic, R::SCHEMA_TEXT)? }),
        }
    }

    /// An encoder of `R` for `topic`.
    ///
    /// # Errors
    /// As [`Registry::framing`].
    pub fn encoder<R: Record>(&self, topic: &str) -> Result<Encoder<R>, BusError> {
        Ok(Encoder::new(self.framing::<R>(topic)?)?)
    }

    /// Reads a record. An id that `decoder` does not know is asked for once and learnt.
    ///
    /// # Errors
    /// [`ReadError::Undecodable`] belongs to the dead letters; [`ReadError::Bus`] says that the registry does not
    /// answer, and the record should be tried again later.
    pub fn decode<R: Record>(&self, decoder: &mut Decoder<R>, framed: &[u8]) -> Result<R, ReadError> {
        match (decoder.decode(framed), &self.client) {
            (Err(CodecError::UnknownSchemaId { id }), Some(client)) => {
                let Some(text) = client.schema(id)? else {
                    return Err(ReadError::Undecodable(format!(
                        "the schema registry does not know schema id {id}"
                    )));
                };
                decoder.learn(id, &text).map_err(|error| ReadError::Undecodable(error.to_string()))?;
                decoder.decode(framed).map_err(|error| ReadError::Undecodable(error.to_string()))
            }
            (outcome, _) => outcome.map_err(|error| ReadError::Undecodable(error.to_string())),
        }
    }
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It never will be.
    #[error("{0}")]
    Undecodable(String),
    /// The registry does not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Client {
    fn new(config: &RegistryConfig) -> Result<Self, BusError> {
        let timeout = Duration::from_millis(config.timeout_ms);
        let unusable = |remedy: String| BusError::Config { key: "registry".to_owned(), remedy };
        let url = config.url.trim_end_matches('/').to_owned();
        let mut builder = SrSettings::new_builder(url.clone());
        builder.set_timeout(timeout);
        if let Some(user) = &config.username {
            builder.set_basic_authorization(user, config.password.as_ref().map(|password| password.reveal()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| BusError::Resource { what: "the runtime of the registry's client", cause })?;
        Ok(Self {
            config: RegistryConfig { url, ..config.clone() },
            settings: builder.build().map_err(|error| unusable(error.to_string()))?,
            http: reqwest::Client::builder()
                .timeout(timeout)
                .build()
                .map_err(|error| unusable(error.to_string()))?,
            runtime,
        })
    }

    fn subject(&self, topic: &str) -> String {
        match self.config.subject_strategy {
            SubjectStrategy::TopicName => format!("{topic}-value"),
        }
    }

    fn id(&self, topic: &str, schema: &str) -> Result<u32, BusError> {
        let subject = self.subject(topic);
        if self.config.auto_register {
            self.register(&subject, schema)
        } else {
            self.look_up(&subject, schema)
        }
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32, BusError> {
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        let registered = self.runtime.block_on(post_schema(&self.settings, subject.to_owned(), supplied));
        let id = match registered {
            Ok(registered) => registered.id,
            // Two services that start together register the subject they share at the same moment, and a registry may
            // tell the second one of a conflict: then the schema is there.
            Err(error) => self.look_up(subject, schema).map_err(|_| {
                self.failed(&error, subject, "register a compatible version, or use another topic_prefix")
            })?,
        };
        self.hold_compatible(subject)?;
        tracing::info!(subject, id, "schema registered");
        Ok(id)
    }

    fn look_up(&self, subject: &str, schema: &str) -> Result<u32, BusError> {
        let body = serde_json::json!({ "schemaType": "AVRO", "schema": schema }).to_string();
        let found = self
            .runtime
            .block_on(perform_sr_call(&self.settings, SrCall::PostForVersion(subject, &body)))
            .map_err(|error| {
                self.failed(
                    &error,
                    subject,
                    "register the schema there, or set registry.auto_register = true",
                )
            })?;
        found.id.ok_or_else(|| {
            self.refused(subject, "it gave no id".to_owned(), "check that it speaks Confluent's API")
        })
    }

    /// A subject that already has another rule keeps it if we may not change it; that is only logged.
    fn hold_compatible(&self, subject: &str) -> Result<(), BusError> {
        let url = format!("{}/config/{}", self.config.url, subject.replace('/', "%2F"));
        let mut request = self
            .http
            .put(url)
            .header("content-type", "application/vnd.schemaregistry.v1+json")
            .body(serde_json::json!({ "compatibility": COMPATIBILITY }).to_string());
        if let Some(user) = &self.config.username {
            request =
                request.basic_auth(user, self.config.password.as_ref().map(|password| password.reveal()));
        }
        let response = self
            .runtime
            .block_on(async { request.send().await })
            .map_err(|error| self.unreachable(error.to_string()))?;
        if !response.status().is_success() {
            tracing::warn!(subject, status = %response.status(), "the registry does not let us set the compatibility to {COMPATIBILITY}");
        }
        Ok(())
    }

    /// The schema behind an id; `None` if the registry has no such id.
    fn schema(&self, id: u32) -> Result<Option<String>, BusError> {
        match self.runtime.block_on(get_schema_by_id(id, &self.settings)) {
            Ok(registered) => Ok(Some(registered.schema)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.failed(&error, &format!("schema id {id}"), "check what wrote the record")),
        }
    }

    fn failed(&self, error: &SRCError, subject: &str, remedy: &'static str) -> BusError {
        let cause = error
            .cause
            .as_ref()
            .map_or_else(|| error.error.clone(), |cause| format!("{}: {cause}", error.error));
        match status(error) {
            Some(401 | 403) => BusError::RegistryDenied { url: self.config.url.clone(), cause },
            Some(500..) | None => self.unreachable(cause),
            Some(_) => self.refused(subject, cause, remedy),
        }
    }

    fn refused(&self, subject: &str, cause: String, remedy: &'static str) -> BusError {
        BusError::RegistryRefused { url: self.config.url.clone(), subject: subject.to_owned(), cause, remedy }
    }

    fn unreachable(&self, cause: String) -> BusError {
        BusError::RegistryUnreachable { url: self.config.url.clone(), cause }
    }
}

/// The HTTP status that the registry answered with, if it answered: the client library says it only in words.
fn status(error: &SRCError) -> Option<u16> {
    let (_, words) = error.error.split_once("failed with status ")?;
    words.get(..3)?.parse().ok()
}
