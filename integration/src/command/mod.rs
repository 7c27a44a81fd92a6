//! The `wirecall` command: one module a subcommand, each with its arguments and what it does.

pub mod demo;
pub mod doctor;
pub mod replay;
pub mod tail;

use clap::{Parser, Subcommand};
use wirecall_service::exit::Exit;

/// Wirecall: API calls out of network traffic.
#[derive(Debug, Parser)]
#[command(name = "wirecall", version, about, propagate_version = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read capture files and print their API events; no Kafka, no Kubernetes, no root
    Replay(replay::Arguments),
    /// Run the three services with an embedded broker on sample or live traffic, and show the events
    Demo(demo::Arguments),
    /// Follow the API events of a Kafka topic
    Tail(tail::Arguments),
    /// Tell what this machine can capture and reach, and what not, and why
    Doctor(doctor::Arguments),
}

/// Runs the command.
///
/// # Errors
/// Whatever ended it early; the exit code is [`Exit::of`] the error.
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    match arguments.command {
        Command::Replay(arguments) => replay::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Tail(arguments) => tail::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
    }
}
