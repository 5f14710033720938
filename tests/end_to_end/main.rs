//! End to end: tables in, stopping times and predictions out.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod inputs;
mod options;
mod robustness;
mod run;
mod support;
