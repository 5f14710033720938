use std::path::PathBuf;

use ntkpipe_store::atomic::AtomicError;
use ntkpipe_store::results::ResultsError;

use thiserror::Error;

/// Why a cohort could not be simulated.
#[derive(Debug, Error)]
pub enum SimulateError {
    /// An option asks for less than a cohort needs.
    #[error("a simulated cohort needs at least {least} {what}, {found} asked for; ask for more")]
    TooFew {
        /// What is counted.
        what: &'static str,
        /// The smallest number allowed.
        least: usize,
        /// The number in the options.
        found: usize,
    },
    /// An option asks for more than a cohort can hold.
    #[error("a simulated cohort holds at most {most} {what}, {found} asked for; ask for fewer")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The largest number allowed.
        most: usize,
        /// The number in the options.
        found: usize,
    },
    /// There are more people than ids of seven digits.
    #[error(
        "{people} people need an id each, seven digits give {available}; ask for fewer samples"
    )]
    OutOfIds {
        /// Everyone to simulate, extra people included.
        people: usize,
        /// Ids from 1000000 to 9999999.
        available: usize,
    },
    /// A number lies outside its range.
    #[error("`{name}` is {found}, expected a number from {low} to {high}")]
    OutOfRange {
        /// The option.
        name: &'static str,
        /// Smallest value allowed.
        low: f64,
        /// Largest value allowed.
        high: f64,
        /// The value in the options.
        found: f64,
    },
    /// A range ends before it starts.
    #[error("`{low}` is {from}, above `{high}`, which is {to}; exchange them")]
    Reversed {
        /// Option with the lower end.
        low: &'static str,
        /// Option with the upper end.
        high: &'static str,
        /// Its lower end.
        from: f64,
        /// Its upper end.
        to: f64,
    },
    /// The causal proteins of a phenotype give everyone the same signal.
    #[error(
        "the signal of phenotype `{phenotype}` is the same for everyone; ask for more samples or change the seed"
    )]
    ConstantSignal {
        /// The phenotype.
        phenotype: String,
    },
    /// A file of that name is there that no simulation wrote.
    #[error("`{}` exists and no `cohort.json` beside it says that a simulation wrote it; choose another directory or remove the file", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The folder of the cohort could not be created.
    #[error("cannot make `{}`", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file could not be created, written or renamed.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// A table could not be encoded or written.
    #[error(transparent)]
    Table(#[from] ResultsError),
    /// The summary could not be written.
    #[error("cannot write summary `{}`", .path.display())]
    Summary {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}
