//! Statistics and linear algebra of ntkpipe: from a neural tangent kernel to stopping times.
//!
//! Wide networks trained by gradient flow follow their neural tangent kernel; the network at time t is
//! the BLUP of a random-effects model in which t is a variance component (Yao et al. 2026,
//! arXiv:2605.27991). The rooms in the order data walks through them:
//!
//! [`network`] (which one) → [`kernel`] (a tile of K) → [`operator`] (A = P K\[S,S\] P / n on the samples of one mask) → [`krylov`] (the
//! probes' block space) → [`low_rank`] (what it tells of any mask) → [`flow`] (each phenotype's own space, with
//! [`combination`]) →
//! [`measure`] (the two discrete measures) →
//! [`score_test`] with [`quadratic_form`], [`stopping_time`], [`leave_one_out`] (the time that predicts best), and [`posterior`] (how sure a prediction is). [`analysis`] walks a batch of
//! phenotypes through them, all sharing every pass over the kernel.
//!
//! No files, no printing. f32 for blocks of vectors, f64 for scalars and reductions; every reduction runs in
//! a fixed order, so that no result depends on the number of threads or on what else is in the batch. For that the process
//! must call `faer::set_global_parallelism(Par::Seq)`: faer's own operators split by the number of threads.
#![forbid(unsafe_code)]

pub mod analysis;
pub mod block;
pub mod combination;
pub mod compression;
pub mod covariate_selection;
pub mod covariates;
pub mod eigen;
pub mod flow;
pub mod krylov;
pub mod leave_one_out;
pub mod low_rank;
pub mod measure;
pub mod operator;
pub mod posterior;
pub mod quadratic_form;
pub mod rank_normal;
pub mod robust_law;
pub mod robust_test;
mod saddlepoint;
pub mod score_test;
pub mod stopping_time;
mod submatrix;
pub mod unit;
