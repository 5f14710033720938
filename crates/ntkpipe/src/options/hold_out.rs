//! How samples are held out of a fit.

use std::fmt;
use std::fmt::Display;

use serde::Serialize;

use crate::failure::input;
use crate::words::counted;

/// How samples are held out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldOut {
    /// Each once, in this many folds.
    Folds(usize),
    /// This share of them, once.
    Share(f64),
}

impl HoldOut {
    /// Number of folds.
    pub fn n_folds(self) -> usize {
        match self {
            Self::Folds(n) => n,
            Self::Share(_) => 1,
        }
    }

    /// How many of `n` samples are held out, each once.
    pub fn n_out(self, n: usize) -> usize {
        match self {
            Self::Folds(_) => n,
            Self::Share(share) => (share * n as f64).round() as usize,
        }
    }

    /// Refuses folds without a sample, and a share that is all samples or none.
    pub fn check(self, n: usize) -> anyhow::Result<()> {
        match self {
            Self::Folds(folds) if folds > n => Err(input(
                format!(
                    "folds is {folds}, expected at most the {} of the kernel",
                    counted(n, "samples")
                ),
                "pass for example `--folds 5`",
            )),
            Self::Share(share) if [0, n].contains(&self.n_out(n)) => Err(input(
                format!(
                    "holdout is {share}, which is {} of the {} of the kernel",
                    self.n_out(n),
                    counted(n, "samples")
                ),
                "pass for example `--holdout 0.2`",
            )),
            _ => Ok(()),
        }
    }
}

impl Display for HoldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folds(n) => write!(f, "also without each of {n} folds"),
            Self::Share(share) => write!(
                f,
                "also without {} % of the samples",
                (share * 1e4).round() / 100.0
            ),
        }
    }
}
