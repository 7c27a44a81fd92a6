//! A schema registry with Confluent's API: Apicurio, with its store in memory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::http::Request;
use crate::process::{Process, run};
use crate::skip::say;
use crate::{cache, install, maven, ports, scratch};

/// The version that is fetched and run: the newest line that runs on Java 17.
pub const VERSION: &str = "2.6.13.Final";

const START_LIMIT: Duration = Duration::from_secs(120);

/// A running registry on 127.0.0.1, ended when it is dropped.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    port: u16,
    _folder: TempDir,
}

/// Fetches the registry into the cache if it is not there, and gives its folder.
///
/// # Errors
///
/// If Java, Maven or Maven Central cannot be had.
pub fn fetch() -> Result<PathBuf> {
    cache::ensure("registry", VERSION, |folder| {
        say(format_args!("wirecall: fetching Apicurio Registry {VERSION} from Maven Central (142 MB)"));
        maven::copy(&format!("io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"), folder)?;
        let archive = folder.join(format!("apicurio-registry-app-{VERSION}-all.tar.gz"));
        run(Command::new(install::tool("tar", "tar")?).arg("-xzf").arg(&archive).arg("-C").arg(folder))?;
        std::fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))
    })
}

impl Registry {
    /// Starts a registry and waits until it answers.
    ///
    /// # Errors
    ///
    /// If it cannot be fetched or does not become ready; with the tail of its log.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts a registry with further Java system properties (`registry.rules.global.compatibility`, …).
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(properties: &[(&str, &str)]) -> Result<Self> {
        let installation = fetch()?;
        let folder = scratch::folder("registry")?;
        let port = ports::free()?;
        let process = Process::start_disposable(
            "schema registry",
            command(&installation, port, properties)?,
            &folder.path().join("registry.log"),
        )?;
        let mut registry = Self { process, port, _folder: folder };
        let subjects = format!("{}/subjects", registry.url());
        registry.process.wait_ready("answering", START_LIMIT, || {
            Ok(Request::new("GET", &subjects).send()?.is_success())
        })?;
        Ok(registry)
    }

    /// The base of Confluent's API, to be given as the registry's URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    /// The process, to kill or freeze it or read its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn command(installation: &Path, port: u16, properties: &[(&str, &str)]) -> Result<Command> {
    let mut command = Command::new(maven::java()?);
    command
        .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
        .args(["-Dquarkus.http.host=127.0.0.1".to_owned(), format!("-Dquarkus.http.port={port}")])
        .args(properties.iter().map(|(name, value)| format!("-D{name}={value}")))
        .args(["-cp", "*:lib/*", "io.quarkus.runner.GeneratedMain"])
        // The archive's class path is relative to its folder.
        .current_dir(installation);
    Ok(command)
}
