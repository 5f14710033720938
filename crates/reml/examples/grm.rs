//! Any kernel: a genetic relationship matrix, whose variance component is tested and estimated.
//!
//!     cargo run --release -p reml --example grm
#![allow(clippy::print_stdout)]

use faer::Mat;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Binomial, Distribution, StandardNormal, Uniform};
use reml::{
    AnalysisOptions, Covariates, DenseKernel, Phenotype, Probes, ReferenceSpectrum, analyse,
};

const SAMPLES: usize = 1500;
const VARIANTS: usize = 600;
const HERITABILITY: f64 = 0.4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    // Allele counts of independent variants, standardised.
    let mut genotypes = Mat::<f64>::zeros(SAMPLES, VARIANTS);
    for j in 0..VARIANTS {
        let frequency = Uniform::new(0.05, 0.5)?.sample(&mut rng);
        let alleles = Binomial::new(2, frequency)?;
        let sd = (2.0 * frequency * (1.0 - frequency)).sqrt();
        for i in 0..SAMPLES {
            let count = alleles.sample(&mut rng) as f64;
            genotypes[(i, j)] = (count - 2.0 * frequency) / sd;
        }
    }
    let grm = &genotypes * genotypes.transpose() * faer::Scale(1.0 / VARIANTS as f64);
    let kernel = DenseKernel::new(grm.as_ref())?;

    // Each variant has a small effect; the other phenotype is noise.
    let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
    let effects: Vec<f64> = (0..VARIANTS)
        .map(|_| normal() / (VARIANTS as f64).sqrt())
        .collect();
    let heritable =
        |i: usize| -> f64 { (0..VARIANTS).map(|j| genotypes[(i, j)] * effects[j]).sum() };
    let noise: [Vec<f64>; 2] = [0, 1].map(|_| (0..SAMPLES).map(|_| normal()).collect());
    let [genetic, rest] = [HERITABILITY, 1.0 - HERITABILITY].map(f64::sqrt);
    let values = (0..SAMPLES).map(|i| genetic * heritable(i) + rest * noise[0][i]);

    let covariates = Covariates::new(SAMPLES, &[vec![1.0; SAMPLES]]);
    let everyone = vec![true; SAMPLES];
    let Ok(spectrum) =
        ReferenceSpectrum::new(&kernel, &covariates, &everyone, Probes::default(), |_| {});
    let phenotypes =
        [values.collect(), noise[1].clone()].map(|values| Phenotype::new(values, &covariates));
    let options = AnalysisOptions::default();
    let Ok(analyses) = analyse(
        &kernel,
        &covariates,
        &spectrum,
        &phenotypes,
        &options,
        |_, _| {},
    );

    for (name, analysis) in ["heritable", "noise"].iter().zip(&analyses) {
        let p = analysis.test.map_or(f64::NAN, |test| test.log_p.exp());
        match &analysis.fit {
            None => println!("{name}: p = {p:.2}, not fitted"),
            Some(fit) => println!(
                "{name}: p = {p:.1e}, t_hat = {:.1}, R2 with each sample left out = {:.3}",
                fit.reml.time.time(),
                fit.leave_one_out
                    .as_ref()
                    .and_then(|it| it.r2)
                    .unwrap_or(f64::NAN),
            ),
        }
    }
    Ok(())
}
