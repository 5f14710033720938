//! The program's way of computing beside the definitions executed literally: how far each number may be off, and where.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod dense;
mod far_sample;
mod fast_spectra;
mod held_out_scores;
mod leave_one_out;
mod mask_of_a_group;
mod memory_kernel;
mod no_variation;
mod null_distribution;
mod null_model;
mod oracle;
mod outcome;
mod posterior;
mod robust;
mod robust_outcomes;
