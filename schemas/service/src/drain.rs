//! From a signal to an orderly end.
//!
//! The first SIGTERM or SIGINT asks the service to drain: stop reading, finish and commit what is in hand, release. A
//! second one, or the deadline, ends the process at once; what was not committed is then done again by the next
//! instance.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;

use crate::exit::Exit;

/// The section `[drain]` of every service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainConfig {
    /// Seconds from the signal to the forced end. Less than the pod's `terminationGracePeriodSeconds`, or the kubelet
    /// kills first.
    pub deadline_seconds: u64,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { deadline_seconds: 25 }
    }
}

/// Whether the service is to end, and by when. Clones share one state.
#[derive(Clone, Debug)]
pub struct Shutdown {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Read in hot loops.
    requested: AtomicBool,
    /// When the drain must be over; set once.
    deadline: Mutex<Option<Instant>>,
    changed: Condvar,
    /// The same fact, for async code.
    announced: watch::Sender<bool>,
    allowed: Duration,
}

impl Shutdown {
    /// A handle that no signal triggers, for tests and for programs that hold several services.
    pub fn new(config: DrainConfig) -> Self {
        let shared = Shared {
            requested: AtomicBool::new(false),
            deadline: Mutex::new(None),
            changed: Condvar::new(),
            announced: watch::Sender::new(false),
            allowed: Duration::from_secs(config.deadline_seconds),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A handle that SIGTERM and SIGINT trigger, watched by a thread of its own.
    ///
    /// # Errors
    ///
    /// If the operating system refuses the handlers or the thread.
    pub fn on_signals(config: DrainConfig) -> io::Result<Self> {
        let shutdown = Self::new(config);
        let signals = Signals::new([SIGTERM, SIGINT])?;
        let handle = shutdown.clone();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || watch_signals(signals, &handle))?;
        Ok(shutdown)
    }

    /// Asks for the end, as a signal does; the first request starts the time.
    pub fn request(&self) {
        let mut deadline = self.shared.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        if deadline.is_none() {
            *deadline = Some(Instant::now() + self.shared.allowed);
            self.shared.requested.store(true, Ordering::Release);
            self.shared.announced.send_replace(true);
            self.shared.changed.notify_all();
        }
    }

    /// Whether the end was asked for. Costs one load.
    pub fn is_requested(&self) -> bool {
        self.shared.requested.load(Ordering::Acquire)
    }

    /// Waits until the end is asked for, `timeout` at most; tells whether it was.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = self.shared.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        let (deadline, _) = self
            .shared
            .changed
            .wait_timeout_while(deadline, timeout, |deadline| deadline.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        deadline.is_some()
    }

    /// Waits in async code until the end is asked for.
    pub async fn requested(&self) {
        // The sender lives in this handle, so the channel cannot close while it is waited on.
        let mut announced = self.shared.announced.subscribe();
        let _always_open = announced.wait_for(|requested| *requested).await;
    }

    /// When the drain must be over; `None` before it was asked for.
    pub fn deadline(&self) -> Option<Instant> {
        *self.shared.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time left to drain: all of it before the request, zero after the deadline.
    pub fn remaining(&self) -> Duration {
        self.deadline()
            .map_or(self.shared.allowed, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

fn watch_signals(mut signals: Signals, shutdown: &Shutdown) {
    for signal in &mut signals {
        if shutdown.is_requested() {
            tracing::warn!(signal, "second signal: ending at once");
            std::process::exit(128 + signal);
        }
        shutdown.request();
        tracing::info!(signal, deadline_seconds = shutdown.shared.allowed.as_secs(), "draining");
        let handle = shutdown.clone();
        // Without this thread a hung drain ends by SIGKILL; with it the log says why.
        let watchdog = std::thread::Builder::new().name("drain-deadline".to_owned());
        if let Err(error) = watchdog.spawn(move || end_at_deadline(&handle)) {
            tracing::warn!(%error, "no thread for the drain's deadline");
        }
    }
}

/// Ends the process when the drain's time is over. A drain that is done ends the process, and this thread with it.
fn end_at_deadline(shutdown: &Shutdown) {
    loop {
        let left = shutdown.remaining();
        if left.is_zero() {
            break;
        }
        std::thread::park_timeout(left);
    }
    tracing::error!(
        deadline_seconds = shutdown.shared.allowed.as_secs(),
        "drain did not end in time; what was not committed is done again by the next instance"
    );
    std::process::exit(Exit::Unavailable.code().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_wakes_all_who_wait() {
        let shutdown = Shutdown::new(DrainConfig::default());
        assert!(!shutdown.is_requested());
        assert!(!shutdown.wait(Duration::ZERO));
        assert_eq!(shutdown.deadline(), None);
        std::thread::scope(|scope| {
            let waiters: Vec<_> =
                (0..4).map(|_| scope.spawn(|| shutdown.wait(Duration::from_secs(60)))).collect();
            shutdown.request();
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        });
        assert!(shutdown.is_requested());
    }

    #[test]
    fn the_deadline_counts_from_the_first_request() {
        let shutdown = Shutdown::new(DrainConfig { deadline_seconds: 0 });
        shutdown.request();
        let deadline = shutdown.deadline();
        shutdown.request();
        assert_eq!(shutdown.deadline(), deadline);
        assert_eq!(shutdown.remaining(), Duration::ZERO);
    }

    #[test]
    fn async_code_waits_too() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let shutdown = Shutdown::new(DrainConfig::default());
        let handle = shutdown.clone();
        runtime.block_on(async {
            let waiter = tokio::spawn(async move { handle.requested().await });
            shutdown.request();
            waiter.await.unwrap();
        });
    }
}
