//! The `ntkpipe` command as a library: arguments → plan → stages.

mod accounting;
mod args;
mod choice;
mod closed_form;
mod codes;
mod copies;
mod covariates;
mod failure;
mod fit_journal;
mod folds;
mod id_match;
mod initial;
mod inputs;
mod lock;
mod log;
mod machine;
mod manual;
mod marker;
mod network;
mod option_doc;
mod options;
mod options_file;
mod ownership;
mod phenotype_row;
mod pipeline;
mod plan;
mod progress;
mod progress_report;
mod report;
mod run_directory;
mod schema;
mod settings;
mod share;
mod stages;
mod stamps;
mod train;
mod trained_row;
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
    match std::panic::catch_unwind(|| pipeline::dispatch(args::Cli::parse())) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failure::report(&error),
        Err(_) => failure::report_bug(),
    }
}
