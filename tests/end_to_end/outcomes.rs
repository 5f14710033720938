//! Diseases and times to event of the shared cases, beside what their definitions give: null models, tests, times, γ and accuracy.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use faer::Mat;
use ntk::kernel::{Activation, InfiniteKernel, TileScratch};
use reml::accuracy::{Discrimination, auc, concordance};
use reml::null_model::{NullFit, NullModel, Unfitted, cox, logistic};
use reml::offset_gamma::{self, OffsetGamma};
use reml::risk_sets::SurvivalTimes;
use reml::{
    AnalysisOptions, Covariates, DenseKernel, FitResult, Phenotype, Probes, ReferenceSpectrum,
    analyse,
};

use crate::support::{case, table};

/// A table of the expected results: rows by column, empty where null.
fn expected(folder: &Path, name: &str) -> Vec<HashMap<String, String>> {
    let text = fs::read_to_string(folder.join("expected").join(name)).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| {
        let pairs = header.iter().zip(line.split(','));
        pairs
            .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
            .collect()
    };
    lines.map(row).collect()
}

fn number(row: &HashMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or(f64::NAN)
}

/// A table with the samples of `ids`, in that order; NaN where it lacks one.
fn columns(path: &Path, ids: &[String]) -> HashMap<String, Vec<f64>> {
    let (numbers, texts) = table(path);
    let places: HashMap<&str, usize> = texts["sample_id"]
        .iter()
        .enumerate()
        .map(|(i, id)| (id.as_str(), i))
        .collect();
    let at = |values: &Vec<f64>| {
        let of = |id: &String| places.get(id.as_str()).map_or(f64::NAN, |&i| values[i]);
        ids.iter().map(of).collect()
    };
    numbers
        .iter()
        .map(|(name, values)| (name.clone(), at(values)))
        .collect()
}

/// The outcome of some samples.
enum Outcome {
    Disease(Vec<bool>),
    TimeToEvent(SurvivalTimes),
}

impl Outcome {
    fn null_model(&self, covariates: &Mat<f64>) -> NullFit {
        match self {
            Self::Disease(is_case) => logistic(is_case, covariates.as_ref()).unwrap(),
            Self::TimeToEvent(times) => cox(times, covariates.as_ref()).unwrap(),
        }
    }

    fn of(&self, samples: &[usize]) -> Self {
        match self {
            Self::Disease(is_case) => Self::Disease(samples.iter().map(|&i| is_case[i]).collect()),
            Self::TimeToEvent(times) => Self::TimeToEvent(times.of(samples)),
        }
    }

    fn n_events(&self) -> usize {
        match self {
            Self::Disease(is_case) => is_case.iter().filter(|it| **it).count(),
            Self::TimeToEvent(times) => times.n_events(),
        }
    }

    fn accuracy(&self, score: &[f64], fold: &[usize]) -> Discrimination {
        let found = match self {
            Self::Disease(is_case) => auc(is_case, score, fold),
            Self::TimeToEvent(times) => concordance(times, score, fold),
        };
        found.unwrap().unwrap()
    }

    fn gamma(&self, eta: &[f64], increment: &[f64]) -> OffsetGamma {
        match self {
            Self::Disease(is_case) => offset_gamma::of_disease(is_case, eta, increment),
            Self::TimeToEvent(times) => offset_gamma::of_time_to_event(times, eta, increment),
        }
        .unwrap()
    }
}

/// A case: its samples in the order of the features, covariates in the order of the table, outcomes on their own samples.
struct Case {
    ids: Vec<String>,
    terms: Vec<String>,
    covariates: Vec<Vec<f64>>,
    features: Vec<Vec<f64>>,
    fold: Vec<usize>,
    outcomes: Vec<(String, Vec<usize>, Outcome)>,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let (features, texts) = table(&folder.join("features.parquet"));
        let ids = texts["sample_id"].clone();
        let phenotypes = columns(&folder.join("phenotypes.parquet"), &ids);
        let of_terms = columns(&folder.join("covariates.parquet"), &ids);
        let fold = columns(&folder.join("folds.parquet"), &ids)["fold"].clone();
        // The terms' order is that of the expected coefficients.
        let mut terms: Vec<String> = Vec::new();
        for row in expected(folder, "null_coefficients.csv") {
            if row["term"] != "intercept" && !terms.contains(&row["term"]) {
                terms.push(row["term"].clone());
            }
        }
        let covariates: Vec<Vec<f64>> = terms.iter().map(|term| of_terms[term].clone()).collect();
        let text = fs::read_to_string(folder.join("outcomes.json")).unwrap();
        let named: serde_json::Value = serde_json::from_str(&text).unwrap();
        let outcomes = named["phenotypes"].as_array().unwrap().iter().map(|it| {
            let column = |key: &str| it[key].as_str().map(|name| &phenotypes[name]);
            let all: Vec<&Vec<f64>> = ["column", "time", "event", "entry"]
                .into_iter()
                .filter_map(column)
                .chain(&covariates)
                .collect();
            let enters = |i: usize| match (column("entry"), column("time")) {
                (Some(entry), Some(time)) => entry[i] < time[i],
                _ => true,
            };
            let samples: Vec<usize> = (0..ids.len())
                .filter(|&i| all.iter().all(|values| values[i].is_finite()) && enters(i))
                .collect();
            let at = |values: &Vec<f64>| samples.iter().map(|&i| values[i]).collect::<Vec<f64>>();
            let flags = |values: &Vec<f64>| at(values).iter().map(|y| *y == 1.0).collect();
            let outcome = match column("column") {
                Some(values) => Outcome::Disease(flags(values)),
                None => {
                    let (time, event) = (column("time").unwrap(), column("event").unwrap());
                    let entry = column("entry").map(at);
                    let times = SurvivalTimes::new(at(time), flags(event), entry);
                    Outcome::TimeToEvent(times.unwrap())
                }
            };
            (it["name"].as_str().unwrap().to_owned(), samples, outcome)
        });
        let outcomes = outcomes.collect();
        Self {
            fold: fold.iter().map(|fold| *fold as usize).collect(),
            features: features.into_values().collect(),
            ids,
            terms,
            covariates,
            outcomes,
        }
    }

    fn covariates_of(&self, samples: &[usize]) -> Mat<f64> {
        Mat::from_fn(samples.len(), self.covariates.len(), |i, j| {
            self.covariates[j][samples[i]]
        })
    }

    /// ReLU, depth 2, of features that are standardised over all samples, the missing ones the mean.
    fn kernel(&self) -> DenseKernel {
        let n = self.ids.len();
        let mut standardised: Vec<Vec<f32>> = Vec::new();
        for values in &self.features {
            let seen = || values.iter().filter(|x| x.is_finite());
            let count = seen().count() as f64;
            let mean = seen().sum::<f64>() / count;
            let deviation = (seen().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
            if deviation > 0.0 {
                let of = |x: &f64| {
                    if x.is_finite() {
                        ((x - mean) / deviation) as f32
                    } else {
                        0.0
                    }
                };
                standardised.push(values.iter().map(of).collect());
            }
        }
        let p = standardised.len();
        let x: Vec<f32> = (0..n * p).map(|at| standardised[at % p][at / p]).collect();
        let infinite = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).unwrap();
        let block = infinite.row_block(&x, p).unwrap();
        let mut k = vec![0.0_f32; n * n];
        infinite.tile(&block, &block, true, &mut k, n, &mut TileScratch::default());
        let k = Mat::from_fn(n, n, |i, j| f64::from(k[i * n + j]));
        DenseKernel::new(k.as_ref()).unwrap()
    }
}

fn assert_near(what: &str, got: f64, want: f64, allowed: f64) {
    let both_none = got.is_nan() && want.is_nan();
    assert!(
        both_none || (got - want).abs() <= allowed,
        "{what}: {got} for {want}"
    );
}

fn assert_null_models(folder: &Path, case: &Case) -> Vec<NullModel> {
    let rows = expected(folder, "phenotypes.csv");
    let coefficients = expected(folder, "null_coefficients.csv");
    let residuals = expected(folder, "residuals.csv");
    let places: HashMap<&str, &HashMap<String, String>> = residuals
        .iter()
        .map(|row| (row["sample_id"].as_str(), row))
        .collect();
    let mut models = Vec::new();
    for ((name, samples, outcome), row) in case.outcomes.iter().zip(&rows) {
        assert_eq!(*name, row["phenotype"]);
        let model = outcome.null_model(&case.covariates_of(samples)).unwrap();
        assert_eq!(row["status"], "ok");
        assert_eq!(samples.len() as f64, number(row, "n_samples"), "{name}");
        assert_eq!(outcome.n_events() as f64, number(row, "n_events"), "{name}");
        assert_eq!(
            model.n_separated() as f64,
            number(row, "n_separated"),
            "{name}"
        );
        let want = number(row, "null_loglik");
        assert_near(name, model.log_likelihood, want, 1e-9 * want.abs());
        for (i, &sample) in samples.iter().enumerate() {
            let want = number(places[case.ids[sample].as_str()], name);
            assert_near(name, model.residual[i], want, 1e-10);
        }
        let names = case.terms.iter().map(String::as_str);
        let intercept = model.intercept.iter().map(|term| ("intercept", term));
        for (term, got) in intercept.chain(names.zip(&model.terms)) {
            let is_wanted =
                |row: &&HashMap<String, String>| row["phenotype"] == *name && row["term"] == term;
            let row = coefficients.iter().find(is_wanted).unwrap();
            let (want, error) = (number(row, "coefficient"), number(row, "se"));
            assert_near(term, got.coefficient, want, 1e-8 * want.abs());
            assert_near(
                term,
                got.standard_error.unwrap_or(f64::NAN),
                error,
                1e-8 * error,
            );
        }
        models.push(model);
    }
    models
}

/// Scores of the covariates from the other folds, and accuracy of all given scores.
fn assert_accuracy(folder: &Path, case: &Case) {
    let held_out = expected(folder, "heldout_scores.csv");
    let places: HashMap<&str, &HashMap<String, String>> = held_out
        .iter()
        .map(|row| (row["sample_id"].as_str(), row))
        .collect();
    let metrics = expected(folder, "metrics.csv");
    let folds = expected(folder, "folds.csv");
    for (name, samples, outcome) in &case.outcomes {
        let fold: Vec<usize> = samples.iter().map(|&i| case.fold[i]).collect();
        let score = |of: &str| -> Vec<f64> {
            let column = format!("{name}.{of}");
            let row = |&i: &usize| number(places[case.ids[i].as_str()], &column);
            samples.iter().map(row).collect()
        };
        let base = score("covariates");
        for row in folds.iter().filter(|row| row["phenotype"] == *name) {
            let held = number(row, "fold") as usize;
            let [train, test] = [false, true].map(|is_held| -> Vec<usize> {
                (0..fold.len())
                    .filter(|&i| (fold[i] == held) == is_held)
                    .collect()
            });
            let at = |of: &[usize]| {
                let samples: Vec<usize> = of.iter().map(|&i| samples[i]).collect();
                case.covariates_of(&samples)
            };
            let fit = outcome.of(&train).null_model(&at(&train));
            assert_eq!(
                row["status"],
                fit.as_ref()
                    .map_or_else(|it: &Unfitted| it.as_str(), |_| "ok")
            );
            let Ok(model) = fit else { continue };
            for (&i, eta) in test.iter().zip(model.predict(at(&test).as_ref())) {
                // How far a separated direction goes is nobody's business.
                if base[i].abs() < 20.0 {
                    assert_near(name, eta, base[i], 2e-9);
                } else {
                    assert!(eta.abs() > 20.0 && eta.signum() == base[i].signum());
                }
            }
        }
        let of_base = outcome.accuracy(&base, &fold);
        for row in metrics.iter().filter(|row| row["phenotype"] == *name) {
            let of_full = outcome.accuracy(&score(&row["time"]), &fold);
            assert_near(name, of_full.n_pairs(), number(row, "pairs"), 0.0);
            let estimates = [
                ("covariates", of_base.estimate()),
                ("full", of_full.estimate()),
                ("gain", of_full.gain_over(&of_base)),
            ];
            for (what, got) in estimates {
                let (low, high) = got.interval.unwrap();
                assert_near(what, got.value, number(row, what), 1e-10);
                let error = got.standard_error.unwrap();
                assert_near(what, error, number(row, &format!("{what}_se")), 1e-10);
                assert_near(what, low, number(row, &format!("{what}_lower")), 1e-10);
                assert_near(what, high, number(row, &format!("{what}_upper")), 1e-10);
            }
        }
    }
}

/// γ at a time, from what the fit knows of each sample without it: r / (1 − h) less its residual then.
fn gamma(
    fit: &FitResult,
    which: usize,
    model: &NullModel,
    outcome: &Outcome,
    samples: &[usize],
    free: &[f64],
) -> OffsetGamma {
    let errors = &fit.leave_one_out.as_ref().unwrap().residuals[which];
    let of = |(k, &i): (usize, &usize)| model.residual[k] / free[k] - f64::from(errors[i]);
    let increment: Vec<f64> = samples.iter().enumerate().map(of).collect();
    outcome.gamma(&model.linear_predictor, &increment)
}

/// Test, times and γ by the scale form, and by the dense one.
fn assert_tests(folder: &Path, case: &Case, models: &[NullModel], direct: usize) {
    let n = case.ids.len();
    let kernel = case.kernel();
    let mut columns = vec![vec![1.0; n]];
    columns.extend(case.covariates.iter().cloned());
    let covariates = Covariates::new(n, &columns);
    let all = covariates.complete().to_vec();
    let Ok(full) = ReferenceSpectrum::new(&kernel, &covariates, &all, Probes::default(), |_| {});
    let of = |(model, (_, samples, _)): (&NullModel, &(String, Vec<usize>, Outcome))| {
        let mut phenotype = Phenotype {
            mask: vec![false; n],
            values: vec![f64::NAN; n],
            variances: Some(vec![f64::NAN; n]),
            time: None,
        };
        for (k, &i) in samples.iter().enumerate() {
            phenotype.mask[i] = true;
            phenotype.values[i] = model.residual[k];
            phenotype.variances.as_mut().unwrap()[i] = model.variance[k];
        }
        phenotype
    };
    let phenotypes: Vec<Phenotype> = models.iter().zip(&case.outcomes).map(of).collect();
    let options = AnalysisOptions {
        gate: false,
        direct,
        ..AnalysisOptions::default()
    };
    let Ok(found) = analyse(
        &kernel,
        &covariates,
        &full,
        &phenotypes,
        &options,
        |_, _| {},
    );
    let rows = expected(folder, "phenotypes.csv");
    for (k, row) in rows.iter().enumerate() {
        let (name, samples, outcome) = &case.outcomes[k];
        let test = found[k].test.unwrap();
        let got = -test.log_p_robust.unwrap() / std::f64::consts::LN_10;
        let want = number(row, "neg_log10_p_robust");
        println!("{name}: {got:.4} for {want:.4}");
        assert_near(name, got, want, 0.02 + 0.01 * want);
        let fit = found[k].fit.as_ref().unwrap();
        let want = number(row, "t_hat");
        assert_near(name, fit.reml.time.time(), want, 1e-3 * want);
        let loo = fit.leave_one_out.as_ref().unwrap();
        let want = number(row, "t_loo");
        println!("  t_loo {:?} for {want}", loo.time);
        assert_near(name, loo.finite_time(), want, 2e-2 * want);
        assert_near(name, loo.r2_best.unwrap(), number(row, "loo_r2_best"), 2e-3);
        let operator = reml::MaskedOperator::new(&covariates, &phenotypes[k].mask);
        let q = operator.projection().orthonormal();
        let free: Vec<f64> = samples
            .iter()
            .map(|&i| 1.0 - (0..q.ncols()).map(|j| q[(i, j)].powi(2)).sum::<f64>())
            .collect();
        for (which, column) in [(0, "gamma_reml"), (1, "gamma_loo")] {
            let got = gamma(fit, which, &models[k], outcome, samples, &free);
            let want = number(row, column);
            println!("  {column} {got:?} for {want}");
            assert_near(column, got.scale(), want, 1e-2 * want);
            let z = number(row, &format!("{column}_z"));
            assert_near(column, got.z, z, 1e-2 * z.abs());
        }
    }
}

#[test]
fn diseases_agree_with_their_definitions() {
    let Some(folder) = case("binary_a") else {
        return;
    };
    let case = Case::read(&folder);
    let models = assert_null_models(&folder, &case);
    assert_accuracy(&folder, &case);
    assert_tests(&folder, &case, &models, 512);
}

#[test]
fn times_to_event_agree_with_their_definitions() {
    let Some(folder) = case("survival_a") else {
        return;
    };
    let case = Case::read(&folder);
    let models = assert_null_models(&folder, &case);
    assert_accuracy(&folder, &case);
    assert_tests(&folder, &case, &models, 512);
    assert_tests(&folder, &case, &models, 1000);
}
