//! The `wirecall` command.

use std::process::ExitCode;

use wirecall::command::{self, Arguments};
use wirecall_service::exit::{self, Exit};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match exit::arguments::<Arguments>() {
        Ok(arguments) => arguments,
        Err(exit) => return exit.into(),
    };
    match command::run(arguments) {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Io.into(),
        Err(error) => {
            exit::report(&error);
            Exit::of(&error).into()
        }
    }
}

/// The reader of our output went away (`| head`): nothing to say, but the work is not done either.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
