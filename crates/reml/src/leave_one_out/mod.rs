//! The leave-one-out error of the flow along its whole path, and the stopping time where it is least.
//!
//! The fitted values are linear in the phenotype. So the error of sample i under the fit of all others is known without that fit (Allen 1974; along the
//! path of gradient descent, Patil, Wu & Tibshirani 2024):
//!
//! ```text
//!     e(t) = exp(−tA) r        sᵢ(t) = exp(−tA)ᵢᵢ on the range of P        LOO(t) = Σ (eᵢ(t) / sᵢ(t))²
//!     t_loo = argmin LOO on [0, 50 dof / tr A]       loo_r2(t) = 1 − LOO(t) / LOO(0)
//! ```
//!
//! sᵢ is an integral of exp(−tλ) over a measure of sample i. The measure has two parts. The leading pairs of the low-rank approximation give Σ V²ᵢₖ exp(−t βₖ).
//! The rest is a gamma measure with the sample's own mass 1 − hᵢ − Σ V²ᵢₖ, mean (from diag A) and variance (from diag A²). It is taken at a time g(t), the
//! clock, which all samples share. On all samples, g is chosen so that the rests sum to what the effective degrees of freedom leave. A mask of its own takes
//! the variances and the clock from there ([`Shape`]). e comes from the phenotype's own `GalerkinFlow`. Neither costs a pass over the kernel. LOO may have
//! several minima: the times are scanned on a grid in log t, and each minimum that may be the smallest is then searched more finely.

mod decay_diagonal;
mod exact;
mod gamma_measure;
mod result;
mod search;

pub(crate) use decay_diagonal::{DecayDiagonal, Path, Shape, working_columns};
pub(crate) use exact::Exact;
pub use result::LeaveOneOut;
