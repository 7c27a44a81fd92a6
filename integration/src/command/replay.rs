//! `wirecall replay`: capture files in, API events out, in one process.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wirecall_dissector_core::ConnectionRecords;
use wirecall_enricher_core::filter::Filter;
use wirecall_service::exit::{Exit, WithExit as _};

use crate::offline::{self, Input, Offline, Options};
use crate::output::{self, Colour, Format};

/// Arguments of `wirecall replay`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Capture files, pcap or pcapng, gzip'd or not, played one after another; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How events are written
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,

    /// Where events are written instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Output of `kubectl get pods,services,endpointslices,nodes,namespaces,replicasets,jobs -A -o json`
    #[arg(long, value_name = "FILE")]
    identities: Option<PathBuf>,

    /// Print one JSON line on standard error: packets and bytes by fate, calls by protocol and completeness, peak bytes held
    #[arg(long)]
    stats: bool,

    /// Only events for which this CEL expression is true, for example 'status_class == "server_error"'
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,

    /// Which connections get a record of their own
    #[arg(long, value_enum, default_value_t = Connections::Undissected)]
    connections: Connections,

    /// Bytes kept of each body; longer bodies are cut and say so
    #[arg(long, value_name = "BYTES", default_value_t = wirecall_dissector_core::Limits::default().body_bytes)]
    body_limit: usize,

    /// Leave credentials, cookies and the like in the events
    #[arg(long)]
    no_redaction: bool,

    /// Play with the capture's own timing times this factor; 0 is as fast as possible
    #[arg(long, value_name = "FACTOR", default_value_t = 0.0)]
    speed: f64,

    /// Play the capture this many times, each round later in time
    #[arg(long = "loop", value_name = "ROUNDS", default_value_t = 1)]
    rounds: u32,

    /// Partitions that sequence numbers are counted by; those of the segments topic to compare with
    #[arg(long, default_value_t = wirecall_schemas::topic::DEFAULT_PARTITIONS)]
    partitions: i32,

    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

/// Which connections get a record of their own.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Connections {
    /// All of them
    All,
    /// Those that no protocol dissected
    Undissected,
    /// None
    None,
}

impl From<Connections> for ConnectionRecords {
    fn from(connections: Connections) -> Self {
        match connections {
            Connections::All => Self::All,
            Connections::Undissected => Self::Undissected,
            Connections::None => Self::None,
        }
    }
}

/// Replays the files.
///
/// # Errors
/// A wrong argument before anything is read; a file that cannot be read whole after its readable part was written.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let filter = arguments.filter.as_deref().map(Filter::compile).transpose().exit(Exit::Usage)?;
    let mut offline = Offline::new(&options(&arguments)?)?;
    let (output, colour) = open_output(&arguments)?;
    let mut writer = output::writer(arguments.format, colour, output)?;

    let played = play(&arguments, &mut offline, &mut |event| {
        if filter.as_ref().is_none_or(|filter| filter.matches(event).unwrap_or(false)) {
            writer.write(event)
        } else {
            Ok(())
        }
    });
    let finished = writer.finish().context("cannot write the events");
    if arguments.stats {
        let line = serde_json::to_string(&offline.account()).context("cannot write the account")?;
        writeln!(io::stderr(), "{line}").context("cannot write the account")?;
    }
    played?;
    finished?;
    Ok(Exit::Ok)
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    if !arguments.speed.is_finite() || arguments.speed < 0.0 {
        return Err(anyhow::anyhow!("--speed {} must be 0 or a positive factor", arguments.speed))
            .exit(Exit::Usage);
    }
    if arguments.partitions < 1 {
        return Err(anyhow::anyhow!("--partitions {} must be at least 1", arguments.partitions))
            .exit(Exit::Usage);
    }
    let mut options = Options { identities: arguments.identities.clone(), ..Options::default() };
    options.capture.partitions = arguments.partitions;
    options.limits.body_bytes = arguments.body_limit;
    options.connection_records = arguments.connections.into();
    options.enrich.redaction.defaults = !arguments.no_redaction;
    Ok(options)
}

fn open_output(arguments: &Arguments) -> anyhow::Result<(Box<dyn Write>, Colour)> {
    /// Large enough that writing does not show in the profile.
    const BUFFER: usize = 256 * 1024;
    if let Some(path) = &arguments.output {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        return Ok((Box::new(BufWriter::with_capacity(BUFFER, file)), Colour::Off));
    }
    let stdout = io::stdout();
    if stdout.is_terminal() {
        if arguments.format == Format::Avro {
            return Err(anyhow::anyhow!("Avro is binary; redirect standard output or use --output FILE"))
                .exit(Exit::Usage);
        }
        // A person reads along: each line when it is there.
        return Ok((Box::new(stdout), Colour::On));
    }
    if arguments.format == Format::Avro {
        // Written a block at a time: a buffer would only copy. A line-buffered handle would look for line ends in it.
        let descriptor = stdout.as_fd().try_clone_to_owned().context("cannot use standard output")?;
        return Ok((Box::new(File::from(descriptor)), Colour::Off));
    }
    Ok((Box::new(BufWriter::with_capacity(BUFFER, stdout)), Colour::Off))
}

fn play(
    arguments: &Arguments,
    offline: &mut Offline,
    emit: &mut dyn FnMut(&wirecall_schemas::ApiEvent) -> io::Result<()>,
) -> anyhow::Result<()> {
    let progress = Progress::new(arguments);
    let input = Input { files: &arguments.files, rounds: arguments.rounds, speed: arguments.speed };
    let result = offline::play(&input, offline, &mut |read, length| progress.at(read, length), emit);
    progress.end();
    result
}

/// A bar on a terminal, nothing elsewhere.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new(arguments: &Arguments) -> Self {
        // A bar among the lines of a table on the same terminal would tear it apart.
        let shown = !arguments.quiet
            && io::stderr().is_terminal()
            && (arguments.output.is_some() || !io::stdout().is_terminal());
        Self(shown.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
            let style = "{elapsed_precise} [{wide_bar}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}";
            bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        }))
    }

    fn at(&self, read: u64, length: Option<u64>) {
        if let Some(bar) = &self.0 {
            if let Some(length) = length {
                bar.set_length(length);
            }
            bar.set_position(read);
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
