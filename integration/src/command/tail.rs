//! `wirecall tail`: the API events of a topic, as they come.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use wirecall_bus::config::RegistryConfig;
use wirecall_bus::{BusConfig, StartAt};
use wirecall_enricher_core::filter::Filter;
use wirecall_schemas::topic::{DEFAULT_PREFIX, Topic};
use wirecall_schemas::{ApiEvent, Timestamp};
use wirecall_service::drain::{DrainConfig, Shutdown};
use wirecall_service::exit::{Exit, WithExit as _};

use crate::follow::{Follow, Received};
use crate::output::{self, Colour, EventWriter, Format};

/// How to reach the topic; shared with other commands that read.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// Kafka brokers
    #[arg(long, env = "WIRECALL_BOOTSTRAP", default_value = "127.0.0.1:9092", value_name = "HOST:PORT,...")]
    bootstrap: String,

    /// Schema registry; needed when the records were written with one
    #[arg(long, env = "WIRECALL_REGISTRY", value_name = "URL")]
    registry: Option<String>,

    /// Prefix of the topics
    #[arg(long, default_value = DEFAULT_PREFIX)]
    prefix: String,

    /// A librdkafka property, for example security.protocol=SASL_SSL; may be given again
    #[arg(long = "property", short = 'X', value_name = "KEY=VALUE")]
    properties: Vec<String>,
}

impl Connection {
    /// The bus configuration that these arguments stand for.
    ///
    /// # Errors
    /// When a property is not `KEY=VALUE`.
    pub fn config(&self) -> anyhow::Result<BusConfig> {
        let mut config = BusConfig {
            bootstrap_servers: self.bootstrap.clone(),
            topic_prefix: self.prefix.clone(),
            ..BusConfig::default()
        };
        config.registry =
            self.registry.clone().map(|url| RegistryConfig { url, ..RegistryConfig::default() });
        for property in &self.properties {
            let (key, value) = property
                .split_once('=')
                .with_context(|| format!("--property {property} is not KEY=VALUE"))
                .exit(Exit::Usage)?;
            config.properties.set(key, value);
        }
        Ok(config)
    }
}

/// Arguments of `wirecall tail`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,

    /// Topic instead of the prefix and `api-events`
    #[arg(long)]
    topic: Option<String>,

    /// Where to start: beginning, end, or a time such as 2026-11-24T12:00:00Z
    #[arg(long, default_value = "end", value_parser = start)]
    from: StartAt,

    /// End when everything that is there was read, instead of waiting for more
    #[arg(long)]
    until_end: bool,

    /// End after this many events
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,

    /// Only events for which this CEL expression is true
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,

    /// How events are written
    #[arg(long, value_enum, default_value_t = View::Table)]
    format: View,
}

/// The formats that can be followed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum View {
    /// One aligned line a call
    Table,
    /// One JSON object a line
    Jsonl,
}

fn start(text: &str) -> Result<StartAt, String> {
    match text {
        "beginning" => Ok(StartAt::Beginning),
        "end" => Ok(StartAt::End),
        time => Timestamp::parse(time)
            .map(|time| StartAt::Timestamp(time.as_micros().div_euclid(1_000)))
            .ok_or_else(|| "give beginning, end, or a UTC time such as 2026-11-24T12:00:00Z".to_owned()),
    }
}

/// Follows the topic until it is told to stop.
///
/// # Errors
/// Wrong arguments; brokers, topic or registry that cannot be used.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    /// Short enough that Ctrl-C and a closed pipe are noticed at once.
    const PATIENCE: Duration = Duration::from_millis(200);
    let filter = arguments.filter.as_deref().map(Filter::compile).transpose().exit(Exit::Usage)?;
    let config = arguments.connection.config()?;
    let topic = arguments.topic.clone().unwrap_or_else(|| Topic::ApiEvents.full_name(&config.topic_prefix));
    let mut follow: Follow<ApiEvent> = Follow::new(&config, &topic, arguments.from)
        .with_context(|| format!("cannot follow {topic} at {}", config.bootstrap_servers))?;
    let shutdown = Shutdown::on_signals(DrainConfig::default()).context("cannot watch for signals")?;

    let stdout = io::stdout();
    let colour = if stdout.is_terminal() { Colour::On } else { Colour::Off };
    let format = match arguments.format {
        View::Table => Format::Table,
        View::Jsonl => Format::Jsonl,
    };
    let mut writer = output::writer(format, colour, BufWriter::new(stdout))?;
    let (mut shown, mut undecodable) = (0_u64, 0_u64);
    let wanted = |shown: u64| arguments.count.is_none_or(|count| shown < count);
    let mut show = |received: Received<ApiEvent>, writer: &mut dyn EventWriter| -> anyhow::Result<u64> {
        match received {
            Received::Record(event) => {
                if wanted(shown)
                    && filter.as_ref().is_none_or(|filter| filter.matches(&event).unwrap_or(false))
                {
                    writer.write(&event)?;
                    shown += 1;
                }
            }
            Received::Undecodable { partition, offset, error } => {
                undecodable += 1;
                writeln!(io::stderr(), "{topic}, partition {partition}, offset {offset}: {error}")?;
            }
        }
        Ok(shown)
    };
    if arguments.until_end {
        follow.read_to_end(arguments.from, Duration::MAX, |received| {
            show(received, &mut *writer).map(|_| ())
        })?;
    } else {
        let mut shown = 0;
        while !shutdown.is_requested() && wanted(shown) {
            match follow.next(PATIENCE)? {
                Some(received) => shown = show(received, &mut *writer)?,
                // Quiet: what is held goes out now.
                None => writer.finish()?,
            }
        }
    }
    writer.finish()?;
    Ok(if undecodable > 0 { Exit::Data } else { Exit::Ok })
}
