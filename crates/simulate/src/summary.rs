use serde::Serialize;

use crate::options::SimulateOptions;

/// What a simulation wrote; `cohort.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CohortSummary {
    /// Version of the program, for a cohort depends on it.
    pub version: &'static str,
    /// The options, seed included.
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
    /// Protein panels; a person lacks all of a panel or little of it.
    pub panels: usize,
    /// Of each panel, the share of people who are drawn to lack it.
    pub panel_missing_rates: Vec<f64>,
    /// Plates; each shifts the panels a little.
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
