//! The `ntkpipe` command as a library: arguments → plan → stages.
//!
//! [`run`] does what `ntkpipe run` does. The tables that it leaves are described in the project's `docs/files.md`.
//!
//! ```
//! use ntkpipe::{OneOrMore, Options, run};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let file = |name: &str| Some(folder.path().join(name));
//! // 80 samples: what is measured of them, and a phenotype that follows the first feature.
//! let x = |i: usize, j: usize| ((i * (7 + j)) as f64).sin();
//! let features = (0..80).map(|i| format!("s{i},{},{},{}\n", x(i, 0), x(i, 1), x(i, 2)));
//! std::fs::write(file("x.csv").unwrap(), "IID,a,b,c\n".to_owned() + &features.collect::<String>())?;
//! let phenotype = (0..80).map(|i| format!("s{i},{}\n", x(i, 0) + 0.3 * x(i, 50)));
//! std::fs::write(file("y.csv").unwrap(), "IID,y\n".to_owned() + &phenotype.collect::<String>())?;
//! let record = run(&Options {
//!     features: file("x.csv"),
//!     phenotypes: file("y.csv"),
//!     depth: Some(OneOrMore::One(1)),
//!     out: file("results"),
//!     ..Options::default()
//! })?;
//! assert!(record.stages.get("fit").is_some());
//! assert!(folder.path().join("results/phenotypes.tsv").exists());
//! # Ok(())
//! # }
//! ```

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

pub use crate::cohort::record::SamplesRecord;
pub use crate::failure::Failure;
pub use crate::options::Options;
pub use crate::options::values::{
    Activation, Bytes, CaseCoding, DropQc, Missing, NetworkActivation, OneOrMore, ReadTiles, Rint,
    ScoreTest, StopAt,
};
pub use crate::ordered_map::OrderedMap;
pub use crate::run::digest::InputRecord;
pub use crate::run::plan::Plan;
pub use crate::run::record::{RunRecord, StageRecord};

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::Parser;

/// One run at a time: the log and the progress are of the process.
static RUNNING: Mutex<()> = Mutex::new(());

/// Does what `ntkpipe run` does with these options, and gives what `run.json` says then.
///
/// It says nothing on stderr; the run directory has the log. A finished stage is not done again, an interrupted one goes on. An option
/// that is `None` has the default that `ntkpipe run --help` says; no options file is read. The work is done on threads of its own, as many
/// as `options.threads` says. A second call in the same process waits for the first. It sets faer's global parallelism to sequential.
///
/// # Errors
/// [`Failure::Input`] where a table or an option is wrong, and [`Failure::Resources`] where disk or memory is short, each with the remedy
/// (`error.downcast_ref::<Failure>()`); an error of the operating system else.
pub fn run(options: &Options) -> anyhow::Result<RunRecord> {
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let done = commands::run::run_quietly(options.clone());
    log::stop();
    done
}

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
