//! One sample far from all others: its own fitted value rests on a weight that is small beside what it is a difference of.

use crate::dense::DenseOperator;
use crate::memory_kernel::{kernel_of, normal};
use faer::Mat;
use ntk::kernel::{Activation, InfiniteKernel};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reml::{AnalysisOptions, Covariates, Phenotype, Probes, ReferenceSpectrum, analyse};

const N: usize = 1000;
const P: usize = 50;
const FAR: usize = 7;

/// N × P features, sample [`FAR`] so many `times` as far as the others; columns of mean square 1.
fn features(rng: &mut ChaCha8Rng, times: f32) -> Vec<f32> {
    let mut x: Vec<f32> = (0..N * P).map(|_| normal(rng) as f32).collect();
    for v in &mut x[FAR * P..(FAR + 1) * P] {
        *v *= times;
    }
    for j in 0..P {
        let squares: f64 = (0..N).map(|i| f64::from(x[i * P + j]).powi(2)).sum();
        let size = (squares / N as f64).sqrt();
        for i in 0..N {
            x[i * P + j] /= size as f32;
        }
    }
    x
}

/// Mean 0 and variance 1 on the mask.
fn standardise(y: &mut [f64], mask: &[bool]) {
    let n = mask.iter().filter(|m| **m).count() as f64;
    let on = |y: &[f64]| -> f64 {
        y.iter()
            .zip(mask)
            .filter(|(_, m)| **m)
            .map(|(v, _)| v)
            .sum()
    };
    let mean = on(y) / n;
    y.iter_mut().for_each(|v| *v -= mean);
    let squares: Vec<f64> = y.iter().map(|v| v * v).collect();
    let sd = (on(&squares) / n).sqrt();
    y.iter_mut().for_each(|v| *v /= sd);
}

/// (largest error of a fitted value in standard deviations, whether it counts as converged), of truths that are linear and bent, of shares of
/// the variance up to nearly all, on all samples and on a mask; stopped at t̂ or at `time`.
fn errors(times: f32, time: Option<f64>) -> Vec<(f64, bool)> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let x = features(&mut rng, times);
    let slopes: Vec<f64> = (0..P).map(|_| normal(&mut rng)).collect();
    let mut truth: Vec<f64> = x
        .chunks_exact(P)
        .map(|row| {
            row.iter()
                .zip(&slopes)
                .map(|(x, b)| f64::from(*x) * b)
                .sum()
        })
        .collect();
    let near: Vec<bool> = (0..N).map(|i| i != FAR).collect();
    standardise(&mut truth, &near);
    let infinite = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).expect("valid kernel");
    let kernel = kernel_of(&infinite, &x, P);
    let columns = vec![vec![1.0; N]];
    let covariates = Covariates::new(N, &columns);
    let everyone = vec![true; N];
    let Ok(full) = ReferenceSpectrum::new(
        &kernel,
        &covariates,
        &everyone,
        Probes {
            columns: 64,
            passes: 5,
            seed: 7,
        },
        |_| {},
    );
    let options = AnalysisOptions {
        gate: false,
        robust: false,
        ..AnalysisOptions::default()
    };
    let some: Vec<bool> = (0..N).map(|i| i % 5 != 1).collect();
    let mut found = Vec::new();
    for mask in [everyone, some] {
        let dense = DenseOperator::new(kernel.matrix(), &columns, &mask);
        let mut phenotypes = Vec::new();
        for share in [0.5_f64, 0.9, 0.99, 0.999, 0.9999, 0.999_999] {
            for bent in [false, true] {
                let shape = |v: f64| if bent { v.tanh() } else { v };
                let noise = (1.0 - share).sqrt();
                let values = truth
                    .iter()
                    .map(|v| share.sqrt() * shape(*v) + noise * normal(&mut rng));
                let mut values: Vec<f64> = values.collect();
                standardise(&mut values, &mask);
                phenotypes.push(Phenotype {
                    mask: mask.clone(),
                    values,
                    variances: None,
                    time,
                });
            }
        }
        let Ok(analyses) = analyse(
            &kernel,
            &covariates,
            &full,
            &phenotypes,
            &options,
            |_, _| {},
        );
        for (phenotype, got) in phenotypes.iter().zip(&analyses) {
            let fit = got.fit.as_ref().expect("fitted");
            let t = time.unwrap_or(fit.reml.time.time());
            let want = dense.dual(&phenotype.values, Some(t));
            let want = dense.fitted(&want, &phenotype.values);
            let dual = Mat::from_fn(N, 1, |i, _| f64::from(fit.dual[i]));
            let fitted = dense.fitted(&dual, &phenotype.values);
            let apart = fitted.iter().zip(&want).map(|(a, b)| (a - b).abs());
            found.push((apart.fold(0.0, f64::max), fit.converged));
        }
    }
    found
}

#[test]
fn a_far_sample_is_fitted_as_well_as_the_others() {
    for times in [50.0, 500.0] {
        let found = errors(times, None);
        let largest = found.iter().map(|it| it.0).fold(0.0, f64::max);
        println!("{times} times as far: largest error {largest:.1e} sd");
        for (error, converged) in found {
            assert!(error < 3e-4 && converged, "{error:.1e} {converged}");
        }
    }
}

/// Trained five times as long as likelihood says.
#[test]
fn where_single_precision_does_not_reach_the_fit_does_not_count_as_converged() {
    let found = errors(50.0, Some(2e3));
    println!("{found:?}");
    let reached = found.iter().filter(|(_, converged)| *converged);
    let worst = reached.map(|(error, _)| *error).fold(0.0, f64::max);
    assert!(worst < 5e-3, "{found:?}");
    assert!(found.iter().any(|(_, converged)| !converged), "{found:?}");
}
