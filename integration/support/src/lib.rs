//! Real components for tests and demonstrations: Apache Kafka, a schema registry, a kube-apiserver with etcd,
//! network namespaces and nginx.
//!
//! A fresh clone has nothing beside it, so everything here fetches what it needs by package name through the
//! ordinary clients (apt-get, Maven, the Go tool chain), keeps it in a cache folder keyed by version, and starts
//! it on 127.0.0.1 or inside network namespaces of its own. All of it is blocking code, made for plain `#[test]`
//! functions; a value that stands for a component ends that component when it is dropped.
//!
//! ```no_run
//! use wirecall_test_support::{kafka::KafkaCluster, or_skip};
//!
//! let cluster = or_skip!(KafkaCluster::start(1));
//! println!("bootstrap.servers={}", cluster.bootstrap());
//! ```

pub mod cache;
pub mod http;
pub mod install;
pub mod kafka;
pub mod kubernetes;
pub mod netns;
pub mod nginx;
pub mod ports;
pub mod process;
pub mod registry;
pub mod scratch;
pub mod skip;

mod maven;
