//! Starts the three services as processes of their own: for the demo and for the end-to-end tests.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Packets → segments.
    Capture,
    /// Segments → calls.
    Dissector,
    /// Calls → API events.
    Enricher,
}

impl Service {
    /// Name of its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Capture => "wirecall-capture",
            Self::Dissector => "wirecall-dissector",
            Self::Enricher => "wirecall-enricher",
        }
    }
}

/// A running service; asked to end, then killed, when dropped.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a service with this configuration file text. Its files go into `folder` under `name`.
    ///
    /// # Errors
    /// When the program is not beside this one, or cannot be started.
    pub fn start(service: Service, name: &str, configuration: &str, folder: &Path) -> anyhow::Result<Self> {
        let program = program(service)?;
        let path = folder.join(format!("{name}.toml"));
        fs::write(&path, configuration).with_context(|| format!("cannot write {}", path.display()))?;
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let child = Command::new(&program)
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the log")?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the service has ended although nobody asked it to.
    ///
    /// # Errors
    /// With the exit status and the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait().context("cannot ask for the state of a process")? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended with {status}; the end of its log:\n{}", self.name, self.log_tail())
            }
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().context("cannot ask for the state of a process")? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not end within {limit:?}; the end of its log:\n{}", self.name, self.log_tail());
            }
            pause();
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it does not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal("TERM").context("cannot signal a process")?;
        self.wait(limit)
    }

    /// Sends a signal by name.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill ended with {status}"))) }
    }

    /// The whole log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        /// Enough to see what happened.
        const LINES: usize = 15;
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.terminate(Duration::from_secs(10)).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The program of a service: beside this one, or, when this one is a test, in the folder above.
fn program(service: Service) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    let candidates = own.ancestors().skip(1).take(2).map(|folder| folder.join(service.program()));
    let tried: Vec<_> = candidates.collect();
    tried.iter().find(|path| path.exists()).cloned().with_context(|| {
        format!(
            "{} is not beside {}; build it: cargo build --workspace --bins",
            service.program(),
            own.display()
        )
    })
}

/// A short pause between two looks at a process that tells nobody when it ends.
#[expect(clippy::disallowed_methods, reason = "paces the polling of a child process")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
