//! The block Krylov space of the operator A of all samples, from seeded random probes.
//!
//! ```text
//!     A G_q = Σ_{i≤q} G_i H_iq + G_{q+1} R_q
//! ```
//!
//! The coefficients H and the residual block R are kept instead of images. Each block is made orthonormal to all before it before A is
//! applied to it, so that no image is ever divided by a small number.

use crate::linalg::block::{self, product};
use crate::linalg::eigen::{SymmetricEigen, symmetric_eigen};
use crate::linalg::operator::MaskedOperator;
use faer::{Mat, MatRef};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Relative norm of what is left of an image below which the space is invariant under A to f32 accuracy.
pub(crate) const BREAKDOWN: f64 = 1e-6;

/// Distance |Q'Q − I| up to which one step of Newton's iteration for the polar factor leaves less than 1e-8 (Björck & Bowie 1971).
const NEARLY_ORTHONORMAL: f64 = 1e-4;

/// A second orthogonalisation that takes away more than this share of the norm shows that what was left is
/// rounding (Kahan's "twice is enough").
const REORTHOGONALISATION_LOSS: f64 = 0.5;

/// A block Krylov space of A: orthonormal blocks G₀, G₁, …, n rows each. The last may not have been multiplied yet. G₀ begins with the probes.
#[derive(Clone, Debug)]
pub struct KrylovSpace {
    n_probes: usize,
    blocks: Vec<Mat<f32>>,
    /// Upper block triangle of G'AG, a column block per image, rows down to the diagonal block.
    columns: Vec<Mat<f64>>,
    /// R of the last image, G_next'(A G_last); 0 × b when the space is exhausted.
    residual_block: Mat<f64>,
    /// Of T, found when it is first asked for.
    eigen: OnceLock<SymmetricEigen>,
}

impl KrylovSpace {
    /// G₀: `b` seeded Gaussian columns, projected and orthonormalised.
    ///
    /// Column j has its own stream of random numbers, so that it does not depend on `b`. Cost: O(n b²).
    pub(crate) fn new(operator: &MaskedOperator<'_>, b: usize, seed: u64) -> Self {
        let n = operator.projection().mask().len();
        let mut start = Mat::<f64>::zeros(n, b);
        start
            .par_col_iter_mut()
            .enumerate()
            .for_each(|(j, column)| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(j as u64);
                for value in column.iter_mut() {
                    *value = StandardNormal.sample(&mut rng);
                }
            });
        operator.projection().apply(start.as_mut());
        let scale = column_scale(&start);
        let (first, _) = orthonormalise(operator, start, |_| (), scale);
        Self {
            n_probes: first.ncols(),
            blocks: vec![first],
            columns: Vec::new(),
            residual_block: Mat::zeros(0, 0),
            eigen: OnceLock::new(),
        }
    }

    /// Rebuilds a space from its stored parts: [`KrylovSpace::blocks`], [`KrylovSpace::projected`], [`KrylovSpace::residual_block`], [`KrylovSpace::eigen`].
    ///
    /// The blocks have images as far as `projected` reaches. `eigen` are the eigenpairs of `projected`, where they are known.
    pub fn from_parts(
        blocks: Vec<Mat<f32>>,
        projected: MatRef<'_, f64>,
        residual_block: Mat<f64>,
        eigen: Option<SymmetricEigen>,
    ) -> Self {
        let mut columns = Vec::new();
        let mut end = 0;
        for block in &blocks {
            let start = end;
            end += block.ncols();
            if end > projected.ncols() {
                break;
            }
            columns.push(projected.submatrix(0, start, end, end - start).to_owned());
        }
        Self {
            n_probes: blocks.first().map_or(0, Mat::ncols),
            blocks,
            columns,
            residual_block,
            eigen: eigen.map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    /// All blocks, orthonormal, n × b each.
    pub fn blocks(&self) -> &[Mat<f32>] {
        &self.blocks
    }

    /// The block to multiply next, or `None` when the space is invariant under A.
    pub(crate) fn next(&self) -> Option<&Mat<f32>> {
        self.blocks
            .get(self.columns.len())
            .filter(|b| b.ncols() > 0)
    }

    /// Whether A maps the space into itself: further passes would add nothing.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.next().is_none()
    }

    /// G: the blocks that have images.
    pub(crate) fn basis(&self) -> &[Mat<f32>] {
        &self.blocks[..self.columns.len()]
    }

    /// Dimension of the blocks that have images.
    pub(crate) fn dimension(&self) -> usize {
        self.columns.iter().map(Mat::ncols).sum()
    }

    /// Number of orthonormal probes, the first columns of G₀.
    pub(crate) fn n_probes(&self) -> usize {
        self.n_probes
    }

    /// R, the residual block of the Lanczos recurrence: A G_last is G_next R beside what the space holds. next × b; 0 rows where A maps the space into itself.
    pub fn residual_block(&self) -> &Mat<f64> {
        &self.residual_block
    }

    /// T = G'AG on the blocks that have images, m × m.
    pub fn projected(&self) -> Mat<f64> {
        let m = self.dimension();
        let mut t = Mat::zeros(m, m);
        let mut start = 0;
        for column in &self.columns {
            let width = column.ncols();
            t.subcols_mut(start, width)
                .subrows_mut(0, start + width)
                .copy_from(column);
            t.subrows_mut(start, width)
                .subcols_mut(0, start)
                .copy_from(column.subrows(0, start).transpose());
            for j in 0..width {
                for i in 0..j {
                    // The diagonal block is symmetric to rounding; its upper half speaks for both.
                    t[(start + j, start + i)] = column[(start + i, j)];
                }
            }
            start += width;
        }
        t
    }

    /// Eigenpairs of T, largest eigenvalue first; `None` before the first image. They are the Ritz pairs: G times an eigenvector approximates one of A.
    /// Cost: O(m³) when first asked for after an image.
    pub fn eigen(&self) -> Option<&SymmetricEigen> {
        let found = || symmetric_eigen(self.projected().as_ref());
        (!self.columns.is_empty()).then(|| self.eigen.get_or_init(found))
    }

    /// |A w − e w| of each Ritz pair (e, w), m values: the norm of the residual block times the vector's last block.
    pub fn residuals(&self) -> Vec<f64> {
        let Some(eigen) = self.eigen() else {
            return Vec::new();
        };
        let m = eigen.values.len();
        let last = self.columns.last().map_or(0, Mat::ncols);
        let tail = eigen.vectors.subrows(m - last, last);
        if self.residual_block.nrows() == 0 {
            return vec![0.0; m];
        }
        let out = product(&self.residual_block, tail);
        (0..m).map(|j| out.col(j).norm_l2()).collect()
    }

    /// Takes the kernel's product with [`KrylovSpace::next`] and finds the block after it.
    ///
    /// Cost: 4 n b m flops in single precision with m the space's dimension, O(n b²) in double.
    pub(crate) fn extend(&mut self, operator: &MaskedOperator<'_>, product: MatRef<'_, f32>) {
        let mut y = operator.image(product);
        let scale = column_scale(&y);
        // A is symmetric. So the image has only rounding along all blocks but the last two (Lanczos 1950), and along these two once they are
        // removed. What is left may be as small as that rounding. It is brought to length 1 before the rounding is removed too.
        let near = &self.blocks[self.blocks.len().saturating_sub(2)..];
        let along = remove(&mut y, near.iter());
        let mut column = Mat::zeros(self.dimension() + y.ncols(), y.ncols());
        let start = column.nrows() - along.nrows();
        column.subrows_mut(start, along.nrows()).copy_from(&along);
        let rest = |q: &mut Mat<f64>| block::quick_remove(q.as_mut(), &self.blocks);
        let (next, residual_block) = orthonormalise(operator, y, rest, scale);
        self.columns.push(column);
        self.residual_block = residual_block;
        if next.ncols() > 0 {
            self.blocks.push(next);
        }
        self.eigen.take();
    }

    /// G'X for `x` blocks side by side, m × Σ columns, in single precision: where accuracy matters little. Cost: 2 n m c flops for c columns and one
    /// read of G, which dominates for few columns.
    pub(crate) fn coordinates(&self, x: &[&Mat<f32>]) -> Mat<f64> {
        block::quick_inner(self.basis(), x)
    }

    /// As [`KrylovSpace::coordinates`], accumulated in double precision. Cost: twice that.
    pub(crate) fn exact_coordinates(&self, x: &[&Mat<f32>]) -> Mat<f64> {
        block::inner_of_blocks(self.basis(), x)
    }

    /// The rows of G on the samples that `chosen` holds, |chosen| × m.
    pub(crate) fn rows(&self, chosen: &[usize]) -> Mat<f32> {
        let mut rows = Mat::zeros(chosen.len(), self.dimension());
        let mut start = 0;
        for block in self.basis() {
            for j in 0..block.ncols() {
                let column = block.col_as_slice(j);
                for (row, &i) in rows.col_as_slice_mut(start + j).iter_mut().zip(chosen) {
                    *row = column[i];
                }
            }
            start += block.ncols();
        }
        rows
    }

    /// The leading `k` Ritz vectors, n × k. Cost: 2 n m k flops.
    pub(crate) fn ritz_vectors(&self, k: usize) -> Mat<f64> {
        let n = self.blocks[0].nrows();
        let Some(eigen) = self.eigen() else {
            return Mat::zeros(n, 0);
        };
        let k = k.min(eigen.values.len());
        let mut vectors = Mat::zeros(n, k);
        let mut start = 0;
        for block in self.basis() {
            let rows = eigen.vectors.submatrix(start, 0, block.ncols(), k);
            block::add_product(vectors.as_mut(), block.as_ref(), rows, 1.0);
            start += block.ncols();
        }
        vectors
    }
}

/// Largest column norm.
pub(crate) fn column_scale(y: &Mat<f64>) -> f64 {
    (0..y.ncols())
        .map(|j| block::dot(y.col_as_slice(j), y.col_as_slice(j)).sqrt())
        .fold(0.0, f64::max)
}

/// Y ← Y − B B'Y over the blocks; returns B'Y stacked.
pub(crate) fn remove<'a>(
    y: &mut Mat<f64>,
    blocks: impl Iterator<Item = &'a Mat<f32>> + Clone,
) -> Mat<f64> {
    let blocks: Vec<&Mat<f32>> = blocks.collect();
    let coefficients = block::inner_with(&blocks, y.as_ref());
    block::add_products(y.as_mut(), &blocks, coefficients.as_ref(), -1.0);
    coefficients
}

/// An orthonormal basis Q of what `y` spans, and R = Q'Y; directions that are rounding are dropped.
///
/// `remove` takes some blocks away from vectors of length 1. `y` must already be orthogonal to these blocks, up to rounding; `scale` is the norm of `y`
/// before they were removed.
pub(crate) fn orthonormalise(
    operator: &MaskedOperator<'_>,
    y: Mat<f64>,
    remove: impl FnOnce(&mut Mat<f64>),
    scale: f64,
) -> (Mat<f32>, Mat<f64>) {
    let n = y.nrows();
    let nothing = || (Mat::zeros(n, 0), Mat::zeros(0, y.ncols()));
    // Y'Y = U diag(s²) U'; Y U s⁻¹ is orthonormal.
    let whiten = |y: &Mat<f64>, floor: f64| -> Mat<f64> {
        let eigen = symmetric_eigen(block::inner(y.as_ref(), y.as_ref()).as_ref());
        let kept = eigen.values.iter().take_while(|&&s2| s2 > floor).count();
        let mix = Mat::from_fn(y.ncols(), kept, |i, k| {
            eigen.vectors[(i, k)] / eigen.values[k].sqrt()
        });
        let mut q = Mat::zeros(n, kept);
        block::add_product(q.as_mut(), y.as_ref(), mix.as_ref(), 1.0);
        q
    };
    let mut q = whiten(&y, (BREAKDOWN * scale).powi(2));
    if q.ncols() == 0 {
        return nothing();
    }
    operator.projection().apply(q.as_mut());
    remove(&mut q);
    let off = block::inner(q.as_ref(), q.as_ref()) - Mat::<f64>::identity(q.ncols(), q.ncols());
    let q = match off.norm_l2() < NEARLY_ORTHONORMAL {
        // Q ← Q (I − (Q'Q − I) / 2).
        true => {
            let mut polished = q.clone();
            block::add_product(polished.as_mut(), q.as_ref(), off.as_ref(), -0.5);
            polished
        }
        false => whiten(&q, REORTHOGONALISATION_LOSS.powi(2)),
    };
    if q.ncols() == 0 {
        return nothing();
    }
    let r = block::inner(q.as_ref(), y.as_ref());
    (block::narrow(q.as_ref()), r)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::covariates::Covariates;

    /// Largest |G'G − I| and largest |T − G'AG| beside |A|, of a space of up to `passes` images.
    fn errors(k: &Mat<f32>, passes: usize) -> [f64; 2] {
        let n = k.nrows();
        let covariates = Covariates::new(n, &[vec![1.0; n]]);
        let operator = MaskedOperator::new(&covariates, &vec![true; n]);
        let mut space = KrylovSpace::new(&operator, 32, 5);
        for _ in 0..passes {
            let Some(next) = space.next() else { break };
            let product = k * next;
            space.extend(&operator, product.as_ref());
        }
        let basis: Vec<&Mat<f32>> = space.basis().iter().collect();
        let g = block::convert(block::hstack(&basis).as_ref(), f64::from);
        let m = g.ncols();
        let product = k * block::hstack(&basis);
        let images = operator.image(product.as_ref());
        let off = block::inner(g.as_ref(), g.as_ref()) - Mat::<f64>::identity(m, m);
        let projected = space.projected();
        let apart = block::inner(g.as_ref(), images.as_ref()) - &projected;
        [off.norm_max(), apart.norm_max() / projected.norm_max()]
    }

    /// Of spectra that fall slowly, and so fast that what is left of an image is near rounding.
    #[test]
    fn the_space_is_orthonormal_and_holds_the_operator_to_single_precision() {
        let n = 1500;
        let slow = Mat::from_fn(n, n, |i, j| {
            1.0 / (1.0 + (i as f32 - j as f32).abs()).sqrt()
        });
        let fast = Mat::from_fn(n, n, |i, j| (-(i as f32 - j as f32).powi(2) * 3e-5).exp());
        for k in [slow, fast] {
            let [off, apart] = errors(&k, 8);
            assert!(off < 1e-6 && apart < 1e-6, "{off:.1e} {apart:.1e}");
        }
    }
}
