//! The loops between a source, the core and the sink. Each runs on a thread of its own, with a core of its own.

use std::{
    path::{Path, PathBuf},
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
    source::{
        Batch,
        af_packet::{AfPacket, AfPacketError},
        pace::Pacer,
        pcap::{PcapError, Reader},
        repeat::Repeat,
    },
};

/// How often a worker writes its place on the board and looks for a changed filter.
const REPORT: Duration = Duration::from_secs(1);

/// How long a live worker waits for packets before it tells the core the time.
const WAIT: Duration = Duration::from_millis(20);

/// Packets of a file between two looks at the signal and at the segments that are ready.
const PACKETS_A_TURN: usize = 256;

/// What every worker has.
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) config: CaptureConfig,
    pub(crate) sink: Arc<Sink>,
    pub(crate) board: Arc<Board>,
    pub(crate) shutdown: Shutdown,
}

/// A worker that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A capture file is wrong.
    #[error("{}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        #[source]
        cause: PcapError,
    },
    /// The end was asked for before the end of the file.
    #[error("stopped at {at} of {}, before its end", file.display())]
    Interrupted {
        /// The file.
        file: PathBuf,
        /// Where.
        at: crate::source::pcap::Offset,
    },
    /// Live capture failed.
    #[error(transparent)]
    Live(#[from] AfPacketError),
}

/// The files to play.
pub(crate) struct Files {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) speed: f64,
    pub(crate) loops: u32,
}

impl Worker {
    /// Plays files until their end, the signal, or the sink's failure.
    pub(crate) fn play(self, play: &Files) -> Result<(), WorkerError> {
        let mut capture = Capture::new(self.config.clone());
        let mut repeat = Repeat::new();
        let mut pacer = Pacer::new(play.speed);
        let mut outcome = Ok(());
        for pass in 0..play.loops {
            if pass > 0 {
                repeat.next_pass();
            }
            for file in &play.files {
                outcome = self.play_file(file, &mut capture, &mut repeat, &mut pacer);
                if outcome.is_err() {
                    break;
                }
            }
            let cause = match outcome {
                Err(WorkerError::Interrupted { .. }) => ChunkCause::AgentShutdown,
                _ => ChunkCause::EndOfCapture,
            };
            // Each pass ends its connections, so that none goes on in the next.
            capture.finish(cause);
            self.hand_over_waiting(&mut capture);
            self.board.write(self.number, &capture, 0, None);
            if outcome.is_err() {
                break;
            }
        }
        outcome
    }

    fn play_file(
        &self,
        file: &Path,
        capture: &mut Capture,
        repeat: &mut Repeat,
        pacer: &mut Pacer,
    ) -> Result<(), WorkerError> {
        let wrong = |cause| WorkerError::File { file: file.to_owned(), cause };
        let mut reader = Reader::open(file).map_err(wrong)?;
        let mut reported = Instant::now();
        loop {
            let mut time = None;
            for _ in 0..PACKETS_A_TURN {
                let Some(packet) = reader.next_packet().map_err(wrong)? else { return Ok(()) };
                let packet = repeat.packet(packet);
                pacer.wait(packet.time, |left| {
                    self.hand_over_waiting(capture);
                    self.shutdown.wait(left.min(REPORT))
                });
                time = Some(packet.time);
                capture.handle_packet(packet);
            }
            let taken = self.hand_over_waiting(capture);
            if self.shutdown.is_requested() || !taken {
                return Err(WorkerError::Interrupted { file: file.to_owned(), at: reader.offset() });
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                self.board.write(self.number, capture, 0, time);
            }
        }
    }

    /// Captures until the signal.
    pub(crate) fn listen(
        self,
        mut ring: AfPacket,
        filter: &FilterSettings,
        exclusions: &Exclusions,
        lag: Duration,
    ) -> Result<(), WorkerError> {
        let mut capture = Capture::new(self.config.clone());
        let mut version = exclusions.version();
        let mut reported = Instant::now();
        let mut outcome = Ok(());
        while !self.shutdown.is_requested() {
            let batch = ring.read_batch(WAIT, &mut |packet| capture.handle_packet(packet));
            match batch {
                Ok(Batch::Packets(_)) => {}
                Ok(Batch::Idle | Batch::End) => {
                    // Packets younger than the kernel's timeout may still be on their way.
                    capture.handle_time(now().plus_micros(-micros(lag)));
                }
                Err(error) => {
                    outcome = Err(error.into());
                    break;
                }
            }
            self.hand_over(&mut capture);
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                self.report(&mut ring, &capture);
                if exclusions.version() != version {
                    version = exclusions.version();
                    let endpoints = exclusions.endpoints();
                    capture.set_filter(filter.core(&endpoints));
                    ring.set_filter(filter.kernel(&endpoints))?;
                }
            }
        }
        capture.finish(ChunkCause::AgentShutdown);
        self.hand_over(&mut capture);
        self.report(&mut ring, &capture);
        outcome
    }

    fn report(&self, ring: &mut AfPacket, capture: &Capture) {
        let drops = match ring.kernel_counts() {
            Ok(counts) => counts.drops,
            Err(error) => {
                tracing::warn!(%error, "packet statistics cannot be read");
                0
            }
        };
        self.board.write(self.number, capture, drops, Some(now()));
    }

    /// Gives the segments that are ready to the sink, which may drop.
    fn hand_over(&self, capture: &mut Capture) {
        while let Some(segment) = capture.poll_segment() {
            self.sink.push(segment);
        }
    }

    /// Gives the segments that are ready to the sink, waiting for it; false when the sink takes no more.
    fn hand_over_waiting(&self, capture: &mut Capture) -> bool {
        while let Some(segment) = capture.poll_segment() {
            if !self.sink.push_when_there_is_room(segment) {
                return false;
            }
        }
        true
    }
}

/// The wall clock, which is what the kernel stamps packets with.
pub(crate) fn now() -> Timestamp {
    // Before 1970 there was no Linux.
    Timestamp::from_micros(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
