//! Linear algebra of masked operators: blocks of vectors, covariates, block Lanczos, low-rank approximations.

pub mod block;
pub mod block_lanczos;
pub mod covariates;
pub mod eigen;
pub mod kernel_matrix;
pub mod linear_combination;
pub mod low_rank;
pub mod operator;
pub mod phi;
pub mod power_of_two;
pub(crate) mod thin_svd;
