//! A fitted null model, and why there may be none.

use faer::MatRef;
use thiserror::Error;

/// Why a null model has no result: a status of the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfitted {
    /// No sample has the disease.
    NoCases,
    /// All samples have the disease.
    NoControls,
    /// No sample has the event.
    NoEvents,
    /// The covariates tell every outcome.
    Separated,
    /// The likelihood could not be maximised.
    NotConverged,
}

impl Unfitted {
    /// The status as tables hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCases => "no_cases",
            Self::NoControls => "no_controls",
            Self::NoEvents => "no_events",
            Self::Separated => "separated",
            Self::NotConverged => "not_converged",
        }
    }
}

/// Why covariates cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidCovariates {
    /// They are not of the outcome's samples.
    #[error("covariates of {covariates} samples for an outcome of {outcome}")]
    Samples {
        /// Rows of the covariates.
        covariates: usize,
        /// Samples of the outcome.
        outcome: usize,
    },
    /// A value is missing or infinite.
    #[error("covariate {covariate} of sample {sample} is not finite")]
    NotFinite {
        /// Its column.
        covariate: usize,
        /// Its row.
        sample: usize,
    },
}

/// A null model, or why there is none.
pub type NullFit = Result<NullModel, Unfitted>;

/// One coefficient of a null model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Term {
    /// Change of the linear predictor for a unit of the covariate; 0 where it is left out.
    pub coefficient: f64,
    /// Its standard error from the information; `None` where the covariate is left out, as the others determine it on the samples fitted.
    pub standard_error: Option<f64>,
    /// What is added to the coefficient again and again, without end, where samples are [separated](NullModel::is_separated); 0 elsewhere.
    pub direction: f64,
}

/// A null model on an outcome's n samples.
#[derive(Clone, Debug)]
pub struct NullModel {
    /// The intercept; `None` of a Cox model.
    pub intercept: Option<Term>,
    /// One term per covariate.
    pub terms: Vec<Term>,
    /// η = Z₁ β, n values; ±∞ where a sample is separated.
    pub linear_predictor: Vec<f64>,
    /// Working residual r, n values in units of outcomes or events, not rescaled.
    pub residual: Vec<f64>,
    /// Null variance v, n values.
    pub variance: Vec<f64>,
    /// Whether a sample's outcome is told by the covariates: its mean is 0 or 1, or its hazard 0 beside all others', in the limit; there r = v = 0.
    pub is_separated: Vec<bool>,
    /// Log likelihood at its maximum (Cox: partial), without the separated samples, to which it owes nothing.
    pub log_likelihood: f64,
}

/// How far a separated sample's linear predictor is moved: beyond all others.
const BEYOND: f64 = 40.0;

/// Decimals of a prediction: samples whose covariates say the same are tied, which the last bit must not undo.
const DECIMALS: f64 = 1e9;

fn rounded(x: f64) -> f64 {
    (x * DECIMALS).round() / DECIMALS
}

impl NullModel {
    /// Samples whose outcome the covariates tell.
    pub fn n_separated(&self) -> usize {
        self.is_separated.iter().filter(|it| **it).count()
    }

    /// η of any samples from their `covariates`, m × q, to 9 decimals so that ties are ties; those in a separated direction are at least 40 beyond the others.
    ///
    /// Cost: O(m q).
    ///
    /// # Panics
    /// Where the covariates are not those of the model in number.
    pub fn predict(&self, covariates: MatRef<'_, f64>) -> Vec<f64> {
        assert_eq!(covariates.ncols(), self.terms.len());
        let of = |i: usize, part: fn(&Term) -> f64| {
            let terms = self.terms.iter().enumerate();
            let sum: f64 = terms.map(|(j, term)| covariates[(i, j)] * part(term)).sum();
            self.intercept.as_ref().map_or(0.0, part) + sum
        };
        (0..covariates.nrows())
            .map(|i| {
                let along = rounded(of(i, |term| term.direction));
                rounded(of(i, |term| term.coefficient) + BEYOND * along)
            })
            .collect()
    }
}
