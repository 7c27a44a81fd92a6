//! A pod as a test describes it, written to the API as scheduler and kubelet would write it.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::Kubernetes;

/// The description of a pod; [`Kubernetes::create_pod`] makes it.
#[derive(Debug, Clone)]
pub struct Pod {
    namespace: String,
    name: String,
    node: String,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    owner: Option<Value>,
    addresses: Vec<String>,
    node_address: Option<String>,
    host_network: bool,
    service_account: Option<String>,
    containers: Vec<(String, String)>,
    phase: String,
    start_time: Option<String>,
}

impl Pod {
    /// A running pod on the node `node-1`, with the container `main`, without an address.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            node: "node-1".to_owned(),
            labels: Map::new(),
            annotations: Map::new(),
            owner: None,
            addresses: Vec::new(),
            node_address: None,
            host_network: false,
            service_account: None,
            containers: Vec::new(),
            phase: "Running".to_owned(),
            start_time: None,
        }
    }

    /// The node it runs on; the node's object need not exist.
    #[must_use]
    pub fn node(mut self, name: &str) -> Self {
        self.node = name.to_owned();
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.into());
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.into());
        self
    }

    /// Sets the controlling owner from its object, which must have been read from the API: its uid is needed.
    #[must_use]
    pub fn owner(mut self, object: &Value) -> Self {
        self.owner = Some(json!({
            "apiVersion": object["apiVersion"],
            "kind": object["kind"],
            "name": object["metadata"]["name"],
            "uid": object["metadata"]["uid"],
            "controller": true,
        }));
        self
    }

    /// Adds an address; the first is the primary one. Two families make a dual-stack pod.
    #[must_use]
    pub fn ip(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// Sets the node's address as the pod's status tells it.
    #[must_use]
    pub fn host_ip(mut self, address: &str) -> Self {
        self.node_address = Some(address.to_owned());
        self
    }

    /// Puts the pod into its node's network; its addresses are then the node's.
    #[must_use]
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// Sets the service account's name.
    #[must_use]
    pub fn service_account(mut self, name: &str) -> Self {
        self.service_account = Some(name.to_owned());
        self
    }

    /// Adds a container with its id as the runtime names it (`containerd://…`).
    #[must_use]
    pub fn container(mut self, name: &str, id: &str) -> Self {
        self.containers.push((name.to_owned(), id.to_owned()));
        self
    }

    /// Sets the phase (`Pending`, `Running`, `Succeeded`, `Failed`).
    #[must_use]
    pub fn phase(mut self, phase: &str) -> Self {
        self.phase = phase.to_owned();
        self
    }

    /// Sets when the kubelet took it, as RFC 3339.
    #[must_use]
    pub fn start_time(mut self, time: &str) -> Self {
        self.start_time = Some(time.to_owned());
        self
    }

    /// The object without its status, as it would be created.
    fn object(&self) -> Value {
        let mut metadata = json!({
            "namespace": self.namespace,
            "name": self.name,
            "labels": self.labels,
            "annotations": self.annotations,
        });
        if let Some(owner) = &self.owner {
            metadata["ownerReferences"] = json!([owner]);
        }
        let containers: Vec<_> =
            self.names().map(|name| json!({"name": name, "image": "registry.invalid/none:1"})).collect();
        let mut spec = json!({
            "nodeName": self.node,
            "hostNetwork": self.host_network,
            "containers": containers,
        });
        if let Some(account) = &self.service_account {
            spec["serviceAccountName"] = account.as_str().into();
        }
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    }

    fn status(&self) -> Value {
        let mut status = json!({
            "phase": self.phase,
            "podIPs": self.addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
            "containerStatuses": self.container_statuses(),
        });
        if let Some(primary) = self.addresses.first() {
            status["podIP"] = primary.as_str().into();
        }
        if let Some(address) = &self.node_address {
            status["hostIP"] = address.as_str().into();
            status["hostIPs"] = json!([{ "ip": address }]);
        }
        if let Some(time) = &self.start_time {
            status["startTime"] = time.as_str().into();
        }
        status
    }

    fn container_statuses(&self) -> Vec<Value> {
        self.containers
            .iter()
            .map(|(name, id)| {
                json!({
                    "name": name,
                    "containerID": id,
                    "image": "registry.invalid/none:1",
                    "imageID": "",
                    "ready": true,
                    "restartCount": 0,
                    "state": {"running": {}},
                })
            })
            .collect()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let unnamed = self.containers.is_empty().then_some("main");
        self.containers.iter().map(|(name, _)| name.as_str()).chain(unnamed)
    }
}

impl Kubernetes {
    /// Makes the pod and then writes its status, and gives it as it is then. The namespace must exist.
    ///
    /// # Errors
    ///
    /// If the API refuses.
    pub fn create_pod(&self, pod: &Pod) -> Result<Value> {
        let object = pod.object();
        self.client().apply(&object).with_context(|| format!("create pod {}/{}", pod.namespace, pod.name))?;
        self.set_pod_status(pod)
    }

    /// Writes the status of a pod that exists, after its description has changed (another phase, an address).
    ///
    /// # Errors
    ///
    /// If the API refuses.
    pub fn set_pod_status(&self, pod: &Pod) -> Result<Value> {
        self.client()
            .set_status(&pod.object(), &pod.status())
            .with_context(|| format!("set the status of pod {}/{}", pod.namespace, pod.name))
    }

    /// Deletes the pod at once.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn delete_pod(&self, pod: &Pod) -> Result<()> {
        self.client().delete(&pod.object())
    }
}
