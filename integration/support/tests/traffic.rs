//! nginx in one network namespace, curl in the other, and the access log that counts.

use std::time::Duration;

use wirecall_test_support::http::Request;
use wirecall_test_support::netns::{INTERFACE, NamespacePair};
use wirecall_test_support::nginx::{FILE_SIZES, Nginx};
use wirecall_test_support::or_skip;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn the_access_log_counts_what_crossed_the_wire() {
    let pair = or_skip!(NamespacePair::create());
    let nginx = or_skip!(Nginx::start_in(&pair.server));
    let base = nginx.url();
    let url_ipv6 = nginx.url_ipv6().unwrap();
    // One curl, one connection: keep-alive.
    let urls: Vec<_> = FILE_SIZES.iter().map(|size| format!("{base}/{size}.json")).collect();
    let arguments: Vec<_> = ["-sS", "--fail"].into_iter().chain(urls.iter().map(String::as_str)).collect();
    let body = pair.client.run("curl", &arguments).unwrap();
    assert_eq!(body.len(), FILE_SIZES.iter().sum::<usize>());
    pair.client.run("curl", &["-sS", "--fail", &format!("{url_ipv6}/200.json")]).unwrap();

    let log = nginx.wait_for_requests(FILE_SIZES.len() + 1, LIMIT).unwrap();
    assert_eq!(log.len(), FILE_SIZES.len() + 1);
    for (number, (record, size)) in log.iter().zip(FILE_SIZES).enumerate() {
        assert_eq!(record.target, format!("/{size}.json"));
        assert_eq!(record.status, 200);
        assert_eq!(record.body_bytes, size as u64);
        assert_eq!(record.client, pair.client.ipv4());
        assert_eq!(record.connection, log[0].connection);
        assert_eq!(record.connection_requests, number as u64 + 1);
    }
    assert_eq!(log.last().unwrap().client, pair.client.ipv6());
}

#[test]
fn nginx_answers_in_every_way_it_promises() {
    let nginx = or_skip!(Nginx::start());
    let url = nginx.url();
    let headers = |path: &str| {
        let output = std::process::Command::new("curl")
            .args(["-sS", "--noproxy", "*", "-o", "/dev/null", "-D", "-", "-H", "Accept-Encoding: gzip"])
            .arg(format!("{url}{path}"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().to_lowercase()
    };
    let plain = headers("/2000.json");
    assert!(plain.contains("content-length: 2000") && !plain.contains("gzip"), "{plain}");
    let gzip = headers("/gzip/2000.json");
    assert!(gzip.contains("content-encoding: gzip") && gzip.contains("transfer-encoding: chunked"), "{gzip}");
    let chunked = headers("/chunked/2000.json");
    assert!(chunked.contains("transfer-encoding: chunked") && !chunked.contains("gzip"), "{chunked}");
    assert!(headers("/close/200.json").contains("connection: close"));
    assert!(headers("/moved").starts_with("http/1.1 301"));
    assert!(headers("/empty").starts_with("http/1.1 204"));
    assert!(headers("/broken").starts_with("http/1.1 500"));
    assert!(headers("/nowhere").starts_with("http/1.1 404"));

    let sent = format!("{{\"text\":\"{}\"}}", "é\"<&".repeat(1000).replace('"', "\\\""));
    let echo =
        Request::new("POST", &format!("{url}/echo")).body("application/json", sent.as_str()).send().unwrap();
    assert_eq!(echo.status, 200);
    assert_eq!(echo.text(), sent);
    let described = Request::new("PUT", &format!("{url}/request"))
        .body("text/plain", "abc")
        .send()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(described, serde_json::json!({"method": "PUT", "length": "3", "type": "text/plain"}));

    let statuses: Vec<_> =
        nginx.wait_for_requests(10, LIMIT).unwrap().iter().map(|record| record.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 301, 204, 500, 404, 200, 200]);
}

#[test]
fn offloads_and_packet_size_are_as_asked() {
    let pair = or_skip!(NamespacePair::builder().mtu(9000).without_offloads().create());
    for namespace in [&pair.client, &pair.server] {
        let link = namespace.run("ip", &["link", "show", INTERFACE]).unwrap();
        assert!(link.contains("mtu 9000"), "{link}");
        let features = namespace.run("ethtool", &["-k", INTERFACE]).unwrap();
        assert!(features.contains("tcp-segmentation-offload: off"), "{features}");
        assert!(features.contains("tx-checksumming: off"), "{features}");
        assert!(namespace.path().exists());
    }
    let paths = [pair.client.path(), pair.server.path()];
    drop(pair);
    assert!(paths.iter().all(|path| !path.exists()));
}

#[test]
fn a_bridge_joins_the_namespaces_and_goes_with_them() {
    let pair = or_skip!(NamespacePair::builder().bridged().create());
    let port = std::path::Path::new("/sys/class/net").join(pair.host_interface().unwrap());
    assert!(port.join("master").exists());
    let nginx = or_skip!(Nginx::start_in(&pair.server));
    for url in [nginx.url(), nginx.url_ipv6().unwrap()] {
        pair.client.run("curl", &["-sS", "--fail", &format!("{url}/200.json")]).unwrap();
    }
    let address = (pair.server.ipv4(), nginx.port());
    let stream = pair.client.inside(move || Ok(std::net::TcpStream::connect(address)?)).unwrap();
    assert_eq!(stream.local_addr().unwrap().ip(), pair.client.ipv4());
    drop(nginx);
    drop(pair);
    assert!(!port.exists());
}
