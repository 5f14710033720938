//! A row of `phenotypes.parquet`.

use std::path::Path;

use ntkpipe_model::analysis::{Analysis, Degenerate};
use ntkpipe_model::score_test::benjamini_hochberg;
use ntkpipe_model::stopping_time::StoppingTime;
use ntkpipe_store::results::{Column, read_table};

use crate::failure::input;

/// Status of a binary phenotype with fewer cases, or controls, than `--min-cases` asks for.
pub const TOO_FEW_CASES: &str = "too_few_cases";

/// What is reported of one phenotype; `None` where it does not apply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PhenotypeRow {
    /// Column name.
    pub phenotype: String,
    /// ok, not_warranted, at_zero, unbounded, not_converged, constant, too_few_samples or too_few_cases.
    pub status: String,
    /// Samples used.
    pub n_samples: i64,
    /// Kernel samples without a value.
    pub n_missing: i64,
    /// Rank of the covariates, intercept included.
    pub n_covariates: i64,
    /// dof · q.
    pub score: Option<f64>,
    /// p of the score test; 0 where it is below the smallest float.
    pub p_value: Option<f64>,
    /// −log10 p, which never underflows.
    pub neg_log10_p: Option<f64>,
    /// Benjamini–Hochberg over the phenotypes tested.
    pub q_value: Option<f64>,
    /// p < alpha.
    pub training_warranted: Option<bool>,
    /// Stopping time, learning rate × epochs.
    pub t_hat: Option<f64>,
    /// Ends of its 95 % interval.
    pub t_hat_lower: Option<f64>,
    /// Upper end.
    pub t_hat_upper: Option<f64>,
    /// Largest relative change of the three over the last pass.
    pub t_hat_error: Option<f64>,
    /// t_hat / learning rate.
    pub epochs: Option<f64>,
    /// Effective degrees of freedom at t_hat.
    pub edf: Option<f64>,
    /// Noise variance at t_hat, in squared units of the phenotype.
    pub sigma2: Option<f64>,
    /// Q(0) − Q(t_hat).
    pub reml_ratio: Option<f64>,
    /// R² on the samples used.
    pub in_sample_r2: Option<f64>,
    /// R² on samples held out.
    pub out_of_sample_r2: Option<f64>,
    /// Passes over the kernel the phenotype took part in.
    pub krylov_steps: i64,
}

impl PhenotypeRow {
    /// From an analysis; `sd` brings sigma2 back to the phenotype's units.
    pub fn new(
        phenotype: &str,
        analysis: &Analysis,
        n_missing: usize,
        sd: f64,
        learning_rate: Option<f64>,
    ) -> Self {
        let finite = |v: f64| v.is_finite().then_some(v);
        let mut row = Self {
            phenotype: phenotype.to_owned(),
            status: "not_warranted".to_owned(),
            n_samples: analysis.n_samples as i64,
            n_missing: n_missing as i64,
            n_covariates: analysis.n_covariates as i64,
            in_sample_r2: analysis.in_sample_r2,
            krylov_steps: analysis.passes as i64,
            ..Self::default()
        };
        if let Some(why) = analysis.degenerate {
            row.status = match why {
                Degenerate::Constant => "constant",
                Degenerate::TooFewSamples => "too_few_samples",
            }
            .to_owned();
        }
        if let Some(test) = &analysis.test {
            row.score = Some(test.score);
            row.p_value = Some(test.log_p.exp());
            // 0 − 0 is 0, where negating would print −0.
            row.neg_log10_p = Some(0.0 - test.log_p / std::f64::consts::LN_10);
            row.training_warranted = Some(test.warranted);
        }
        if let Some(fit) = &analysis.fit {
            let reml = &fit.reml;
            row.status = match (fit.converged, reml.time) {
                (false, _) => "not_converged",
                (true, StoppingTime::AtZero) => "at_zero",
                (true, StoppingTime::Unbounded) => "unbounded",
                (true, StoppingTime::Interior(_)) => "ok",
            }
            .to_owned();
            row.t_hat = finite(reml.time.time());
            row.t_hat_lower = reml.lower;
            row.t_hat_upper = reml.upper;
            row.t_hat_error = finite(fit.error);
            row.epochs = row.t_hat.zip(learning_rate).map(|(t, rate)| t / rate);
            row.edf = finite(fit.effective_dof);
            row.sigma2 = finite(fit.noise_variance * sd * sd);
            row.reml_ratio = finite(reml.ratio);
        }
        row
    }

    /// Of a binary phenotype that is not analysed for its few cases, or few controls.
    pub fn too_few_cases(phenotype: &str, n_samples: usize, n_missing: usize) -> Self {
        Self {
            phenotype: phenotype.to_owned(),
            status: TOO_FEW_CASES.to_owned(),
            n_samples: n_samples as i64,
            n_missing: n_missing as i64,
            ..Self::default()
        }
    }

    /// Whether the phenotype has been tested.
    pub fn is_tested(&self) -> bool {
        self.neg_log10_p.is_some()
    }
}

/// Fills in the q-values over all rows that were tested.
pub fn adjust(rows: &mut [PhenotypeRow]) {
    let log_p: Vec<f64> = rows
        .iter()
        .filter_map(|r| r.neg_log10_p)
        .map(|v| -v * std::f64::consts::LN_10)
        .collect();
    let q = benjamini_hochberg(&log_p);
    for (row, q) in rows.iter_mut().filter(|r| r.is_tested()).zip(q) {
        row.q_value = Some(q);
    }
}

macro_rules! columns {
    ($($name:ident: $kind:ident),* $(,)?) => {
        /// The rows as columns of a table.
        pub fn to_columns(rows: &[PhenotypeRow]) -> Vec<(String, Column)> {
            vec![$((stringify!($name).to_owned(), columns!(@to $kind rows $name))),*]
        }

        /// Reads the rows of a table that [`to_columns`] made.
        pub fn read(path: &Path) -> anyhow::Result<Vec<PhenotypeRow>> {
            let columns = read_table(path)?;
            let n = columns.first().map_or(0, |c| c.1.len());
            let mut rows = vec![PhenotypeRow::default(); n];
            $(
                match columns.iter().find(|c| c.0 == stringify!($name)) {
                    Some((_, column)) => columns!(@from $kind rows $name column path),
                    None => return Err(damaged(path, stringify!($name))),
                }
            )*
            Ok(rows)
        }
    };
    (@to Text $rows:ident $name:ident) => { Column::Text($rows.iter().map(|r| r.$name.clone()).collect()) };
    (@to Count $rows:ident $name:ident) => { Column::Int($rows.iter().map(|r| Some(r.$name)).collect()) };
    (@to Float $rows:ident $name:ident) => { Column::Float($rows.iter().map(|r| r.$name).collect()) };
    (@to Bool $rows:ident $name:ident) => { Column::Bool($rows.iter().map(|r| r.$name).collect()) };
    (@from Text $rows:ident $name:ident $column:ident $path:ident) => {
        match $column { Column::Text(v) => $rows.iter_mut().zip(v).for_each(|(r, v)| r.$name = v.clone()), _ => return Err(damaged($path, stringify!($name))) }
    };
    (@from Count $rows:ident $name:ident $column:ident $path:ident) => {
        match $column { Column::Int(v) => $rows.iter_mut().zip(v).for_each(|(r, v)| r.$name = v.unwrap_or(0)), _ => return Err(damaged($path, stringify!($name))) }
    };
    (@from Float $rows:ident $name:ident $column:ident $path:ident) => {
        match $column { Column::Float(v) => $rows.iter_mut().zip(v).for_each(|(r, v)| r.$name = *v), _ => return Err(damaged($path, stringify!($name))) }
    };
    (@from Bool $rows:ident $name:ident $column:ident $path:ident) => {
        match $column { Column::Bool(v) => $rows.iter_mut().zip(v).for_each(|(r, v)| r.$name = *v), _ => return Err(damaged($path, stringify!($name))) }
    };
}

columns! {
    phenotype: Text, status: Text, n_samples: Count, n_missing: Count, n_covariates: Count, score: Float, p_value: Float,
    neg_log10_p: Float, q_value: Float, training_warranted: Bool, t_hat: Float, t_hat_lower: Float, t_hat_upper: Float,
    t_hat_error: Float, epochs: Float, edf: Float, sigma2: Float, reml_ratio: Float, in_sample_r2: Float,
    out_of_sample_r2: Float, krylov_steps: Count,
}

fn damaged(path: &Path, column: &str) -> anyhow::Error {
    input(
        format!(
            "`{}` lacks column `{column}` as this version writes it",
            path.display()
        ),
        "delete the file and run again to rebuild it",
    )
}
