//! The parts of Wirecall together: the `wirecall` command line, and the whole pipeline as one function.

pub mod command;
pub mod difference;
pub mod follow;
pub mod offline;
pub mod output;
pub mod services;
pub mod stats;

use wirecall_bus::{BusError, Category};
use wirecall_service::exit::{Exit, WithExit as _};

/// An error of the bus with the exit code that it stands for.
pub fn exit_of_bus(error: BusError) -> anyhow::Error {
    let exit = match error.category() {
        Category::Data => Exit::Data,
        Category::Unavailable => Exit::Unavailable,
        Category::Software | Category::Fenced => Exit::Software,
        Category::Permission => Exit::Permission,
        Category::Configuration => Exit::Config,
    };
    match Err::<std::convert::Infallible, _>(error).exit(exit) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}
