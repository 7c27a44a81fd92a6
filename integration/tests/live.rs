//! Real traffic of a real nginx, captured live from the kernel, through a real Kafka, with identities of a real
//! kube-apiserver, by the services as processes of their own: the events equal nginx's own access log.

mod common;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{AGENT, Installation, PATIENCE, kafka, sample};
use serde_json::{Value, json};
use wirecall::follow::{Follow, Received};
use wirecall::output::{self, Colour, Format};
use wirecall::services::{Running, Service};
use wirecall_bus::StartAt;
use wirecall_schemas::topic::Topic;
use wirecall_schemas::{
    Agent, ApiEvent, Certainty, ChunkCause, ChunkKind, Completeness, Decoding, Identity, Message, Peer,
    Record, Segment, StatusClass,
};
use wirecall_test_support::kubernetes::{Kubernetes, Pod};
use wirecall_test_support::netns::{Namespace, NamespacePair};
use wirecall_test_support::nginx::{AccessRecord, Nginx};
use wirecall_test_support::or_skip;
use wirecall_test_support::process::wait_for;

/// What is sent to `/echo`.
const SENT: &str = "{\"article\":\"kettle\",\"count\":2}";

/// The connection records tell how each connection ended.
const ALL_CONNECTIONS: &str = "[dissection]\nconnection_records = \"all\"\n";

/// Each kind of request once, as arguments of curl before the URL, and the path.
const REQUESTS: [(&[&str], &str); 13] = [
    (&[], "/200.json"),
    (&[], "/2000.json?page=2&size=10"),
    (&[], "/64000.json"),
    (&[], "/1000000.json"),
    (&["-H", "Accept-Encoding: gzip"], "/gzip/6000.json"),
    (&[], "/chunked/6000.json"),
    (&["-X", "POST", "-H", "Content-Type: application/json", "--data-binary", SENT], "/echo"),
    (&["-X", "PUT", "-H", "Content-Type: text/plain", "--data-binary", "three"], "/request"),
    (&["--head"], "/2000.json"),
    (&[], "/missing"),
    (&[], "/broken"),
    (&[], "/moved"),
    (&[], "/empty"),
];

/// Four connections with all requests, of both families, and a connection for each of eight requests.
fn traffic(pair: &NamespacePair, nginx: &Nginx) -> usize {
    let bases = [nginx.url(), nginx.url_ipv6().expect("nginx listens on IPv6 in a namespace")];
    for base in bases.iter().chain(&bases) {
        run_curl(pair.client.command("curl"), base, &REQUESTS);
    }
    for request in REQUESTS.iter().skip(4).take(4) {
        for base in &bases {
            run_curl(pair.client.command("curl"), base, std::slice::from_ref(request));
        }
    }
    REQUESTS.len() * 4 + 8
}

/// One curl asks all of it over one connection.
fn run_curl(mut curl: Command, base: &str, requests: &[(&[&str], &str)]) {
    for (number, (arguments, path)) in requests.iter().enumerate() {
        if number > 0 {
            curl.arg("--next");
        }
        curl.args(["-sS", "--noproxy", "*", "--max-time", "30", "-o", "/dev/null"]).args(*arguments);
        curl.arg(format!("{base}{path}"));
    }
    let output = curl.output().expect("curl runs");
    assert!(output.status.success(), "{base}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A connection that a request went over and that stays open.
fn open_connection(client: &Namespace, server: SocketAddr) -> TcpStream {
    let connect = move || {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /empty HTTP/1.1\r\nHost: web\r\n\r\n")?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        Ok(stream)
    };
    client.inside(connect).expect("nginx answers")
}

/// Starts an agent and waits until it captures.
fn start_capture(installation: &Installation, sections: &str) -> Running {
    let sections = format!("[agent]\nid = \"{AGENT}\"\n{sections}");
    let mut agent = installation.start(Service::Capture, "capture", &sections);
    wait_for("capturing", PATIENCE, || {
        agent.check()?;
        Ok(agent.log().contains("capturing"))
    })
    .expect("the agent captures");
    agent
}

/// Reads a topic from its beginning until `is_enough` says so, and gives all that was read by then.
fn read_until<R: Record>(
    installation: &Installation,
    topic: Topic,
    services: &mut [Running],
    mut is_enough: impl FnMut(&[R]) -> bool,
) -> Vec<R> {
    const TURN: Duration = Duration::from_millis(200);
    let mut follow = Follow::<R>::new(&installation.bus, &installation.topic(topic), StartAt::Beginning)
        .expect("the topic is there");
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while !is_enough(&records) {
        assert!(Instant::now() < deadline, "{} records of {topic:?} are not enough", records.len());
        services.iter_mut().for_each(|service| service.check().expect("the service lives"));
        match follow.next(TURN).expect("the broker answers") {
            Some(Received::Record(record)) => records.push(*record),
            Some(Received::Undecodable { error, .. }) => panic!("a record of {topic:?}: {error}"),
            None => {}
        }
    }
    records
}

fn end(service: &mut Running) {
    let status = service.terminate(PATIENCE).expect("the service drains");
    assert_eq!(status.code(), Some(0), "it ended with {status}:\n{}", service.log_tail());
}

fn is_http(event: &&ApiEvent) -> bool {
    &*event.protocol == "http"
}

type Line = (String, String, String);

fn by_log(log: &[AccessRecord]) -> BTreeMap<Line, usize> {
    count(log.iter().map(|it| (it.method.clone(), it.target.clone(), it.status.to_string())))
}

fn by_events<'e>(events: impl Iterator<Item = &'e ApiEvent>) -> BTreeMap<Line, usize> {
    let text = |text: &Option<wirecall_schemas::ByteString>| text.as_deref().unwrap_or_default().to_owned();
    count(events.map(|event| (text(&event.operation), text(&event.target), text(&event.status))))
}

fn count(lines: impl Iterator<Item = Line>) -> BTreeMap<Line, usize> {
    let mut counted = BTreeMap::new();
    for line in lines {
        *counted.entry(line).or_default() += 1;
    }
    counted
}

#[test]
fn what_crosses_the_wire_in_a_cluster_is_what_nginx_has_answered() {
    let cluster = or_skip!(kafka());
    let pair = or_skip!(NamespacePair::builder().bridged().create());
    let nginx = or_skip!(Nginx::start_in(&pair.server));
    let kubernetes = or_skip!(Kubernetes::start());
    set_scene(&kubernetes, &pair);
    let installation = Installation::new(&cluster.bootstrap(), "live", 4);
    let mut services = start_services(&installation, &kubernetes);
    let interface = pair.host_interface().expect("a bridged pair has one");
    let mut agent = start_capture(&installation, &format!("[source]\ninterfaces = [\"{interface}\"]\n"));

    let held = open_connection(&pair.client, (pair.server.ipv4(), nginx.port()).into());
    let requests = traffic(&pair, &nginx) + 1;
    let log = nginx.wait_for_requests(requests, PATIENCE).expect("nginx logs all");
    read_until::<ApiEvent>(&installation, Topic::ApiEvents, &mut services, |events| {
        events.iter().filter(is_http).count() >= requests
    });
    end(&mut agent);
    let connections: std::collections::BTreeSet<_> = log.iter().map(|record| record.connection).collect();
    let events = installation.events(requests + connections.len(), &mut services);
    services.iter_mut().for_each(end);

    assert_eq!(log.len(), requests, "nobody else asked this nginx");
    assert_eq!(by_events(events.iter().filter(is_http)), by_log(&log));
    assert_eq!(events.len(), requests + connections.len(), "calls and connections, and nothing else");
    for event in &events {
        check_peers(event, &pair);
        if is_http(&event) {
            check_call(event, &nginx);
        }
    }
    check_end(&installation, &events, held.local_addr().expect("it is bound").port());
}

/// A Deployment's pod behind a Service, with the server's addresses, and a StatefulSet's pod with the client's.
fn set_scene(kubernetes: &Kubernetes, pair: &NamespacePair) {
    let apply = |object: Value| kubernetes.client().apply(&object).expect("the API takes it");
    let workload = |version: &str, kind: &str, name: &str, app: &str, owner: Option<&Value>| {
        let template = json!({
            "metadata": {"labels": {"app": app}},
            "spec": {"containers": [{"name": "main", "image": "registry.invalid/none:1"}]},
        });
        let owners: Vec<_> = owner.into_iter().map(|owner| json!({
            "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "controller": true,
        })).collect();
        apply(json!({
            "apiVersion": version, "kind": kind,
            "metadata": {"namespace": "shop", "name": name, "ownerReferences": owners},
            "spec": {"selector": {"matchLabels": {"app": app}}, "template": template},
        }))
    };
    kubernetes.create_namespace("shop").expect("a namespace");
    let deployment = workload("apps/v1", "Deployment", "web", "web", None);
    let replica_set = workload("apps/v1", "ReplicaSet", "web-1", "web", Some(&deployment));
    let stateful_set = workload("apps/v1", "StatefulSet", "buyer", "buyer", None);
    let pods =
        [(&pair.server, "web-1-a", "web", &replica_set), (&pair.client, "buyer-0", "buyer", &stateful_set)];
    for (end, name, app, owner) in pods {
        let pod = Pod::new("shop", name).label("app", app).owner(owner).ip(&end.ipv4().to_string());
        kubernetes.create_pod(&pod.ip(&end.ipv6().to_string())).expect("a pod");
        apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": app},
            "spec": {"selector": {"app": app}, "ports": [{"port": 80}]},
        }));
        for (family, address) in [("IPv4", end.ipv4().to_string()), ("IPv6", end.ipv6().to_string())] {
            apply(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
                "metadata": {
                    "namespace": "shop", "name": format!("{app}-{}", family.to_lowercase()),
                    "labels": {"kubernetes.io/service-name": app},
                },
                "endpoints": [{
                    "addresses": [address],
                    "targetRef": {"kind": "Pod", "namespace": "shop", "name": name},
                }],
                "ports": [{"port": 80}],
            }));
        }
    }
}

/// The watcher; then, when the history tells of everything in the scene, dissector and enricher.
fn start_services(installation: &Installation, kubernetes: &Kubernetes) -> Vec<Running> {
    let sections = format!(
        "role = \"watcher\"\n[watcher]\nkubeconfig = \"{}\"\n",
        kubernetes.kubeconfig_path().display()
    );
    let watcher = installation.start(Service::Enricher, "watcher", &sections);
    wait_for("preparing the topics", PATIENCE, || {
        Follow::<Identity>::new(&installation.bus, &installation.topic(Topic::Identities), StartAt::Beginning)
            .map(|_| true)
    })
    .expect("the watcher makes its topic");
    let mut services = vec![watcher];
    read_until::<Identity>(installation, Topic::Identities, &mut services, |history| {
        let known = |kind: &str| history.iter().filter(|it| &*it.kind == kind && is_in_scene(it)).count();
        known("Pod") >= 2 && known("Service") >= 2 && known("EndpointSlice") >= 4 && known("ReplicaSet") >= 1
    });
    services.push(installation.start(Service::Dissector, "dissector", ALL_CONNECTIONS));
    services.push(installation.start(Service::Enricher, "enricher", "[identities]\nsource = \"topic\"\n"));
    services
}

fn is_in_scene(identity: &Identity) -> bool {
    let is_addressless = &*identity.kind == "ReplicaSet";
    identity.namespace.as_deref() == Some("shop") && (is_addressless || !identity.addresses.is_empty())
}

fn check_peers(event: &ApiEvent, pair: &NamespacePair) {
    let check = |peer: &Peer, end: &Namespace, pod, kind, name| {
        let family: std::net::IpAddr =
            if peer.address.is_ipv4() { end.ipv4().into() } else { end.ipv6().into() };
        assert_eq!(peer.address, family);
        assert_eq!((peer.certainty, peer.pod.as_deref()), (Certainty::Exact, Some(pod)), "{peer:?}");
        assert_eq!(peer.workload_kind.as_deref(), Some(kind), "{peer:?}");
        assert_eq!(peer.workload_name.as_deref(), Some(name), "{peer:?}");
        assert_eq!(
            (peer.namespace.as_deref(), peer.service.as_deref()),
            (Some("shop"), Some(name)),
            "{peer:?}"
        );
    };
    check(&event.client, &pair.client, "buyer-0", "StatefulSet", "buyer");
    check(&event.server, &pair.server, "web-1-a", "Deployment", "web");
}

fn check_call(event: &ApiEvent, nginx: &Nginx) {
    let target = event.target.as_deref().expect("a target");
    assert_eq!(event.completeness, Completeness::Matched, "{target}");
    let (Some(request), Some(response)) = (&event.request, &event.response) else {
        panic!("halves of {target}")
    };
    let times =
        [request.first_byte_time, request.last_byte_time, response.first_byte_time, response.last_byte_time];
    assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{target}: {times:?}");
    assert_eq!((event.start_time, event.end_time), (times[0], times[3]), "{target}");
    assert_eq!((event.ledger.request_gap_bytes, event.ledger.response_gap_bytes), (0, 0), "{target}");
    if event.operation.as_deref() == Some("POST") {
        assert_eq!(content(request), SENT.as_bytes());
        assert_eq!(content(response), SENT.as_bytes());
    }
    if event.operation.as_deref() == Some("GET") && target.contains(".json") {
        let path = target.split('?').next().expect("a path").rsplit('/').next().expect("a name");
        let file = std::fs::read(nginx.files().join(path)).expect("nginx serves it");
        let body = response.body.as_ref().expect("a body");
        assert_eq!(content(response), &file[..content(response).len()], "{target}");
        assert_eq!(body.truncated, content(response).len() < file.len(), "{target}");
        assert!(file.len() > 6_000 || !body.truncated, "{target}");
        assert_eq!(body.decoding == Decoding::Decoded, target.starts_with("/gzip/"), "{target}");
    }
}

fn content(message: &Message) -> &[u8] {
    message
        .body
        .as_ref()
        .and_then(|body| body.content.as_ref())
        .map_or(&[], |content| &content.as_bytes()[..])
}

/// What the agent left on the record: nothing dropped, and what was open was closed because it ended.
fn check_end(installation: &Installation, events: &[ApiEvent], held: u16) {
    let agents: Vec<Agent> = read_until(installation, Topic::Agents, &mut [], |agents: &[Agent]| {
        agents.last().is_some_and(|agent| agent.stopping)
    });
    let last = agents.last().expect("the last heartbeat");
    assert_eq!((last.kernel_dropped_packets, last.open_connections), (0, 0));
    let counted = last.counts.iter().fold((0, 0), |sum, it| (sum.0 + it.packets, sum.1 + it.bytes));
    assert_eq!(counted, (last.packets_read, last.bytes_read), "{:?}", last.counts);

    let of_end = |event: &&ApiEvent| {
        event
            .connection
            .as_ref()
            .is_some_and(|connection| connection.close_reason == ChunkCause::AgentShutdown)
    };
    let open: Vec<_> = events.iter().filter(of_end).map(|event| event.client.port).collect();
    assert_eq!(open, [held]);
    let closes = |segment: &Segment| {
        segment.client.port == held
            && segment
                .chunks
                .iter()
                .any(|it| (it.kind, it.cause) == (ChunkKind::Close, ChunkCause::AgentShutdown))
    };
    read_until(installation, Topic::Segments, &mut [], |segments: &[Segment]| {
        segments.last().is_some_and(closes)
    });
}

#[test]
fn the_agent_leaves_out_its_own_kafka_traffic() {
    let cluster = or_skip!(kafka());
    // Who may make namespaces may capture, and who may not may not.
    drop(or_skip!(NamespacePair::create()));
    let nginx = or_skip!(Nginx::start());
    let broker: SocketAddr = cluster.bootstrap().parse().expect("one broker at an address");
    let installation = Installation::new(&cluster.bootstrap(), "own", 4);
    let mut services = installation.start_dissectors(1);
    services.push(installation.start_enricher(None));
    // Both ports are asked for, so that only the agent's own rule can leave the broker out.
    let ports = format!("[filter]\ninclude_ports = [{}, {}]\n", nginx.port(), broker.port());
    let mut agent = start_capture(&installation, &format!("[source]\ninterfaces = [\"lo\"]\n{ports}"));
    for _ in 0..3 {
        run_curl(Command::new("curl"), &nginx.url(), &REQUESTS);
    }
    let requests = REQUESTS.len() * 3;
    let log = nginx.wait_for_requests(requests, PATIENCE).expect("nginx logs all");
    read_until::<ApiEvent>(&installation, Topic::ApiEvents, &mut services, |events| events.len() >= requests);
    end(&mut agent);
    let events = installation.events(requests, &mut services);
    let segments: Vec<Segment> = installation.records(Topic::Segments, 1, &mut services);

    assert_eq!(by_events(events.iter()), by_log(&log), "the calls of curl and nothing else");
    for segment in &segments {
        assert_eq!(segment.server.port, nginx.port(), "{:?} to {:?}", segment.client, segment.server);
    }
}

/// Runs `wirecall tail`.
fn tail(bootstrap: &str, prefix: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wirecall"))
        .args([
            "tail",
            "--bootstrap",
            bootstrap,
            "--prefix",
            prefix,
            "--from",
            "beginning",
            "--format",
            "jsonl",
        ])
        .args(more)
        .output()
        .expect("the program runs")
}

/// As lines in an order of their own: that of events in different partitions is free.
fn lines<'e>(events: impl Iterator<Item = &'e ApiEvent>) -> Vec<String> {
    let mut text = Vec::new();
    let mut writer = output::writer(Format::Jsonl, Colour::Off, &mut text).expect("a writer");
    events.for_each(|event| writer.write(event).expect("memory takes it"));
    writer.finish().expect("memory takes it");
    drop(writer);
    sorted(&text)
}

fn sorted(text: &[u8]) -> Vec<String> {
    let mut lines: Vec<_> = String::from_utf8_lossy(text).lines().map(ToOwned::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn tail_shows_what_is_in_the_topic() {
    let cluster = or_skip!(kafka());
    let (capture, identities) = sample();
    let installation = Installation::new(&cluster.bootstrap(), "tail", 4);
    let mut services = installation.start_dissectors(1);
    services.push(installation.start_enricher(Some(&identities)));
    installation.play(&[capture]);
    let events = installation.events(16, &mut services);
    let prefix = &installation.bus.topic_prefix;

    let all = tail(&cluster.bootstrap(), prefix, &["--until-end"]);
    assert!(all.status.success(), "{}", String::from_utf8_lossy(&all.stderr));
    assert_eq!(sorted(&all.stdout), lines(events.iter()));

    let some = tail(&cluster.bootstrap(), prefix, &["--until-end", "--count", "3"]);
    assert!(some.status.success(), "{}", String::from_utf8_lossy(&some.stderr));
    let (some, all) = (sorted(&some.stdout), sorted(&all.stdout));
    assert!(some.len() == 3 && some.iter().all(|line| all.contains(line)), "{some:?}");

    let is_fault = |event: &&ApiEvent| event.status_class == StatusClass::ClientError;
    let faults = events.iter().filter(is_fault).count();
    assert!(faults > 0 && faults < events.len(), "the filter has something to do");
    let filter = ["--until-end", "--filter", "status_class == 'client_error'"];
    let filtered = tail(&cluster.bootstrap(), prefix, &filter);
    assert!(filtered.status.success(), "{}", String::from_utf8_lossy(&filtered.stderr));
    assert_eq!(sorted(&filtered.stdout), lines(events.iter().filter(is_fault)));
}

#[test]
fn tail_says_what_keeps_it_from_the_topic() {
    let cluster = or_skip!(kafka());
    let missing = tail(&cluster.bootstrap(), "nobodys.", &["--until-end"]);
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && missing.stdout.is_empty(), "{text}");
    assert!(text.contains("nobodys.api-events") && text.contains("does not exist"), "{text}");

    let begin = Instant::now();
    let nobody = tail("127.0.0.1:9", "nobodys.", &["--until-end"]);
    let text = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert_eq!(nobody.status.code(), Some(69), "{text}");
    assert!(text.contains("127.0.0.1:9"), "{text}");
    let limit = wirecall_bus::BusConfig::default().start_timeout() * 2;
    assert!(begin.elapsed() < limit, "it took {:?}", begin.elapsed());
}
