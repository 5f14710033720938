//! The robust p of diseases and times to event beside its definition on dense matrices: complete samples and masks, few samples and more, rare cases, covariates
//! that drive outcome and features, and samples whose outcome the covariates tell.

use crate::dense::DenseOperator;
use crate::memory_kernel::{kernel_of, normal};
use crate::outcome::{disease, times};
use faer::Mat;
use ntk::kernel::{Activation, InfiniteKernel};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reml::null_model::{NullModel, cox, logistic};
use reml::{
    AnalysisOptions, Covariates, DenseKernel, Phenotype, Probes, ReferenceSpectrum, analyse,
};

/// A kernel whose features follow the covariates, and these: q normal columns, and one of 0 and 1.
struct Cohort {
    kernel: DenseKernel,
    covariates: Mat<f64>,
    /// What of the features drives outcomes.
    signal: Vec<f64>,
}

fn cohort(rng: &mut ChaCha8Rng, n: usize, p: usize, q: usize) -> Cohort {
    let covariates = Mat::from_fn(n, q + 1, |_, j| match j < q {
        true => normal(rng),
        false => f64::from(u8::from(rng.random_bool(0.3))),
    });
    let mut x = vec![0.0_f32; n * p];
    for i in 0..n {
        for j in 0..p {
            let along = covariates[(i, j % q)];
            let follows = if j % 3 == 0 { along.tanh() } else { along };
            x[i * p + j] = (0.7 * normal(rng) + 0.7 * follows) as f32;
        }
    }
    let of_features = |x: &[f32]| f64::from(x[0] * x[1] + x[2] * x[3]);
    let signal = x.chunks(p).map(of_features).collect();
    let infinite = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).expect("valid kernel");
    Cohort {
        kernel: kernel_of(&infinite, &x, p),
        covariates,
        signal,
    }
}

/// What a null model of the samples of a mask says of all n.
fn on_all(model: &NullModel, samples: &[usize], mask: &[bool]) -> Phenotype {
    let mut values = vec![f64::NAN; mask.len()];
    let mut variances = vec![f64::NAN; mask.len()];
    for (k, &i) in samples.iter().enumerate() {
        values[i] = model.residual[k];
        variances[i] = model.variance[k];
    }
    Phenotype {
        mask: mask.to_vec(),
        values,
        variances: Some(variances),
        time: None,
    }
}

/// Phenotypes of a disease of three frequencies, of one that the last covariate prevents, and of a time to event, on one mask.
fn phenotypes(
    rng: &mut ChaCha8Rng,
    cohort: &Cohort,
    mask: &[bool],
    strength: f64,
) -> Vec<(String, Phenotype)> {
    let samples: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    let z = Mat::from_fn(samples.len(), cohort.covariates.ncols(), |i, j| {
        cohort.covariates[(samples[i], j)]
    });
    let eta: Vec<f64> = samples
        .iter()
        .map(|&i| 1.2 * cohort.covariates[(i, 0)] + strength * cohort.signal[i])
        .collect();
    let mut found = Vec::new();
    for (intercept, is_prevented) in [(0.0, false), (-3.0, false), (-5.0, false), (-2.0, true)] {
        let mut is_case = disease(rng, &eta, intercept);
        for (i, is_case) in is_case.iter_mut().enumerate() {
            *is_case &= !is_prevented || z[(i, z.ncols() - 1)] == 0.0;
        }
        let Ok(model) = logistic(&is_case, z.as_ref()).expect("valid") else {
            continue;
        };
        assert!(!is_prevented || model.n_separated() > samples.len() / 5);
        let name = format!("disease {intercept} {is_prevented} {strength}");
        found.push((name, on_all(&model, &samples, mask)));
    }
    for is_late in [false, true] {
        let times = times(rng, &eta, 0.2, is_late);
        let model = cox(&times, z.as_ref()).expect("valid").expect("fitted");
        let name = format!("time {is_late} {strength}");
        found.push((name, on_all(&model, &samples, mask)));
    }
    found
}

fn size(log_p: f64) -> f64 {
    -log_p / std::f64::consts::LN_10
}

#[test]
fn p_values_of_outcomes_agree_with_the_dense_ones() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let mut bad = Vec::new();
    let mut far_from_plain = 0;
    for (n, p, q, missing) in [
        (380, 40, 3, 0.0),
        (700, 12, 3, 0.0),
        (700, 12, 3, 0.2),
        (800, 150, 8, 0.0),
        (900, 60, 14, 0.3),
        (800, 1200, 3, 0.1),
    ] {
        let cohort = cohort(&mut rng, n, p, q);
        let mut columns = vec![vec![1.0; n]];
        columns.extend(
            cohort
                .covariates
                .col_iter()
                .map(|c| c.iter().copied().collect()),
        );
        let covariates = Covariates::new(n, &columns);
        let probes = Probes {
            columns: 64,
            passes: 5,
            seed: 7,
        };
        let all = vec![true; n];
        let Ok(full) = ReferenceSpectrum::new(&cohort.kernel, &covariates, &all, probes, |_| {});
        let mask: Vec<bool> = (0..n).map(|_| !rng.random_bool(missing)).collect();
        let mut named = phenotypes(&mut rng, &cohort, &mask, 0.0);
        named.extend(phenotypes(&mut rng, &cohort, &mask, 0.7));
        let options = AnalysisOptions {
            test_only: true,
            ..AnalysisOptions::default()
        };
        let of_names: Vec<Phenotype> = named.iter().map(|(_, it)| it.clone()).collect();
        let Ok(found) = analyse(
            &cohort.kernel,
            &covariates,
            &full,
            &of_names,
            &options,
            |_, _| {},
        );
        let dense = DenseOperator::new(cohort.kernel.matrix(), &columns, &mask);
        for ((name, phenotype), got) in named.iter().zip(&found) {
            let variances = phenotype.variances.as_ref().expect("given above");
            let want = size(dense.weighted_log_p(&phenotype.values, variances));
            let plain = size(dense.robust_log_p(&phenotype.values));
            far_from_plain += usize::from((want - plain).abs() > 0.05 + 0.02 * want);
            let got = got
                .test
                .expect("tested")
                .log_p_robust
                .map_or(f64::NAN, size);
            let is_near = (got - want).abs() <= 0.02 + 0.01 * want.abs();
            println!(
                "{n} {p} {q} {missing} {name}: {want:.4} {:+.4} plain {plain:.4}",
                got - want
            );
            if !is_near {
                bad.push(format!("{n} {p} {q} {missing} {name}: {got} for {want}"));
            }
        }
    }
    assert!(bad.is_empty(), "{} {bad:#?}", bad.len());
    // The weights matter.
    assert!(far_from_plain > 5, "{far_from_plain}");
}

/// Equal variances are no weights.
#[test]
fn equal_variances_give_the_test_of_other_phenotypes() {
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    for n in [300, 600] {
        let cohort = cohort(&mut rng, n, 20, 3);
        let mut columns = vec![vec![1.0; n]];
        columns.extend(
            cohort
                .covariates
                .col_iter()
                .map(|c| c.iter().copied().collect()),
        );
        let covariates = Covariates::new(n, &columns);
        let all = vec![true; n];
        let Ok(full) =
            ReferenceSpectrum::new(&cohort.kernel, &covariates, &all, Probes::default(), |_| {});
        let values: Vec<f64> = cohort
            .signal
            .iter()
            .map(|f| 0.1 * f + normal(&mut rng))
            .collect();
        let plain = Phenotype::new(values, &covariates);
        let weighted = Phenotype {
            variances: Some(vec![0.3; n]),
            ..plain.clone()
        };
        let options = AnalysisOptions::default();
        let both = [plain, weighted];
        let Ok(found) = analyse(
            &cohort.kernel,
            &covariates,
            &full,
            &both,
            &options,
            |_, _| {},
        );
        let [plain, weighted] = [0, 1].map(|k| found[k].test.expect("tested"));
        let [a, b] = [plain, weighted].map(|it| it.log_p_robust.expect("found"));
        assert!((a - b).abs() < 1e-4 * a.abs(), "{a} {b}");
        assert!((plain.log_p - weighted.log_p).abs() < 1e-9 * plain.log_p.abs());
        let times = [0, 1].map(|k| found[k].fit.as_ref().map(|fit| fit.reml.time.time()));
        assert_eq!(times[0].is_some(), times[1].is_some());
        for (a, b) in times[0].iter().zip(&times[1]) {
            assert!((a - b).abs() <= 1e-4 * a, "{a} {b}");
        }
    }
}
