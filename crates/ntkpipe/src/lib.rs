//! The `ntkpipe` command as a library: arguments → plan → stages.

mod cohort;
mod commands;
mod failure;
mod log;
mod options;
mod ordered_map;
mod progress;
mod report;
mod run;
mod stages;
mod words;

use std::process::ExitCode;

use clap::Parser;

/// Does what the process's arguments ask for and gives the exit code; `main` is nothing else.
pub fn command() -> ExitCode {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !ntkpipe_store::guard::is_guarded() {
            print(panic);
        }
    }));
    // A panic is a bug: say so, and leave with its exit code.
    match std::panic::catch_unwind(|| commands::dispatch(commands::args::Cli::parse())) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failure::report(&error),
        Err(_) => failure::report_bug(),
    }
}
