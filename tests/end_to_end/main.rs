//! End to end: tables in, stopping times and predictions out.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod any_bytes;
mod architectures;
mod damage;
mod documents;
mod folders;
mod foreign;
mod held_out;
mod inputs;
mod interface;
mod intervals;
#[cfg(target_os = "linux")]
mod memory;
mod network;
mod observability;
mod options;
mod report;
mod robustness;
mod run;
mod shares;
mod support;
mod train;
mod units;
