//! Neural tangent kernels, and the networks they are of.
//!
//! Wide networks trained by gradient flow follow their neural tangent kernel (NTK; Jacot, Gabriel & Hongler 2018, Lee et al. 2019).
//! [`kernel`] gives tiles of it, of infinitely wide networks in closed form and of given networks from their weights; [`network`] is a
//! multilayer perceptron, and [`train`] trains one by gradient descent.
//!
//! No statistics, no files, no printing. f32 for tiles and features, f64 for diagonals and few features; every sum runs in a fixed order,
//! so that no result depends on the number of threads.
#![forbid(unsafe_code)]

pub mod kernel;
pub mod network;
pub mod train;
