//! The gradient flow y' = −A y, y(0) = r of one phenotype, by Galerkin projection on a space that its own error enlarges.
//!
//! On an orthonormal W that begins with r, with T = W'AW and L = (I − WW') A W:
//!
//! ```text
//!     y_W(t) = W exp(−tT) W'r        y_W' + A y_W = L c(t),   c(t) = exp(−tT) W'r
//!     y(t) = y_W(t) − ∫₀ᵗ exp(−(t−s)A) L c(s) ds ≈ y_W(t) − δ(t),   δ(t) = ∫₀ᵗ exp(−(t−s)B) L c(s) ds
//! ```
//!
//! B ≈ A is the [`LowRank`] approximation, so that δ costs no pass over the kernel (Botchev, Grimm & Hochbruck 2013 iterate on
//! such a residual). Three uses: the leading principal components of δ over time are the next vectors of W, as many as matter;
//! δ at the stopping time is, to a tenth, the error of y_W there; and the dual weights are corrected by it. r'y_W(t) errs by the
//! square of δ only.
//!
//! L is kept, not A W. With a large λ, L is smaller than A W by orders of magnitude, and δ multiplies L by up to t². If L were a difference of images in
//! single precision, rounding would decide the prediction of a sample far from the others. When a block of W is added, L₀ = A W − W T is kept for it.
//! Later blocks of W hold a part of that: L = L₀ − W N, with N the blocks of T below its diagonal blocks. So δ is a [`LinearCombination`] of the
//! probes' space, W and L₀.

use crate::linalg::block::{self, product};
use crate::linalg::block_lanczos::{BREAKDOWN, orthonormalise, remove};
use crate::linalg::eigen::{SymmetricEigen, symmetric_eigen};
use crate::linalg::linear_combination::LinearCombination;
use crate::linalg::low_rank::LowRank;
use crate::linalg::operator::MaskedOperator;
use crate::linalg::phi::{divided_difference, divided_difference_of_phi1, phi1, t_phi1};
use faer::{Mat, MatRef};
use rayon::prelude::*;

/// Times at which δ is computed, as shares of the largest time that matters.
const TIMES: [f64; 8] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 1.0];

/// Most vectors that one pass adds.
pub const MOST_NEW_VECTORS: usize = 4;

/// A principal component of δ matters when its size is above this share of the largest ...
const RELATIVE_SIZE: f64 = 0.03;

/// ... and above this share of |r|.
const ABSOLUTE_SIZE: f64 = 2e-6;

/// One phenotype's space W with the images of its vectors.
#[derive(Clone, Debug)]
pub struct GalerkinFlow {
    /// |r|; W'r = |r| e₁.
    norm: f64,
    /// W in blocks, orthonormal; the last may not have been multiplied yet.
    vectors: Vec<Mat<f32>>,
    /// L₀, for the vectors that have images.
    leaks: Vec<Mat<f32>>,
    /// Ṽ'W and Ṽ'L₀ as far as images are known, a block each.
    on_low_rank: Vec<(Mat<f64>, Mat<f64>)>,
    /// T on the vectors that have images.
    projected: Mat<f64>,
}

/// The measure of r under A as the space knows it: r'f(A)r ≈ Σ cᵢ² f(θᵢ).
#[derive(Clone, Debug)]
pub struct Quadrature {
    /// θ, descending.
    pub nodes: Vec<f64>,
    /// c; Σ c² = |r|².
    pub coefficients: Vec<f64>,
    /// Eigenvectors of T.
    vectors: Mat<f64>,
}

/// Columns of [`GalerkinFlow::correction`].
pub const CORRECTION_COLUMNS: usize = TIMES.len() + 2;

/// δ at some times and at the stopping time, then the corrected dual weights: [`GalerkinFlow::correction`] once it is formed.
#[derive(Clone, Copy, Debug)]
pub struct Correction<'y>(pub MatRef<'y, f64>);

impl Correction<'_> {
    /// max |δ| at the stopping time.
    pub fn largest(&self) -> f64 {
        let at_stop = self.0.col(TIMES.len()).iter();
        at_stop.fold(0.0, |most: f64, v| v.abs().max(most))
    }

    /// |δ| at the stopping time.
    pub fn norm(&self) -> f64 {
        self.0.col(TIMES.len()).norm_l2()
    }

    /// n α = ∫₀ᵗ y(s) ds, n values: the dual weights of the flow stopped at t, corrected where t is finite.
    pub fn dual(&self) -> Vec<f64> {
        self.0.col(TIMES.len() + 1).iter().copied().collect()
    }
}

impl GalerkinFlow {
    /// Starts from the projected residual `r` (n values).
    pub fn new(r: &[f64]) -> Self {
        let norm = block::dot(r, r).sqrt();
        let first = Mat::from_fn(r.len(), 1, |i, _| (r[i] / norm) as f32);
        Self {
            norm,
            vectors: vec![first],
            leaks: Vec::new(),
            on_low_rank: Vec::new(),
            projected: Mat::zeros(0, 0),
        }
    }

    /// exp(−tB) r less a multiple of r at times up to `until`; `c` is Ṽ'r, k values.
    pub fn initial_guess<'x>(
        operator: &'x MaskedOperator<'_>,
        model: &LowRank,
        c: &[f64],
        until: f64,
    ) -> LinearCombination<'x> {
        // exp(−tB) r is exp(−tμ) (r + Ṽ (exp(−t(β − μ)) − 1) Ṽ'r); the part along r is in W.
        let level = model.tail_mean();
        let weights = Mat::from_fn(c.len(), TIMES.len(), |i, k| {
            let t = until * TIMES[k];
            (-t * level).exp() * (-t * (model.values()[i] - level)).exp_m1() * c[i]
        });
        model.combination(operator, weights.as_ref())
    }

    /// Starts W with r and the leading components of the [`GalerkinFlow::initial_guess`]; one pass multiplies them all.
    pub fn warm_start(&mut self, operator: &MaskedOperator<'_>, initial_guess: MatRef<'_, f64>) {
        self.enlarge(operator, initial_guess);
        if let [first, second] = &self.vectors[..] {
            self.vectors = vec![block::hstack(&[first, second])];
        }
    }

    /// Number of vectors of W.
    pub fn n_vectors(&self) -> usize {
        self.vectors.iter().map(Mat::ncols).sum()
    }

    /// The vectors to multiply next, or `None` when W holds all that r reaches.
    pub fn next(&self) -> Option<&Mat<f32>> {
        self.vectors.get(self.leaks.len())
    }

    /// Takes the kernel's product with [`GalerkinFlow::next`]; [`GalerkinFlow::project_on_low_rank`] comes next. Cost: 2 n c (2 j + 4 rank Z) flops for c
    /// columns and j vectors.
    pub fn extend(&mut self, operator: &MaskedOperator<'_>, product: MatRef<'_, f32>) {
        let mut image = operator.image(product);
        let new = &self.vectors[self.leaks.len()];
        let (before, c) = (self.projected.nrows(), new.ncols());
        let multiplied: Vec<&Mat<f32>> = self.vectors[..=self.leaks.len()].iter().collect();
        let column = block::inner_with(&multiplied, image.as_ref());
        let former = std::mem::replace(&mut self.projected, Mat::zeros(0, 0));
        self.projected = Mat::from_fn(before + c, before + c, |i, j| {
            match (i < before, j < before) {
                (true, true) => former[(i, j)],
                (_, false) if i < before => column[(i, j - before)],
                (false, true) => column[(j, i - before)],
                _ => 0.5 * (column[(i, j - before)] + column[(j, i - before)]),
            }
        });
        let along = self.projected.subcols(before, c);
        block::add_products(image.as_mut(), &multiplied, along, -1.0);
        self.leaks.push(block::narrow(image.as_ref()));
    }

    /// The vectors multiplied last and their residual block L₀, until they are projected on the low-rank basis.
    pub fn unprojected(&self) -> Option<[&Mat<f32>; 2]> {
        let at = self.on_low_rank.len();
        Some([&self.vectors[at], self.leaks.get(at)?])
    }

    /// Projects the vectors of [`GalerkinFlow::unprojected`] on the low-rank basis; `in_space` has their coordinates in the probes' space, side by side.
    pub fn project_on_low_rank(&mut self, model: &LowRank, in_space: MatRef<'_, f64>) {
        let (of_vectors, of_leaks) = in_space.split_at_col(in_space.ncols() / 2);
        self.on_low_rank
            .push((model.coordinates(of_vectors), model.coordinates(of_leaks)));
    }

    /// The measure of r.
    pub fn quadrature(&self) -> Quadrature {
        let SymmetricEigen { values, vectors } = symmetric_eigen(self.projected.as_ref());
        Quadrature {
            coefficients: (0..values.len())
                .map(|i| self.norm * vectors[(0, i)])
                .collect(),
            nodes: values,
            vectors,
        }
    }

    /// r / |r|, n values.
    pub fn direction(&self) -> Vec<f64> {
        let first = self.vectors[0].col_as_slice(0);
        first.iter().map(|&v| f64::from(v)).collect()
    }

    /// r'Ar / r'r, exact from the first pass on.
    pub fn score_ratio(&self) -> f64 {
        self.projected[(0, 0)]
    }

    /// δ at times up to `until` and at `shown`, then n α at the stopping time `t`, which may be infinite: what [`Correction`] takes, as
    /// soon as it is formed.
    pub fn correction<'x>(
        &'x self,
        operator: &'x MaskedOperator<'_>,
        model: &LowRank,
        quadrature: &Quadrature,
        until: f64,
        shown: f64,
        t: f64,
    ) -> LinearCombination<'x> {
        let times = TIMES.iter().map(|share| share * until).chain([shown]);
        let times: Vec<f64> = times.collect();
        let largest = quadrature.nodes.first().copied().unwrap_or(0.0);
        // The integral of exp(−(t−s)B) L c(s) over s, and of that over t, for eigenvalues b of B and l of T.
        let on_leaks = |q: usize, b: (f64, f64), l: (f64, f64)| match times.get(q) {
            Some(&time) => divided_difference(time, b, l),
            None if t.is_finite() => -divided_difference_of_phi1(t, b, l),
            None => 0.0,
        };
        let on_flow = |q: usize, l: f64| match q + 1 == CORRECTION_COLUMNS {
            true => t_phi1(t, l, largest),
            false => 0.0,
        };
        let decays = |values: &[f64]| Decays::new(values, &times, t);
        let weights = (decays, on_leaks, on_flow);
        self.combined(operator, model, quadrature, CORRECTION_COLUMNS, weights)
    }

    /// y(t) at finite times, a column each: the residual of the flow, y_W − δ.
    ///
    /// Cost: O(j k) flops a time for j vectors and the k of the low-rank approximation, before it is formed.
    pub fn residuals<'x>(
        &'x self,
        operator: &'x MaskedOperator<'_>,
        model: &LowRank,
        quadrature: &Quadrature,
        times: &[f64],
    ) -> LinearCombination<'x> {
        let on_leaks = |q: usize, b: (f64, f64), l: (f64, f64)| -divided_difference(times[q], b, l);
        let on_flow = |q: usize, l: f64| (-times[q] * l.max(0.0)).exp();
        let decays = |values: &[f64]| Decays::new(values, times, 0.0);
        let weights = (decays, on_leaks, on_flow);
        self.combined(operator, model, quadrature, times.len(), weights)
    }

    /// For each of the columns q, W S on_flow(q, θ) c + Σ on_leaks(q, B, θ) L S c: the sum of the flow in W and of its residuals L, weighted by functions of their
    /// eigenvalues. Each eigenvalue comes with its decay.
    fn combined<'x>(
        &'x self,
        operator: &'x MaskedOperator<'_>,
        model: &LowRank,
        quadrature: &Quadrature,
        n_columns: usize,
        (decays, on_leaks, on_flow): (
            impl Fn(&[f64]) -> Decays,
            impl Fn(usize, (f64, f64), (f64, f64)) -> f64 + Sync,
            impl Fn(usize, f64) -> f64,
        ),
    ) -> LinearCombination<'x> {
        let (nodes, coefficients) = (&quadrature.nodes, &quadrature.coefficients);
        let level = decays(&[model.tail_mean()]);
        let [of_rank, of_nodes] = [model.values(), nodes].map(decays);
        let on_level = Mat::from_fn(nodes.len(), n_columns, |j, q| {
            on_leaks(q, level.at(0, q), of_nodes.at(j, q)) * coefficients[j]
        });
        let later = self.below_blocks();
        let projected = self.leaks_on_low_rank(quadrature, &later);
        let on_rank: Vec<Vec<f64>> = (0..n_columns)
            .into_par_iter()
            .map(|q| {
                let mut sum = vec![0.0; projected.nrows()];
                for j in 0..nodes.len() {
                    let (l, c, level) = (of_nodes.at(j, q), coefficients[j], on_level[(j, q)]);
                    let ranks = of_rank.values.iter().zip(of_rank.decays.col_as_slice(q));
                    let leaks = ranks.zip(projected.col_as_slice(j));
                    pulp::Arch::new().dispatch(|| {
                        for (sum, ((&b, &of_b), leak)) in sum.iter_mut().zip(leaks) {
                            *sum += (on_leaks(q, (b, of_b), l) * c - level) * leak;
                        }
                    });
                }
                sum
            })
            .collect();
        let on_rank = Mat::from_fn(projected.nrows(), n_columns, |i, q| on_rank[q][i]);
        let mut combination = model.combination(operator, on_rank.as_ref());
        // On L₀: S E; on W: −N S E, and the flow's own.
        let own = Mat::from_fn(nodes.len(), n_columns, |j, q| {
            on_flow(q, nodes[j]) * coefficients[j]
        });
        let on_leaks = product(&quadrature.vectors, &on_level);
        let on_vectors = product(&quadrature.vectors, &own) - product(&later, &on_leaks);
        let mut start = 0;
        for (w, leak) in self.vectors.iter().zip(&self.leaks) {
            let rows = |c: &Mat<f64>| c.subrows(start, w.ncols()).to_owned();
            combination.own.push((w, rows(&on_vectors)));
            combination.own.push((leak, rows(&on_leaks)));
            start += w.ncols();
        }
        combination
    }

    /// Σⱼ |Wᵢⱼ γⱼ| at the i-th sample for n α = W γ: beside |Σⱼ Wᵢⱼ γⱼ| it shows how much of the vectors cancels there.
    pub fn gross_dual(&self, i: usize, quadrature: &Quadrature, t: f64) -> f64 {
        let largest = quadrature.nodes.first().copied().unwrap_or(0.0);
        let nodes = quadrature.nodes.iter().zip(&quadrature.coefficients);
        let along = nodes.map(|(l, c)| t_phi1(t, *l, largest) * c);
        let along: Vec<f64> = along.collect();
        let on_vectors = product(
            &quadrature.vectors,
            MatRef::from_column_major_slice(&along, along.len(), 1),
        );
        let entries = self.vectors.iter().flat_map(|w| w.row(i).iter());
        let terms = entries.zip(on_vectors.col(0).iter());
        terms.map(|(w, c)| (f64::from(*w) * c).abs()).sum()
    }

    /// N: T without its diagonal blocks and what stands above them.
    fn below_blocks(&self) -> Mat<f64> {
        let mut below = self.projected.clone();
        let (mut start, size) = (0, below.nrows());
        for leak in &self.leaks {
            let end = start + leak.ncols();
            below.submatrix_mut(0, start, end, end - start).fill(0.0);
            start = end;
        }
        debug_assert_eq!(start, size);
        below
    }

    /// Ṽ'L S, k × j.
    fn leaks_on_low_rank(&self, quadrature: &Quadrature, later: &Mat<f64>) -> Mat<f64> {
        let of_later = product(later, &quadrature.vectors);
        let mut projected = Mat::zeros(self.on_low_rank[0].0.nrows(), self.projected.nrows());
        let mut start = 0;
        for (of_vectors, of_leaks) in &self.on_low_rank {
            let rows = |of: &Mat<f64>| of.subrows(start, of_leaks.ncols()).to_owned();
            projected += of_leaks * rows(&quadrature.vectors) - of_vectors * rows(&of_later);
            start += of_leaks.ncols();
        }
        projected
    }

    /// Adds the leading components of the correction to W; none when there is nothing left to add.
    pub fn follow(&mut self, operator: &MaskedOperator<'_>, correction: Correction<'_>) {
        self.enlarge(operator, correction.0.subcols(0, TIMES.len()));
    }

    /// Adds the leading principal components of what the columns of `directions` have outside W.
    fn enlarge(&mut self, operator: &MaskedOperator<'_>, directions: MatRef<'_, f64>) {
        let mut directions = directions.to_owned();
        remove(&mut directions, self.vectors.iter());
        let gram = block::inner(directions.as_ref(), directions.as_ref());
        let SymmetricEigen { values, vectors } = symmetric_eigen(gram.as_ref());
        let size = |k: usize| values[k].max(0.0).sqrt();
        let floor = (RELATIVE_SIZE * size(0)).max(ABSOLUTE_SIZE * self.norm);
        let chosen = (1..MOST_NEW_VECTORS.min(values.len()))
            .take_while(|&k| size(k) > floor)
            .count()
            + 1;
        if size(0) <= 1e-3 * BREAKDOWN * self.norm {
            return;
        }
        let mix = Mat::from_fn(vectors.nrows(), chosen, |i, k| vectors[(i, k)] / size(k));
        let mut components = Mat::zeros(directions.nrows(), chosen);
        block::add_product(components.as_mut(), directions.as_ref(), mix.as_ref(), 1.0);
        drop(directions);
        let again = |q: &mut Mat<f64>| drop(remove(q, self.vectors.iter()));
        let (new, _) = orthonormalise(operator, components, again, 1.0);
        if new.ncols() > 0 {
            self.vectors.push(new);
        }
    }
}

/// Eigenvalues λ with exp(−tλ) at the times t looked at, a column each, and (1 − exp(−tλ)) / (tλ) at the stopping time.
struct Decays {
    values: Vec<f64>,
    decays: Mat<f64>,
}

impl Decays {
    fn new(values: &[f64], times: &[f64], stop: f64) -> Self {
        let values: Vec<f64> = values.iter().map(|v| v.max(0.0)).collect();
        let decays = Mat::from_fn(values.len(), times.len() + 1, |i, q| match times.get(q) {
            Some(t) => (-t * values[i]).exp(),
            None => phi1(stop * values[i]),
        });
        Self { values, decays }
    }

    /// The i-th λ and its decay at the q-th time.
    fn at(&self, i: usize, q: usize) -> (f64, f64) {
        (self.values[i], self.decays[(i, q)])
    }
}
