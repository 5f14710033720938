//! Posterior variances beside the dense definition; `--nocapture` shows by how much they differ.

use crate::dense::DenseOperator;
use crate::memory_kernel::{features, kernel_of, normal};
use faer::{Mat, Par};
use ntk::kernel::{Activation, InfiniteKernel};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reml::prediction_variance::{EvaluationPoints, Posterior, Products};
use reml::{Covariates, DenseKernel, KernelMatrix, MaskedOperator, Probes, ReferenceSpectrum};

/// t λ₁ of the times compared, and what a time comes to: from the first steps to a fit that spends half of the degrees of freedom or more.
const TIMES: [f64; 5] = [0.3, 3.0, 15.0, 50.0, 150.0];

/// Samples of a kernel, of which the last `n_new` are not in the reference spectrum.
struct Cohort {
    kernel: DenseKernel,
    reference_kernel: DenseKernel,
    columns: Vec<Vec<f64>>,
    n: usize,
}

fn cohort(n: usize, n_new: usize, p: usize, seed: u64) -> Cohort {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let all = n + n_new;
    let x = features(&mut rng, all, p);
    let infinite = InfiniteKernel::new(Activation::Relu, 2, 2.0, 0.0).expect("valid kernel");
    let kernel = kernel_of(&infinite, &x, p);
    let columns = vec![
        vec![1.0; all],
        // A covariate that the features know of.
        (0..all)
            .map(|i| 55.0 + 4.0 * f64::from(x[i * p]) + 6.0 * normal(&mut rng))
            .collect(),
        (0..all)
            .map(|_| f64::from(u8::from(rng.random_bool(0.5))))
            .collect(),
    ];
    let first: Vec<usize> = (0..n).collect();
    let Ok(reference_kernel) = DenseKernel::of_samples(&kernel, &first);
    Cohort {
        kernel,
        reference_kernel,
        columns,
        n,
    }
}

impl Cohort {
    fn covariates(&self) -> Covariates {
        let first: Vec<Vec<f64>> = self.columns.iter().map(|c| c[..self.n].to_vec()).collect();
        Covariates::new(self.n, &first)
    }

    fn spectrum<'a>(
        &self,
        covariates: &'a Covariates,
        mask: &[bool],
        (probes, passes): (usize, usize),
    ) -> ReferenceSpectrum<'a> {
        let Ok(full) = ReferenceSpectrum::new(
            &self.reference_kernel,
            covariates,
            mask,
            Probes {
                columns: probes,
                passes,
                seed: 7,
            },
            |_| {},
        );
        full
    }

    /// EvaluationPoints of the samples in `rows`, as new ones.
    fn others(
        &self,
        posterior: &Posterior<'_, '_>,
        covariates: &Covariates,
        mask: &[bool],
        rows: &[usize],
    ) -> EvaluationPoints<'static> {
        let all = self.kernel.n_samples();
        let columns = posterior.columns();
        let padded = |m: &Mat<f32>| {
            Mat::from_fn(
                all,
                m.ncols(),
                |i, j| {
                    if i < self.n { m[(i, j)] } else { 0.0 }
                },
            )
        };
        let indicator = Mat::from_fn(self.n, 1, |i, _| f32::from(u8::from(mask[i])));
        let Ok((products, squares)) = self
            .kernel
            .multiply(padded(&columns).as_ref(), padded(&indicator).as_ref());
        let square = self.kernel.unit().powi(2);
        let of_row = |&i: &usize| f64::from(squares[(i, 0)]) * square;
        let squares: Vec<f64> = rows.iter().map(of_row).collect();
        let pick = |m: &Mat<f32>| Mat::from_fn(rows.len(), m.ncols(), |i, j| m[(rows[i], j)]);
        let diagonal: Vec<f64> = rows.iter().map(|&i| self.kernel.diagonal()[i]).collect();
        let z: Vec<Vec<f64>> = self
            .columns
            .iter()
            .map(|c| rows.iter().map(|&i| c[i]).collect())
            .collect();
        let z: Vec<&[f64]> = z.iter().map(Vec::as_slice).collect();
        posterior.others(
            &Products {
                products: pick(&products).as_ref(),
                squares: &squares,
                diagonal: &diagonal,
            },
            covariates.rows(rows.len(), &z),
        )
    }

    /// Largest and root mean square relative error of the standard deviation for each time, on samples of the mask, on those of the reference spectrum that are
    /// not in it, and on new ones; and Σ v / edf over the mask.
    fn errors(&self, space: (usize, usize), masks: &[Vec<bool>]) -> Vec<Vec<([[f64; 2]; 3], f64)>> {
        let everyone = vec![true; self.n];
        let covariates = self.covariates();
        let full = self.spectrum(&covariates, &everyone, space);
        let posterior = Posterior::new(&full);
        let Ok(places) = posterior.reference_points(&self.reference_kernel);
        let new: Vec<usize> = (self.n..self.kernel.n_samples()).collect();
        let others = self.others(&posterior, &covariates, &everyone, &new);
        let never = |_| false;
        masks
            .iter()
            .map(|mask| {
                let operator = MaskedOperator::new(&covariates, mask);
                let padded: Vec<bool> = mask
                    .iter()
                    .copied()
                    .chain(new.iter().map(|_| false))
                    .collect();
                let dense = DenseOperator::new(self.kernel.matrix(), &self.columns, &padded);
                let times = TIMES.map(|t| t / dense.lambda[0]);
                let is_in = |x: usize| mask[x];
                let found =
                    posterior.variances(&operator, &times, &[(&places, &is_in), (&others, &never)]);
                times
                    .iter()
                    .enumerate()
                    .map(|(at, &t)| {
                        let want = dense.posterior_variance(t);
                        let mut errors = [Vec::new(), Vec::new(), Vec::new()];
                        let mut sum = 0.0;
                        for (x, want) in want.iter().enumerate() {
                            let (kind, got) = match x.checked_sub(self.n) {
                                None if mask[x] => (0, found[0][(x, at)]),
                                None => (1, found[0][(x, at)]),
                                Some(new) => (2, found[1][(new, at)]),
                            };
                            if kind == 0 {
                                sum += got;
                            }
                            errors[kind].push((got / want).sqrt() - 1.0);
                        }
                        let edf: f64 = dense.lambda.iter().map(|l| -(-t * l).exp_m1()).sum();
                        let summary = errors.map(|e| {
                            let square: f64 = e.iter().map(|v| v * v).sum();
                            [
                                e.iter().fold(0.0, |m: f64, v| m.max(v.abs())),
                                (square / e.len().max(1) as f64).sqrt(),
                            ]
                        });
                        (summary, sum / edf - 1.0)
                    })
                    .collect()
            })
            .collect()
    }
}

fn masks(n: usize, seed: u64, missing: &[f64]) -> Vec<Vec<bool>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    missing
        .iter()
        .map(|&m| (0..n).map(|_| m == 0.0 || !rng.random_bool(m)).collect())
        .collect()
}

#[test]
fn standard_deviations_agree_with_the_dense_definition() {
    faer::set_global_parallelism(Par::Seq);
    let mut wrong = Vec::new();
    for (n, p, seed) in [(600, 40, 1), (1200, 200, 2)] {
        let cohort = cohort(n, 150, p, seed);
        let masks = masks(n, seed, &[0.0, 0.1, 0.4]);
        for (at, times) in cohort.errors((64, 8), &masks).iter().enumerate() {
            let allowed = if at == 0 { 1e-2 } else { 5e-2 };
            for (t, (errors, sum)) in TIMES.iter().zip(times) {
                println!("n {n}, mask {at}, t λ₁ {t}: {errors:.5?}, sum {sum:.1e}");
                if errors.iter().any(|e| e[1].is_nan() || e[0] >= allowed) {
                    wrong.push(format!("n {n}, mask {at}, t λ₁ {t}: {errors:?}"));
                }
                if sum.abs() > 1e-2 {
                    wrong.push(format!("n {n}, mask {at}, t λ₁ {t}: sum / edf − 1 = {sum}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Masks that cut along the first principal component, and masks of few samples; and, beside them, a space so small that most of the spectrum
/// lies beyond it, as on many samples.
#[test]
fn hard_masks_and_small_spaces_cost_accuracy_within_bounds() {
    faer::set_global_parallelism(Par::Seq);
    let cohort = cohort(1200, 150, 200, 3);
    let leading = {
        let covariates = cohort.covariates();
        let everyone = vec![true; cohort.n];
        let full = cohort.spectrum(&covariates, &everyone, (64, 3));
        full.leading_eigenvectors(1)
    };
    let mut order: Vec<usize> = (0..cohort.n).collect();
    order.sort_by(|&a, &b| leading[(a, 0)].total_cmp(&leading[(b, 0)]));
    let mut along = vec![true; cohort.n];
    order[..500].iter().for_each(|&x| along[x] = false);
    let mut masks = masks(cohort.n, 3, &[0.0, 0.3, 0.9]);
    masks.push(along);
    let mut wrong = Vec::new();
    for (space, allowed) in [
        ((64, 8), [1e-2, 1e-2, 5e-2, 1e-2]),
        ((16, 4), [1e-2, 1e-2, 5e-2, 2e-2]),
    ] {
        for (at, times) in cohort.errors(space, &masks).iter().enumerate() {
            // Up to t λ₁ = 50, where most degrees of freedom are not yet spent.
            for (t, (errors, sum)) in TIMES.iter().zip(times).take(4) {
                println!("{space:?}, mask {at}, t λ₁ {t}: {errors:.4?}, sum {sum:.1e}");
                if errors.iter().any(|e| e[1].is_nan() || e[1] >= allowed[at]) {
                    wrong.push(format!("{space:?}, mask {at}, t λ₁ {t}: {errors:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A reference spectrum of some samples alone (`--missing complete`): the others in the kernel are placed as new ones are.
#[test]
fn samples_of_the_kernel_that_were_outside_the_reference_spectrum_are_as_good_as_new() {
    faer::set_global_parallelism(Par::Seq);
    let cohort = cohort(700, 50, 60, 4);
    let mask = masks(cohort.n, 4, &[0.2]).remove(0);
    let covariates = cohort.covariates();
    let full = cohort.spectrum(&covariates, &mask, (64, 8));
    let posterior = Posterior::new(&full);
    let outside: Vec<usize> = (0..750).filter(|&x| x >= 700 || !mask[x]).collect();
    let others = cohort.others(&posterior, &covariates, &mask, &outside);
    let padded: Vec<bool> = mask.iter().copied().chain([false; 50]).collect();
    let dense = DenseOperator::new(cohort.kernel.matrix(), &cohort.columns, &padded);
    let t = 30.0 / dense.lambda[0];
    let want = dense.posterior_variance(t);
    let never = |_| false;
    let operator = MaskedOperator::new(&covariates, &mask);
    let got = posterior.variances(&operator, &[t], &[(&others, &never)]);
    for (at, &x) in outside.iter().enumerate() {
        let off = (got[0][(at, 0)] / want[x]).sqrt() - 1.0;
        assert!(off.abs() < 1e-3, "sample {x}: {off:.1e}");
    }
}

#[test]
fn bits_depend_on_neither_threads_nor_the_other_times() {
    faer::set_global_parallelism(Par::Seq);
    let cohort = cohort(1100, 40, 30, 5);
    let covariates = cohort.covariates();
    let everyone = vec![true; cohort.n];
    let full = cohort.spectrum(&covariates, &everyone, (16, 4));
    let mask = masks(cohort.n, 5, &[0.2]).remove(0);
    let run = |threads: usize, times: &[f64]| -> Vec<Vec<u64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool").install(|| {
            let posterior = Posterior::new(&full);
            let Ok(places) = posterior.reference_points(&cohort.reference_kernel);
            let new: Vec<usize> = (cohort.n..cohort.n + 40).collect();
            let others = cohort.others(&posterior, &covariates, &everyone, &new);
            let operator = MaskedOperator::new(&covariates, &mask);
            let (is_in, never) = (|x: usize| mask[x], |_| false);
            let found =
                posterior.variances(&operator, times, &[(&places, &is_in), (&others, &never)]);
            let column = |at: usize| {
                let values = found.iter().flat_map(move |v| v.col_as_slice(at));
                values.map(|v| v.to_bits()).collect()
            };
            (0..times.len()).map(column).collect()
        })
    };
    let times: Vec<f64> = (1..=11).map(|k| 7.0 * f64::from(k)).collect();
    let one = run(1, &times);
    assert_eq!(one, run(3, &times));
    for at in [0, 4, 10] {
        assert_eq!(one[at], run(2, &times[at..=at])[0], "time {at}");
    }
}
