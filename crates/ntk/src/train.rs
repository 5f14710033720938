//! Training of a network by full-batch gradient descent, with the covariates profiled out.
//!
//! ```text
//!     L = |P (f − y)|² / 2n on the samples S,   r = P (f − y),   ∂L/∂f = r / n
//!     W_l ← W_l − ρ w_l Σ_i r_i d_l(i) a_l(i)' / n,   b_l ← b_l − ρ v_l Σ_i r_i d_l(i) / n
//! ```
//!
//! ρ is the learning rate; w_l and v_l are the layer's [`rates`](crate::network::Linear::rates); d_l and a_l are the factors of
//! a [`Pass`]. To first order in ρ, a step moves f by −ρ K[·,S] r / n, where K is the network's tangent kernel. In the limit of
//! wide layers and small steps, the increment after k steps is therefore K[·,S] α at t = k ρ: the fit of the gradient flow (Yao
//! et al. 2026).

use crate::kernel::Feature;
use crate::network::{Mlp, Parameters, Pass};
use faer::{Mat, MatMut, MatRef};
use rayon::prelude::*;
use std::ops::Range;

/// Fewest samples per part.
const PART_ROWS: usize = 128;
/// Most parts; each holds its own gradient.
const MOST_PARTS: usize = 32;

/// A network in training on one phenotype.
///
/// Weights, residual and loss are float64; `T` is the type in which passes and gradients are multiplied. The samples are split
/// into parts by their number alone, and the gradients of the parts are added in order. The bits therefore do not depend on the
/// number of threads.
///
/// # Examples
///
/// ```
/// use faer::{MatMut, mat};
/// use ntk::network::{Linear, Mlp, Nonlinearity};
/// use ntk::train::Training;
///
/// // f = w x on samples x = 1, 2 with y = x, from w = 0; no covariates, so P = 1.
/// let layer = Linear {
///     weight: mat![[0.0]],
///     bias: None,
///     variances: None,
/// };
/// let network = Mlp::new(vec![layer], Nonlinearity::Relu)?;
/// let project = |_: MatMut<'_, f64>| ();
/// let mut training = Training::new(network, &[true; 2], &project, &[1.0, 2.0], vec![1.0f64, 2.0]);
/// assert_eq!(training.step(0.1), 1.25); // (1² + 2²) / (2 · 2)
/// // w = 0.1 · (1 · 1 + 2 · 2) / 2
/// assert!((training.into_network().layers()[0].weight[(0, 0)] - 0.25).abs() < 1e-15);
/// # Ok::<(), ntk::network::NetworkError>(())
/// ```
pub struct Training<'a, T: Feature> {
    network: Mlp,
    project: &'a (dyn Fn(MatMut<'_, f64>) + Sync),
    /// Places of S among all samples.
    observed: Vec<usize>,
    target: Vec<f64>,
    /// Features of S, one sample after another.
    x: Vec<T>,
    /// Weights and biases in the precision of the passes.
    rounded: Vec<(Mat<T>, Option<Vec<T>>)>,
    /// P (f − y), zero outside S.
    residual: Mat<f64>,
    parts: Vec<Part<T>>,
}

/// Some samples of S and the values computed from them.
struct Part<T: Feature> {
    rows: Range<usize>,
    pass: Pass<T>,
    /// Σ_i r_i d_l(i) a_l(i)' and Σ_i r_i d_l(i) of each layer.
    gradients: Vec<(Mat<T>, Vec<f64>)>,
}

impl<T: Feature> Part<T> {
    /// Computes the gradients from the residual of the part's samples; overwrites the backpropagated errors.
    fn gradients(&mut self, x: MatRef<'_, T>, residual: &[f64]) {
        let Pass { inputs, errors, .. } = &mut self.pass;
        for (l, (of_weights, of_biases)) in self.gradients.iter_mut().enumerate() {
            of_biases.fill(0.0);
            let errors = &mut errors[l];
            for (i, &r) in residual.iter().enumerate() {
                let error = errors.col_as_slice_mut(i).iter_mut();
                for (d, sum) in error.zip(of_biases.iter_mut()) {
                    let product = (*d).into() * r;
                    *sum += product;
                    *d = T::round(product);
                }
            }
            let a = if l == 0 { x } else { inputs[l].as_ref() };
            T::multiply(of_weights.as_mut(), errors.as_ref(), a.transpose());
        }
    }
}

impl<'a, T: Feature> Training<'a, T> {
    /// Prepares the training of a network on the samples S, which `mask` marks.
    ///
    /// `project` multiplies the columns of an n × k block, which is zero outside S, by P. `x`: features of the samples in S,
    /// n_S × n_features, row-major. `values`: the phenotype, one value per sample; those outside S are not used.
    ///
    /// # Panics
    /// When `x` or `values` has another length.
    pub fn new(
        network: Mlp,
        mask: &[bool],
        project: &'a (dyn Fn(MatMut<'_, f64>) + Sync),
        values: &[f64],
        x: Vec<T>,
    ) -> Self {
        assert_eq!(mask.len(), values.len());
        let observed: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
        let n = observed.len();
        assert_eq!(x.len(), n * network.n_features());
        let zeros = |rows, columns| Mat::from_fn(rows, columns, |_, _| T::round(0.0));
        let n_parts = n_parts(n);
        let parts = (0..n_parts).map(|k| {
            let rows = n * k / n_parts..n * (k + 1) / n_parts;
            let layers = network.layers().iter();
            Part {
                pass: Pass::new(&network.widths(), rows.len()),
                rows,
                gradients: layers
                    .map(|l| (zeros(l.n_outputs(), l.n_inputs()), vec![0.0; l.n_outputs()]))
                    .collect(),
            }
        });
        let round = |values: &Vec<f64>| values.iter().map(|&v| T::round(v)).collect();
        let layers = network.layers().iter();
        Self {
            parts: parts.collect(),
            rounded: layers
                .map(|l| {
                    let weight = |i, j| T::round(l.weight[(i, j)]);
                    (
                        Mat::from_fn(l.n_outputs(), l.n_inputs(), weight),
                        l.bias.as_ref().map(round),
                    )
                })
                .collect(),
            target: observed.iter().map(|&i| values[i]).collect(),
            residual: Mat::zeros(mask.len(), 1),
            network,
            project,
            observed,
            x,
        }
    }

    /// Bytes that training on `n` samples takes: features, factors of each sample, one gradient per part, and the weights.
    pub fn bytes(network: &Mlp, n: usize) -> u64 {
        let hidden: usize = network.widths().iter().sum();
        let values =
            n * (network.n_features() + 3 * hidden + 2) + (n_parts(n) + 1) * network.n_parameters();
        (values * size_of::<T>() + (network.n_parameters() + n) * size_of::<f64>()) as u64
    }

    /// Takes one step and returns the loss before it, which is NaN or infinite once the training has diverged.
    ///
    /// Cost: 6 flops per parameter and sample, minus 2 for those of the first layer.
    pub fn step(&mut self, learning_rate: f64) -> f64 {
        let loss = self.loss();
        let (residual, observed) = (self.residual.col_as_slice(0), &self.observed);
        let (x, n_features) = (&self.x, self.network.n_features());
        self.parts.par_iter_mut().for_each(|part| {
            let rows = part.rows.clone();
            let residual: Vec<f64> = observed[rows.clone()]
                .iter()
                .map(|&i| residual[i])
                .collect();
            part.gradients(samples(x, n_features, rows), &residual);
        });
        self.descend(learning_rate / self.observed.len() as f64);
        loss
    }

    /// The loss |P (f − y)|² / 2n of the current network. Cost: 4 flops per parameter and sample, minus 2 for those of the
    /// first layer.
    pub fn loss(&mut self) -> f64 {
        let nonlinearity = self.network.nonlinearity();
        let parameters: Vec<Parameters<'_, T>> = self
            .rounded
            .iter()
            .map(|(w, b)| (w.as_ref(), b.as_deref()))
            .collect();
        let (x, n_features) = (&self.x, self.network.n_features());
        self.parts.par_iter_mut().for_each(|part| {
            let x = samples(x, n_features, part.rows.clone());
            part.pass.run(&parameters, nonlinearity, x);
        });
        let output = self.parts.iter().flat_map(|part| &part.pass.output);
        let residual = self.residual.col_as_slice_mut(0);
        for ((&i, f), y) in self.observed.iter().zip(output).zip(&self.target) {
            residual[i] = f - y;
        }
        (self.project)(self.residual.as_mut());
        let square: f64 = self.residual.col_as_slice(0).iter().map(|r| r * r).sum();
        square / (2.0 * self.observed.len() as f64)
    }

    /// Moves the parameters by −ρ / n times the sum of the gradients, in the order of the parts.
    fn descend(&mut self, step: f64) {
        let parts = &self.parts;
        let layers = self.network.layers_mut().iter_mut().zip(&mut self.rounded);
        for (l, (layer, (weight, bias))) in layers.enumerate() {
            let [of_weights, of_biases] = layer.rates().map(|rate| step * rate);
            let columns = layer.weight.as_mut().par_col_iter_mut();
            let columns = columns.zip(weight.as_mut().par_col_iter_mut());
            columns.enumerate().for_each(|(j, (column, rounded))| {
                let columns = column
                    .try_as_col_major_mut()
                    .zip(rounded.try_as_col_major_mut());
                let Some((column, rounded)) = columns else {
                    unreachable!("the columns of a matrix of its own are contiguous");
                };
                let (column, rounded) = (column.as_slice_mut(), rounded.as_slice_mut());
                for part in parts {
                    let gradient = part.gradients[l].0.col_as_slice(j);
                    for (w, &g) in column.iter_mut().zip(gradient) {
                        *w -= of_weights * g.into();
                    }
                }
                for (to, &w) in rounded.iter_mut().zip(&*column) {
                    *to = T::round(w);
                }
            });
            if let (Some(values), Some(rounded)) = (&mut layer.bias, bias) {
                for part in parts {
                    let each = values.iter_mut().zip(&part.gradients[l].1);
                    each.for_each(|(b, g)| *b -= of_biases * g);
                }
                let each = rounded.iter_mut().zip(values);
                each.for_each(|(to, b)| *to = T::round(*b));
            }
        }
    }

    /// The current network.
    pub fn into_network(self) -> Mlp {
        self.network
    }
}

fn n_parts(n: usize) -> usize {
    (n / PART_ROWS).next_power_of_two().min(MOST_PARTS)
}

/// The samples of S in `rows`, n_features × rows.
fn samples<T>(x: &[T], n_features: usize, rows: Range<usize>) -> MatRef<'_, T> {
    let values = &x[rows.start * n_features..rows.end * n_features];
    MatRef::from_column_major_slice(values, n_features, rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Linear, Nonlinearity, Scheme};

    /// Samples, every fifth without the phenotype, with an intercept and a covariate.
    struct Cohort {
        /// Orthonormal columns that span the intercept and the covariate on the observed samples, zero elsewhere.
        basis: Mat<f64>,
        mask: Vec<bool>,
        values: Vec<f64>,
        /// Of the observed samples.
        x: Vec<f64>,
    }

    fn cohort(n: usize, n_features: usize) -> Cohort {
        let z: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).cos()).collect();
        let mask: Vec<bool> = (0..n).map(|i| i % 5 != 2).collect();
        let x = |i: usize| (0..n_features).map(move |j| ((3 * i + 7 * j * j) as f64).sin());
        Cohort {
            basis: basis(&mask, &z),
            x: (0..n).filter(|&i| mask[i]).flat_map(x).collect(),
            values: (0..n)
                .map(|i| 2.0 + z[i] + (i as f64 * 1.3).sin() + x(i).sum::<f64>().sin())
                .collect(),
            mask,
        }
    }

    fn basis(mask: &[bool], z: &[f64]) -> Mat<f64> {
        let on = |i: usize, value: f64| if mask[i] { value } else { 0.0 };
        let columns = Mat::from_fn(z.len(), 2, |i, j| on(i, [1.0, z[i]][j]));
        columns.qr().compute_thin_Q()
    }

    impl Cohort {
        /// P times the columns of a block that is zero outside the observed samples.
        fn project(&self, mut block: MatMut<'_, f64>) {
            let on_basis = self.basis.transpose() * block.as_ref();
            block -= &self.basis * on_basis;
        }
    }

    fn drawn(
        n_features: usize,
        widths: &[usize],
        nonlinearity: Nonlinearity,
        scheme: Scheme,
    ) -> Mlp {
        Mlp::draw(n_features, widths, nonlinearity, scheme, 3).expect("widths above 0")
    }

    fn narrow(x: &[f64]) -> Vec<f32> {
        x.iter().map(|&v| v as f32).collect()
    }

    /// |P (f − y)|² / 2n from the network's output alone.
    fn loss(network: &Mlp, cohort: &Cohort) -> f64 {
        let p = network.n_features();
        let n = cohort.x.len() / p;
        let f = network
            .pass(MatRef::from_column_major_slice(&cohort.x, p, n))
            .output;
        let mut f = f.iter();
        let mut rest = Mat::from_fn(cohort.mask.len(), 1, |i, _| match cohort.mask[i] {
            true => f.next().expect("an output a sample") - cohort.values[i],
            false => 0.0,
        });
        cohort.project(rest.as_mut());
        rest.squared_norm_l2() / (2.0 * n as f64)
    }

    #[test]
    fn a_step_follows_differences_of_the_loss() {
        let ntk = Scheme::Ntk {
            weight_variance: 1.5,
            bias_variance: 0.3,
        };
        for (nonlinearity, scheme) in [
            (Nonlinearity::Gelu, Scheme::Pytorch),
            (Nonlinearity::Tanh, ntk),
        ] {
            let (cohort, network) = (cohort(300, 4), drawn(4, &[6, 5], nonlinearity, scheme));
            let project = |block: MatMut<'_, f64>| cohort.project(block);
            let mut training = Training::new(
                network.clone(),
                &cohort.mask,
                &project,
                &cohort.values,
                cohort.x.clone(),
            );
            let before = training.step(0.01);
            assert!((before - loss(&network, &cohort)).abs() < 1e-13);
            let after = training.into_network();
            for layer in 0..3 {
                let [of_weights, of_biases] = network.layers()[layer].rates();
                let difference = |change: &dyn Fn(&mut Linear, f64)| {
                    let at = |by: f64| {
                        let mut moved = network.clone();
                        change(&mut moved.layers_mut()[layer], by);
                        loss(&moved, &cohort)
                    };
                    (at(1e-6) - at(-1e-6)) / 2e-6
                };
                let (was, is) = (&network.layers()[layer], &after.layers()[layer]);
                for (i, j) in [(0, 0), (0, 3), (was.n_outputs() - 1, 1)] {
                    let slope = difference(&|l, by| l.weight[(i, j)] += by);
                    let moved = is.weight[(i, j)] - was.weight[(i, j)];
                    assert!(
                        (moved + 0.01 * of_weights * slope).abs() < 1e-10,
                        "{moved} {slope}"
                    );
                }
                let bias = |l: &Linear| l.bias.as_ref().map_or(0.0, |b| b[0]);
                let slope = difference(&|l, by| l.bias.iter_mut().for_each(|b| b[0] += by));
                let moved = bias(is) - bias(was);
                assert!(
                    (moved + 0.01 * of_biases * slope).abs() < 1e-10,
                    "{moved} {slope}"
                );
            }
        }
    }

    #[test]
    fn a_linear_network_follows_the_flow_as_steps_get_small() {
        let (cohort, network) = (
            cohort(60, 3),
            drawn(3, &[], Nonlinearity::Relu, Scheme::Pytorch),
        );
        let project = |block: MatMut<'_, f64>| cohort.project(block);
        // r' = −A r with A = P (X X' + 1) P / n, by a Taylor series in short steps.
        let n = cohort.x.len() / 3;
        let operator = |r: &Mat<f64>| {
            let mut padded = Mat::zeros(cohort.mask.len(), 4);
            let observed = (0..cohort.mask.len()).filter(|&i| cohort.mask[i]);
            for (row, i) in observed.enumerate() {
                (0..3).for_each(|j| padded[(i, j)] = cohort.x[row * 3 + j]);
                padded[(i, 3)] = 1.0;
            }
            let mut image = &padded * (padded.transpose() * r) * (1.0 / n as f64);
            project(image.as_mut());
            image
        };
        let start = |network: &Mlp| {
            let mut training = Training::new(
                network.clone(),
                &cohort.mask,
                &project,
                &cohort.values,
                cohort.x.clone(),
            );
            training.loss();
            training.residual
        };
        let t = 2.0;
        let mut flow = start(&network);
        for _ in 0..200 {
            let mut term = flow.clone();
            for k in 1..12 {
                term = operator(&term) * (-t / 200.0 / k as f64);
                flow += &term;
            }
        }
        let distance = |steps: usize| {
            let mut training = Training::new(
                network.clone(),
                &cohort.mask,
                &project,
                &cohort.values,
                cohort.x.clone(),
            );
            for _ in 0..steps {
                training.step(t / steps as f64);
            }
            training.loss();
            (training.residual - &flow).norm_l2() / flow.norm_l2()
        };
        // First order in the step: ten times as many steps, a tenth of the distance.
        let (few, many) = (distance(100), distance(1000));
        assert!(few < 1e-2 && few > 1e-5, "{few}");
        assert!((many / few - 0.1).abs() < 0.01, "{few} {many}");
    }

    #[test]
    fn a_rate_of_more_than_two_over_the_largest_eigenvalue_leaves_the_numbers() {
        let (cohort, network) = (
            cohort(60, 3),
            drawn(3, &[], Nonlinearity::Relu, Scheme::Pytorch),
        );
        let project = |block: MatMut<'_, f64>| cohort.project(block);
        // The trace of X'X / n, less that of the covariates, is above λ and at most three times it.
        let n = cohort.x.len() as f64 / 3.0;
        let trace: f64 = cohort.x.iter().map(|x| x * x).sum::<f64>() / n;
        let end = |rate: f64| {
            let x = cohort.x.clone();
            let mut training =
                Training::new(network.clone(), &cohort.mask, &project, &cohort.values, x);
            (0..3000).fold(0.0, |_, _| training.step(rate))
        };
        assert!(end(1.9 / trace).is_finite());
        assert!(!end(20.0 / trace).is_finite());
    }

    #[test]
    fn the_bits_do_not_depend_on_threads() {
        let cohort = cohort(1000, 6);
        let project = |block: MatMut<'_, f64>| cohort.project(block);
        let trained = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads").install(|| {
                let network = drawn(6, &[40, 30], Nonlinearity::Relu, Scheme::He);
                let mut training = Training::new(
                    network,
                    &cohort.mask,
                    &project,
                    &cohort.values,
                    narrow(&cohort.x),
                );
                let losses: Vec<u64> = (0..20).map(|_| training.step(0.05).to_bits()).collect();
                (losses, training.into_network())
            })
        };
        let one = trained(1);
        assert_eq!(one, trained(3));
        assert!(f64::from_bits(one.0[19]) < 0.9 * f64::from_bits(one.0[0]));
    }

    #[test]
    fn single_precision_passes_train_the_same_network() {
        let cohort = cohort(400, 5);
        let project = |block: MatMut<'_, f64>| cohort.project(block);
        let network = drawn(5, &[64, 64], Nonlinearity::Relu, Scheme::He);
        let mut wide = Training::new(
            network.clone(),
            &cohort.mask,
            &project,
            &cohort.values,
            cohort.x.clone(),
        );
        let mut single = Training::new(
            network,
            &cohort.mask,
            &project,
            &cohort.values,
            narrow(&cohort.x),
        );
        for _ in 0..200 {
            let (a, b) = (wide.step(0.05), single.step(0.05));
            assert!((a / b - 1.0).abs() < 1e-5, "{a} {b}");
        }
    }

    /// Says how long an epoch takes.
    #[test]
    #[ignore = "a measurement"]
    #[expect(clippy::print_stderr)]
    fn epochs_per_second() {
        let cohort = cohort(12_500, 500);
        let project = |block: MatMut<'_, f64>| cohort.project(block);
        let network = || drawn(500, &[500, 500], Nonlinearity::Relu, Scheme::He);
        fn time<T: Feature>(mut training: Training<'_, T>) -> f64 {
            training.step(1e-3);
            let started = std::time::Instant::now();
            (0..5).for_each(|_| assert!(training.step(1e-3).is_finite()));
            started.elapsed().as_secs_f64() / 5.0
        }
        let x = || cohort.x.clone();
        let single = Training::new(
            network(),
            &cohort.mask,
            &project,
            &cohort.values,
            narrow(&cohort.x),
        );
        let flops = 1e4 * (6.0 * 500_500.0 - 2.0 * 250_000.0);
        let (single, double) = (
            time(single),
            time(Training::new(
                network(),
                &cohort.mask,
                &project,
                &cohort.values,
                x(),
            )),
        );
        for (what, seconds) in [("f32", single), ("f64", double)] {
            eprintln!(
                "{what}: {:.0} ms, {:.0} GFLOP/s",
                1e3 * seconds,
                flops / seconds / 1e9
            );
        }
    }
}
