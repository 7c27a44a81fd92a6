//! The dissector's metrics: sums over all partitions, held and given up, read when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wirecall_dissector_core::{Counter, Stats};
use wirecall_service::metrics::Metrics;

/// Where the working thread leaves its numbers.
#[derive(Debug)]
pub struct Board {
    sums: [AtomicU64; Counter::ALL.len()],
    open_connections: AtomicU64,
    held_bytes: AtomicU64,
    forgotten: AtomicU64,
    stripped: AtomicU64,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            sums: std::array::from_fn(|_| AtomicU64::new(0)),
            open_connections: AtomicU64::new(0),
            held_bytes: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            stripped: AtomicU64::new(0),
        }
    }
}

impl Board {
    /// The sum of a counter of the core.
    pub fn sum(&self, counter: Counter) -> u64 {
        self.sums[counter as usize].load(Ordering::Relaxed)
    }

    /// Connections that were open when their partition went, and are forgotten.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    pub(crate) fn forget(&self, connections: usize) {
        self.forgotten.fetch_add(connections as u64, Ordering::Relaxed);
    }

    pub(crate) fn strip(&self) {
        self.stripped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, stats: &Stats, open_connections: usize, held_bytes: usize) {
        for (counter, sum) in stats.iter() {
            self.sums[counter as usize].store(sum, Ordering::Relaxed);
        }
        self.open_connections.store(open_connections as u64, Ordering::Relaxed);
        self.held_bytes.store(held_bytes as u64, Ordering::Relaxed);
    }
}

/// Registers everything.
pub(crate) fn register(metrics: &Metrics, board: &Arc<Board>) {
    for counter in Counter::ALL {
        let board = Arc::clone(board);
        let name = format!("{}_total", counter.label());
        metrics.observe_total(&name, "A sum of the dissector's core; see its Counter.", move || {
            board.sum(*counter)
        });
    }
    let forgotten = Arc::clone(board);
    metrics.observe_total(
        "connections_forgotten_total",
        "Open connections whose state was lost with their partition; they go on mid-stream.",
        move || forgotten.forgotten(),
    );
    let stripped = Arc::clone(board);
    metrics.observe_total(
        "calls_stripped_total",
        "Calls too large for the broker, sent without the kept bytes of their bodies.",
        move || stripped.stripped.load(Ordering::Relaxed),
    );
    type Level = fn(&Board) -> &AtomicU64;
    let levels: [(&str, &'static str, Level); 2] = [
        ("open_connections", "Connections open in the partitions held.", |board| &board.open_connections),
        ("held_bytes", "Bytes held of open connections.", |board| &board.held_bytes),
    ];
    for (name, description, level) in levels {
        let board = Arc::clone(board);
        metrics.observe(name, description, move || Some(level(&board).load(Ordering::Relaxed) as f64));
    }
}
