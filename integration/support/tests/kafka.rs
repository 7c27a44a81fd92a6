//! Apache Kafka really starts, survives a broker's death, and tells users apart.

use std::time::Duration;

use wirecall_test_support::kafka::KafkaCluster;
use wirecall_test_support::or_skip;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn one_broker_keeps_topics_through_a_kill() {
    let mut cluster = or_skip!(KafkaCluster::start(1));
    cluster.tool(TOPICS, &["--create", "--topic", "kept", "--partitions", "3"]).unwrap();
    cluster.kill(1).unwrap();
    assert!(!cluster.broker(1).unwrap().is_running());
    cluster.restart(1).unwrap();
    cluster.wait_ready(LIMIT).unwrap();
    let described = cluster.tool(TOPICS, &["--describe", "--topic", "kept"]).unwrap();
    assert!(described.contains("PartitionCount: 3"), "{described}");
}

#[test]
fn three_brokers_go_on_without_one() {
    let mut cluster = or_skip!(KafkaCluster::start(3));
    assert_eq!(cluster.bootstrap().split(',').count(), 3);
    cluster.kill(2).unwrap();
    cluster.wait_ready(LIMIT).unwrap();
    cluster.restart(2).unwrap();
    cluster.wait_ready(LIMIT).unwrap();
    assert!(cluster.kill(4).is_err());
}

#[test]
fn users_are_told_apart() {
    let cluster = or_skip!(
        KafkaCluster::builder()
            .user("admin", "for-set-up")
            .user("reader", "secret")
            .authorize()
            .property("message.max.bytes", "2000000")
            .start()
    );
    cluster.tool(TOPICS, &["--create", "--topic", "guarded"]).unwrap();
    let folder = wirecall_test_support::scratch::folder("credentials").unwrap();
    let produce = |user: &str, password: &str| {
        let login = "org.apache.kafka.common.security.plain.PlainLoginModule required";
        let properties = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nmax.block.ms=30000\n\
             bootstrap.servers={}\nsasl.jaas.config={login} username=\"{user}\" password=\"{password}\";\n",
            cluster.sasl_bootstrap().unwrap()
        );
        let file = folder.path().join("producer.properties");
        std::fs::write(&file, properties).unwrap();
        let output = cluster
            .tool_command("org.apache.kafka.tools.ProducerPerformance")
            .unwrap()
            .args(["--topic", "guarded", "--num-records", "1", "--record-size", "10", "--throughput", "-1"])
            .arg("--producer.config")
            .arg(&file)
            .output()
            .unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let wrong = produce("reader", "wrong");
    assert!(wrong.contains("Authentication failed"), "{wrong}");
    let unwritable = produce("reader", "secret");
    assert!(unwritable.contains("Not authorized to access topics"), "{unwritable}");
    cluster.allow("reader", &["Write", "Describe"], &["--topic", "guarded"]).unwrap();
    let produced = produce("reader", "secret");
    assert!(produced.contains("1 records sent") && !produced.contains("Not authorized"), "{produced}");
}
