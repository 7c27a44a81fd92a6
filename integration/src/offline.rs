//! The whole pipeline as one function over capture files: capture core → dissector core → enricher core, no Kafka.
//!
//! The events are those of the services, field for field, but for the place in the log: a file has no offsets.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use wirecall_capture::source::pcap::PcapError;
use wirecall_capture::source::playback::Playback;
use wirecall_capture::source::{Batch, Source as _};
use wirecall_capture_core::{Capture, CaptureConfig};
use wirecall_dissector_core::{ConnectionRecords, Dissector, Limits, Registry};
use wirecall_enricher_core::{EnrichConfig, Enricher};
use wirecall_schemas::{ApiEvent, ChunkCause};
use wirecall_service::exit::{Exit, WithExit as _};

use crate::stats::{Account, Count};

/// How to replay.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Output of `kubectl get … -o json`; none leaves peers unresolved.
    pub identities: Option<PathBuf>,
    /// The capture core's configuration.
    pub capture: CaptureConfig,
    /// The dissector's bounds.
    pub limits: Limits,
    /// Which connections get a record of their own.
    pub connection_records: ConnectionRecords,
    /// Redaction, routing and identity.
    pub enrich: EnrichConfig,
}

/// The three cores joined.
pub struct Offline {
    capture: Capture,
    dissector: Dissector,
    enricher: Enricher,
    account: Account,
}

impl Offline {
    /// Cores that have seen nothing.
    ///
    /// # Errors
    /// An identity file that cannot be read, or rules that cannot be used.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let mut enricher = Enricher::new(options.enrich.clone())?;
        if let Some(path) = &options.identities {
            let index = enricher.index_mut();
            wirecall_enricher::source::file::load_file(path, &[], |identity| index.apply(identity))
                .exit(Exit::Data)
                .with_context(|| format!("cannot load the identities of {}", path.display()))?;
        }
        Ok(Self {
            capture: Capture::new(options.capture.clone()),
            dissector: Dissector::new(Registry::default(), options.limits.clone())
                .with_connection_records(options.connection_records),
            enricher,
            account: Account::default(),
        })
    }

    /// Ends the capture: every connection is closed and every open call emitted.
    ///
    /// # Errors
    /// What `emit` says.
    pub fn finish(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<()> {
        self.capture.finish(ChunkCause::EndOfCapture);
        self.drain(emit)?;
        self.dissector.finish();
        self.calls(emit)
    }

    /// Where every packet and byte went, as of now.
    pub fn account(&self) -> Account {
        let stats = self.capture.stats();
        let mut account = self.account.clone();
        account.packets_read = stats.read.packets;
        account.bytes_read = stats.read.bytes;
        account.packets_delivered = stats.delivered.packets;
        account.bytes_delivered = stats.delivered.bytes;
        account.counted = stats
            .reasons()
            .filter(|(_, count)| count.packets > 0 || count.bytes > 0)
            .map(|(reason, count)| {
                (reason.name().to_owned(), Count { packets: count.packets, bytes: count.bytes })
            })
            .collect();
        account.segments = stats.segments;
        account.peak_held_bytes = account.peak_held_bytes.max(stats.peak_held_bytes as u64);
        account
    }

    fn drain(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<()> {
        while let Some(segment) = self.capture.poll_segment() {
            self.dissector
                .handle_segment(&segment, None)
                .context("the capture core made a record that the dissector refuses")?;
            let held = self.capture.held_bytes() + self.dissector.held_bytes();
            self.account.peak_held_bytes = self.account.peak_held_bytes.max(held as u64);
            self.calls(emit)?;
        }
        Ok(())
    }

    fn calls(&mut self, emit: &mut Emit<'_>) -> anyhow::Result<()> {
        while let Some(call) = self.dissector.poll_call() {
            let event = self.enricher.enrich(call);
            self.account.count(&event);
            emit(&event).context("cannot write an event")?;
        }
        Ok(())
    }
}

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Input<'i> {
    /// Capture files, one after another.
    pub files: &'i [PathBuf],
    /// How often the whole is played; 0 counts as 1.
    pub rounds: u32,
    /// Factor on the capture's own timing; 0 is as fast as possible.
    pub speed: f64,
}

/// Plays captures through the cores. `progress` is told bytes read and, where known, bytes in all of the file under way.
///
/// # Errors
/// A capture that cannot be read whole; what came before the fault was played and the end was handled. An event that
/// cannot be written ends it at once.
pub fn play(
    input: &Input<'_>,
    offline: &mut Offline,
    progress: &mut dyn FnMut(u64, Option<u64>),
    emit: &mut Emit<'_>,
) -> anyhow::Result<()> {
    /// How long a paced packet is waited for in one go.
    const WAIT: Duration = Duration::from_millis(100);
    let mut playback = Playback::new(input.files.to_vec(), input.rounds.max(1), input.speed);
    let read = loop {
        let batch = playback.read_batch(WAIT, &mut |packet| offline.capture.handle_packet(packet));
        if let Ok(Batch::EndOfPass) = batch {
            offline.capture.finish(ChunkCause::EndOfCapture);
        }
        offline.drain(emit)?;
        match batch {
            Ok(Batch::End) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
        if let Some(reader) = playback.reader() {
            progress(reader.input_read(), reader.input_length());
        }
    };
    offline.finish(emit)?;
    match read {
        // The operating system's answer is further down the chain, and has a code of its own.
        Err(error) if matches!(error.cause, PcapError::Open { .. } | PcapError::Read { .. }) => {
            Err(error.into())
        }
        read => read.exit(Exit::Data),
    }
}

/// Takes events as they complete.
pub type Emit<'e> = dyn FnMut(&ApiEvent) -> io::Result<()> + 'e;

/// Replays one capture whole.
///
/// # Errors
/// A capture that cannot be read whole: the events before the fault were emitted, those of open connections too.
pub fn replay(
    path: &Path,
    options: &Options,
    mut emit: impl FnMut(&ApiEvent) -> io::Result<()>,
) -> anyhow::Result<Account> {
    let mut offline = Offline::new(options)?;
    let files = [path.to_owned()];
    let input = Input { files: &files, rounds: 1, speed: 0.0 };
    play(&input, &mut offline, &mut |_, _| {}, &mut emit)?;
    Ok(offline.account())
}

/// Takes out what only a log can say, so that events of the services and of a replay can be compared.
pub fn forget_log_position(event: &mut ApiEvent) {
    let provenance = &mut event.provenance;
    provenance.topic = None;
    provenance.partition = None;
    provenance.first_offset = None;
    provenance.last_offset = None;
}
