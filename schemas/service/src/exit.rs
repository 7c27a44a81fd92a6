//! Exit codes that mean something, after `sysexits.h`, and the one place where an error is printed.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// All was done.
    Ok,
    /// The command line is wrong (64).
    Usage,
    /// The input is wrong: not a capture file, a corrupt record (65).
    Data,
    /// Something the service depends on is not there: broker, registry, API server (69).
    Unavailable,
    /// A defect of the program (70).
    Software,
    /// Reading or writing failed (74).
    Io,
    /// A right is missing: a capability, a file's mode, the credentials (77).
    Permission,
    /// The configuration is wrong (78).
    Config,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Usage,
        Self::Data,
        Self::Unavailable,
        Self::Software,
        Self::Io,
        Self::Permission,
        Self::Config,
    ];

    /// The number that the operating system sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Usage => 64,
            Self::Data => 65,
            Self::Unavailable => 69,
            Self::Software => 70,
            Self::Io => 74,
            Self::Permission => 77,
            Self::Config => 78,
        }
    }

    /// The code of an error: the one attached by [`WithExit::exit`], else by what is found in its chain of causes
    /// (a configuration error, an I/O error), else [`Exit::Software`].
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Software)
    }

    fn of_cause(cause: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(coded) = cause.downcast_ref::<Coded>() {
            return Some(coded.exit);
        }
        if cause.is::<ConfigError>() {
            return Some(Self::Config);
        }
        match cause.downcast_ref::<std::io::Error>()?.kind() {
            std::io::ErrorKind::PermissionDenied => Some(Self::Permission),
            _ => Some(Self::Io),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "ok",
            Self::Usage => "wrong usage",
            Self::Data => "wrong input",
            Self::Unavailable => "a dependency is unavailable",
            Self::Software => "internal error",
            Self::Io => "input or output failed",
            Self::Permission => "permission denied",
            Self::Config => "wrong configuration",
        })
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error with the exit code it leads to. It reads as the error itself, so that the chain says nothing twice.
#[derive(Debug)]
struct Coded {
    exit: Exit,
    error: anyhow::Error,
}

impl fmt::Display for Coded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.error)
    }
}

impl Error for Coded {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.chain().nth(1)
    }
}

/// Attaches an exit code where the reason of a failure is known.
pub trait WithExit<T> {
    /// Says which exit code this failure leads to. The outermost code of a chain counts.
    ///
    /// # Errors
    ///
    /// The error itself, with the code.
    fn exit(self, exit: Exit) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithExit<T> for Result<T, E> {
    fn exit(self, exit: Exit) -> anyhow::Result<T> {
        self.map_err(|error| anyhow::Error::new(Coded { exit, error: error.into() }))
    }
}

/// Parses the command line. `Err` holds the exit code to end with: help and version were printed (0), or the line is
/// wrong and the reason was printed (64; clap's own would be 2, which shells use for themselves).
///
/// # Errors
///
/// The exit code, after the printing.
pub fn arguments<A: clap::Parser>() -> Result<A, Exit> {
    A::try_parse().map_err(|error| {
        let wrong = error.use_stderr();
        // If even that cannot be written, the exit code still says what happened.
        let _unwritten = error.print();
        if wrong { Exit::Usage } else { Exit::Ok }
    })
}

/// Runs a program: parses its arguments, runs it, prints the error if there is one, and gives the exit code.
///
/// The whole `main` of a service is `wirecall_service::exit::run(app::run)`.
pub fn run<A: clap::Parser>(program: impl FnOnce(A) -> anyhow::Result<()>) -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(exit) => return exit.into(),
    };
    match program(arguments) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            report(&error);
            Exit::of(&error).into()
        }
    }
}

/// Prints an error with its causes, once, on standard error: as a log event if logging is on, so that a cluster's log
/// stays of one form, else as plain text.
pub fn report(error: &anyhow::Error) {
    let exit = Exit::of(error);
    if tracing::event_enabled!(tracing::Level::ERROR) {
        tracing::error!(error = format!("{error:#}"), exit_code = exit.code(), "stopping: {exit}");
    } else {
        use std::io::Write as _;
        let _unwritten = writeln!(std::io::stderr().lock(), "error: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn io(kind: std::io::ErrorKind) -> anyhow::Error {
        anyhow::Error::new(std::io::Error::new(kind, "the disk said no")).context("write the file")
    }

    #[test]
    fn the_code_is_found_in_the_chain() {
        assert_eq!(Exit::of(&io(std::io::ErrorKind::NotFound)), Exit::Io);
        assert_eq!(Exit::of(&io(std::io::ErrorKind::PermissionDenied)), Exit::Permission);
        assert_eq!(Exit::of(&anyhow::anyhow!("a defect")), Exit::Software);
        let config = ConfigError::Variable { name: "X".into(), problem: "bad".into() };
        assert_eq!(Exit::of(&anyhow::Error::new(config).context("load")), Exit::Config);
    }

    #[test]
    fn an_attached_code_counts_and_says_nothing_twice() {
        let failed: anyhow::Result<()> = Err(io(std::io::ErrorKind::NotFound));
        let error = failed.exit(Exit::Data).context("replay").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Data);
        assert_eq!(format!("{error:#}"), "replay: write the file: the disk said no");
    }

    #[test]
    fn the_numbers_differ() {
        let numbers: std::collections::BTreeSet<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(numbers.len(), Exit::ALL.len());
    }
}
