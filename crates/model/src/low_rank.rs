//! What the probes' space of all samples tells of the operator of any mask: a low-rank part and a level.
//!
//! A function that vanishes outside S and is orthogonal on S to the covariates, and perhaps to more, is orthogonal to them
//! everywhere, so that with A the operator of all n samples, A_S = (n / n_S) P_S A P_S *exactly*. Where A ≈ Σ λ u u' + μ on what the
//! space does not hold,
//!
//! ```text
//!     A_S ≈ B = Ṽ diag(β − μ) Ṽ' + μ P_S,        Ṽ = P_S G C orthonormal
//! ```
//!
//! with an error of the size of the tail of A, whatever is missing. B is never used for A: it says where to look.

use crate::combination::Combination;
use crate::eigen::{SymmetricEigen, symmetric_eigen};
use crate::krylov::KrylovSpace;
use crate::operator::MaskedOperator;
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, MatRef, Par};

/// Share of the largest β below which a direction is rounding.
const NEGLIGIBLE: f64 = 1e-9;

/// B = Ṽ diag(β − μ) Ṽ' + μ P on the samples of one mask.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// C, m × k: Ṽ = P_S G C.
    mix: Mat<f64>,
    /// β, descending.
    values: Vec<f64>,
    /// μ: the mean of the eigenvalues that the space does not hold.
    level: f64,
    /// G'Q_S, m × rank of the covariates.
    shared: Mat<f64>,
}

impl LowRank {
    /// B on the mask of `operator`, from the probes' space of the operator `full` and the level of its eigenvalues beyond that;
    /// `shared` is G'Q_S for the orthonormal covariates on the mask.
    ///
    /// Cost: 2 min(|S|, |missing|) m² + O(m³) flops, no pass over the kernel.
    pub fn new(
        space: &KrylovSpace,
        level: f64,
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
        let level = stretch * level;
        // √(λ − μ) u: B − μ P = P_S U diag(d²) U' P_S on these.
        let kept = values.iter().take_while(|&&l| stretch * l > level).count();
        let root: Vec<f64> = values[..kept]
            .iter()
            .map(|l| (stretch * l - level).sqrt())
            .collect();
        if full.is_same(operator) {
            // G'P_S G = I, and the space's own eigenvectors are B's.
            let top = root.first().copied().unwrap_or(0.0);
            let is_more = |&&d: &&f64| d * d > NEGLIGIBLE * top * top;
            let k = root.iter().take_while(is_more).count();
            return Self {
                mix: vectors.subcols(0, k).to_owned(),
                values: values[..k].to_vec(),
                level,
                shared,
            };
        }
        let weighted = Mat::from_fn(vectors.nrows(), kept, |i, j| vectors[(i, j)] * root[j]);
        let gram = weighted.transpose() * gram_on(space, full, operator, &shared) * &weighted;
        let SymmetricEigen { values, vectors } = symmetric_eigen(gram.as_ref());
        let top = values.first().copied().unwrap_or(0.0);
        let k = values
            .iter()
            .take_while(|&&b| b > NEGLIGIBLE * top && b > 0.0)
            .count();
        let scaled = Mat::from_fn(kept, k, |i, j| vectors[(i, j)] / values[j].sqrt());
        Self {
            mix: weighted * scaled,
            values: values[..k].iter().map(|b| b + level).collect(),
            level,
            shared,
        }
    }

    /// β, descending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// μ.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// Ṽ'X for `x` in the range of P_S, k × c, from its coordinates in the probes' space.
    pub fn coordinates(&self, in_space: MatRef<'_, f64>) -> Mat<f64> {
        self.mix.transpose() * in_space
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
    ) -> Combination<'x> {
        let in_space = self.mix.subcols(0, c.nrows()) * c;
        let projection = operator.projection();
        Combination {
            mask: projection.mask(),
            on_covariates: -(projection.factor() * (self.shared.transpose() * &in_space)),
            in_space,
            own: Vec::new(),
        }
    }
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
