//! The Java processes of Kafka, quick to start.
//!
//! Tests start many brokers, and most of a broker's start is the loading of classes. A class-data archive, written
//! once by a broker that ends, saves almost half of the time and of the CPU of every later start.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{KafkaCluster, VERSION, fetch};
use crate::skip::say;
use crate::{cache, maven};

/// Starting quickly matters more here than the speed after an hour.
const JVM: [&str; 7] = [
    "-Xmx384m",
    "-Xms96m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",
];

/// Writing the archive takes two seconds on an idle machine.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(120);

/// How to run a class of Kafka's.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    libraries: PathBuf,
    /// The option that reads or writes the archive.
    archive: Option<String>,
}

impl Runtime {
    /// Kafka and the archive of its classes, both made if they are not in the cache.
    pub(crate) fn prepare() -> Result<Self> {
        let installation = fetch()?;
        let folder = cache::ensure("kafka-classes", VERSION, |folder| write_archive(&installation, folder))?;
        // One written by another Java, or for a cache that has been moved, is ignored by the virtual machine.
        Ok(Self::new(&installation, Some(format!("-XX:SharedArchiveFile={}", archive(&folder).display()))))
    }

    fn new(installation: &Path, archive: Option<String>) -> Self {
        Self { libraries: installation.join("libs").join("*"), archive }
    }

    /// A command to which a class and its arguments can be added.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = Command::new(maven::java()?);
        command.args(JVM).args(&self.archive).arg("-cp").arg(&self.libraries);
        Ok(command)
    }
}

fn archive(folder: &Path) -> PathBuf {
    folder.join("kafka.jsa")
}

/// A broker that starts, answers and ends, and leaves the classes that this took.
fn write_archive(installation: &Path, folder: &Path) -> Result<()> {
    say(format_args!("wirecall: writing a class archive, so that Kafka starts faster (once)"));
    let path = archive(folder);
    let plain = Runtime::new(installation, None);
    let writing = Runtime::new(installation, Some(format!("-XX:ArchiveClassesAtExit={}", path.display())));
    let mut cluster = KafkaCluster::builder().start_on(&plain, writing)?;
    // The status of a Java process ended by SIGTERM is 143; what counts is the file.
    cluster.broker(1)?.terminate(ARCHIVE_LIMIT)?;
    let log = cluster.broker(1)?.log_tail();
    ensure!(path.is_file(), "Java wrote no class archive\n{log}");
    Ok(())
}
