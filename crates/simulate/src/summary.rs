use serde::Serialize;

use crate::options::SimulateOptions;

/// The content of `cohort.json`: what a simulation wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CohortSummary {
    /// Version of the program, because a cohort depends on it.
    pub version: &'static str,
    /// The options, including the seed.
    pub options: SimulateOptions,
    /// Rows of `proteins.parquet`.
    pub feature_rows: usize,
    /// Rows of `phenotypes.parquet`.
    pub phenotype_rows: usize,
    /// Rows of `covariates.parquet`.
    pub covariate_rows: usize,
    /// People in all three tables.
    pub shared_rows: usize,
    /// Share of the protein values that are null.
    pub feature_missing_share: f64,
    /// Protein panels; a person is missing a whole panel, or little of it.
    pub panels: usize,
    /// For each panel, the share of people who are drawn to be without it.
    pub panel_missing_rates: Vec<f64>,
    /// Plates; each shifts the panels slightly.
    pub plates: usize,
    /// Phenotypes of each kind.
    pub linear_phenotypes: usize,
    /// See `linear_phenotypes`.
    pub threshold_phenotypes: usize,
    /// See `linear_phenotypes`.
    pub interaction_phenotypes: usize,
    /// See `linear_phenotypes`.
    pub noise_phenotypes: usize,
}
