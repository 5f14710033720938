//! Neural tangent kernels, and the networks they belong to.
//!
//! A wide network trained by gradient flow follows its neural tangent kernel (NTK; Jacot, Gabriel & Hongler 2018, Lee et al. 2019).
//! [`kernel`] computes tiles of it: in closed form for infinitely wide networks, and from the weights for given networks.
//! [`network`] is a multilayer perceptron, and [`train`] trains it by gradient descent.
//!
//! This crate has no statistics, reads and writes no files, and prints nothing. Tiles and features are f32; diagonals, and tables
//! of few features, are f64. Every sum runs in a fixed order, so that no result depends on the number of threads.
//!
//! From features to the kernel, on two orthogonal samples:
//!
//! ```
//! use ntk::kernel::{Activation, InfiniteKernel};
//! use std::f64::consts::FRAC_1_PI;
//!
//! // One hidden layer, weight variance 2, no biases.
//! let kernel = InfiniteKernel::new(Activation::Relu, 1, 2.0, 0.0)?;
//! let samples = [1.0f32, 0.0, 0.0, 1.0]; // 2 samples × 2 features, row-major
//! let k = kernel.matrix(&samples, 2)?;
//!
//! // k11 = 2 · (x·x / 2) = 1 stays the same through the layer, and Θ(x, x) = 2 k11. For the pair, the angle is π/2: Θ(x, x') = 1/π.
//! assert_eq!([k[(0, 0)], k[(1, 1)]], [2.0, 2.0]);
//! assert!((k[(0, 1)] - FRAC_1_PI).abs() < 1e-6 && k[(0, 1)] == k[(1, 0)]);
//! # Ok::<(), ntk::kernel::KernelError>(())
//! ```
#![forbid(unsafe_code)]

pub mod kernel;
pub mod network;
pub mod train;
