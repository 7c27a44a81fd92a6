//! What the bus counts, and what librdkafka says of itself.
//!
//! Counters are plain atomics, added to by the threads that do the work and read by whoever asks: the metrics endpoint
//! or a test. Nothing is added per record with labels.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use rdkafka::statistics::Statistics;

/// A number that only grows, or a level.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Replaces the number.
    pub fn set(&self, amount: u64) {
        self.0.store(amount, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bus's numbers, since the start of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Records read.
    pub records_in: Counter,
    /// Bytes of key and value read.
    pub bytes_in: Counter,
    /// Records read again after a rewind, with their output suppressed.
    pub records_replayed: Counter,
    /// Records handed to the producer.
    pub records_out: Counter,
    /// Bytes of key and value handed to the producer.
    pub bytes_out: Counter,
    /// Records that the broker confirmed.
    pub delivered: Counter,
    /// Records that could not be delivered.
    pub failed: Counter,
    /// Times the producer's queue was full.
    pub queue_full: Counter,
    /// Transactions committed.
    pub commits: Counter,
    /// Microseconds spent in committing.
    pub commit_micros: Counter,
    /// Transactions aborted.
    pub aborts: Counter,
    /// Times the transactional producer was thrown away and made anew.
    pub producers_recreated: Counter,
    /// Partitions got, over all rebalances.
    pub partitions_assigned: Counter,
    /// Partitions given back or lost, over all rebalances.
    pub partitions_revoked: Counter,
    /// Partitions held now.
    pub partitions: Counter,
    /// Records that became dead letters.
    pub dead_letters: Counter,
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    consumer: ClientState,
    producer: ClientState,
}

/// What librdkafka said of one client in its last statistics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientState {
    /// Records waiting in the client's queues.
    pub queued_records: u64,
    /// Bytes waiting in the client's queues.
    pub queued_bytes: u64,
    /// Longest 99th percentile of the round-trip time to a broker.
    pub round_trip: Duration,
    /// Failed requests, over all brokers.
    pub request_errors: u64,
    /// State of the transaction, as librdkafka calls it; empty without one.
    pub transaction_state: String,
    /// Records between the committed offset and the end, by topic and partition, for the partitions held.
    pub lag: BTreeMap<(String, i32), i64>,
}

/// Which client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Consumer,
    Producer,
}

impl Metrics {
    /// What the consumer's librdkafka said last.
    pub fn consumer(&self) -> ClientState {
        self.lock().consumer.clone()
    }

    /// What the producer's librdkafka said last.
    pub fn producer(&self) -> ClientState {
        self.lock().producer.clone()
    }

    pub(crate) fn update(&self, role: Role, statistics: &Statistics) {
        let state = ClientState::from(statistics);
        let mut clients = self.lock();
        match role {
            Role::Consumer => clients.consumer = state,
            Role::Producer => clients.producer = state,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers all numbers with `meter`, each name behind `prefix` (the service's name).
    pub fn register(self: &Arc<Self>, meter: &Meter, prefix: &str) {
        type Choose = fn(&Metrics) -> &Counter;
        let counters: [(&str, &str, Choose); 15] = [
            ("bus_records_read", "records read", |metrics| &metrics.records_in),
            ("bus_bytes_read", "bytes of key and value read", |metrics| &metrics.bytes_in),
            ("bus_records_replayed", "records read again with output suppressed", |metrics| {
                &metrics.records_replayed
            }),
            ("bus_records_sent", "records handed to the producer", |metrics| &metrics.records_out),
            ("bus_bytes_sent", "bytes of key and value handed to the producer", |metrics| &metrics.bytes_out),
            ("bus_records_delivered", "records the broker confirmed", |metrics| &metrics.delivered),
            ("bus_records_failed", "records that could not be delivered", |metrics| &metrics.failed),
            ("bus_queue_full", "times the producer's queue was full", |metrics| &metrics.queue_full),
            ("bus_commits", "transactions committed", |metrics| &metrics.commits),
            ("bus_commit_microseconds", "time spent in committing", |metrics| &metrics.commit_micros),
            ("bus_aborts", "transactions aborted", |metrics| &metrics.aborts),
            ("bus_producers_recreated", "producers thrown away and made anew", |metrics| {
                &metrics.producers_recreated
            }),
            ("bus_partitions_assigned", "partitions got in rebalances", |metrics| {
                &metrics.partitions_assigned
            }),
            ("bus_partitions_revoked", "partitions given back or lost", |metrics| {
                &metrics.partitions_revoked
            }),
            ("bus_dead_letters", "records that became dead letters", |metrics| &metrics.dead_letters),
        ];
        for (name, description, counter) in counters {
            let metrics = Arc::clone(self);
            meter
                .u64_observable_counter(format!("{prefix}_{name}"))
                .with_description(description)
                .with_callback(move |observer| observer.observe(counter(&metrics).value(), &[]))
                .build();
        }
        self.register_levels(meter, prefix);
        self.register_lag(meter, prefix);
    }

    fn register_levels(self: &Arc<Self>, meter: &Meter, prefix: &str) {
        type Level = fn(&Metrics) -> u64;
        let levels: [(&str, &str, Level); 6] = [
            ("bus_partitions", "partitions held", |metrics| metrics.partitions.value()),
            ("bus_producer_queue_records", "records waiting to be sent", |metrics| {
                metrics.lock().producer.queued_records
            }),
            ("bus_producer_queue_bytes", "bytes waiting to be sent", |metrics| {
                metrics.lock().producer.queued_bytes
            }),
            ("bus_consumer_queue_records", "records fetched and not yet processed", |metrics| {
                metrics.lock().consumer.queued_records
            }),
            ("bus_producer_round_trip_microseconds", "99th percentile of the round trip", |metrics| {
                micros(metrics.lock().producer.round_trip)
            }),
            ("bus_consumer_round_trip_microseconds", "99th percentile of the round trip", |metrics| {
                micros(metrics.lock().consumer.round_trip)
            }),
        ];
        for (name, description, level) in levels {
            let metrics = Arc::clone(self);
            meter
                .u64_observable_gauge(format!("{prefix}_{name}"))
                .with_description(description)
                .with_callback(move |observer| observer.observe(level(&metrics), &[]))
                .build();
        }
    }

    fn register_lag(self: &Arc<Self>, meter: &Meter, prefix: &str) {
        let metrics = Arc::clone(self);
        meter
            .i64_observable_gauge(format!("{prefix}_bus_consumer_lag_records"))
            .with_description(
                "records between the committed offset and the end; transaction markers count as records",
            )
            .with_callback(move |observer| {
                for ((topic, partition), lag) in &metrics.lock().consumer.lag {
                    let labels = [
                        KeyValue::new("topic", topic.clone()),
                        KeyValue::new("partition", i64::from(*partition)),
                    ];
                    observer.observe(*lag, &labels);
                }
            })
            .build();
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<&Statistics> for ClientState {
    fn from(statistics: &Statistics) -> Self {
        let round_trip =
            statistics.brokers.values().filter_map(|broker| broker.rtt.as_ref()).map(|rtt| rtt.p99).max();
        let fetched: i64 = partitions(statistics).map(|(_, partition)| partition.fetchq_cnt).sum();
        Self {
            queued_records: statistics.msg_cnt.saturating_add(u64::try_from(fetched).unwrap_or(0)),
            queued_bytes: statistics.msg_size,
            round_trip: Duration::from_micros(
                round_trip.and_then(|p99| u64::try_from(p99).ok()).unwrap_or(0),
            ),
            request_errors: statistics.brokers.values().map(|broker| broker.txerrs + broker.rxerrs).sum(),
            transaction_state: statistics.eos.as_ref().map(|eos| eos.txn_state.clone()).unwrap_or_default(),
            // librdkafka says -1 where it does not know.
            lag: partitions(statistics)
                .filter(|(_, partition)| partition.partition >= 0 && partition.consumer_lag >= 0)
                .map(|(topic, partition)| ((topic.to_owned(), partition.partition), partition.consumer_lag))
                .collect(),
        }
    }
}

fn partitions(statistics: &Statistics) -> impl Iterator<Item = (&str, &rdkafka::statistics::Partition)> {
    statistics
        .topics
        .values()
        .flat_map(|topic| topic.partitions.values().map(|partition| (topic.topic.as_str(), partition)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_become_lag_queue_and_round_trip() {
        use rdkafka::statistics::{Broker, Partition, Topic, Window};
        let partition = |partition, consumer_lag| Partition {
            partition,
            consumer_lag,
            fetchq_cnt: 2,
            ..Partition::default()
        };
        let topic = Topic {
            topic: "wirecall.segments".to_owned(),
            partitions: [(0, partition(0, 7)), (1, partition(1, -1)), (-1, partition(-1, 9))].into(),
            ..Topic::default()
        };
        let broker =
            |p99| Broker { rtt: Some(Window { p99, ..Window::default() }), txerrs: 1, ..Broker::default() };
        let statistics = Statistics {
            msg_cnt: 10,
            topics: [("wirecall.segments".to_owned(), topic)].into(),
            brokers: [("1".to_owned(), broker(300)), ("2".to_owned(), broker(900))].into(),
            ..Statistics::default()
        };
        let metrics = Metrics::default();
        metrics.update(Role::Consumer, &statistics);
        let state = metrics.consumer();
        assert_eq!(state.queued_records, 16);
        assert_eq!(state.round_trip, Duration::from_micros(900));
        assert_eq!(state.request_errors, 2);
        assert_eq!(state.lag, [(("wirecall.segments".to_owned(), 0), 7)].into());
        assert_eq!(metrics.producer(), ClientState::default());
    }
}
