use serde::{Deserialize, Serialize};

use crate::eid::EID_COUNT;
use crate::error::SimulateError;

/// Most columns of a table besides the ids: Parquet numbers the columns of a row group in 16 bits, with a sign.
const MOST_COLUMNS: usize = 32_766;

/// The size and composition of a simulated cohort.
///
/// The defaults give 5000 people, 500 proteins and 20 phenotypes. Equal options give equal bytes on disk, for any number of
/// threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulateOptions {
    /// Rows of the feature table, at least 10.
    pub samples: usize,
    /// Proteins, at least 2.
    pub features: usize,
    /// Phenotypes, at least 1.
    pub phenotypes: usize,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Phenotypes without any signal; by default a quarter of all, rounded down.
    pub noise_phenotypes: Option<usize>,
    /// Share of the phenotypes that have missing values of their own, in [0, 1]; the others are complete.
    pub masked_share: f64,
    /// Smallest missing rate of a phenotype with missing values, in [0, 0.95].
    pub min_missing: f64,
    /// Largest missing rate of a phenotype with missing values, in [0, 0.95].
    pub max_missing: f64,
    /// Smallest share of a phenotype's variance, given the covariates, that proteins explain, in (0, 1).
    pub min_signal: f64,
    /// Largest such share, in (0, 1).
    pub max_signal: f64,
    /// Causal proteins of a phenotype with signal, at least 2; all proteins if there are fewer.
    pub causal_features: usize,
    /// Share of people missing from the phenotype table, and (other people) from the covariate table, in [0, 0.5].
    pub absent_share: f64,
    /// People in the phenotype and covariate tables only, as a share of `samples`, in [0, 0.5].
    pub extra_share: f64,
}

impl Default for SimulateOptions {
    fn default() -> Self {
        Self {
            samples: 5000,
            features: 500,
            phenotypes: 20,
            seed: 1,
            noise_phenotypes: None,
            masked_share: 0.5,
            min_missing: 0.02,
            max_missing: 0.4,
            min_signal: 0.02,
            max_signal: 0.8,
            causal_features: 50,
            absent_share: 0.005,
            extra_share: 0.005,
        }
    }
}

impl SimulateOptions {
    /// Checks that a cohort can be made from these options.
    ///
    /// # Errors
    ///
    /// Each variant of [`SimulateError`] about options: too few or too many of something, a share out of its range, a range
    /// that ends before it starts.
    pub fn validate(&self) -> Result<(), SimulateError> {
        for (what, least, found) in [
            ("samples", 10, self.samples),
            ("features", 2, self.features),
            ("phenotypes", 1, self.phenotypes),
            ("causal features", 2, self.causal_features),
        ] {
            if found < least {
                return Err(SimulateError::TooFew { what, least, found });
            }
        }
        for (what, most, found) in [
            ("features", MOST_COLUMNS, self.features),
            ("phenotypes", MOST_COLUMNS, self.phenotypes),
            ("noise phenotypes", self.phenotypes, self.noise()),
        ] {
            if found > most {
                return Err(SimulateError::TooMany { what, most, found });
            }
        }
        for (name, value, low, high) in [
            ("masked_share", self.masked_share, 0.0, 1.0),
            ("min_missing", self.min_missing, 0.0, 0.95),
            ("max_missing", self.max_missing, 0.0, 0.95),
            ("min_signal", self.min_signal, 1e-6, 0.999_999),
            ("max_signal", self.max_signal, 1e-6, 0.999_999),
            ("absent_share", self.absent_share, 0.0, 0.5),
            ("extra_share", self.extra_share, 0.0, 0.5),
        ] {
            if !(low..=high).contains(&value) {
                return Err(SimulateError::OutOfRange {
                    name,
                    low,
                    high,
                    found: value,
                });
            }
        }
        for (low, high, from, to) in [
            (
                "min_missing",
                "max_missing",
                self.min_missing,
                self.max_missing,
            ),
            ("min_signal", "max_signal", self.min_signal, self.max_signal),
        ] {
            if from > to {
                return Err(SimulateError::Reversed {
                    low,
                    high,
                    from,
                    to,
                });
            }
        }
        if self.samples > EID_COUNT || self.people() > EID_COUNT {
            return Err(SimulateError::OutOfIds {
                people: self.people(),
                available: EID_COUNT,
            });
        }
        Ok(())
    }

    /// Everyone simulated: the rows of the feature table, and the extra people.
    pub(crate) fn people(&self) -> usize {
        self.samples.saturating_add(self.extra())
    }

    /// People in the phenotype and covariate tables only; at least one, unless their share is zero.
    fn extra(&self) -> usize {
        // Exact: a validated share of at most half of fewer than 2^53 samples.
        (self.extra_share * self.samples as f64).ceil() as usize
    }

    /// Phenotypes without signal.
    pub(crate) fn noise(&self) -> usize {
        self.noise_phenotypes.unwrap_or(self.phenotypes / 4)
    }
}
