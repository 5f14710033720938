//! The fast path beside the dense textbook version of the same definitions.

use crate::dense::{DenseAnalysis, DenseOperator};
use crate::memory_kernel::{features, kernel_of, normal};
use faer::Mat;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::matrix_free::eigen::{
    PartialEigenParams, partial_self_adjoint_eigen, partial_self_adjoint_eigen_scratch,
};
use faer::{Col, Par};
use ntk::kernel::{Activation, InfiniteKernel};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reml::{
    Analysis, AnalysisOptions, Batch, Covariates, Degenerate, DenseKernel, KernelMatrix, Phenotype,
    Probes, ReferenceSpectrum, StoppingTime, analyse,
};

/// A phenotype's values: a linear and a nonlinear truth in the features, with `share` of the variance, and noise.
fn signal(rng: &mut ChaCha8Rng, x: &[f32], p: usize, share: f64) -> Vec<f64> {
    let n = x.len() / p;
    let slopes: Vec<f64> = (0..p).map(|_| normal(rng) / (p as f64).sqrt()).collect();
    let bends: Vec<f64> = (0..p).map(|_| normal(rng) / (p as f64).sqrt()).collect();
    let truth: Vec<f64> = x
        .chunks_exact(p)
        .map(|row| {
            let dot = |b: &[f64]| {
                row.iter()
                    .zip(b)
                    .map(|(x, b)| f64::from(*x) * b)
                    .sum::<f64>()
            };
            dot(&slopes) + (2.0 * dot(&bends)).sin()
        })
        .collect();
    let mean = truth.iter().sum::<f64>() / n as f64;
    let sd = (truth.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
    truth
        .iter()
        .map(|v| share.sqrt() * (v - mean) / sd + (1.0 - share).sqrt() * normal(rng))
        .collect()
}

/// Tolerances that differ between the mask of all samples and any other.
struct Tolerance {
    effective_dof: f64,
}

const FULL: Tolerance = Tolerance {
    effective_dof: 1e-3,
};
const MASKED: Tolerance = Tolerance {
    effective_dof: 2e-2,
};

/// Relative error of Q' (in units of Σλ) from f32 products and an f32 kernel: where Q is flatter than this, t̂ and its interval are
/// not determined by the numbers the fast path is given. With Q'' the curvature, t̂ then moves by `SLOPE_ERROR` Σλ / Q''.
const SLOPE_ERROR: f64 = 1e-6;

/// All disagreements between the two, in words.
fn disagreements(
    operator: &DenseOperator,
    (want, got): (&DenseAnalysis, &Analysis),
    cohort: &Cohort,
    covariates: &Covariates,
    phenotype: &Phenotype,
    options: &AnalysisOptions,
    tolerance: &Tolerance,
) -> Vec<String> {
    let Cohort {
        kernel, columns, ..
    } = cohort;
    let mut found = Vec::new();
    let mut check = |name: &str, got: f64, want: f64, allowed: f64| {
        if !((got - want).abs() <= allowed || got == want) {
            found.push(format!(
                "{name}: {got:.9e}, dense {want:.9e}, off by {:.2e}, allowed {allowed:.2e}",
                (got - want).abs()
            ));
        }
    };
    check(
        "n_samples",
        got.n_samples as f64,
        operator.n_observed() as f64,
        0.0,
    );
    check(
        "n_covariates",
        got.n_covariates as f64,
        operator.rank() as f64,
        0.0,
    );
    let Some(test) = got.test else {
        found.push(format!("no test: {:?}", got.degenerate));
        return found;
    };
    check("score", test.score, want.score, 1e-4 * want.score);
    let (size, dense_size) = [test.log_p, want.log_p]
        .map(|l| -l / std::f64::consts::LN_10)
        .into();
    check("-log10 p", size, dense_size, 1e-3 * dense_size.max(1.0));
    let level = options.alpha.ln();
    if (want.log_p - level).abs() > 1e-3 && test.warranted != (want.log_p < level) {
        found.push(format!(
            "decision: {}, dense log p {}",
            test.warranted, want.log_p
        ));
    }
    let fitted_expected = !options.gate || test.warranted;
    if got.fit.is_some() != fitted_expected {
        found.push(format!(
            "fit present: {}, expected {fitted_expected}",
            got.fit.is_some()
        ));
        return found;
    }
    let mut check = |name: &str, got: f64, want: f64, allowed: f64| {
        if !((got - want).abs() <= allowed || got == want) {
            found.push(format!(
                "{name}: {got:.9e}, dense {want:.9e}, off by {:.2e}, allowed {allowed:.2e}",
                (got - want).abs()
            ));
        }
    };
    if let Some(fit) = &got.fit {
        let status = |t: Option<f64>| match t {
            Some(0.0) => "at zero",
            Some(_) => "interior",
            None => "unbounded",
        };
        let time = match fit.reml.time {
            StoppingTime::Interior(t) => Some(t),
            StoppingTime::AtZero => Some(0.0),
            StoppingTime::Unbounded => None,
        };
        // The sign of Q'(0) is lost when it is below its rounding.
        let undecided = want.slope_at_zero.abs() < SLOPE_ERROR;
        // A minimiser so far out that it rests on weights of f32 rounding alone is as good as infinite.
        let far = |t: Option<f64>| t.is_none_or(|t| t * operator.lambda[0] > 1e6);
        if far(time) && far(want.time) {
            return found;
        }
        if status(time) != status(want.time) && !undecided {
            found.push(format!(
                "status {} ({time:?}), dense {} ({:?}), Q'(0) / trace {:.2e}",
                status(time),
                status(want.time),
                want.time,
                want.slope_at_zero
            ));
            return found;
        }
        let (t, dense_t) = (time.unwrap_or(f64::NAN), want.time.unwrap_or(f64::NAN));
        let slack = |slope: f64| {
            if slope > 0.0 {
                SLOPE_ERROR / slope
            } else {
                0.0
            }
        };
        check("t_hat", t, dense_t, 1e-4 * dense_t + slack(want.curvature));
        check(
            "lower",
            fit.reml.lower.unwrap_or(f64::NAN),
            want.lower,
            1e-4 * want.lower + slack(want.curvature),
        );
        match (fit.reml.upper, want.upper) {
            (Some(upper), Some(dense)) => check("upper", upper, dense, 1e-4 * dense),
            (a, b) if far(a) && far(b) => {}
            (a, b) => check(
                "upper",
                a.unwrap_or(f64::INFINITY),
                b.unwrap_or(f64::INFINITY),
                0.0,
            ),
        }
        check(
            "reml_ratio",
            fit.reml.ratio,
            want.reml_ratio,
            1e-4 * want.reml_ratio.max(1.0),
        );
        // A residual in f32 knows nothing of a noise variance below the square of its rounding.
        let total: f64 = want.loss.c2.iter().sum();
        // What is left open of t̂ moves it by the mean eigenvalue, E_w[λ] = Σλ / dof at t̂.
        let mean = want.loss.lambda.iter().sum::<f64>() / want.loss.dof;
        let unknown =
            1e-13 * total / want.loss.dof + want.noise_variance * mean * slack(want.curvature);
        check(
            "sigma2",
            fit.noise_variance,
            want.noise_variance,
            1e-4 * want.noise_variance + unknown,
        );
        // Q and edf along the plotted grid.
        for &(at, rise, edf) in fit.curve.iter().step_by(6) {
            let dense_rise = want.loss.at(at).0 - want.loss.at(dense_t).0;
            check(
                "Q on the curve",
                rise,
                dense_rise,
                1e-3 * dense_rise.abs().max(1.0),
            );
            let dense_edf = want.loss.effective_dof(at);
            check(
                "edf on the curve",
                edf,
                dense_edf,
                tolerance.effective_dof * dense_edf,
            );
        }
        check(
            "edf",
            fit.effective_dof,
            want.effective_dof,
            tolerance.effective_dof * want.effective_dof,
        );
    }
    // Predictions, on the samples of the mask and the others.
    let n = phenotype.mask.len();
    let mask = &phenotype.mask;
    let dual: Vec<f64> = match &got.fit {
        Some(fit) => fit.dual.iter().map(|a| f64::from(*a)).collect(),
        None => vec![0.0; n],
    };
    let increment = Mat::from_fn(n, 1, |i, _| {
        (0..n)
            .map(|j| f64::from(kernel.matrix()[(i, j)]) * dual[j])
            .sum::<f64>()
    });
    let observed: Vec<f64> = (0..n)
        .filter(|&i| mask[i])
        .map(|i| phenotype.values[i])
        .collect();
    let mean = observed.iter().sum::<f64>() / observed.len() as f64;
    let sd =
        (observed.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / observed.len() as f64).sqrt();
    let projection = covariates.on(mask);
    let rest = Mat::from_fn(n, 1, |i, _| {
        if mask[i] {
            phenotype.values[i] - increment[(i, 0)]
        } else {
            0.0
        }
    });
    let fixed = projection.orthonormal();
    let fixed = &fixed * (fixed.transpose() * &rest);
    let worst = (0..n)
        .filter(|&i| mask[i])
        .map(|i| (increment[(i, 0)] + fixed[(i, 0)] - want.fitted[i]).abs())
        .fold(0.0, f64::max);
    check("fitted", worst, 0.0, 1e-3 * sd);
    // Beyond the mask the effects are unique only where the mask loses no covariate.
    if operator.rank() == covariates.rank() {
        let beta = projection.effects(rest.as_ref());
        let worst = (0..n)
            .filter(|&i| !mask[i])
            .map(|i| {
                let fixed: f64 = (0..columns.len())
                    .map(|j| columns[j][i] * beta[(j, 0)])
                    .sum();
                (increment[(i, 0)] + fixed - want.fitted[i]).abs()
            })
            .fold(0.0, f64::max);
        check("predicted", worst, 0.0, 1e-3 * sd);
    }
    let norm = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt();
    let apart: Vec<f64> = dual.iter().zip(&want.dual).map(|(a, b)| a - b).collect();
    check("dual", norm(&apart), 0.0, 1e-3 * norm(&want.dual));
    check("r2", got.in_sample_r2.unwrap_or(f64::NAN), want.r2, 1e-3);
    found
}

/// What a cohort of phenotypes is checked on.
struct Cohort {
    kernel: DenseKernel,
    columns: Vec<Vec<f64>>,
    phenotypes: Vec<Phenotype>,
}

fn seeded_cohort(n: usize, p: usize, seed: u64) -> Cohort {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let x = features(&mut rng, n, p);
    let infinite = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).expect("valid kernel");
    let kernel = kernel_of(&infinite, &x, p);
    let columns = vec![
        vec![1.0; n],
        (0..n).map(|_| 55.0 + 8.0 * normal(&mut rng)).collect(),
        (0..n)
            .map(|_| f64::from(u8::from(rng.random_bool(0.5))))
            .collect(),
    ];
    let masks: Vec<Vec<bool>> = [0.0, 0.1, 0.4]
        .iter()
        .map(|&missing| {
            (0..n)
                .map(|_| missing == 0.0 || !rng.random_bool(missing))
                .collect()
        })
        .collect();
    let shares = [0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.99, 0.999];
    let phenotypes = masks
        .iter()
        .flat_map(|mask| shares.map(|share| (mask, share)))
        .map(|(mask, share)| Phenotype {
            mask: mask.clone(),
            values: signal(&mut rng, &x, p, share),
            variances: None,
            time: None,
        })
        .collect();
    Cohort {
        kernel,
        columns,
        phenotypes,
    }
}

fn full_spectrum<'a>(
    cohort: &Cohort,
    covariates: &'a Covariates,
    probes: usize,
) -> ReferenceSpectrum<'a> {
    let everyone = vec![true; cohort.kernel.n_samples()];
    let Ok(full) = ReferenceSpectrum::new(
        &cohort.kernel,
        covariates,
        &everyone,
        Probes {
            columns: probes,
            passes: 5,
            seed: 7,
        },
        |_| {},
    );
    full
}

fn run(
    cohort: &Cohort,
    covariates: &Covariates,
    full: &ReferenceSpectrum<'_>,
    phenotypes: &[Phenotype],
    options: &AnalysisOptions,
) -> Vec<Analysis> {
    let Ok(found) = analyse(
        &cohort.kernel,
        covariates,
        full,
        phenotypes,
        options,
        |_, _| {},
    );
    found
}

#[test]
fn twelve_hundred_samples_agree_with_the_dense_version_in_few_passes() {
    let cohort = seeded_cohort(1200, 60, 1);
    let covariates = Covariates::new(1200, &cohort.columns);
    let full = full_spectrum(&cohort, &covariates, 64);
    let options = AnalysisOptions {
        gate: false,
        robust: false,
        ..AnalysisOptions::default()
    };
    let found = run(&cohort, &covariates, &full, &cohort.phenotypes, &options);
    let mut masks: Vec<&Vec<bool>> = cohort.phenotypes.iter().map(|p| &p.mask).collect();
    masks.dedup();
    let operators: Vec<DenseOperator> = masks
        .iter()
        .map(|mask| DenseOperator::new(cohort.kernel.matrix(), &cohort.columns, mask))
        .collect();
    let mut wrong = Vec::new();
    for (i, (phenotype, got)) in cohort.phenotypes.iter().zip(&found).enumerate() {
        let at = masks
            .iter()
            .position(|m| **m == phenotype.mask)
            .expect("mask");
        let want = operators[at].analyse(&phenotype.values, options.alpha, options.gate);
        let (tolerance, most) = if at == 0 { (FULL, 6) } else { (MASKED, 12) };
        for line in disagreements(
            &operators[at],
            (&want, got),
            &cohort,
            &covariates,
            phenotype,
            &options,
            &tolerance,
        ) {
            wrong.push(format!(
                "phenotype {i} (mask {at}), t {:?}: {line}",
                want.time
            ));
        }
        let converged = got.fit.as_ref().is_some_and(|f| f.converged);
        if got.passes > most || !converged {
            wrong.push(format!(
                "phenotype {i} (mask {at}): {} passes, converged {converged}",
                got.passes
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A network that starts from f₀ is tested with f₀ as one more direction of the null model, on the reference spectrum of the covariates alone, and
/// fitted to what f₀ leaves.
#[test]
fn a_test_beside_one_more_direction_and_a_fit_from_an_offset_agree_with_the_dense_version() {
    let n = 900;
    let mut cohort = seeded_cohort(n, 40, 6);
    // Phenotypes of every strength on each mask; the direction lies much along the leading eigenvectors.
    let keep = |i: usize| [0, 3].contains(&(i % 10));
    let mut at = 0..;
    cohort.phenotypes.retain(|_| keep(at.next().unwrap_or(0)));
    let shared = cohort.phenotypes[1].values.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let f0: Vec<f64> = shared
        .iter()
        .map(|v| 0.3 * v + 0.2 * normal(&mut rng))
        .collect();
    let covariates = Covariates::new(n, &cohort.columns);
    let mut columns = cohort.columns.clone();
    columns.push(f0.clone());
    let null = Covariates::new(n, &columns);
    let full = full_spectrum(&cohort, &covariates, 64);
    let walk = |covariates: &Covariates, offset: Option<&[f64]>, options: &AnalysisOptions| {
        let mut batch = Batch::new(&full, covariates, options).with_offset(offset);
        let numbered: Vec<_> = cohort.phenotypes.iter().cloned().enumerate().collect();
        let Ok(mut finished) = batch.add(&cohort.kernel, &numbered);
        while !batch.is_empty() {
            let Ok(more) = batch.run_pass(&cohort.kernel);
            finished.extend(more);
        }
        finished.sort_by_key(|(number, _)| *number);
        finished
    };
    let options = AnalysisOptions {
        gate: false,
        robust: false,
        ..AnalysisOptions::default()
    };
    let test_only = AnalysisOptions {
        test_only: true,
        ..options.clone()
    };
    let tested = walk(&null, None, &test_only);
    let fitted = walk(&covariates, Some(&f0), &options);
    assert_eq!((tested.len(), fitted.len()), (6, 6));
    for (i, phenotype) in cohort.phenotypes.iter().enumerate() {
        let of_null = DenseOperator::new(cohort.kernel.matrix(), &columns, &phenotype.mask);
        let want = of_null.analyse(&phenotype.values, options.alpha, false);
        let test = tested[i].1.test.expect("tested");
        let (got, log_p) = (test.log_p, want.log_p);
        assert!(
            (got - log_p).abs() <= 1e-3 * log_p.abs().max(std::f64::consts::LN_10),
            "{i}: {got} {log_p}"
        );
        assert!(
            (test.score / want.score - 1.0).abs() < 1e-4,
            "{i}: {} {}",
            test.score,
            want.score
        );
        let left: Vec<f64> = phenotype
            .values
            .iter()
            .zip(&f0)
            .map(|(y, f)| y - f)
            .collect();
        let operator = DenseOperator::new(cohort.kernel.matrix(), &cohort.columns, &phenotype.mask);
        let want = operator.analyse(&left, options.alpha, false);
        let fit = fitted[i].1.fit.as_ref().expect("fitted");
        let (got, time) = (fit.reml.time.time(), want.time.expect("finite"));
        assert!((got - time).abs() <= 1e-4 * time, "{i}: {got} {time}");
        let (got, variance) = (fit.noise_variance, want.noise_variance);
        assert!((got / variance - 1.0).abs() < 1e-4, "{i}: {got} {variance}");
    }
}

#[test]
fn a_phenotype_may_be_stopped_at_a_time_of_its_own() {
    let n = 1200;
    let cohort = seeded_cohort(n, 60, 4);
    let covariates = Covariates::new(n, &cohort.columns);
    let full = full_spectrum(&cohort, &covariates, 64);
    let options = AnalysisOptions {
        gate: false,
        robust: false,
        ..AnalysisOptions::default()
    };
    let fitted = run(&cohort, &covariates, &full, &cohort.phenotypes, &options);
    let few: Vec<bool> = (0..n).map(|i| i % 3 == 0).collect();
    let dense = |mask: &[bool]| DenseOperator::new(cohort.kernel.matrix(), &cohort.columns, mask);
    let (mut phenotypes, mut operators) = (Vec::new(), Vec::new());
    // Half the mask's strengths on each mask, at a fraction and at a multiple of t̂, and on few samples.
    for (i, (phenotype, fit)) in cohort.phenotypes.iter().zip(&fitted).enumerate().step_by(3) {
        let reml = fit.fit.as_ref().expect("fitted").reml;
        let Some(t) = Some(reml.time.time()).filter(|t| *t > 0.0 && t.is_finite()) else {
            continue;
        };
        let mask = if i % 2 == 0 { &phenotype.mask } else { &few };
        operators.push(dense(mask));
        phenotypes.push(Phenotype {
            mask: mask.clone(),
            variances: None,
            time: Some(t * [0.05, 0.5, 3.0, 20.0][i / 3 % 4]),
            ..phenotype.clone()
        });
    }
    assert!(phenotypes.len() >= 8, "{}", phenotypes.len());
    let found = run(&cohort, &covariates, &full, &phenotypes, &options);
    for ((phenotype, got), operator) in phenotypes.iter().zip(&found).zip(&operators) {
        let fit = got.fit.as_ref().expect("fitted");
        let want = operator.dual(&phenotype.values, phenotype.time);
        let got = Mat::from_fn(n, 1, |i, _| f64::from(fit.dual[i]));
        let k = Mat::from_fn(n, n, |i, j| f64::from(cohort.kernel.matrix()[(i, j)]));
        let (got, want) = (&k * &got, &k * &want);
        let apart = (&got - &want).norm_l2() / want.norm_l2();
        assert!(
            apart < 1e-3 && fit.converged,
            "t = {:?}: K α {apart:.1e} apart",
            phenotype.time
        );
    }
}

#[test]
fn an_analysis_has_the_same_bits_alone_among_others_and_for_any_number_of_threads() {
    // As the program does: faer's operators split by the number of threads otherwise.
    faer::set_global_parallelism(Par::Seq);
    let mut cohort = seeded_cohort(1200, 60, 2);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for i in 0..7 {
        let mut lone = cohort.phenotypes[3 * i].clone();
        lone.mask = (0..1200).map(|_| rng.random_bool(0.7)).collect();
        cohort.phenotypes.push(lone);
    }
    let covariates = Covariates::new(1200, &cohort.columns);
    let options = AnalysisOptions {
        gate: false,
        max_passes: 6,
        robust: false,
        ..AnalysisOptions::default()
    };
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("pool")
    };
    let all = |threads| {
        pool(threads).install(|| {
            let full = full_spectrum(&cohort, &covariates, 64);
            let found = run(&cohort, &covariates, &full, &cohort.phenotypes, &options);
            found.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>()
        })
    };
    let together = all(2);
    assert_eq!(together.len(), 37);
    assert!(together == all(1), "bits depend on the number of threads");
    let full = full_spectrum(&cohort, &covariates, 64);
    for i in [0, 5, 9, 12, 26, 29, 30, 36] {
        let alone = run(
            &cohort,
            &covariates,
            &full,
            &cohort.phenotypes[i..=i],
            &options,
        );
        assert!(
            format!("{:?}", alone[0]) == together[i],
            "phenotype {i} depends on its neighbours"
        );
    }
}

#[test]
fn the_leading_spectrum_is_that_of_a_krylov_schur_solver() {
    let cohort = seeded_cohort(1200, 60, 4);
    let covariates = Covariates::new(1200, &cohort.columns);
    let full = full_spectrum(&cohort, &covariates, 64);
    let mut leading = full.leading_eigenvalues();
    // As many as the spectrum reports.
    leading.truncate(50);
    assert!(leading.len() >= 5, "{} leading eigenvalues", leading.len());
    // A = P K P / n in f64.
    let q = full.operator().projection().orthonormal();
    let h = Mat::from_fn(1200, 1200, |i, j| {
        f64::from(cohort.kernel.matrix()[(i, j)]) / 1200.0
    });
    let off = |a: &Mat<f64>| a - &q * (q.transpose() * a);
    let a = off(&off(&h).transpose().to_owned());
    let k = leading.len();
    let (mut vectors, mut values) = (Mat::<f64>::zeros(1200, k), vec![0.0; k]);
    let start = Col::from_fn(1200, |i| 1.0 + (i as f64).sin());
    let params = PartialEigenParams::default();
    let mut memory = MemBuffer::new(partial_self_adjoint_eigen_scratch(&a, k, Par::Seq, params));
    let info = partial_self_adjoint_eigen(
        vectors.as_mut(),
        &mut values,
        &a,
        start.as_ref(),
        1e-12,
        Par::Seq,
        MemStack::new(&mut memory),
        params,
    );
    assert_eq!(info.n_converged_eigen, k);
    values.sort_by(|x, y| y.total_cmp(x));
    let vectors = full.leading_eigenvectors(k);
    let ritz = Mat::from_fn(1200, k, |i, j| f64::from(vectors[(i, j)]));
    let images = &a * &ritz;
    let residuals = full.probes().residuals();
    for j in 0..k {
        let error = (leading[j] / values[j] - 1.0).abs();
        assert!(
            error < 2e-4,
            "eigenvalue {j}: {} and {}",
            leading[j],
            values[j]
        );
        let residual = (0..1200)
            .map(|i| (images[(i, j)] - leading[j] * ritz[(i, j)]).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!(
            (residual - residuals[j]).abs() < 1e-6 * values[0],
            "residual {j}: {residual}, said to be {}",
            residuals[j]
        );
    }
}

/// What a random cohort is made from.
#[derive(Clone, Debug)]
struct Recipe {
    seed: u64,
    n: usize,
    p: usize,
    erf: bool,
    depth: usize,
    bias: f64,
    intercept: bool,
    covariates: Vec<CovariateKind>,
    missing: Vec<f64>,
    phenotypes: Vec<(usize, f64)>,
    few: usize,
    duplicates: usize,
    gate: bool,
}

#[derive(Clone, Copy, Debug)]
enum CovariateKind {
    Normal,
    Binary,
    /// Twice the column before, plus one; constant where there is none.
    Collinear,
    /// Varies on the first quarter of the samples only; the last mask leaves those out.
    ConstantOnMask,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let kind = prop_oneof![
        3 => Just(CovariateKind::Normal),
        1 => Just(CovariateKind::Binary),
        1 => Just(CovariateKind::Collinear),
        1 => Just(CovariateKind::ConstantOnMask),
    ];
    (
        (
            any::<u64>(),
            12..220_usize,
            1..=40_usize,
            any::<bool>(),
            1..=4_usize,
        ),
        (
            prop_oneof![Just(0.0), Just(0.1)],
            any::<bool>(),
            prop::collection::vec(kind, 0..=4),
        ),
        prop::collection::vec(0.02..0.6_f64, 1..=2),
        prop::collection::vec((0..4_usize, 0.0..0.95_f64), 2..=6),
        (
            2..=5_usize,
            prop_oneof![2 => Just(0_usize), 1 => 1..6_usize],
            any::<bool>(),
        ),
    )
        .prop_map(
            |(
                (seed, n, p, erf, depth),
                (bias, intercept, covariates),
                missing,
                phenotypes,
                (few, duplicates, gate),
            )| {
                Recipe {
                    seed,
                    n,
                    p,
                    erf,
                    depth,
                    bias,
                    intercept,
                    covariates,
                    missing,
                    phenotypes,
                    few,
                    duplicates,
                    gate,
                }
            },
        )
}

impl Recipe {
    fn cook(&self) -> Cohort {
        let Self { n, p, .. } = *self;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut x = features(&mut rng, n, p);
        for i in 0..self.duplicates {
            let (from, to) = (i, n - 1 - i);
            x.copy_within(from * p..(from + 1) * p, to * p);
        }
        let activation = if self.erf {
            Activation::Erf
        } else {
            Activation::Relu
        };
        let infinite =
            InfiniteKernel::new(activation, self.depth, 2.0, self.bias).expect("valid kernel");
        let mut columns: Vec<Vec<f64>> = Vec::new();
        if self.intercept {
            columns.push(vec![1.0; n]);
        }
        for kind in &self.covariates {
            let column = match kind {
                CovariateKind::Normal => (0..n).map(|_| 5.0 + normal(&mut rng)).collect(),
                CovariateKind::Binary => (0..n)
                    .map(|_| f64::from(u8::from(rng.random_bool(0.5))))
                    .collect(),
                CovariateKind::Collinear => match columns.last() {
                    Some(before) => before.iter().map(|v| 2.0 * v + 1.0).collect(),
                    None => vec![3.0; n],
                },
                CovariateKind::ConstantOnMask => (0..n)
                    .map(|i| if i < n / 4 { normal(&mut rng) } else { 1.0 })
                    .collect(),
            };
            columns.push(column);
        }
        let mut masks = vec![vec![true; n]];
        for &missing in &self.missing {
            masks.push((0..n).map(|_| !rng.random_bool(missing)).collect());
        }
        masks.push((0..n).map(|i| i >= n / 4 && rng.random_bool(0.9)).collect());
        let mut phenotypes: Vec<Phenotype> = self
            .phenotypes
            .iter()
            .map(|&(mask, share)| Phenotype {
                mask: masks[mask % masks.len()].clone(),
                values: signal(&mut rng, &x, p, share),
                variances: None,
                time: None,
            })
            .collect();
        phenotypes.push(Phenotype {
            mask: masks[1].clone(),
            values: vec![2.5; n],
            variances: None,
            time: None,
        });
        let mut few = vec![false; n];
        for i in 0..self.few {
            few[i * n / self.few] = true;
        }
        phenotypes.push(Phenotype {
            mask: few,
            values: signal(&mut rng, &x, p, 0.5),
            variances: None,
            time: None,
        });
        Cohort {
            kernel: kernel_of(&infinite, &x, p),
            columns,
            phenotypes,
        }
    }
}

/// Why the definitions give no result, if they give none.
fn degenerate(operator: &DenseOperator, phenotype: &Phenotype) -> Option<Degenerate> {
    if operator.dof() < 2 {
        return Some(Degenerate::TooFewSamples);
    }
    let (variation, left) = operator.variation(&phenotype.values);
    let size: f64 = phenotype.values.iter().map(|y| y * y).sum();
    (variation <= 1e-20 * size || left <= 1e-18 * variation).then_some(Degenerate::Constant)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, rng_seed: RngSeed::Fixed(20_26), failure_persistence: None, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn random_cohorts_agree_with_the_dense_version(recipe in recipe()) {
        let cohort = recipe.cook();
        let n = recipe.n;
        let covariates = Covariates::new(n, &cohort.columns);
        let full = full_spectrum(&cohort, &covariates, 64);
        let direct = if recipe.seed % 2 == 0 { 16 } else { AnalysisOptions::default().direct };
        let options = AnalysisOptions { gate: recipe.gate, direct, robust: false,
        ..AnalysisOptions::default() };
        let found = run(&cohort, &covariates, &full, &cohort.phenotypes, &options);
        prop_assert_eq!(found.len(), cohort.phenotypes.len());
        let mut operators: Vec<(&Vec<bool>, DenseOperator)> = Vec::new();
        let mut wrong = Vec::new();
        for (i, (phenotype, got)) in cohort.phenotypes.iter().zip(&found).enumerate() {
            let at = operators.iter().position(|(m, _)| **m == phenotype.mask).unwrap_or_else(|| {
                let operator = DenseOperator::new(cohort.kernel.matrix(), &cohort.columns, &phenotype.mask);
                operators.push((&phenotype.mask, operator));
                operators.len() - 1
            });
            let operator = &operators[at].1;
            let observed = operator.n_observed();
            let why = degenerate(operator, phenotype);
            if why.is_some() || got.degenerate.is_some() {
                if why != got.degenerate {
                    wrong.push(format!("phenotype {i} ({observed} of {n}): {:?}, dense {why:?}", got.degenerate));
                }
                continue;
            }
            let want = operator.analyse(&phenotype.values, options.alpha, options.gate);
            let tolerance = if observed == n { FULL } else { MASKED };
            for line in disagreements(
                operator, (&want, got), &cohort, &covariates, phenotype, &options, &tolerance,
            ) {
                let error = got.fit.as_ref().map(|f| f.error);
                wrong.push(format!(
                    "phenotype {i} ({observed} of {n}, rank {}), {} passes, error {error:?}, t {:?}, lambda_1 {:.3e}: {line}",
                    operator.rank(), got.passes, want.time, operator.lambda[0]
                ));
            }
        }
        prop_assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The nearest value with `bits` bits after the leading one: 10 of float16, 7 of bfloat16. (The exponents met here fit either.)
fn rounded(value: f32, bits: u32) -> f32 {
    let dropped = 23 - bits;
    let half = 1 << (dropped - 1);
    let even = (value.to_bits() >> dropped) & 1;
    f32::from_bits((value.to_bits() + half - 1 + even) >> dropped << dropped)
}

/// What tiles in half precision would cost: the dense version on the kernel and on the kernel rounded.
/// Result: docs/decisions/0006-tiles-in-single-precision.md.
#[test]
#[ignore = "prints figures for a decision record"]
#[allow(clippy::print_stdout)]
fn tiles_in_half_precision() {
    let cohort = seeded_cohort(1200, 200, 11);
    let n = cohort.kernel.n_samples();
    for (name, bits) in [("float16", 10), ("bfloat16", 7)] {
        let half = Mat::from_fn(n, n, |i, j| rounded(cohort.kernel.matrix()[(i, j)], bits));
        let mut worst = [0.0_f64; 5];
        for phenotype in &cohort.phenotypes {
            let [exact, off] = [cohort.kernel.matrix(), half.as_ref()].map(|k| {
                DenseOperator::new(k, &cohort.columns, &phenotype.mask).analyse(
                    &phenotype.values,
                    0.05,
                    false,
                )
            });
            let relative = |a: f64, b: f64| (a - b).abs() / b.abs();
            let time = |a: &DenseAnalysis| a.time.unwrap_or(f64::INFINITY);
            let fitted = exact.fitted.iter().zip(&off.fitted);
            let values = [
                relative(time(&off), time(&exact)),
                relative(off.effective_dof, exact.effective_dof),
                relative(off.noise_variance, exact.noise_variance),
                relative(off.log_p, exact.log_p),
                fitted.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max),
            ];
            for (worst, value) in worst.iter_mut().zip(values) {
                *worst = worst.max(value);
            }
        }
        let [t, edf, sigma2, p, fitted] = worst;
        println!(
            "{name}: t_hat {t:.1e}, edf {edf:.1e}, sigma2 {sigma2:.1e}, log p {p:.1e} relative; \
             fitted values {fitted:.1e} sd"
        );
    }
}
