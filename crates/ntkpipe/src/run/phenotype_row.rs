//! A row of `phenotypes.parquet`.

use std::path::Path;

use ntkpipe_store::results::{Column, read_table};
use reml::{Analysis, Degenerate, StoppingTime, TestResult, benjamini_hochberg};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::failure::input;

/// How a phenotype came out.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Fitted: t_hat is inside (0, ∞).
    Ok,
    /// The score test does not warrant training.
    #[default]
    NotWarranted,
    /// The likelihood is highest at t = 0.
    AtZero,
    /// The likelihood rises to the end of training.
    Unbounded,
    /// The stopping time still moved when the passes were used up, or products in single precision leave fitted values less exact than is promised.
    NotConverged,
    /// Nothing varies beside the covariates.
    Constant,
    /// Too few samples for the covariates.
    TooFewSamples,
    /// Nothing of the features' kernel is left beside the covariates.
    NoVariation,
    /// A binary phenotype with fewer cases, or controls, than `--min-cases` asks for.
    TooFewCases,
    /// Training is warranted, and the fit still to come: of a test by itself.
    Warranted,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::NotWarranted,
        Self::AtZero,
        Self::Unbounded,
        Self::NotConverged,
        Self::Constant,
        Self::TooFewSamples,
        Self::NoVariation,
        Self::TooFewCases,
        Self::Warranted,
    ];

    /// As the tables spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotWarranted => "not_warranted",
            Self::AtZero => "at_zero",
            Self::Unbounded => "unbounded",
            Self::NotConverged => "not_converged",
            Self::Constant => "constant",
            Self::TooFewSamples => "too_few_samples",
            Self::NoVariation => "no_variation",
            Self::TooFewCases => "too_few_cases",
            Self::Warranted => "warranted",
        }
    }

    /// What it says of the phenotype, and what is reported of it.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "REML finds a stopping time inside (0, ∞).",
            Self::NotWarranted => {
                "The score test does not reject t = 0 at alpha: no training. Predicted from the covariates alone; t_hat is null."
            }
            Self::AtZero => {
                "The likelihood is highest at t = 0, whatever the test says: t_hat is 0. Predicted from the covariates alone, or with --stop loo as stopped at t_loo."
            }
            Self::Unbounded => {
                "The likelihood rises to the end of training, as where nothing but signal is left: no finite stopping time, t_hat is null. Predicted as trained to the end, or with --stop loo as stopped at t_loo."
            }
            Self::NotConverged => {
                "The stopping time or its interval still moved when the passes over the kernel were used up: t_hat is good to about t_hat_error. Or single precision does not carry the prediction of a sample far from all others."
            }
            Self::Constant => {
                "The phenotype does not vary beyond what the covariates say of it: not tested, not trained."
            }
            Self::TooFewSamples => {
                "Too few samples are observed for the covariates: not tested, not trained, not predicted."
            }
            Self::NoVariation => {
                "On the samples observed the features' kernel has nothing beside the covariates, or less than single precision holds, as where samples do not differ in their features: not tested, not trained. Predicted from the covariates alone."
            }
            Self::TooFewCases => {
                "A binary phenotype with fewer cases, or fewer controls, than --min-cases: not tested, not trained, not predicted."
            }
            Self::Warranted => "Training is warranted; the fit is still to come.",
        }
    }

    /// Whether there is enough of a phenotype of this status to predict it.
    pub fn is_predicted(self) -> bool {
        ![Self::TooFewSamples, Self::TooFewCases].contains(&self)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// What is reported of one phenotype; null where it does not apply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PhenotypeRow {
    /// Name of the column in the phenotype table.
    pub phenotype: String,
    /// How it came out.
    pub status: Status,
    /// Samples observed, with all covariates.
    pub n_samples: i64,
    /// Kernel samples without a value.
    pub n_missing: i64,
    /// Rank of the covariates on these samples, intercept included.
    pub n_covariates: i64,
    /// Score statistic: dof × w'Hw / w'w; null when not tested.
    pub score: Option<f64>,
    /// p of the score test that decides (--test); 0 where it is below the smallest float.
    pub p_value: Option<f64>,
    /// −log10 p, which never underflows.
    pub neg_log10_p: Option<f64>,
    /// −log10 p for Gaussian errors of one variance.
    pub neg_log10_p_gaussian: Option<f64>,
    /// −log10 p for independent errors of any variances; null where its null distribution could not be computed.
    pub neg_log10_p_robust: Option<f64>,
    /// Benjamini–Hochberg over the phenotypes tested.
    pub q_value: Option<f64>,
    /// p < alpha.
    pub training_warranted: Option<bool>,
    /// REML stopping time, learning rate × epochs; null when not fitted or unbounded.
    pub t_hat: Option<f64>,
    /// Lower end of its 95 % interval by the likelihood ratio.
    pub t_hat_lower: Option<f64>,
    /// Upper end; null when infinite.
    pub t_hat_upper: Option<f64>,
    /// Largest relative change of the three over the last pass, times the shrinkage of the flow's error in it.
    pub t_hat_error: Option<f64>,
    /// t_stop / learning rate; null without --learning-rate.
    pub epochs: Option<f64>,
    /// Effective degrees of freedom at t_hat: Σ (1 − exp(−t_hat λ)).
    pub edf: Option<f64>,
    /// Noise variance at t_stop, in squared units of the phenotype; null where float64 does not hold it.
    pub sigma2: Option<f64>,
    /// Q(0) − Q(t_hat); null when unbounded.
    pub reml_ratio: Option<f64>,
    /// The time that fitted values and predictions are of, t_hat or with --stop loo t_loo; null when not fitted or infinite.
    pub t_stop: Option<f64>,
    /// The time up to 50 dof / tr A (8, with more than 512 samples) at which samples are predicted best by the fit of the others; null when
    /// not fitted, where the error still falls at the end of these times, and where the flow is not known well enough to tell.
    pub t_loo: Option<f64>,
    /// Effective degrees of freedom at t_loo, or at the end of these times.
    pub edf_loo: Option<f64>,
    /// Share by which the fit stopped at t_hat lowers the leave-one-out error of the covariates alone; null when unbounded.
    pub loo_r2: Option<f64>,
    /// The same at t_loo, or at the end of these times.
    pub loo_r2_best: Option<f64>,
    /// Whether loo_r2_best is above loo_r2 by more than the standard error of their difference: --stop loo would predict better.
    pub loo_predicts_better: Option<bool>,
    /// Whether what predictions are made with is worse than the covariates alone, by out_of_sample_r2 where samples were held out, else by
    /// leave-one-out error.
    pub worse_than_covariates: Option<bool>,
    /// R² on the samples used, at the time that predictions are made for.
    pub in_sample_r2: Option<f64>,
    /// R² on samples held out; null where none were.
    pub out_of_sample_r2: Option<f64>,
    /// Passes over the kernel the phenotype took part in.
    #[serde(alias = "krylov_steps")]
    pub passes: i64,
}

impl PhenotypeRow {
    /// From an analysis; `sd` brings sigma2 back to the phenotype's units. Where the network begins with a prediction, `at_start` are LOO(0)
    /// of what that leaves and of the covariates alone, which is what predictions are held against.
    pub fn new(
        phenotype: &str,
        analysis: &Analysis,
        n_missing: usize,
        sd: f64,
        learning_rate: Option<f64>,
        at_start: Option<[f64; 2]>,
    ) -> Self {
        let finite = |v: f64| v.is_finite().then_some(v);
        // The square of the phenotype's units may be beyond float64, at either end.
        let is_held = |v: &f64| v.is_normal() || *v == 0.0 && sd.powi(2).is_normal();
        let mut row = Self {
            phenotype: phenotype.to_owned(),
            n_samples: analysis.n_samples as i64,
            n_missing: n_missing as i64,
            n_covariates: analysis.n_covariates as i64,
            in_sample_r2: analysis.in_sample_r2,
            passes: analysis.passes as i64,
            ..Self::default()
        };
        if let Some(why) = analysis.degenerate {
            row.status = match why {
                Degenerate::Constant => Status::Constant,
                Degenerate::TooFewSamples => Status::TooFewSamples,
                Degenerate::NoVariation => Status::NoVariation,
            };
        }
        if let Some(test) = &analysis.test {
            row.score = Some(test.score);
            row.p_value = Some(test.log_p.exp());
            // 0 − 0 is 0, where negating would print −0.
            let size = |log_p: f64| 0.0 - log_p / std::f64::consts::LN_10;
            row.neg_log10_p = Some(size(test.log_p));
            row.neg_log10_p_gaussian = Some(size(test.log_p_gaussian));
            row.neg_log10_p_robust = test.log_p_robust.map(size);
            row.training_warranted = Some(test.warranted);
            if test.warranted {
                row.status = Status::Warranted;
            }
        }
        if let Some(fit) = &analysis.fit {
            let reml = &fit.reml;
            row.status = match (fit.converged, reml.time) {
                (false, _) => Status::NotConverged,
                (true, StoppingTime::AtZero) => Status::AtZero,
                (true, StoppingTime::Unbounded) => Status::Unbounded,
                (true, StoppingTime::Interior(_)) => Status::Ok,
            };
            row.t_hat = finite(reml.time.time());
            row.t_hat_lower = reml.lower;
            row.t_hat_upper = reml.upper;
            row.t_hat_error = finite(fit.error);
            row.t_stop = finite(fit.stop);
            row.epochs = row
                .t_stop
                .zip(learning_rate)
                .and_then(|(t, rate)| finite(t / rate));
            row.edf = finite(fit.effective_dof);
            row.sigma2 = Some(fit.noise_variance * sd * sd).filter(is_held);
            if let Some(loo) = &fit.leave_one_out {
                row.t_loo = loo.time.and_then(|it| finite(it.time()));
                row.edf_loo = fit.effective_dof_loo.and_then(finite);
                row.loo_r2 = loo.r2.and_then(finite);
                row.loo_r2_best = loo.r2_best.and_then(finite);
                row.loo_predicts_better = loo.predicts_better();
                let is_best = fit.stop == loo.finite_time() && row.loo_r2_best.is_some();
                let at_stop = if is_best { row.loo_r2_best } else { row.loo_r2 };
                row.worse_than_covariates = at_stop.map(|r2| match at_start {
                    Some([start, alone]) => (1.0 - r2) * start > alone,
                    None => r2 < 0.0,
                });
            }
            row.reml_ratio = finite(reml.ratio);
        } else if let Some(([start, alone], _)) = at_start.zip(analysis.test) {
            row.worse_than_covariates = Some(start > alone);
        }
        row
    }

    /// Of a binary phenotype that is not analysed for its few cases, or few controls.
    pub fn too_few_cases(phenotype: &str, n_samples: usize, n_missing: usize) -> Self {
        Self {
            phenotype: phenotype.to_owned(),
            status: Status::TooFewCases,
            n_samples: n_samples as i64,
            n_missing: n_missing as i64,
            ..Self::default()
        }
    }

    /// Whether there is enough of the phenotype to predict it.
    pub fn is_predicted(&self) -> bool {
        self.status.is_predicted()
    }

    /// What the test said, where there was one.
    pub fn test(&self) -> Option<TestResult> {
        let log_p = |size: f64| -size * std::f64::consts::LN_10;
        Some(TestResult {
            score: self.score?,
            log_p_gaussian: log_p(self.neg_log10_p_gaussian?),
            log_p_robust: self.neg_log10_p_robust.map(log_p),
            log_p: log_p(self.neg_log10_p?),
            warranted: self.training_warranted?,
        })
    }

    /// This row with the test as it was written before, to the last digit.
    pub fn with_test_of(self, tested: Option<&Self>) -> Self {
        match tested.filter(|it| it.is_tested()) {
            Some(tested) => Self {
                score: tested.score,
                p_value: tested.p_value,
                neg_log10_p: tested.neg_log10_p,
                neg_log10_p_gaussian: tested.neg_log10_p_gaussian,
                neg_log10_p_robust: tested.neg_log10_p_robust,
                training_warranted: tested.training_warranted,
                ..self
            },
            None => self,
        }
    }

    /// Whether the phenotype has been tested.
    pub fn is_tested(&self) -> bool {
        self.neg_log10_p.is_some()
    }

    /// Whether the fit takes the phenotype after the test; with the gate only where training is warranted.
    pub fn waits_for_fit(&self, gate: bool) -> bool {
        self.is_tested() && (!gate || self.training_warranted == Some(true))
    }

    /// Whether the phenotype was fitted, and with a time above 0: it then has dual weights.
    pub fn is_trained(&self) -> bool {
        let is_fitted = [
            Status::Ok,
            Status::AtZero,
            Status::Unbounded,
            Status::NotConverged,
        ]
        .contains(&self.status);
        is_fitted && self.t_stop != Some(0.0)
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

/// Columns of tables of earlier versions: the name there, and the name now.
const RENAMED: [(&str, &str); 1] = [("krylov_steps", "passes")];

/// Whether a column of a table has this name, or had it in an earlier version.
fn is_named(found: &str, name: &str) -> bool {
    found == name || RENAMED.contains(&(found, name))
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
                match columns.iter().find(|c| is_named(&c.0, stringify!($name))) {
                    Some((_, column)) => columns!(@from $kind rows $name column path),
                    None => return Err(damaged(path, stringify!($name))),
                }
            )*
            Ok(rows)
        }
    };
    (@to Text $rows:ident $name:ident) => { Column::Text($rows.iter().map(|r| r.$name.clone()).collect()) };
    (@to Status $rows:ident $name:ident) => { Column::Text($rows.iter().map(|r| r.$name.name().to_owned()).collect()) };
    (@to Count $rows:ident $name:ident) => { Column::Int($rows.iter().map(|r| Some(r.$name)).collect()) };
    (@to Float $rows:ident $name:ident) => { Column::Float($rows.iter().map(|r| r.$name).collect()) };
    (@to Bool $rows:ident $name:ident) => { Column::Bool($rows.iter().map(|r| r.$name).collect()) };
    (@from Text $rows:ident $name:ident $column:ident $path:ident) => {
        match $column { Column::Text(v) => $rows.iter_mut().zip(v).for_each(|(r, v)| r.$name = v.clone()), _ => return Err(damaged($path, stringify!($name))) }
    };
    (@from Status $rows:ident $name:ident $column:ident $path:ident) => {
        match $column {
            Column::Text(v) => for (row, name) in $rows.iter_mut().zip(v) {
                row.$name = Status::named(name).ok_or_else(|| damaged($path, stringify!($name)))?;
            },
            _ => return Err(damaged($path, stringify!($name))),
        }
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
    phenotype: Text, status: Status, n_samples: Count, n_missing: Count, n_covariates: Count, score: Float, p_value: Float,
    neg_log10_p: Float, neg_log10_p_gaussian: Float, neg_log10_p_robust: Float, q_value: Float, training_warranted: Bool, t_hat: Float, t_hat_lower: Float, t_hat_upper: Float,
    t_hat_error: Float, epochs: Float, edf: Float, sigma2: Float, reml_ratio: Float, t_stop: Float, t_loo: Float, edf_loo: Float,
    loo_r2: Float, loo_r2_best: Float, loo_predicts_better: Bool, worse_than_covariates: Bool, in_sample_r2: Float,
    out_of_sample_r2: Float, passes: Count,
}

fn damaged(path: &Path, column: &str) -> anyhow::Error {
    input(
        format!(
            "`{}` has no column `{column}` as this version writes it",
            path.display()
        ),
        "delete the file, then `ntkpipe run` makes it again",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ntkpipe_store::results::write_table;

    #[test]
    fn a_column_is_read_under_its_earlier_name() {
        let rows = [PhenotypeRow {
            phenotype: "height".to_owned(),
            passes: 7,
            ..PhenotypeRow::default()
        }];
        let mut columns = to_columns(&rows);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phenotypes.parquet");
        for name in ["passes", "krylov_steps"] {
            columns.last_mut().unwrap().0 = name.to_owned();
            write_table(&path, &columns).unwrap();
            assert_eq!(read(&path).unwrap(), rows);
        }
        columns.last_mut().unwrap().0 = "steps".to_owned();
        write_table(&path, &columns).unwrap();
        let refused = read(&path).unwrap_err().to_string();
        assert!(refused.contains("has no column `passes`"), "{refused}");
        let line = serde_json::to_string(&rows[0]).unwrap();
        let former = line.replace("passes", "krylov_steps");
        assert_eq!(
            serde_json::from_str::<PhenotypeRow>(&former).unwrap(),
            rows[0]
        );
    }
}
