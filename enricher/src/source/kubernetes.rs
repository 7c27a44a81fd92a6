//! The cluster's objects, from the API server: listed, then watched, for as long as the process lives.
//!
//! One watcher per cluster: seven watches on the whole cluster cost the API server less than one on every node.
//! Exactly one process does it because its Deployment has one replica; electing a leader by a lease, so that a second
//! one can stand by, is a later step. Two at the same time do no harm beyond records that say the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{StreamExt, stream};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Client, Config};
use serde_json::Value;
use wirecall_enricher_core::identity::history::History;
use wirecall_schemas::Timestamp;

use crate::metrics::WatcherMetrics;

/// Group, version, kind and plural of what is watched.
const RESOURCES: [(&str, &str, &str, &str); 7] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "Node", "nodes"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("batch", "v1", "Job", "jobs"),
    ("", "v1", "Service", "services"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    ("", "v1", "Pod", "pods"),
];

/// Objects in one page of a list. The default of 500 makes a large cluster's first list slow; thousands make pages of
/// tens of megabytes.
const PAGE: u32 = 1000;

/// Why the cluster cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// No usable access data.
    #[error("there is no usable kubeconfig{}; set watcher.kubeconfig, or run in a pod with a service account", path.as_ref().map(|path| format!(" at {path}")).unwrap_or_default())]
    Kubeconfig {
        /// The configured path.
        path: Option<String>,
        /// What is wrong.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API server does not let us.
    #[error(
        "the API server refuses to list {resource} ({reason}); give the watcher's user get, list and watch on {resource} in all namespaces"
    )]
    Denied {
        /// Plural of the resource.
        resource: &'static str,
        /// What the server says.
        reason: String,
    },
    /// The API server does not answer.
    #[error("the API server at {url} cannot be asked for {resource}; check the address and the network")]
    Unreachable {
        /// Its address.
        url: String,
        /// Plural of the resource.
        resource: &'static str,
        /// What is wrong.
        #[source]
        cause: Box<kube::Error>,
    },
}

/// A connection to the API server that is known to work.
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Connects and asks for one object of each kind, so that a missing right is an error now and not a log line later.
    ///
    /// # Errors
    /// No usable kubeconfig, an unreachable server, missing rights.
    pub async fn connect(kubeconfig: Option<&Path>) -> Result<Self, WatchError> {
        // Two libraries of this program bring a provider each; the choice is made once, and a second call is no error.
        let _already_chosen = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let broken = |cause: Box<dyn std::error::Error + Send + Sync>| WatchError::Kubeconfig {
            path: kubeconfig.map(|path| path.display().to_string()),
            cause,
        };
        let config = match kubeconfig {
            None => Config::infer().await.map_err(|error| broken(error.into()))?,
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| broken(error.into()))?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| broken(error.into()))?
            }
        };
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| broken(error.into()))?;
        let cluster = Self { client };
        for resource in RESOURCES {
            cluster.check(resource, &url).await?;
        }
        Ok(cluster)
    }

    async fn check(&self, resource: (&str, &str, &str, &'static str), url: &str) -> Result<(), WatchError> {
        match self.api(resource).list_metadata(&ListParams::default().limit(1)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                Err(WatchError::Denied { resource: resource.3, reason: status.message.clone() })
            }
            Err(cause) => Err(WatchError::Unreachable {
                url: url.to_owned(),
                resource: resource.3,
                cause: Box::new(cause),
            }),
        }
    }

    fn api(&self, (group, version, kind, plural): (&str, &str, &str, &str)) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(group, version, kind);
        Api::all_with(self.client.clone(), &ApiResource::from_gvk_with_plural(&kind, plural))
    }

    /// Everything that happens to the watched objects, beginning with a list of each kind. Never ends: what breaks off
    /// is taken up again, with growing pauses; a version that the server has forgotten leads to a new list.
    pub fn changes(&self) -> Changes {
        let streams = RESOURCES.map(|resource| {
            let config = watcher::Config::default().page_size(PAGE);
            watch(self.api(resource), config).default_backoff().map(move |event| (resource.2, event)).boxed()
        });
        Changes {
            streams: stream::select_all(streams),
            unlisted: RESOURCES.map(|resource| resource.2).into(),
        }
    }
}

type KindEvent = (&'static str, watcher::Result<Event<DynamicObject>>);

/// The stream of changes.
pub struct Changes {
    streams: SelectAll<BoxStream<'static, KindEvent>>,
    /// Kinds of which no list has been complete yet.
    unlisted: BTreeSet<&'static str>,
}

impl Changes {
    /// Whether every kind has been listed once: before that the history may lack objects that are there.
    pub fn all_listed(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Waits for the next change and takes it into the history. False when there will be none any more.
    pub async fn next_into(&mut self, history: &mut History, metrics: &WatcherMetrics) -> bool {
        let Some((kind, event)) = self.streams.next().await else { return false };
        metrics.changes.add(1);
        let outcome = match event {
            Ok(Event::Apply(object)) => history.handle_applied(kind, &value(&object), now()),
            Ok(Event::Delete(object)) => history.handle_deleted(kind, &value(&object), now()),
            Ok(Event::InitApply(object)) => history.handle_listed(kind, &value(&object), now()),
            Ok(Event::Init) => {
                history.handle_list_start(kind);
                Ok(())
            }
            Ok(Event::InitDone) => {
                history.handle_list_end(kind, now());
                self.unlisted.remove(kind);
                tracing::info!(kind, objects = history.len(), "list is complete, watching");
                Ok(())
            }
            Err(error) => {
                metrics.interruptions.add(1);
                tracing::warn!(kind, %error, "watch broke off and is taken up again");
                Ok(())
            }
        };
        if let Err(error) = outcome {
            metrics.unreadable.add(1);
            tracing::warn!(kind, %error, "an object cannot be read");
        }
        metrics.objects.set(i64::try_from(history.len()).unwrap_or(i64::MAX));
        true
    }
}

/// The object as JSON. A value that serde cannot write has no names and is reported as such.
fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// The time at which a change is seen. The core takes it as an argument; here is where it comes from.
fn now() -> Timestamp {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(passed.as_micros()).unwrap_or(i64::MAX))
}
