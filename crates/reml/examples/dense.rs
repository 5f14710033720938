//! From features to p-values, stopping times and predictions, all in memory.
//!
//!     cargo run --release -p reml --example dense
#![allow(clippy::print_stdout)]

use ntk::kernel::{Activation, InfiniteKernel};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use reml::{
    AnalysisOptions, Covariates, DenseKernel, Phenotype, Predictor, Probes, ReferenceSpectrum,
    analyse, r_squared,
};

const SAMPLES: usize = 900;
const FEATURES: usize = 10;
/// The last samples, whose phenotypes are not observed: they are predicted.
const NEW: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
    let x: Vec<f32> = (0..SAMPLES * FEATURES).map(|_| normal() as f32).collect();
    let age: Vec<f64> = (0..SAMPLES).map(|_| 50.0 + 10.0 * normal()).collect();
    let noise: [Vec<f64>; 2] = [0, 1].map(|_| (0..SAMPLES).map(|_| normal()).collect());

    // The kernel of an infinitely wide ReLU network with two hidden layers.
    let network = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0)?;
    let kernel = DenseKernel::new(network.matrix(&x, FEATURES)?.as_ref())?;

    // A phenotype that depends on age and on two features, and one that depends on age alone.
    let signal = |i: usize| 1.5 * f64::from(x[i * FEATURES] * x[i * FEATURES + 1]).tanh();
    let truth = |i: usize| 0.1 * age[i] + signal(i) + noise[0][i];
    let without = |i: usize| 0.1 * age[i] + noise[1][i];
    let observed = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let is_new = |i: usize| i >= SAMPLES - NEW;
        let values = (0..SAMPLES).map(|i| if is_new(i) { f64::NAN } else { value(i) });
        values.collect()
    };
    let covariates = Covariates::new(SAMPLES, &[vec![1.0; SAMPLES], age.clone()]);
    let phenotypes = [observed(&truth), observed(&without)];
    let phenotypes = phenotypes.map(|values| Phenotype::new(values, &covariates));

    let (everyone, probes) = ([true; SAMPLES], Probes::default());
    let Ok(spectrum) = ReferenceSpectrum::new(&kernel, &covariates, &everyone, probes, |_| {});
    let options = AnalysisOptions::default();
    let progress = |_, _| {};
    let Ok(analyses) = analyse(
        &kernel,
        &covariates,
        &spectrum,
        &phenotypes,
        &options,
        progress,
    );

    for (name, analysis) in ["with signal", "without"].iter().zip(&analyses) {
        let p = analysis.test.map_or(f64::NAN, |test| test.log_p.exp());
        let Some(fit) = &analysis.fit else {
            println!("{name}: p = {p:.2}, not fitted");
            continue;
        };
        let (t_hat, edf) = (fit.reml.time.time(), fit.effective_dof);
        println!("{name}: p = {p:.1e}, t_hat = {t_hat:.3}, edf = {edf:.1}");
    }

    // K α plus the effects of the covariates, for the samples that were not observed.
    if let Some(fit) = &analyses[0].fit {
        let Ok(increment) = fit.increment(&kernel);
        let predictor = Predictor::new(&covariates, &phenotypes[0], &|i| increment[i]);
        let predicted = |i: usize| predictor.predict(increment[i], [1.0, age[i]]);
        let pairs: Vec<_> = (SAMPLES - NEW..SAMPLES)
            .map(|i| (truth(i), predicted(i)))
            .collect();
        let r2 = r_squared(&pairs).unwrap_or(f64::NAN);
        println!("R2 of {NEW} new samples: {r2:.2}");
    }
    Ok(())
}
