//! A guard around one child process: its log, its readiness, its end.
//!
//! Every wait is for a condition, with a deadline after which the error carries the tail of the child's log. A child
//! is only ever signalled by its own id, or by that of the process group it leads.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::install;

/// How much of the log an error shows, in bytes.
const TAIL: u64 = 4096;
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);
/// How long a child may take to end by SIGTERM when its guard is dropped.
const GRACE: Duration = Duration::from_secs(5);

/// A running child process, ended on drop.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    grace: Duration,
}

impl Process {
    /// Starts `command` in a process group of its own, with both outputs appended to the file `log`.
    ///
    /// On drop the child is asked to end (SIGTERM), and killed if it has not ended after five seconds. It is asked
    /// too if this process dies, as far as the system can promise that (`setpriv --pdeathsig`).
    ///
    /// # Errors
    ///
    /// If the log cannot be written or the program cannot be started.
    pub fn start(name: &str, command: Command, log: &Path) -> Result<Self> {
        Self::launch(name, command, log, GRACE)
    }

    /// Like [`start`](Self::start), but the child is killed (SIGKILL) at once on drop, and if this process dies:
    /// right for a server whose data goes away with it.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_disposable(name: &str, command: Command, log: &Path) -> Result<Self> {
        Self::launch(name, command, log, Duration::ZERO)
    }

    fn launch(name: &str, command: Command, log: &Path, grace: Duration) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open the log {} of {name}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("share the log of {name}"))?;
        let mut command = die_with_parent(command, if grace.is_zero() { "KILL" } else { "TERM" });
        use std::os::unix::process::CommandExt;
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = spawn(command).with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), grace })
    }

    /// Polls `check` until it gives true; an error of `check` means "not yet" and is shown if the time runs out.
    ///
    /// # Errors
    ///
    /// If the child ends first, or `limit` passes; both with the tail of the log.
    pub fn wait_ready(
        &mut self,
        what: &str,
        limit: Duration,
        mut check: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let last = check();
            if matches!(last, Ok(true)) {
                return Ok(());
            }
            if let Some(status) = self.try_wait()? {
                bail!("{} ended with {status} before {what}{}", self.name, self.log_excerpt());
            }
            if Instant::now() >= deadline {
                let cause = last.err().map(|error| format!(" (last answer: {error:#})")).unwrap_or_default();
                bail!("{}: {what} took longer than {limit:?}{cause}{}", self.name, self.log_excerpt());
            }
            pause();
        }
    }

    /// The process id, which is also that of the process group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The name given at the start, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that both outputs go to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of the log, at most 4 KiB.
    pub fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|error| format!("(the log cannot be read: {error})"))
    }

    /// The whole log as it is now.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn log_text(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether the child has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The exit status if the child has ended.
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("look after {}", self.name))
    }

    /// Waits until the child ends by itself.
    ///
    /// # Errors
    ///
    /// If `limit` passes; with the tail of the log. The child goes on.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        match self.wait_until(Instant::now() + limit)? {
            Some(status) => Ok(status),
            None => bail!("{} did not end within {limit:?}{}", self.name, self.log_excerpt()),
        }
    }

    /// Asks the child to end (SIGTERM) and waits until it does.
    ///
    /// # Errors
    ///
    /// If `limit` passes; with the tail of the log. The child goes on.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Ends the child and its process group by SIGKILL, and waits until the child is gone.
    ///
    /// # Errors
    ///
    /// If the signal is refused.
    pub fn kill9(&mut self) -> Result<()> {
        if self.try_wait()?.is_none() {
            kill_process_group(self.pid()?, Signal::KILL).with_context(|| format!("kill {}", self.name))?;
            self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        }
        Ok(())
    }

    /// Freezes the child (SIGSTOP): it keeps its connections and answers nothing.
    ///
    /// # Errors
    ///
    /// If the child has ended.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen child go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// If the child has ended.
    pub fn cont(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends the child, and it alone, a signal.
    ///
    /// # Errors
    ///
    /// If the child has ended: its id may be another process's by now.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.try_wait()? {
            bail!("{} had ended with {status}{}", self.name, self.log_excerpt());
        }
        kill_process(self.pid()?, signal).with_context(|| format!("send {signal:?} to {}", self.name))
    }

    fn wait_until(&mut self, deadline: Instant) -> Result<Option<ExitStatus>> {
        loop {
            let status = self.try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            pause();
        }
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id out of range")
    }

    fn log_excerpt(&self) -> String {
        format!("\n--- end of {} ---\n{}", self.log.display(), self.log_tail())
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (process {}, log {})", self.name, self.child.id(), self.log.display())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A destructor has nobody to report to; what can be tried is tried in order.
        if !self.grace.is_zero() && self.is_running() {
            let _ = self.signal(Signal::TERM);
            // A frozen child would not see the SIGTERM.
            let _ = self.cont();
            let _ = self.wait_until(Instant::now() + self.grace);
        }
        let _ = self.kill9();
    }
}

/// Polls `check` until it gives true, for waits that are not for one child.
///
/// # Errors
///
/// If `limit` passes; with the last error of `check`.
pub fn wait_for(what: &str, limit: Duration, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let last = check();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let cause = last.err().map(|error| format!(" (last answer: {error:#})")).unwrap_or_default();
            bail!("{what} took longer than {limit:?}{cause}");
        }
        pause();
    }
}

/// Runs a command to its end and gives its standard output.
///
/// # Errors
///
/// If it cannot be started or fails; with what it wrote.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {shown}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{shown}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Puts `setpriv --pdeathsig` before the command, where there is one: the safe way to say "end when I end".
fn die_with_parent(command: Command, signal: &str) -> Command {
    let Some(setpriv) = install::find("setpriv") else { return command };
    let mut wrapped = Command::new(setpriv);
    wrapped.args(["--pdeathsig", signal, "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

/// Starts the child from a thread that lives as long as this process.
///
/// Linux sends the parent-death signal when the starting *thread* ends, and a test runner's threads end with their
/// tests: a component shared between tests would die with the first of them.
fn spawn(command: Command) -> Result<Child> {
    type Request = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Whoever asked is still waiting; if not, the child is dropped unended, as std does.
                let _ = answer.send(command.spawn());
            }
        });
        requests
    });
    let (answer, result) = channel();
    spawner.send((command, answer)).ok().context("the thread that starts processes is gone")?;
    Ok(result.recv().context("the thread that starts processes is gone")??)
}

/// A short pause between two looks at something that tells nobody when it changes.
#[expect(clippy::disallowed_methods, reason = "paces the polling of a child process")]
fn pause() {
    std::thread::sleep(POLL);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("sh", command, log).unwrap()
    }

    fn log() -> (tempfile::TempDir, PathBuf) {
        let folder = crate::scratch::folder("process").unwrap();
        let log = folder.path().join("log");
        (folder, log)
    }

    #[test]
    fn an_early_end_shows_the_log() {
        let (_folder, log) = log();
        let mut child = shell("echo the port is taken; exit 3", &log);
        let error =
            child.wait_ready("answering", Duration::from_secs(10), || Ok(false)).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("the port is taken"), "{error}");
    }

    #[test]
    fn a_passed_deadline_shows_the_last_answer_and_the_log() {
        let (_folder, log) = log();
        let mut child = shell("echo loading; exec sleep 60", &log);
        let mut tries = 0;
        let error = child
            .wait_ready("answering", Duration::from_millis(500), || {
                tries += 1;
                bail!("connection refused, try {tries}")
            })
            .unwrap_err()
            .to_string();
        assert!(error.contains("connection refused"), "{error}");
        assert!(error.contains("loading"), "{error}");
        assert!(child.is_running());
    }

    #[test]
    fn frozen_children_go_on_and_end() {
        let (_folder, log) = log();
        let mut child = shell("exec sleep 60", &log);
        let state = format!("/proc/{}/stat", child.id());
        let frozen = || Ok(std::fs::read_to_string(&state)?.contains(") T "));
        child.stop().unwrap();
        wait_for("freezing", Duration::from_secs(10), frozen).unwrap();
        child.cont().unwrap();
        wait_for("going on", Duration::from_secs(10), || Ok(!frozen()?)).unwrap();
        assert!(!child.terminate(Duration::from_secs(10)).unwrap().success());
        assert!(child.stop().is_err(), "an ended child may not be signalled");
    }

    #[test]
    fn drop_ends_children_of_the_child_too() {
        let (_folder, log) = log();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 60 & echo $!; wait"]);
        let child = Process::start_disposable("sh", command, &log).unwrap();
        let mut grandchild = String::new();
        wait_for("writing the id", Duration::from_secs(10), || {
            grandchild = child.log_text()?.trim().to_owned();
            Ok(!grandchild.is_empty())
        })
        .unwrap();
        drop(child);
        wait_for("ending the group", Duration::from_secs(10), || {
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
            Ok(stat.map_or(true, |stat| stat.contains(") Z ")))
        })
        .unwrap();
    }

    #[test]
    fn a_child_outlives_the_thread_that_started_it() {
        let (_folder, log) = log();
        let path = log.clone();
        let mut child = std::thread::spawn(move || shell("echo up; exec sleep 60", &path)).join().unwrap();
        child.wait_ready("a word", Duration::from_secs(10), || Ok(tail(&log)?.contains("up"))).unwrap();
        assert!(child.is_running());
    }
}
