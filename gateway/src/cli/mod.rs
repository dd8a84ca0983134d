//! The command line: one file per subcommand.
//!
//! `serve`, `config` and `journal` work on this machine; `topics`, `produce` and `tail` are Kafka clients and
//! work with any gateway; `devices` asks the HTTP API, too.

mod client;
mod config;
mod devices;
mod http;
mod journal;
mod produce;
mod record_line;
mod serve;
mod tail;
mod topics;

use std::{io, process::ExitCode};

use clap::Parser;

/// Apache Kafka's model at the edge.
#[derive(Debug, Parser)]
#[command(
    name = "headwater",
    version,
    about = "Apache Kafka's model at the edge: a durable broker for microcontrollers, MQTT and Kafka clients",
    after_help = "Start with `headwater serve`; every command has --help with an example."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the gateway
    Serve(serve::Options),
    /// Check a configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Look into the journal of a data folder, and repair it
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Who is there and how well, who may come in, names, and commands
    Devices(devices::Options),
    /// List, create and describe topics
    Topics(topics::Options),
    /// Write lines of standard input to a topic and wait until they are durable
    Produce(produce::Options),
    /// Show the records of a topic
    Tail(tail::Options),
}

/// Runs the command that the arguments name; errors go to standard error with what to do next.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Serve(options) => serve::serve(options),
        Command::Config(command) => config::run(command),
        Command::Journal(command) => return journal::run(command),
        Command::Devices(options) => client::block_on(devices::run(options)),
        Command::Topics(options) => client::block_on(topics::run(options)),
        Command::Produce(options) => client::block_on(produce::run(options)),
        Command::Tail(options) => client::block_on(tail::run(options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether whoever read the output had enough, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let has_example = |command: &clap::Command| {
                command.get_after_help().is_some_and(|help| help.to_string().contains("Example"))
            };
            let in_children = command.get_subcommands().all(has_example);
            let has_children = command.has_subcommands();
            assert!(
                has_example(command) || (has_children && in_children),
                "{} has no example",
                command.get_name()
            );
        }
    }
}
