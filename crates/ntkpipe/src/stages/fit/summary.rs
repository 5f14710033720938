//! What the log says of the fits.

use std::collections::BTreeMap;

use reml::Stop;

use crate::run::context::Context;
use crate::run::phenotype_row::{PhenotypeRow, Status};
use crate::run::stage::StageSpec;
use crate::words::counted;

/// How many powers of ten the two p-values of a phenotype may lie apart before it is named.
const FAR_APART: f64 = 2.0;

/// Names the phenotypes whose two p-values are far apart and of which one alone is below alpha, and those without a robust one.
pub fn compare_tests(rows: &[PhenotypeRow], alpha: f64) {
    let least = -alpha.log10();
    let tells = |row: &&PhenotypeRow| {
        let pair = row.neg_log10_p_gaussian.zip(row.neg_log10_p_robust);
        pair.is_some_and(|(a, b)| (a - b).abs() >= FAR_APART && (a > least) != (b > least))
    };
    let apart: Vec<String> = rows
        .iter()
        .filter(tells)
        .map(|row| {
            let [gaussian, robust] =
                [row.neg_log10_p_gaussian, row.neg_log10_p_robust].map(Option::unwrap_or_default);
            format!("{} ({gaussian:.1} and {robust:.1})", row.phenotype)
        })
        .collect();
    if !apart.is_empty() {
        tracing::warn!(
            "test: the Gaussian and the robust p-value of {} lie more than a factor of 100 apart, and one alone is below alpha: {} (as −log10 p): the noise variance follows the features, or a few samples hold most of the variance; look for outliers, skew and rare cases, and trust the robust one",
            counted(apart.len(), "phenotypes"),
            apart.join(", ")
        );
    }
    let lacking = rows
        .iter()
        .filter(|row| row.neg_log10_p_gaussian.is_some() && row.neg_log10_p_robust.is_none());
    let lacking: Vec<&str> = lacking.map(|row| &*row.phenotype).collect();
    if !lacking.is_empty() {
        tracing::warn!(
            "test: no robust p-value could be computed for {}: {}: theirs are for Gaussian errors",
            counted(lacking.len(), "phenotypes"),
            lacking.join(", ")
        );
    }
}

/// Says which phenotypes the other stopping time predicts better; their number.
pub fn say_who_should_stop_by_loo(rows: &[PhenotypeRow], is_reml: bool) -> usize {
    let better = rows
        .iter()
        .filter(|row| row.loo_predicts_better == Some(true));
    let better: Vec<&str> = better.map(|row| &*row.phenotype).collect();
    if is_reml && !better.is_empty() {
        tracing::info!(
            "fit: {} would predict better with --stop loo, by more than the standard error of the difference: {}",
            counted(better.len(), "phenotypes"),
            better.join(", ")
        );
    }
    better.len()
}

/// Warns of phenotypes that the covariates alone predict better; their number.
///
/// `by`: what `stage` knows it from. Of the rows it is told those that this says something of.
pub fn warn_of_worse_than_covariates<'r>(
    context: &Context,
    stage: &StageSpec,
    by: &str,
    rows: impl Iterator<Item = &'r PhenotypeRow>,
) -> usize {
    let worse = rows.filter(|row| row.worse_than_covariates == Some(true));
    let worse: Vec<&str> = worse.map(|row| &*row.phenotype).collect();
    if !worse.is_empty() {
        let is_reml = context.settings.analysis.stop == Stop::Reml;
        // Whether the network begins with a prediction of its own.
        let has_initial = context.settings.network.finite().is_some();
        let remedy = match (has_initial, is_reml) {
            (true, _) => {
                "what the network predicts before training may be to blame: draw one that starts from 0, `ntkpipe network init --antisymmetric`"
            }
            (false, true) => "try `--stop loo`, another depth, or predict them from the covariates",
            (false, false) => "try another depth, or predict them from the covariates",
        };
        tracing::warn!(
            "{}: {} predicted worse than by their covariates alone, by {by}: {}: {remedy}",
            stage.name,
            counted(worse.len(), "phenotypes"),
            worse.join(", ")
        );
    }
    worse.len()
}

/// Counts by status, and every phenotype that is not ok by name.
pub fn summarise(rows: &[PhenotypeRow]) {
    let mut by_status: BTreeMap<Status, Vec<&str>> = BTreeMap::new();
    for row in rows {
        by_status
            .entry(row.status)
            .or_default()
            .push(&row.phenotype);
    }
    for (status, names) in by_status {
        match status {
            Status::Ok => tracing::info!("fit: {} ok", counted(names.len(), "phenotypes")),
            Status::NoVariation => tracing::warn!(
                "fit: {} {}: {}: their samples do not differ in their features beyond what covariates and rounding leave: take more samples, or fewer covariates",
                counted(names.len(), "phenotypes"),
                status.name(),
                names.join(", ")
            ),
            _ => tracing::info!(
                "fit: {} {}: {}",
                counted(names.len(), "phenotypes"),
                status.name(),
                names.join(", ")
            ),
        }
    }
}
