//! Masks on which nothing of the kernel is left beside the covariates.

use crate::memory_kernel::{features, kernel_of, normal};
use ntk::kernel::{Activation, InfiniteKernel};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reml::{
    Analysis, AnalysisOptions, Covariates, Degenerate, DenseKernel, Phenotype, Probes,
    ReferenceSpectrum, analyse,
};

const N: usize = 1100;
const ALIKE: usize = 560;
const P: usize = 40;

/// The kernel of samples of which the first [`ALIKE`] have `value` for every feature, but for `noise`.
fn kernel(value: f32, noise: f32) -> DenseKernel {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut x = features(&mut rng, N, P);
    for v in &mut x[..ALIKE * P] {
        *v = value + noise * *v;
    }
    let relu = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).unwrap();
    kernel_of(&relu, &x, P)
}

/// Noise, on the first few, on all that are alike, and on everyone.
fn analysed(kernel: &DenseKernel, covariates: &Covariates) -> Vec<Analysis> {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let of = |last: usize, rng: &mut ChaCha8Rng| Phenotype {
        mask: (0..N).map(|i| i < last).collect(),
        values: (0..N).map(|_| normal(rng)).collect(),
        variances: None,
        time: None,
    };
    let lengths = [3, 100, ALIKE, N];
    let phenotypes: Vec<Phenotype> = lengths.iter().map(|&last| of(last, &mut rng)).collect();
    let Ok(full) = ReferenceSpectrum::new(
        kernel,
        covariates,
        &[true; N],
        Probes {
            columns: 64,
            passes: 4,
            seed: 1,
        },
        |_| {},
    );
    assert!(!full.is_lost());
    let options = AnalysisOptions {
        gate: false,
        robust: false,
        ..AnalysisOptions::default()
    };
    let Ok(found) = analyse(kernel, covariates, &full, &phenotypes, &options, |_, _| {});
    found
}

#[test]
fn samples_that_are_alike_are_not_tested() {
    let intercept = Covariates::new(N, &[vec![1.0; N]]);
    let none = Covariates::new(N, &[]);
    for (value, noise, covariates) in [
        (0.0, 0.0, &intercept),
        (0.0, 0.0, &none),
        (1.7, 0.0, &intercept),
        // Left over is 1e-3 of the trace: less than single precision carries.
        (1.7, 5e-3, &intercept),
    ] {
        let found = analysed(&kernel(value, noise), covariates);
        for (i, analysis) in found.iter().enumerate() {
            let is_lost = analysis.degenerate == Some(Degenerate::NoVariation);
            assert_eq!(is_lost, i < 3, "{i} of {value} with {noise}");
            assert_eq!(analysis.test.is_none(), is_lost);
            assert_eq!(analysis.fit.is_none(), is_lost);
        }
    }
}

/// Without an intercept, samples that are alike still differ from 0; with some difference between them there is something to test.
#[test]
fn what_is_left_is_tested() {
    let intercept = Covariates::new(N, &[vec![1.0; N]]);
    let none = Covariates::new(N, &[]);
    for (noise, covariates) in [(0.0, &none), (0.2, &intercept)] {
        let found = analysed(&kernel(1.7, noise), covariates);
        assert!(found.iter().all(|it| it.degenerate.is_none()), "{noise}");
        assert!(found.iter().all(|it| it.test.is_some()), "{noise}");
    }
}
