//! The kube-apiserver really starts, and pods get the history that a test gives them.

use serde_json::json;
use wirecall_test_support::kubernetes::{Kubernetes, Pod};
use wirecall_test_support::or_skip;

#[test]
fn pods_have_the_history_that_was_written() {
    let mut cluster = or_skip!(Kubernetes::start());
    cluster.create_namespace("shop").unwrap();
    let replica_set = cluster
        .client()
        .apply(&json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"namespace": "shop", "name": "web-1"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "main", "image": "registry.invalid/none:1"}]},
                },
            },
        }))
        .unwrap();
    let pod = Pod::new("shop", "web-1-a")
        .node("node-7")
        .label("app", "web")
        .annotation("team", "shop")
        .owner(&replica_set)
        .ip("10.1.2.3")
        .ip("fd00::3")
        .host_ip("192.0.2.7")
        .service_account("web")
        .container("main", "containerd://0123456789abcdef")
        .start_time("2026-01-02T03:04:05Z");
    let made = cluster.create_pod(&pod).unwrap();
    let read = cluster.client().read(&made).unwrap();
    assert_eq!(read["status"]["podIPs"], json!([{"ip": "10.1.2.3"}, {"ip": "fd00::3"}]));
    assert_eq!(read["status"]["phase"], "Running");
    assert_eq!(read["status"]["containerStatuses"][0]["containerID"], "containerd://0123456789abcdef");
    assert_eq!(read["spec"]["nodeName"], "node-7");
    assert_eq!(read["metadata"]["ownerReferences"][0]["uid"], replica_set["metadata"]["uid"]);

    let services = cluster
        .client()
        .apply_yaml(
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  clusterIP: 10.96.0.99\n  \
             ports: [{port: 80}]\n---\napiVersion: v1\nkind: Node\nmetadata:\n  name: node-7\n",
        )
        .unwrap();
    assert_eq!(services[0]["spec"]["clusterIP"], "10.96.0.99");
    assert_eq!(services[1]["kind"], "Node");

    a_watch_from_before_is_too_old(&mut cluster, &read);

    cluster.delete_pod(&pod).unwrap();
    assert!(cluster.client().read(&made).unwrap_err().to_string().contains("pods/web-1-a"));
}

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn a_watch_from_before_is_too_old(cluster: &mut Kubernetes, pod: &serde_json::Value) {
    let version = pod["metadata"]["resourceVersion"].as_str().unwrap();
    let watch = format!("/api/v1/pods?watch=1&timeoutSeconds=1&resourceVersion={version}");
    assert_eq!(cluster.client().get(&watch).unwrap().status, 200);
    cluster.create_namespace("later").unwrap();
    cluster.forget_history().unwrap();
    cluster.restart_server().unwrap();
    let answer = cluster.client().get(&watch).unwrap();
    assert!(answer.text().contains("\"code\":410") || answer.status == 410, "{answer:?}");
}

#[test]
fn kubeconfigs_name_two_users() {
    let cluster = or_skip!(Kubernetes::start());
    let status = |path: &std::path::Path| {
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let token = config["users"][0]["user"]["token"].as_str().unwrap();
        let authority = config["clusters"][0]["cluster"]["certificate-authority"].as_str().unwrap();
        wirecall_test_support::http::Request::new("GET", &format!("{}/api/v1/pods", cluster.url()))
            .header("Authorization", &format!("Bearer {token}"))
            .trust(authority.as_ref())
            .send()
            .unwrap()
            .status
    };
    assert_eq!(status(&cluster.kubeconfig_path()), 200);
    assert_eq!(status(&cluster.stranger_kubeconfig_path()), 403);
}
