//! What the workers say about themselves, for heartbeats and metrics: each writes its own place now and then.

use std::sync::{Mutex, MutexGuard, PoisonError};

use wirecall_capture_core::{Capture, Stats};
use wirecall_schemas::Timestamp;

/// One worker's state.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The core's counters.
    pub stats: Stats,
    /// Bytes held by the core.
    pub held_bytes: u64,
    /// Connections open.
    pub open_connections: u64,
    /// Packets that the kernel dropped before the worker.
    pub kernel_drops: u64,
    /// The latest capture time seen.
    pub time: Option<Timestamp>,
}

/// The places of all workers.
#[derive(Debug)]
pub struct Board(Mutex<Vec<Snapshot>>);

impl Board {
    /// With this many places.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(Mutex::new(vec![Snapshot::default(); workers]))
    }

    /// Writes a worker's place.
    pub fn write(&self, worker: usize, capture: &Capture, kernel_drops: u64, time: Option<Timestamp>) {
        let mut places = self.lock();
        let Some(place) = places.get_mut(worker) else { return };
        *place = Snapshot {
            stats: capture.stats().clone(),
            held_bytes: capture.held_bytes() as u64,
            open_connections: capture.open_connections() as u64,
            // A total that could not be read this time stays what it was.
            kernel_drops: place.kernel_drops.max(kernel_drops),
            time,
        };
    }

    /// The sum of a number over all workers.
    pub fn sum(&self, number: impl Fn(&Snapshot) -> u64) -> u64 {
        self.lock().iter().map(number).sum()
    }

    /// All places as they are.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Snapshot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
