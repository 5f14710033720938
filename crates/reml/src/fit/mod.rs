//! Test and fit of many phenotypes at once.

mod active;
mod batch;
mod converge;
mod dense;
pub(crate) mod galerkin;
mod pattern;
mod residual;
mod result;
mod spectrum;
mod testing;

pub use batch::{Batch, analyse, working_columns};
pub use result::{
    Analysis, AnalysisOptions, Degenerate, Finished, FitResult, Phenotype, Stop, TestResult,
};
