//! The robust p beside its definition on dense matrices: complete samples and masks, few covariates and many, features that share factors, more
//! features than samples, and noise of every kind.

use crate::dense::DenseOperator;
use crate::memory_kernel::{features, kernel_of, normal};
use ntk::kernel::{Activation, InfiniteKernel};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reml::{AnalysisOptions, Covariates, Phenotype, Probes, ReferenceSpectrum, analyse};

#[derive(Clone, Copy, Debug)]
enum Noise {
    Gaussian,
    /// Student's t on three degrees of freedom.
    Heavy,
    Cauchy,
    /// The standard deviation is the mean square of the features.
    Spread,
    /// 2 % cases.
    Cases,
    /// One sample with half of the variance.
    Outlier,
}

use Noise::{Cases, Cauchy, Gaussian, Heavy, Outlier, Spread};

fn noise(kind: Noise, x: &[f32], p: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let n = x.len() / p;
    let mut values: Vec<f64> = (0..n).map(|_| normal(rng)).collect();
    match kind {
        Gaussian => {}
        Heavy => values.iter_mut().for_each(|v| {
            let squares: f64 = (0..3).map(|_| normal(rng).powi(2)).sum();
            *v /= (squares / 3.0).sqrt();
        }),
        Cauchy => values.iter_mut().for_each(|v| *v /= normal(rng).abs()),
        Spread => values.iter_mut().zip(x.chunks(p)).for_each(|(v, x)| {
            *v *= x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / p as f64;
        }),
        Cases => values
            .iter_mut()
            .for_each(|v| *v = f64::from(u8::from(rng.random_bool(0.02)))),
        Outlier => values[n / 3] = (n as f64).sqrt(),
    }
    values
}

/// Samples, features, depth, covariates, and whether features share factors.
type Shape = (usize, usize, usize, usize, bool);

#[allow(clippy::print_stdout, reason = "the figures of a decision record")]
/// Compares a phenotype of each kind of noise and strength of signal on each mask; returns the worst excess over what is allowed.
fn compare((n, p, depth, q, factors): Shape, missing: &[f64], kinds: &[Noise]) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let x = match factors {
        true => features(&mut rng, n, p),
        false => (0..n * p).map(|_| normal(&mut rng) as f32).collect(),
    };
    let infinite = InfiniteKernel::new(Activation::Relu, depth, 2.0, 0.0).expect("valid kernel");
    let kernel = kernel_of(&infinite, &x, p);
    let mut columns = vec![vec![1.0; n]];
    columns.extend((1..q).map(|_| (0..n).map(|_| normal(&mut rng)).collect()));
    let covariates = Covariates::new(n, &columns);
    let Ok(full) = ReferenceSpectrum::new(
        &kernel,
        &covariates,
        &vec![true; n],
        Probes {
            columns: 64,
            passes: 5,
            seed: 7,
        },
        |_| {},
    );
    let options = AnalysisOptions {
        test_only: true,
        ..AnalysisOptions::default()
    };
    let mut phenotypes = Vec::new();
    let mut names = Vec::new();
    for &missing in missing {
        let mask: Vec<bool> = (0..n).map(|_| !rng.random_bool(missing)).collect();
        for &kind in kinds {
            for strength in [0.0, 0.3, 0.8] {
                let mut values = noise(kind, &x, p, &mut rng);
                let mean = values.iter().sum::<f64>() / n as f64;
                let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
                for (value, x) in values.iter_mut().zip(x.chunks(p)) {
                    *value = *value / sd + strength * f64::from(x[0] + x[1] + x[2]) / 3f64.sqrt();
                }
                names.push(format!("{kind:?} {strength} {missing}"));
                phenotypes.push(Phenotype {
                    mask: mask.clone(),
                    values,
                    variances: None,
                    time: None,
                });
            }
        }
    }
    let Ok(found) = analyse(
        &kernel,
        &covariates,
        &full,
        &phenotypes,
        &options,
        |_, _| {},
    );
    let mut bad = Vec::new();
    let mut dense: Option<(Vec<bool>, DenseOperator)> = None;
    for ((phenotype, got), name) in phenotypes.iter().zip(&found).zip(&names) {
        if dense
            .as_ref()
            .is_none_or(|(mask, _)| *mask != phenotype.mask)
        {
            let mask = phenotype.mask.clone();
            let operator = DenseOperator::new(kernel.matrix(), &columns, &mask);
            dense = Some((mask, operator));
        }
        let (_, operator) = dense.as_ref().expect("made above");
        let size = |log_p: f64| -log_p / std::f64::consts::LN_10;
        let want = size(operator.robust_log_p(&phenotype.values));
        let got = got
            .test
            .expect("tested")
            .log_p_robust
            .map_or(f64::NAN, size);
        let is_near = (got - want).abs() <= 0.02 + 0.01 * want.abs();
        println!(
            "{} {name} {want:.4} {:+.4}{}",
            n,
            got - want,
            if is_near { "" } else { " *" }
        );
        if !is_near {
            bad.push(format!("{:?} {name}: {got} for {want}", (n, p, depth, q)));
        }
    }
    bad
}

#[test]
fn robust_p_values_agree_with_the_dense_ones() {
    let all = [Gaussian, Heavy, Cauchy, Spread, Cases, Outlier];
    let bad: Vec<String> = [
        ((700, 12, 2, 3, false), &[0.0][..], &all[..]),
        ((700, 12, 2, 3, false), &[0.5], &[Spread, Cases]),
        ((700, 900, 1, 3, false), &[0.0, 0.2], &[Gaussian, Cases]),
        // A flat block of 150 eigenvalues, which no leading pairs hold.
        ((800, 150, 2, 15, false), &[0.0], &[Gaussian, Cauchy, Cases]),
        ((800, 200, 2, 20, true), &[0.3], &[Heavy, Cauchy, Outlier]),
    ]
    .into_iter()
    .flat_map(|(shape, missing, kinds)| compare(shape, missing, kinds))
    .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// More samples, features and depths.
#[test]
#[ignore = "takes minutes: decompositions of up to 3,000 samples a phenotype"]
fn robust_p_values_agree_with_the_dense_ones_on_more() {
    let all = [Gaussian, Heavy, Cauchy, Spread, Cases, Outlier];
    let bad: Vec<String> = [
        (1200, 5, 3, 1, false),
        (1200, 1200, 2, 20, false),
        (1000, 3000, 1, 5, true),
        (1500, 300, 1, 2, false),
        (1600, 300, 2, 15, false),
        (3000, 1000, 2, 8, true),
    ]
    .into_iter()
    .flat_map(|shape| compare(shape, &[0.0, 0.4], &all))
    .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
