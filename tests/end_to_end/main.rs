//! End to end: tables in, stopping times and predictions out.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod any_bytes;
mod architectures;
mod cross_validate;
mod damage;
mod documents;
mod field;
mod folders;
mod foreign;
mod held_out;
mod histories;
mod hostile;
mod ids_and_codes;
mod inputs;
mod interface;
mod intervals;
mod left_out;
mod library;
#[cfg(target_os = "linux")]
mod memory;
mod network;
mod no_variation;
mod observability;
mod options;
mod outcomes;
mod ownership;
mod report;
mod robustness;
mod run;
mod shards;
mod support;
mod train;
mod units;
