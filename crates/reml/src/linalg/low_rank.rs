//! The low-rank approximation of the operator of any mask, from the probes' space of all samples: a low-rank part, and the mean of the spectral tail.
//!
//! A vector that vanishes outside S and is orthogonal on S to the covariates, and perhaps to more, is orthogonal to them on all samples. So with A the
//! operator of all n samples, A_S = (n / n_S) P_S A P_S *exactly*. With A ≈ Σ λ u u' + μ, where μ stands for the directions that the space does not hold,
//!
//! ```text
//!     A_S ≈ B = Ṽ diag(β − μ) Ṽ' + μ P_S,        Ṽ = P_S G C orthonormal
//! ```
//!
//! with an error of the size of the tail of A, whatever samples are missing. B never replaces A: it only says which vectors to multiply next.

use crate::linalg::block::product;
use crate::linalg::block_lanczos::KrylovSpace;
use crate::linalg::eigen::{SymmetricEigen, symmetric_eigen};
use crate::linalg::linear_combination::LinearCombination;
use crate::linalg::operator::MaskedOperator;
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

/// Share of the largest β below which a direction is rounding.
const NEGLIGIBLE: f64 = 1e-9;

/// Share of the largest squared product of the probes with covariates below which it is rounding of the probes.
const ROUNDING: f64 = 1e-11;

/// B = Ṽ diag(β − μ) Ṽ' + μ P on the samples of one mask.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// C, m × k: Ṽ = P_S G C.
    mix: Mat<f64>,
    /// β, descending.
    values: Vec<f64>,
    /// μ: the mean of the eigenvalues that the space does not hold.
    tail_mean: f64,
    /// G'Q_S, m × rank of the covariates.
    shared: Mat<f64>,
}

impl LowRank {
    /// B on the mask of `operator`, from the probes' space of the operator `full` and the mean of its eigenvalues beyond that space.
    /// `shared` is G'Q_S for the orthonormal covariates on the mask.
    ///
    /// Cost: 2 min(|S|, |missing|) m² + O(m³) flops, no pass over the kernel.
    pub fn new(
        space: &KrylovSpace,
        tail_mean: f64,
        full: &MaskedOperator<'_>,
        operator: &MaskedOperator<'_>,
        shared: Mat<f64>,
    ) -> Self {
        let nothing = SymmetricEigen {
            values: Vec::new(),
            vectors: Mat::zeros(0, 0),
        };
        let SymmetricEigen { values, vectors } = space.eigen().unwrap_or(&nothing);
        let stretch = full.n_observed() as f64 / operator.n_observed().max(1) as f64;
        let tail_mean = stretch * tail_mean;
        // √(λ − μ) u: B − μ P = P_S U diag(d²) U' P_S on these.
        let root: Vec<f64> = above(values, stretch, tail_mean).map(f64::sqrt).collect();
        let kept = root.len();
        if full.is_same(operator) {
            // G'P_S G = I, and the space's own eigenvectors are B's.
            let k = n_above_rounding(root.iter().map(|d| d * d));
            return Self {
                mix: vectors.subcols(0, k).to_owned(),
                values: values[..k].to_vec(),
                tail_mean,
                shared,
            };
        }
        let weighted = Mat::from_fn(vectors.nrows(), kept, |i, j| vectors[(i, j)] * root[j]);
        let gram = product(
            product(
                weighted.transpose(),
                gram_on(space, full, operator, &shared),
            ),
            &weighted,
        );
        let SymmetricEigen { values, vectors } = symmetric_eigen(gram.as_ref());
        let k = n_above_rounding(values.iter().copied());
        let scaled = Mat::from_fn(kept, k, |i, j| vectors[(i, j)] / values[j].sqrt());
        Self {
            mix: product(&weighted, &scaled),
            values: values[..k].iter().map(|b| b + tail_mean).collect(),
            tail_mean,
            shared,
        }
    }

    /// β alone, if `operator` has the mask of `full` and projects one direction more off; else `None`. `shared` is as in
    /// [`LowRank::new`].
    ///
    /// Cost: O(m²) flops.
    pub fn rank_one_downdate(
        space: &KrylovSpace,
        tail_mean: f64,
        full: &MaskedOperator<'_>,
        operator: &MaskedOperator<'_>,
        shared: MatRef<'_, f64>,
    ) -> Option<Vec<f64>> {
        let SymmetricEigen { values, vectors } = space.eigen()?;
        if full.projection().mask() != operator.projection().mask() {
            return None;
        }
        // G'Q_S is g w': the probes are orthogonal to the other directions that are projected off.
        let of_shared = symmetric_eigen(product(shared.transpose(), shared).as_ref());
        let [first, others @ ..] = &of_shared.values[..] else {
            return None;
        };
        if others.iter().any(|other| *other > ROUNDING * first) {
            return None;
        }
        let along = product(
            vectors.transpose(),
            product(shared, of_shared.vectors.subcols(0, 1)),
        );
        // B − μ P is, in the coordinates √(λ − μ) u, diag(λ − μ) − z z'.
        let d: Vec<f64> = above(values, 1.0, tail_mean).collect();
        let z2: Vec<f64> = d
            .iter()
            .zip(along.col_as_slice(0))
            .map(|(d, g)| d * g * g)
            .collect();
        let mut values = rank_one_downdate(&d, &z2);
        values.truncate(n_above_rounding(values.iter().copied()));
        Some(values.iter().map(|b| b + tail_mean).collect())
    }

    /// β, descending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// μ, the mean of the spectral tail.
    pub fn tail_mean(&self) -> f64 {
        self.tail_mean
    }

    /// Ṽ'X for `x` in the range of P_S, k × c, from its coordinates in the probes' space.
    pub fn coordinates(&self, in_space: MatRef<'_, f64>) -> Mat<f64> {
        product(self.mix.transpose(), in_space)
    }

    /// C, m × k: Ṽ = P_S G C.
    pub(crate) fn mix(&self) -> MatRef<'_, f64> {
        self.mix.as_ref()
    }

    /// Ṽ C for `c` k × q: P_S G C' = D_S (G C' − B L (G'Q_S)' C').
    pub fn combination<'x>(
        &self,
        operator: &'x MaskedOperator<'_>,
        c: MatRef<'_, f64>,
    ) -> LinearCombination<'x> {
        let in_space = product(self.mix.subcols(0, c.nrows()), c);
        let projection = operator.projection();
        LinearCombination {
            mask: projection.mask(),
            on_covariates: -product(
                projection.factor(),
                product(self.shared.transpose(), &in_space),
            ),
            in_space,
            own: Vec::new(),
        }
    }
}

/// λ − μ of those above μ, for the λ of a mask that the kernel is `stretch` times as large on.
fn above(values: &[f64], stretch: f64, tail_mean: f64) -> impl Iterator<Item = f64> {
    let beyond = values.iter().map(move |l| stretch * l - tail_mean);
    beyond.take_while(|d| *d > 0.0)
}

/// How many of the values, descending, are more than rounding.
fn n_above_rounding(values: impl Iterator<Item = f64> + Clone) -> usize {
    let top = values.clone().next().unwrap_or(0.0);
    let is_more = |value: &f64| *value > NEGLIGIBLE * top && *value > 0.0;
    values.take_while(is_more).count()
}

/// The eigenvalues, descending, of diag(d) − z z' for `d` positive and descending, if it is positive semi-definite; `z2` are the squares
/// of z.
///
/// One is in each gap between the d, where 1 − Σ z² / (d − x) = 0 (Golub 1973); the sum falls from ∞ to −∞ across it. Bisection,
/// to the last bit.
fn rank_one_downdate(d: &[f64], z2: &[f64]) -> Vec<f64> {
    let secular = |x: f64| {
        let mut lanes = [0.0; 8];
        for (d, z2) in d.chunks(8).zip(z2.chunks(8)) {
            for (lane, (d, z2)) in lanes.iter_mut().zip(d.iter().zip(z2)) {
                *lane += z2 / (d - x);
            }
        }
        1.0 - lanes.iter().sum::<f64>()
    };
    (0..d.len())
        .into_par_iter()
        .map(|k| {
            let (mut low, mut high) = (d.get(k + 1).copied().unwrap_or(0.0), d[k]);
            loop {
                let x = 0.5 * (low + high);
                if !(low < x && x < high) {
                    return x;
                }
                match secular(x) > 0.0 {
                    true => low = x,
                    false => high = x,
                }
            }
        })
        .collect()
}

/// G'P_S G: on few samples as it stands, else the identity less what is missing; then less the covariates' share.
fn gram_on(
    space: &KrylovSpace,
    full: &MaskedOperator<'_>,
    operator: &MaskedOperator<'_>,
    shared: &Mat<f64>,
) -> Mat<f64> {
    let m = space.dimension();
    let (all, mask) = (full.projection().mask(), operator.projection().mask());
    let pick = |wanted: bool| -> Vec<usize> {
        (0..mask.len())
            .filter(|&i| all[i] && mask[i] == wanted)
            .collect()
    };
    let (observed, missing) = (pick(true), pick(false));
    let few = observed.len() < missing.len();
    let rows = space.rows(if few { &observed } else { &missing });
    let mut gram = Mat::<f32>::zeros(m, m);
    matmul(
        gram.as_mut(),
        BlockStructure::TriangularLower,
        Accum::Replace,
        rows.transpose(),
        BlockStructure::Rectangular,
        &rows,
        BlockStructure::Rectangular,
        1.0,
        Par::Seq,
    );
    let off = shared * shared.transpose();
    Mat::from_fn(m, m, |i, j| {
        let part = f64::from(gram[(i.max(j), i.min(j))]);
        let on_mask = match few {
            true => part,
            false => f64::from(u8::from(i == j)) - part,
        };
        on_mask - off[(i, j)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_direction_less_moves_every_eigenvalue_into_its_gap() {
        // Also where d come twice and where z vanishes.
        let d = [9.0_f64, 7.0, 7.0, 4.0, 2.5, 1.0, 1e-3];
        let unit = [0.5, 0.3, -0.4, 0.0, 0.6, 0.2, 0.3];
        let z: Vec<f64> = d.iter().zip(unit).map(|(d, u)| d.sqrt() * u).collect();
        let squares: Vec<f64> = z.iter().map(|z| z * z).collect();
        let whole = Mat::from_fn(d.len(), d.len(), |i, j| {
            f64::from(u8::from(i == j)) * d[i] - z[i] * z[j]
        });
        let want = symmetric_eigen(whole.as_ref()).values;
        for (got, want) in rank_one_downdate(&d, &squares).iter().zip(&want) {
            assert!((got - want).abs() < 1e-13 * d[0], "{got} {want}");
        }
    }
}
