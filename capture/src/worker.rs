//! The loop between a source, the core and the sink. Each runs on a thread of its own, with a core of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use wirecall_capture_core::{Capture, CaptureConfig};
use wirecall_schemas::{ChunkCause, Timestamp};
use wirecall_service::drain::Shutdown;

use crate::{
    board::Board,
    config::FilterSettings,
    exclusion::Exclusions,
    sink::Sink,
    source::{Batch, Source, af_packet::AfPacketError, playback::FileError},
};

/// How often a worker writes its place on the board and looks for a changed filter.
const REPORT: Duration = Duration::from_secs(1);

/// How long a worker waits for packets before it looks around.
const WAIT: Duration = Duration::from_millis(20);

/// What every worker has.
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) config: CaptureConfig,
    pub(crate) sink: Arc<Sink>,
    pub(crate) board: Arc<Board>,
    pub(crate) shutdown: Shutdown,
    /// What only a live capture has; without it, the worker waits for the sink instead of dropping.
    pub(crate) live: Option<Live>,
}

/// What a live capture has beside its source.
pub(crate) struct Live {
    pub(crate) filter: FilterSettings,
    pub(crate) exclusions: Arc<Exclusions>,
    /// How late a packet may come after the time it is stamped with.
    pub(crate) lag: Duration,
}

/// A worker that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A capture file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// The end was asked for before the end of the files.
    #[error("stopped before the end of the files{}", position.as_ref().map(|at| format!(", at {at}")).unwrap_or_default())]
    Interrupted {
        /// Where, if in the middle of a file.
        position: Option<String>,
    },
    /// Live capture failed.
    #[error(transparent)]
    Live(#[from] AfPacketError),
}

impl Worker {
    /// Works until the source's end, its failure, the signal, or the sink's failure.
    pub(crate) fn run<S: Source>(self, mut source: S) -> Result<(), WorkerError>
    where
        WorkerError: From<S::Error>,
        S::Error: std::fmt::Display,
    {
        let mut capture = Capture::new(self.config.clone());
        let mut reports = Reports { next: Instant::now() + REPORT, filter_version: 0, time: None };
        let outcome = loop {
            if self.shutdown.is_requested() {
                break self.interrupted(&source);
            }
            match self.turn(&mut source, &mut capture, &mut reports) {
                Ok(Turn::Again) => {}
                Ok(Turn::SinkFailed) => break self.interrupted(&source),
                Ok(Turn::End) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        capture.finish(self.closing_cause(&outcome));
        self.hand_over(&mut capture);
        self.report(&mut source, &capture, &reports);
        outcome
    }

    fn turn<S: Source>(
        &self,
        source: &mut S,
        capture: &mut Capture,
        reports: &mut Reports,
    ) -> Result<Turn, WorkerError>
    where
        WorkerError: From<S::Error>,
        S::Error: std::fmt::Display,
    {
        let batch = source.read_batch(WAIT, &mut |packet| {
            reports.time = Some(packet.time);
            capture.handle_packet(packet);
        })?;
        match (batch, &self.live) {
            (Batch::Idle, Some(live)) => capture.handle_time(now().plus_micros(-micros(live.lag))),
            (Batch::EndOfPass, _) => capture.finish(ChunkCause::EndOfCapture),
            (Batch::End, _) => return Ok(Turn::End),
            (Batch::Packets(_) | Batch::Idle, _) => {}
        }
        if !self.hand_over(capture) {
            return Ok(Turn::SinkFailed);
        }
        if Instant::now() >= reports.next {
            reports.next = Instant::now() + REPORT;
            self.report(source, capture, reports);
            self.follow_exclusions(source, capture, reports)?;
        }
        Ok(Turn::Again)
    }

    fn follow_exclusions<S: Source>(
        &self,
        source: &mut S,
        capture: &mut Capture,
        reports: &mut Reports,
    ) -> Result<(), S::Error> {
        let Some(Live { filter, exclusions, .. }) = &self.live else { return Ok(()) };
        let version = exclusions.version();
        if version == reports.filter_version {
            return Ok(());
        }
        reports.filter_version = version;
        let endpoints = exclusions.endpoints();
        capture.set_filter(filter.core(&endpoints));
        source.set_filter(filter.kernel(&endpoints))
    }

    fn report<S: Source>(&self, source: &mut S, capture: &Capture, reports: &Reports)
    where
        S::Error: std::fmt::Display,
    {
        let lost = source.lost_packets().unwrap_or_else(|error| {
            tracing::warn!(%error, "packet statistics cannot be read");
            0
        });
        self.board.write(self.number, capture, lost, reports.time);
    }

    /// A live capture has no end but the signal.
    fn interrupted<S: Source>(&self, source: &S) -> Result<(), WorkerError> {
        match self.live {
            Some(_) => Ok(()),
            None => Err(WorkerError::Interrupted { position: source.position() }),
        }
    }

    const fn closing_cause(&self, outcome: &Result<(), WorkerError>) -> ChunkCause {
        match outcome {
            Err(WorkerError::Interrupted { .. }) => ChunkCause::AgentShutdown,
            _ if self.live.is_some() => ChunkCause::AgentShutdown,
            _ => ChunkCause::EndOfCapture,
        }
    }

    /// Gives the segments that are ready to the sink. A live capture lets it drop; files wait. False when the sink takes
    /// no more.
    fn hand_over(&self, capture: &mut Capture) -> bool {
        while let Some(segment) = capture.poll_segment() {
            if self.live.is_some() {
                self.sink.push(segment);
            } else if !self.sink.push_when_there_is_room(segment) {
                return false;
            }
        }
        true
    }
}

/// How a turn of the loop ended.
enum Turn {
    Again,
    End,
    SinkFailed,
}

/// What a worker remembers for its reports.
struct Reports {
    next: Instant,
    filter_version: u64,
    /// The latest capture time.
    time: Option<Timestamp>,
}

/// The wall clock, which is what the kernel stamps packets with.
pub(crate) fn now() -> Timestamp {
    // Before 1970 there was no Linux.
    Timestamp::from_micros(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
