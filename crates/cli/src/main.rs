//! The `ntkpipe` command: arguments → plan → stages.

mod accounting;
mod args;
mod covariates;
mod failure;
mod id_match;
mod inputs;
mod log;
mod options;
mod phenotype_row;
mod pipeline;
mod plan;
mod progress;
mod run_directory;
mod settings;
mod stages;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // A panic is a bug: say so, and leave with its exit code.
    match std::panic::catch_unwind(|| pipeline::dispatch(args::Cli::parse())) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failure::report(&error),
        Err(_) => failure::report_bug(),
    }
}
