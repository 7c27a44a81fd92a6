//! The agent's metrics, read from the workers' board and the sink when somebody asks.

use std::sync::Arc;

use opentelemetry::KeyValue;
use wirecall_capture_core::{Limit, Reason};
use wirecall_service::metrics::Metrics;

use crate::{
    board::{Board, Snapshot},
    sink::{Sink, SinkCounts},
};

/// Name, description, and where the number is.
type Metric<T> = (&'static str, &'static str, fn(&T) -> u64);

/// Registers everything.
pub fn register(metrics: &Metrics, board: &Arc<Board>, sink: &Arc<Sink>) {
    register_workers(metrics, board);
    register_reasons(metrics, board);
    register_sink(metrics, sink);
}

fn register_workers(metrics: &Metrics, board: &Arc<Board>) {
    let totals: [Metric<Snapshot>; 8] = [
        ("read_packets_total", "Packets read from the source.", |worker| worker.stats.read.packets),
        ("read_bytes_total", "Captured bytes read from the source.", |worker| worker.stats.read.bytes),
        ("delivered_packets_total", "Packets that took effect in a segment.", |worker| {
            worker.stats.delivered.packets
        }),
        ("delivered_bytes_total", "Bytes put into segments.", |worker| worker.stats.delivered.bytes),
        ("kernel_dropped_packets_total", "Packets that the kernel dropped: the ring was full.", |worker| {
            worker.kernel_drops
        }),
        ("segments_total", "Segments made.", |worker| worker.stats.segments),
        ("connections_total", "Connections and UDP flows begun.", |worker| worker.stats.connections),
        ("gap_bytes_total", "Stream bytes missing in gaps that were declared.", |worker| {
            worker.stats.gaps.bytes
        }),
    ];
    for (name, description, number) in totals {
        let board = Arc::clone(board);
        metrics.observe_total(name, description, move || board.sum(number));
    }
    let levels: [Metric<Snapshot>; 2] = [
        ("open_connections", "Connections and UDP flows tracked.", |worker| worker.open_connections),
        ("held_bytes", "Bytes held for reassembly.", |worker| worker.held_bytes),
    ];
    for (name, description, number) in levels {
        let board = Arc::clone(board);
        metrics.observe(name, description, move || Some(board.sum(number) as f64));
    }
}

/// The reasons and limits are closed sets of the core, which knows nothing of metrics.
fn register_reasons(metrics: &Metrics, board: &Arc<Board>) {
    let counter = |name: &'static str, description: &'static str, bytes: bool| {
        let board = Arc::clone(board);
        let _registered = metrics
            .meter()
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |observer| {
                for reason in Reason::ALL {
                    let total = board.sum(|worker| {
                        let count = worker.stats.reason(*reason);
                        if bytes { count.bytes } else { count.packets }
                    });
                    observer.observe(total, &[KeyValue::new("reason", reason.name())]);
                }
            })
            .build();
    };
    counter("capture_counted_packets", "Packets that are in no segment, by reason.", false);
    counter("capture_counted_bytes", "Bytes that are in no segment, by reason.", true);
    let board = Arc::clone(board);
    let _registered = metrics
        .meter()
        .u64_observable_counter("capture_limits_reached")
        .with_description("Times that a limit was reached.")
        .with_callback(move |observer| {
            for limit in Limit::ALL {
                let total = board.sum(|worker| worker.stats.limit(*limit));
                observer.observe(total, &[KeyValue::new("limit", limit.name())]);
            }
        })
        .build();
}

fn register_sink(metrics: &Metrics, sink: &Arc<Sink>) {
    let totals: [Metric<SinkCounts>; 6] = [
        ("sent_records_total", "Segments that the brokers confirmed.", |counts| counts.delivered.records),
        ("sent_bytes_total", "Captured bytes that the brokers confirmed.", |counts| counts.delivered.bytes),
        ("back_pressure_dropped_records_total", "Segments dropped whole: the buffer was full.", |counts| {
            counts.back_pressure.records
        }),
        ("back_pressure_dropped_bytes_total", "Captured bytes dropped: the buffer was full.", |counts| {
            counts.back_pressure.bytes
        }),
        ("undelivered_records_total", "Segments that the brokers did not take.", |counts| {
            counts.undelivered.records
        }),
        ("undelivered_bytes_total", "Captured bytes that the brokers did not take.", |counts| {
            counts.undelivered.bytes
        }),
    ];
    for (name, description, number) in totals {
        let sink = Arc::clone(sink);
        metrics.observe_total(name, description, move || number(&sink.counts()));
    }
    let levels: [Metric<SinkCounts>; 2] = [
        ("buffer_bytes", "Bytes of memory of the segments that wait for Kafka.", |counts| {
            counts.waiting_bytes
        }),
        ("under_way_bytes", "Captured bytes sent and not yet confirmed.", |counts| counts.under_way_bytes),
    ];
    for (name, description, number) in levels {
        let sink = Arc::clone(sink);
        metrics.observe(name, description, move || Some(number(&sink.counts()) as f64));
    }
}
