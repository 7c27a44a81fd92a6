//! The one way in which a test says that it cannot run here.
//!
//! A skipped test looks like a passed one to the test runner, so a skip is always printed, past the runner's
//! capture of output, and `WIRECALL_REQUIRE_REAL=1` turns every skip into a failure for places (a CI machine)
//! that are known to have all it takes.

use std::fmt;
use std::io::Write;

/// The environment variable that turns skips into failures when it is `1`.
pub const REQUIRE_REAL: &str = "WIRECALL_REQUIRE_REAL";

/// A component cannot exist on this machine: a missing right or tool, not a defect of the component.
///
/// Carried inside an [`anyhow::Error`]; [`or_skip!`](crate::or_skip) looks for it.
#[derive(Debug)]
pub struct Unavailable {
    reason: String,
}

impl Unavailable {
    /// An error whose reason names what is missing and the remedy.
    pub fn error(reason: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { reason: reason.into() })
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl std::error::Error for Unavailable {}

/// What a test function returns when it is skipped; for the two return types that tests use.
pub trait Skipped {
    /// The value that the test runner takes for a pass.
    fn skipped() -> Self;
}

impl Skipped for () {
    fn skipped() -> Self {}
}

impl<E> Skipped for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// Prints `SKIPPED <test>: <reason>` on standard error. Used through [`skip!`](crate::skip!).
///
/// # Panics
///
/// If [`REQUIRE_REAL`] is `1`.
pub fn report(reason: fmt::Arguments<'_>) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed test");
    assert!(
        std::env::var_os(REQUIRE_REAL).is_none_or(|value| value != "1"),
        "{test} may not be skipped because {REQUIRE_REAL}=1: {reason}"
    );
    say(format_args!("SKIPPED {test}: {reason}"));
}

/// One line on standard error that the test runner does not capture.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    // Whoever closed standard error does not want to read this.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Leaves the test function with `SKIPPED <test>: <reason>` on standard error; see [`skip`](mod@crate::skip).
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::skip::report(::core::format_args!($($reason)+));
        return $crate::skip::Skipped::skipped();
    }};
}

/// The value of a result; leaves the test as skipped if the error is [`Unavailable`](crate::skip::Unavailable),
/// and fails it with the whole chain of causes for any other error.
#[macro_export]
macro_rules! or_skip {
    ($result:expr) => {
        match $result {
            ::core::result::Result::Ok(value) => value,
            ::core::result::Result::Err(error) => match error.downcast_ref::<$crate::skip::Unavailable>() {
                ::core::option::Option::Some(reason) => $crate::skip!("{reason}"),
                ::core::option::Option::None => ::core::panic!("{error:#}"),
            },
        }
    };
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::Unavailable;

    #[test]
    fn unavailable_is_found_under_context() {
        let error = Err::<(), _>(Unavailable::error("needs root")).context("network namespaces").unwrap_err();
        assert_eq!(error.downcast_ref::<Unavailable>().unwrap().to_string(), "needs root");
    }

    #[test]
    #[should_panic(expected = "broker said no")]
    fn other_errors_fail_the_test() {
        or_skip!(Err::<(), _>(anyhow::anyhow!("broker said no")));
    }
}
