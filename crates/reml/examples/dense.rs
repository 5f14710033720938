//! From features to p-values, stopping times and predictions, all in memory.
//!
//!     cargo run --release -p reml --example dense
#![allow(clippy::print_stdout)]

use faer::Mat;
use ntk::kernel::{Activation, InfiniteKernel, TileScratch};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use reml::{
    AnalysisOptions, Covariates, DenseKernel, KernelMatrix, Phenotype, Predictor, Probes,
    ReferenceSpectrum, analyse,
};

const SAMPLES: usize = 900;
const FEATURES: usize = 10;
/// Samples whose phenotypes are not observed: they are predicted.
const NEW: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
    let x: Vec<f32> = (0..SAMPLES * FEATURES).map(|_| normal() as f32).collect();
    let age: Vec<f64> = (0..SAMPLES).map(|_| 50.0 + 10.0 * normal()).collect();
    let noise: Vec<f64> = (0..SAMPLES).map(|_| normal()).collect();

    // A phenotype that depends on age and on two features, and one that depends on age alone.
    let signal = |i: usize| 1.5 * f64::from(x[i * FEATURES] * x[i * FEATURES + 1]).tanh();
    let with_signal: Vec<f64> = (0..SAMPLES)
        .map(|i| 0.1 * age[i] + signal(i) + noise[i])
        .collect();
    let without: Vec<f64> = (0..SAMPLES)
        .map(|i| 0.1 * age[i] + noise[(7 * i) % SAMPLES])
        .collect();

    // The kernel of an infinitely wide ReLU network with two hidden layers.
    let network = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0)?;
    let block = network.row_block(&x[..], FEATURES)?;
    let mut k = vec![0.0_f32; SAMPLES * SAMPLES];
    network.tile(
        &block,
        &block,
        true,
        &mut k,
        SAMPLES,
        &mut TileScratch::default(),
    );
    let k = Mat::from_fn(SAMPLES, SAMPLES, |i, j| f64::from(k[i * SAMPLES + j]));
    let kernel = DenseKernel::new(k.as_ref())?;

    let covariates = Covariates::new(SAMPLES, &[vec![1.0; SAMPLES], age.clone()]);
    let everyone = vec![true; SAMPLES];
    let probes = Probes::default();
    let Ok(spectrum) = ReferenceSpectrum::new(&kernel, &covariates, &everyone, probes, |_| {});

    let observed = |values: &[f64]| -> Vec<f64> {
        let missing = std::iter::repeat_n(f64::NAN, NEW);
        values[..SAMPLES - NEW]
            .iter()
            .copied()
            .chain(missing)
            .collect()
    };
    let phenotypes = [&with_signal, &without].map(|y| Phenotype::new(observed(y), &covariates));
    let options = AnalysisOptions::default();
    let Ok(analyses) = analyse(
        &kernel,
        &covariates,
        &spectrum,
        &phenotypes,
        &options,
        |_, _| {},
    );

    for (name, analysis) in ["with signal", "without"].iter().zip(&analyses) {
        let p = analysis.test.map_or(f64::NAN, |test| test.log_p.exp());
        match &analysis.fit {
            None => println!("{name}: p = {p:.2}, not fitted"),
            Some(fit) => println!(
                "{name}: p = {p:.1e}, t_hat = {:.3}, edf = {:.1}",
                fit.reml.time.time(),
                fit.effective_dof
            ),
        }
    }

    // K α plus the effects of the covariates, for the samples that were not observed.
    if let Some(fit) = &analyses[0].fit {
        let alpha = Mat::from_fn(SAMPLES, 1, |i, _| fit.dual[i]);
        let Ok((increment, _)) = kernel.multiply(alpha.as_ref(), Mat::zeros(SAMPLES, 0).as_ref());
        let increment = |i: usize| f64::from(increment[(i, 0)]);
        let predictor = Predictor::new(&covariates, &phenotypes[0], &increment);
        let pairs: Vec<(f64, f64)> = (SAMPLES - NEW..SAMPLES)
            .map(|i| {
                (
                    with_signal[i],
                    predictor.predict(increment(i), [1.0, age[i]]),
                )
            })
            .collect();
        let r2 = reml::r_squared(&pairs).unwrap_or(f64::NAN);
        println!("R2 of {NEW} new samples: {r2:.2}");
    }
    Ok(())
}
