//! Score test, REML stopping time and predictions for any symmetric positive semidefinite kernel matrix.
//!
//! A phenotype is covariates + u + noise, u a random effect whose covariance comes from the kernel: with A = P K\[S,S\] P / n on the samples S of the phenotype's
//! mask, training by gradient flow to time t gives the BLUP of u, and t is a variance component (Yao et al. 2026, arXiv:2605.27991). This crate
//! tests t = 0, finds the t of the largest restricted likelihood and the t that predicts best when each sample is left out, and gives the dual weights α
//! that predict: K α is the increment.
//!
//! | where | what |
//! |---|---|
//! | [`KernelMatrix`], [`DenseKernel`] | the kernel: any matrix that can be multiplied by a block of vectors, and one in memory |
//! | [`Covariates`], [`Phenotype`] | what is analysed |
//! | [`ReferenceSpectrum`] | the operator A on all samples, decomposed once for all phenotypes |
//! | [`analyse`], [`Batch`], [`AnalysisOptions`] | tests and fits of many phenotypes that share each pass over the kernel |
//! | [`Analysis`] | the result: [`TestResult`], [`FitResult`] with [`RemlFit`] and [`LeaveOneOut`] |
//! | [`Predictor`], [`r_squared`] | predictions from dual weights and covariates, and their R² |
//! | [`prediction_variance`] | how sure a prediction is |
//! | [`model_selection`] | the choice among several kernels |
//! | [`null_model`], [`risk_sets`] | logistic and Cox regression of outcomes on the covariates: the residuals that take the place of values |
//! | [`offset_gamma`], [`baseline_hazard`] | from what the network adds to a score, and from a score to an absolute risk |
//! | [`accuracy`], [`survival_curve`] | how well held-out scores tell outcomes |
//! | [`covariate_selection`], [`transform`] | what is done to tables before |
//! | [`chi_squared_mixture`], [`benjamini_hochberg`] | the tail of a weighted sum of chi-squared variables, q-values |
//!
//! ```
//! use reml::{AnalysisOptions, Covariates, DenseKernel, Phenotype, Probes, ReferenceSpectrum, analyse};
//!
//! // 80 samples whose phenotype is a smooth function of x, with a kernel that is 1 where two samples have the same x.
//! let x: Vec<f64> = (0..80).map(|i| f64::from(i % 40) / 4.0).collect();
//! let k = faer::Mat::from_fn(80, 80, |i, j| (-(x[i] - x[j]).powi(2)).exp());
//! let y = x.iter().enumerate().map(|(i, x)| x.sin() + 0.3 * (1.7 * i as f64).sin());
//!
//! let kernel = DenseKernel::new(k.as_ref())?;
//! let covariates = Covariates::new(80, &[vec![1.0; 80]]);
//! let phenotypes = [Phenotype::new(y.collect(), &covariates)];
//! let Ok(spectrum) = ReferenceSpectrum::new(&kernel, &covariates, &[true; 80], Probes::default(), |_| {});
//! let options = AnalysisOptions::default();
//! let Ok(analyses) = analyse(&kernel, &covariates, &spectrum, &phenotypes, &options, |_, _| {});
//!
//! let (test, fit) = (analyses[0].test.expect("tested"), analyses[0].fit.as_ref().expect("fitted"));
//! assert!(test.log_p < -20.0 && fit.leave_one_out.as_ref().and_then(|it| it.r2) > Some(0.8));
//! # Ok::<(), reml::NotAKernel>(())
//! ```
//!
//! No networks, no files, no printing. f32 for blocks of vectors, f64 for scalars and reductions; every reduction runs in
//! a fixed order, so that no result depends on the number of threads, on faer's global parallelism or on what else is in the batch. Work runs on the rayon
//! pool that the caller is in (`rayon::ThreadPool::install`).
#![forbid(unsafe_code)]

pub mod accuracy;
pub mod baseline_hazard;
pub mod chi_squared_mixture;
mod compression;
pub mod covariate_selection;
mod dense_kernel;
pub mod far_samples;
mod fit;
mod leave_one_out;
mod linalg;
pub mod model_selection;
pub mod null_model;
pub mod offset_gamma;
mod predict;
mod prediction_check;
pub mod prediction_variance;
mod rank_normal;
pub mod reference_spectrum;
pub mod risk_sets;
mod robust_test;
mod score_test;
mod spectral_density;
mod spectral_measure;
mod stopping_time;
pub mod survival_curve;
pub mod transform;

pub use dense_kernel::{DenseKernel, NotAKernel};
pub use fit::{
    Analysis, AnalysisOptions, Batch, Degenerate, Finished, FitResult, Phenotype, Stop, TestResult,
    analyse, working_columns,
};
pub use leave_one_out::LeaveOneOut;
pub use linalg::covariates::{Covariates, Projection};
pub use linalg::kernel_matrix::KernelMatrix;
pub use linalg::operator::MaskedOperator;
pub use predict::{Predictor, r_squared};
pub use prediction_check::InvalidPrediction;
pub use reference_spectrum::{Probes, ReferenceSpectrum};
pub use score_test::benjamini_hochberg;
pub use stopping_time::{RemlFit, StoppingTime};
