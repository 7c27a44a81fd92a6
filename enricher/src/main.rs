//! The program: arguments and configuration in, exit code out. Everything else is in the library.

/// Events are made of many small texts, allocated on one thread and freed there: jemalloc keeps that cheap, and
/// gives memory back after a burst.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    wirecall_service::exit::run(wirecall_enricher::app::run)
}
