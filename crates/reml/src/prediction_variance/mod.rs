//! Posterior variance of the trained increment at any sample, for every mask at once.
//!
//! In weight space: let p(x) be a sample's features in the kernel's own space over √n, less what the covariates predict of them on S:
//! p(x) = (ψ(x) − Σᵢ aᵢ ψ(xᵢ)) / √n with Z'a = z(x), a in the span of Z on S. On S the rows p(xᵢ) form Ψ, and A = ΨΨ'. Put C = Ψ'Ψ. The
//! flow of r on weights θ from 0 is θ_t = φ_t(C) Ψ'r, and u(x) = p(x)'θ_t is the increment beyond the covariates' own fit. With
//!
//! ```text
//!     θ ~ N(0, σ² (exp(tC) − 1) / C),   r = Ψθ + e,   e ~ N(0, σ²)
//!     θ | r ~ N(θ_t, σ² φ_t(C)),        φ_t(λ) = (1 − exp(−tλ)) / λ,   φ_t(0) = t
//! ```
//!
//! so that Ψθ ~ N(0, σ² (exp(tA) − 1)) as in Yao et al. 2026, and u(x) has the posterior variance σ² v(x):
//!
//! ```text
//!     v(x) = p'φ_t(C) p = t κ − w'η_t(A) w,   κ = |p|²,  w = Ψp,  η_t(λ) = (t − φ_t(λ)) / λ = ∫₀ᵗ φ_s(λ) ds
//!     x in S:  κ = A_xx, w = A e_x, and v(x) = (1 − exp(−tA))_xx
//! ```
//!
//! The posterior mean fixes the prior covariance of u(x) with u on S. It does not fix the prior variance of the part of p(x) outside the span of Ψ.
//! There C = 0; t is the value that makes the prior a continuous function of C (`docs/decisions`).
//!
//! At scale, B = Ṽ diag(β − μ) Ṽ' + μ P is the low-rank approximation of A, E = A − B. On the directions that Ṽ does not hold, a
//! function of A is approximated by a quadratic, fitted on the tail of the spectrum. Its sums need A_xx and (A²)_xx, which one pass gives for the mask of all
//! samples. Other masks take E from there. A vector that vanishes outside S and is orthogonal to the covariates on S is also orthogonal to them on all samples.
//! So A_S = (n / n_S) P_S A P_S. The diagonal of E_S is taken to be (n / n_S) times that of E; what lies off it is scaled by the number of samples left.

mod masked;
mod posterior;
mod quadrature;

pub use posterior::{EvaluationPoints, Posterior, Products};
