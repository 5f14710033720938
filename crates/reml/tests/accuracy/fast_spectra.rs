//! Effective degrees of freedom where eigenvalues fall by up to 1e12, below what single precision carries of their sum.

use crate::memory_kernel::normal;
use faer::{Mat, Side};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reml::{
    AnalysisOptions, Covariates, DenseKernel, Phenotype, Probes, ReferenceSpectrum, analyse,
};

/// Largest sum of eigenvalues beside the trace that single-precision products and tiles hide.
const HIDDEN: f64 = 1e-6;

/// λᵢ = 10^(−decades (i / n)^bend), and K = U diag(n λ) U' for random U orthogonal to the intercept.
fn kernel(rng: &mut ChaCha8Rng, n: usize, decades: f64, bend: f64) -> Mat<f64> {
    let random = Mat::from_fn(n, n, |_, j| if j == 0 { 1.0 } else { normal(rng) });
    let u = random.qr().compute_Q();
    let value = |i: usize| n as f64 * 10_f64.powf(-decades * (i as f64 / n as f64).powf(bend));
    let scaled = Mat::from_fn(n, n - 1, |i, j| u[(i, j + 1)] * value(j).sqrt());
    &scaled * scaled.transpose()
}

/// The eigenvalues of P K[S,S] P / n_S off the intercept, in double precision.
fn spectrum(k: &Mat<f64>, mask: &[bool]) -> Vec<f64> {
    let observed: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    let n = observed.len();
    let mean: Vec<f64> = observed
        .iter()
        .map(|&i| observed.iter().map(|&j| k[(i, j)]).sum::<f64>() / n as f64)
        .collect();
    let all = mean.iter().sum::<f64>() / n as f64;
    let a = Mat::from_fn(n, n, |i, j| {
        (k[(observed[i], observed[j])] - mean[i] - mean[j] + all) / n as f64
    });
    let eigen = a.self_adjoint_eigenvalues(Side::Lower).expect("finite");
    // The least is the intercept's.
    eigen[1..].iter().map(|l| l.max(0.0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, rng_seed: RngSeed::Fixed(25), failure_persistence: None, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn effective_dof_lie_between_their_bounds(
        decades in 1.0..12.0_f64,
        bend in 0.3..1.5_f64,
        missing in 0.05..0.35_f64,
        seed in any::<u64>(),
    ) {
        let n = 860;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let k = kernel(&mut rng, n, decades, bend);
        let kernel = DenseKernel::new(k.as_ref()).expect("a kernel matrix");
        let covariates = Covariates::new(n, &[vec![1.0; n]]);
        let everyone = vec![true; n];
        let Ok(full) = ReferenceSpectrum::new(&kernel, &covariates, &everyone, Probes { columns: 64, passes: 5, seed: 7 }, |_| {});
        let some: Vec<bool> = (0..n).map(|_| !rng.random_bool(missing)).collect();
        let options = AnalysisOptions { gate: false, max_passes: 4, robust: false,
        ..AnalysisOptions::default() };
        for (mask, tolerance) in [(everyone, 1e-3_f64), (some, 2e-2)] {
            let lambda = spectrum(&k, &mask);
            let (largest, trace) = (lambda[lambda.len() - 1], lambda.iter().sum::<f64>());
            let times: Vec<f64> = (-1..=6).map(|e| 10_f64.powi(e) / largest).collect();
            let phenotypes: Vec<Phenotype> = times.iter().map(|&t| Phenotype {
                mask: mask.clone(),
                values: (0..n).map(|_| normal(&mut rng)).collect(),
                variances: None,
                time: Some(t),
            }).collect();
            let Ok(found) = analyse(&kernel, &covariates, &full, &phenotypes, &options, |_, _| {});
            for (t, got) in times.iter().zip(&found) {
                let shrunk = |l: f64| -(-t * l).exp_m1();
                let want: f64 = lambda.iter().map(|l| shrunk(*l)).sum();
                let got = got.fit.as_ref().expect("fitted").effective_dof;
                // 1 − exp(−tλ) is concave: at least as on a line to the largest, at most as where all are alike.
                let least = (1.0 - HIDDEN) * trace * shrunk(largest) / largest;
                let dof = lambda.len() as f64;
                let most = dof * shrunk((1.0 + HIDDEN) * trace / dof);
                prop_assert!(least <= got && got <= most, "{least} {got} {most} at {t:.1e}");
                let hidden = t * HIDDEN * trace;
                // Where more is learned than half of what the probes' space tells apart, the bounds are all that is known.
                if want > 160.0 {
                    continue;
                }
                prop_assert!(
                    (got - want).abs() <= tolerance * want + hidden,
                    "edf {got}, want {want}, allowed {:.1e} + {hidden:.1e}; t λ₁ {:.0e}, {} samples, {decades} decades, bend {bend}",
                    tolerance * want, t * largest, dof + 1.0
                );
            }
        }
    }
}
