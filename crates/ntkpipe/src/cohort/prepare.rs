//! Phenotypes made ready for the analysis: masked, standardised, imputed.

use std::ops::RangeInclusive;

use anyhow::Context as _;
use rayon::prelude::*;
use reml::transform::{Standardisation, impute, rank_normal};
use reml::{Covariates, Phenotype, Predictor};

use crate::cohort::Inputs;
use crate::failure::input;
use crate::options::settings::Settings;
use crate::options::values::Missing;
use crate::words::counted;

/// A phenotype made ready for the analysis, with the way back to its own units.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Mask and standardised values.
    pub phenotype: Phenotype,
    /// How the values were standardised; those that are to stay raw were divided by a power of two of their size, so that single precision
    /// holds what comes of them.
    pub standardisation: Standardisation,
    /// Kernel samples without a value.
    pub n_missing: usize,
    /// Samples used whose value is imputed.
    pub n_imputed: usize,
    /// Cases and controls of a binary phenotype among the samples used.
    pub cases: Option<[usize; 2]>,
}

impl Prepared {
    /// The value of each sample on the scale of predictions; `None` where it is not used.
    pub fn observed(&self) -> impl Iterator<Item = Option<f64>> {
        let Phenotype { mask, values, .. } = &self.phenotype;
        let pairs = mask.iter().zip(values);
        pairs.map(|(&used, value)| used.then(|| self.standardisation.invert(*value)))
    }

    /// What predicts the phenotype in its own units, from the increment f₀ + K α of each kernel sample.
    pub fn predictor(
        &self,
        covariates: &Covariates,
        increment: &dyn Fn(usize) -> f64,
    ) -> Predictor {
        let Standardisation { mean, sd } = self.standardisation;
        Predictor::new(covariates, &self.phenotype, increment).in_units(mean, sd)
    }

    /// Whether there are fewer cases, or fewer controls, than are asked for.
    pub fn is_rare(&self, settings: &Settings) -> bool {
        self.cases
            .is_some_and(|it| it.iter().min() < Some(&settings.min_cases))
    }
}

/// Cases (1) and controls (0), when both are there and nothing else.
fn cases(seen: impl Iterator<Item = f64>) -> Option<[usize; 2]> {
    let mut counts = [0, 0];
    for value in seen {
        match value {
            1.0 => counts[0] += 1,
            0.0 => counts[1] += 1,
            _ => return None,
        }
    }
    (!counts.contains(&0)).then_some(counts)
}

/// Samples that any phenotype may use: complete covariates, and with `--missing complete` a value of every phenotype.
pub fn base_mask(
    inputs: &Inputs,
    covariates: &Covariates,
    missing: Missing,
) -> anyhow::Result<Vec<bool>> {
    let mut mask = covariates.complete().to_vec();
    if missing == Missing::Complete {
        let columns: Vec<usize> = (0..inputs.phenotypes.columns.len()).collect();
        for block in columns.chunks(64) {
            for values in inputs.phenotype_values(block)? {
                for (m, v) in mask.iter_mut().zip(&values) {
                    *m &= v.is_finite();
                }
            }
        }
        if !mask.contains(&true) {
            return Err(input(
                format!(
                    "no sample has a value of each of the {} and of every covariate",
                    counted(columns.len(), "phenotypes")
                ),
                "use `--missing exact` (the default), or fewer phenotypes with `--phenotype-columns`",
            ));
        }
    }
    Ok(mask)
}

/// Masks, standardises and, if asked for, imputes one phenotype.
pub fn prepare(
    mut values: Vec<f64>,
    base: &[bool],
    covariates: &Covariates,
    columns: &[Vec<f64>],
    settings: &Settings,
) -> anyhow::Result<Prepared> {
    let observed: Vec<bool> = values
        .iter()
        .zip(base)
        .map(|(v, &b)| b && v.is_finite())
        .collect();
    let n_missing = values.iter().filter(|v| !v.is_finite()).count();
    let n_observed = observed.iter().filter(|&&o| o).count();
    let in_use = values.iter().zip(&observed).filter(|(_, o)| **o);
    let cases = cases(in_use.map(|(v, _)| *v));
    if settings.rint_phenotypes {
        for (value, _) in values.iter_mut().zip(&observed).filter(|(_, o)| !**o) {
            *value = f64::NAN;
        }
        rank_normal(&mut values);
    }
    let seen = || {
        values
            .iter()
            .zip(&observed)
            .filter(|(_, o)| **o)
            .map(|(v, _)| *v)
    };
    let standardisation = if settings.standardise_phenotypes {
        Standardisation::of(seen)
    } else if settings.network.finite().is_none() {
        Standardisation::unit_of(seen())
    } else {
        // A network's output has units of its own.
        Standardisation { mean: 0.0, sd: 1.0 }
    };
    let mut scaled: Vec<f64> = values
        .iter()
        .zip(&observed)
        .map(|(&v, &o)| if o { standardisation.apply(v) } else { 0.0 })
        .collect();
    let mut mask = observed;
    if settings.missing == Missing::Impute {
        impute(&mut scaled, &mask, base, covariates, columns);
        mask = base.to_vec();
    }
    let n_imputed = mask.iter().filter(|&&m| m).count() - n_observed;
    Ok(Prepared {
        phenotype: Phenotype {
            mask,
            values: scaled,
            variances: None,
            time: None,
        },
        standardisation,
        n_missing,
        n_imputed,
        cases,
    })
}

/// Refuses a phenotype that is analysed in the units of a network's output where single precision does not hold what comes of it.
fn check_units(name: &str, values: &[f64]) -> anyhow::Result<()> {
    const HELD: RangeInclusive<f64> = 1e-15..=1e15;
    let observed = values.iter().filter(|v| v.is_finite());
    let largest = observed.fold(0.0_f64, |most, v| most.max(v.abs()));
    if largest == 0.0 || HELD.contains(&largest) {
        return Ok(());
    }
    Err(input(
        format!(
            "phenotype `{name}` has values of {largest:.1e}, and single precision holds fits to a network's output for values of {:e} to {:e}",
            HELD.start(),
            HELD.end()
        ),
        "give it in other units, or leave `--raw-phenotypes` out",
    ))
}

/// Reads and prepares a block of phenotypes.
pub fn prepare_block(
    inputs: &Inputs,
    block: &[usize],
    base: &[bool],
    covariates: &Covariates,
    columns: &[Vec<f64>],
    settings: &Settings,
) -> anyhow::Result<Vec<Prepared>> {
    let prepared: Vec<anyhow::Result<Prepared>> = inputs
        .phenotype_values(block)
        .context("could not read the phenotypes")?
        .into_par_iter()
        .zip(block)
        .map(|(values, &column)| {
            if settings.network.finite().is_some() && !settings.standardise_phenotypes {
                check_units(&inputs.phenotypes.columns[column], &values)?;
            }
            prepare(values, base, covariates, columns, settings)
        })
        .collect();
    // Of several errors the first phenotype's, on any number of threads.
    prepared.into_iter().collect()
}
