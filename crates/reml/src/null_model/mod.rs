//! The null models of outcomes: logistic regression of a disease on the covariates, and Cox regression of a time to event.
//!
//! Each gives a working residual r and its variance v under the null, on the outcome's own samples; from there on tests and flow are those of a quantitative
//! phenotype with the value r. With Z₁ = \[1, Z\],
//!
//! ```text
//!     disease          logit μ = Z₁ β                        r = y − μ        v = μ (1 − μ)
//!     time to event    hazard = h₀(t) exp(Z β), Efron ties   r = event − v    v = cumulative hazard between entry and exit
//! ```
//!
//! At the maximum of the likelihood Z₁'r = 0. Sources: Cox (1972), Efron (1977), Therneau, Grambsch and Fleming (1990) for martingale residuals.
//!
//! Where the covariates tell some samples' outcome for sure, the likelihood has no maximum, and coefficients grow without end (Albert and Anderson 1984). Here the limit is
//! taken: those samples have r = v = 0, and the others are fitted without them (Geyer 2009). `separation.rs` decides it, not the size of a coefficient.

mod cox;
mod design;
mod likelihood;
mod logistic;
mod model;
mod separation;

pub use cox::cox;
pub use logistic::logistic;
pub use model::{InvalidCovariates, NullFit, NullModel, Term, Unfitted};
