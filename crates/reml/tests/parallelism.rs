//! Digits depend neither on faer's parallelism, which is global to the process, nor on the number of threads. A process of its own, because it sets that.

#[path = "accuracy/memory_kernel.rs"]
#[allow(dead_code, reason = "the other tests need the rest")]
mod memory_kernel;

use faer::Par;
use memory_kernel::{features, kernel_of, normal};
use ntk::kernel::{Activation, InfiniteKernel};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reml::{
    AnalysisOptions, Covariates, DenseKernel, Phenotype, Probes, ReferenceSpectrum, analyse,
};

const N: usize = 700;

/// Every number that comes of phenotypes on all samples, on a large mask and on one that is decomposed as it stands.
fn bits(kernel: &DenseKernel, columns: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<u64> {
    let covariates = Covariates::new(N, columns);
    let probes = Probes::default();
    let Ok(full) = ReferenceSpectrum::new(kernel, &covariates, &[true; N], probes, |_| {});
    let phenotypes: Vec<Phenotype> = values
        .iter()
        .map(|values| Phenotype::new(values.clone(), &covariates))
        .collect();
    let options = AnalysisOptions {
        gate: false,
        ..AnalysisOptions::default()
    };
    let Ok(analyses) = analyse(kernel, &covariates, &full, &phenotypes, &options, |_, _| {});
    let mut numbers = Vec::new();
    for analysis in analyses {
        let (test, fit) = (
            analysis.test.expect("tested"),
            analysis.fit.expect("fitted"),
        );
        let loo = fit.leave_one_out.expect("no time was given");
        numbers.extend([test.log_p_gaussian, test.log_p_robust.unwrap_or(f64::NAN)]);
        numbers.extend([fit.reml.time.time(), fit.effective_dof, fit.noise_variance]);
        numbers.extend([loo.finite_time(), loo.r2_best.unwrap_or(f64::NAN)]);
        numbers.extend(fit.dual.iter().map(|a| f64::from(*a)));
    }
    numbers.into_iter().map(f64::to_bits).collect()
}

#[test]
fn digits_depend_on_no_setting_of_the_process() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let x = features(&mut rng, N, 12);
    let network = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).expect("valid kernel");
    let kernel = kernel_of(&network, &x, 12);
    let columns: Vec<Vec<f64>> = std::iter::once(vec![1.0; N])
        .chain((0..20).map(|_| (0..N).map(|_| normal(&mut rng)).collect()))
        .collect();
    let values: Vec<Vec<f64>> = [1, 5, 2]
        .iter()
        .map(|step| {
            let value = |i: usize| match *step > 1 && i % step == 1 {
                true => f64::NAN,
                false => f64::from(x[12 * i] * x[12 * i + 1]).tanh() + normal(&mut rng),
            };
            (0..N).map(value).collect()
        })
        .collect();
    let run = |par: Par, threads: usize| {
        faer::set_global_parallelism(par);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads")
            .install(|| bits(&kernel, &columns, &values))
    };
    let alone = run(Par::Seq, 1);
    assert_eq!(alone.len(), 3 * (7 + N));
    for (par, threads) in [(Par::Seq, 3), (Par::rayon(3), 3), (Par::rayon(0), 2)] {
        assert!(run(par, threads) == alone, "{par:?}, {threads} threads");
    }
}
