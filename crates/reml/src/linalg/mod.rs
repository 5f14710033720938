//! Linear algebra of masked operators: blocks of vectors, covariates, block Lanczos, low-rank approximations.

pub(crate) mod block;
pub(crate) mod block_lanczos;
pub(crate) mod covariates;
pub(crate) mod eigen;
pub(crate) mod kernel_matrix;
pub(crate) mod linear_combination;
pub(crate) mod low_rank;
pub(crate) mod operator;
pub(crate) mod phi;
pub(crate) mod power_of_two;
pub(crate) mod thin_svd;
