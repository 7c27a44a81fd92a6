//! A real kube-apiserver tells, the history is made of it, and the index answers for each time.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use wirecall_enricher::metrics::WatcherMetrics;
use wirecall_enricher::source::kubernetes::{Changes, Cluster, WatchError};
use wirecall_enricher_core::identity::history::History;
use wirecall_enricher_core::{Index, Role};
use wirecall_schemas::{Certainty, Endpoint, Peer, ResolvedBy, Timestamp};
use wirecall_service::telemetry::{Service, Telemetry, TelemetryConfig};
use wirecall_test_support::kubernetes::{Kubernetes, Pod};
use wirecall_test_support::or_skip;

/// How long a change may take from the API server to the index.
const LIMIT: Duration = Duration::from_secs(60);

const LONG_AGO: &str = "2026-01-01T00:00:00Z";

struct Watcher {
    runtime: tokio::runtime::Runtime,
    changes: Changes,
    history: History,
    index: Index,
    metrics: WatcherMetrics,
    _telemetry: Telemetry,
}

impl Watcher {
    fn start(kubernetes: &Kubernetes) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cluster = runtime.block_on(Cluster::connect(Some(&kubernetes.kubeconfig_path()))).unwrap();
        let service = Service { name: "enricher", version: "0", instance: "test".to_owned() };
        let telemetry = Telemetry::metrics_only(&TelemetryConfig::default(), &service).unwrap();
        Self {
            changes: runtime.block_on(async { cluster.changes() }),
            runtime,
            history: History::default(),
            index: Index::default(),
            metrics: WatcherMetrics::new(telemetry.metrics()),
            _telemetry: telemetry,
        }
    }

    /// Takes changes in until the condition holds.
    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = std::time::Instant::now() + LIMIT;
        while !condition(self) {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let Self { runtime, changes, history, metrics, .. } = &mut *self;
            let more = runtime
                .block_on(async { tokio::time::timeout(left, changes.next_into(history, metrics)).await });
            assert!(
                more.unwrap_or_else(|_| panic!("{what} is not seen within {LIMIT:?}")),
                "the watches ended"
            );
            while let Some(record) = self.history.poll_record() {
                self.index.apply(record);
            }
        }
    }

    fn server(&self, endpoint: &str, time: Timestamp) -> Peer {
        let socket: std::net::SocketAddr = endpoint.parse().unwrap();
        self.index.peer(Endpoint { address: socket.ip(), port: socket.port() }, Role::Server, time)
    }

    fn pod_is(&self, endpoint: &str, name: Option<&str>, time: Timestamp) -> bool {
        let peer = self.server(endpoint, time);
        peer.pod.as_deref() == name && (peer.certainty == Certainty::Exact) == name.is_some()
    }
}

fn now() -> Timestamp {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_micros(i64::try_from(passed.as_micros()).unwrap())
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

#[test]
fn the_index_answers_for_each_time() {
    let mut kubernetes = or_skip!(Kubernetes::start());
    kubernetes.create_namespace("shop").unwrap();
    let mut watcher = Watcher::start(&kubernetes);
    watcher.until("the first list", |watcher| watcher.changes.all_listed());

    workloads_and_services(&kubernetes, &mut watcher);
    a_reused_address(&kubernetes, &mut watcher);
    a_pod_of_two_seconds(&kubernetes, &mut watcher);
    a_forgotten_version(&mut kubernetes, &mut watcher);
}

fn workloads_and_services(kubernetes: &Kubernetes, watcher: &mut Watcher) {
    let client = kubernetes.client();
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "registry.invalid/none:1"}]},
    });
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
    let deployment = client
        .apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": "shop", "name": "web"}, "spec": spec}))
        .unwrap();
    let replica_set = client
        .apply(&json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"namespace": "shop", "name": "web-1", "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "controller": true,
                "uid": deployment["metadata"]["uid"]}]},
            "spec": spec}))
        .unwrap();
    let pod = Pod::new("shop", "web-1-a")
        .node("node-7")
        .label("app", "web")
        .owner(&replica_set)
        .ip("10.1.2.3")
        .ip("fd00::3")
        .service_account("web")
        .container("main", "containerd://0123456789abcdef")
        .start_time(LONG_AGO);
    kubernetes.create_pod(&pod).unwrap();
    client
        .apply_yaml(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  type: NodePort\n  \
             clusterIP: 10.96.0.99\n  ports: [{port: 80, nodePort: 30123}]\n---\napiVersion: \
             discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  namespace: shop\n  labels:\n    \
             kubernetes.io/service-name: web\naddressType: IPv4\nendpoints: [{addresses: [10.1.2.3], targetRef: \
             {kind: Pod, namespace: shop, name: web-1-a}}]\nports: [{port: 8080}]\n",
        )
        .unwrap();
    let node =
        client.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-7"}})).unwrap();
    let addresses = json!({"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]});
    client.set_status(&node, &addresses).unwrap();

    watcher.until("pod, service, slice and node", |watcher| {
        let pod = watcher.server("[fd00::3]:8080", now());
        let service = watcher.server("192.0.2.7:30123", now());
        pod.service.is_some()
            && pod.workload_kind.as_deref() == Some("Deployment")
            && service.service.is_some()
    });
    let peer = watcher.server("10.1.2.3:8080", now());
    assert_eq!(peer.certainty, Certainty::Exact);
    assert_eq!(peer.workload_name.as_deref(), Some("web"));
    assert_eq!(peer.pod.as_deref(), Some("web-1-a"));
    assert_eq!(peer.service.as_deref(), Some("web"));
    assert_eq!(peer.node.as_deref(), Some("node-7"));
    assert_eq!(peer.service_account.as_deref(), Some("web"));
    assert_eq!(peer.container.as_deref(), Some("main"));
    assert_eq!(peer.resolved_as_of, Some(at(LONG_AGO)));
    assert_eq!(watcher.server("10.96.0.99:80", now()).resolved_by, ResolvedBy::ServiceIp);
    let through_node = watcher.server("192.0.2.7:30123", now());
    assert_eq!(
        (through_node.service.as_deref(), through_node.resolved_by),
        (Some("web"), ResolvedBy::NodeIp)
    );
}

fn a_reused_address(kubernetes: &Kubernetes, watcher: &mut Watcher) {
    let first = Pod::new("shop", "first").ip("10.1.9.9").start_time(LONG_AGO);
    kubernetes.create_pod(&first).unwrap();
    watcher.until("the first pod", |watcher| watcher.pod_is("10.1.9.9:1", Some("first"), now()));
    kubernetes.delete_pod(&first).unwrap();
    watcher.until("its end", |watcher| watcher.pod_is("10.1.9.9:1", None, now()));
    let second = Pod::new("shop", "second").ip("10.1.9.9");
    kubernetes.create_pod(&second).unwrap();
    watcher.until("the second pod", |watcher| watcher.pod_is("10.1.9.9:1", Some("second"), now()));
    // The past has not changed.
    assert!(watcher.pod_is("10.1.9.9:1", Some("first"), at("2026-01-01T00:00:01Z")));
    assert!(watcher.pod_is("10.1.9.9:1", None, at("2025-12-31T23:59:59Z")));
}

fn a_pod_of_two_seconds(kubernetes: &Kubernetes, watcher: &mut Watcher) {
    let job = Pod::new("shop", "job").ip("10.1.9.8").start_time(LONG_AGO);
    let made = kubernetes.create_pod(&job).unwrap();
    let finished = json!({"phase": "Succeeded", "containerStatuses": [{
        "name": "main", "containerID": "containerd://j", "image": "i", "imageID": "", "ready": false,
        "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:00:02Z"}}}]});
    kubernetes.client().set_status(&made, &finished).unwrap();
    watcher.until("the finished pod", |watcher| {
        watcher.pod_is("10.1.9.8:1", Some("job"), at("2026-01-01T00:00:01Z"))
            && watcher.pod_is("10.1.9.8:1", None, at("2026-01-01T00:00:03Z"))
    });
}

/// While nobody listens a pod goes, another gets its address, and the server forgets the versions between.
fn a_forgotten_version(kubernetes: &mut Kubernetes, watcher: &mut Watcher) {
    let before = now();
    // The watches break off, so that nothing of what follows waits in a socket.
    kubernetes.restart_server().unwrap();
    kubernetes.delete_pod(&Pod::new("shop", "second")).unwrap();
    kubernetes.create_pod(&Pod::new("shop", "third").ip("10.1.9.9")).unwrap();
    kubernetes.forget_history().unwrap();
    kubernetes.restart_server().unwrap();
    watcher.until("the third pod", |watcher| watcher.pod_is("10.1.9.9:1", Some("third"), now()));
    assert!(watcher.metrics.interruptions.value() > 0, "the watch was to break off");
    assert!(watcher.pod_is("10.1.9.9:1", Some("first"), at("2026-01-01T00:00:01Z")));
    // Nobody saw when the second pod went: in the time between both may have had the address.
    let between = watcher.server("10.1.9.9:1", before);
    assert!(between.pod.as_deref() == Some("second") || between.certainty == Certainty::Ambiguous);
    kubernetes.create_pod(&Pod::new("shop", "after").ip("10.1.9.7")).unwrap();
    watcher.until("a pod after all that", |watcher| watcher.pod_is("10.1.9.7:1", Some("after"), now()));
}

#[test]
fn missing_rights_and_files_are_named() {
    let kubernetes = or_skip!(Kubernetes::start());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect = |path: &std::path::Path| runtime.block_on(Cluster::connect(Some(path))).err().unwrap();
    let denied = connect(&kubernetes.stranger_kubeconfig_path());
    assert!(matches!(&denied, WatchError::Denied { .. }), "{denied:?}");
    assert!(denied.to_string().contains("get, list and watch"), "{denied}");
    let missing = connect("/nowhere/kubeconfig".as_ref());
    assert!(missing.to_string().contains("/nowhere/kubeconfig"), "{missing}");
}
