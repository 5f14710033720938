//! What a fitted null model makes of the errors: residual = N errors, N = I − X Y'.
//!
//! Of least squares N is the projection P, with X = Y = Q. A null model that was fitted with weights v, as those of outcomes are, took the covariates off with them: with
//! V = diag(v) and B an orthonormal basis of √V Q,
//!
//! ```text
//!     N = I − V Z (Z'VZ)⁺ Z' = I − X Y',   X = √V B,  Y = B / √V;       hᵢ = xᵢ'yᵢ
//! ```
//!
//! in which samples with v = 0, whose outcome the covariates tell, are not. On the others N' takes off whatever the covariates span, so that N'HN = N'AN with A = P H P.

use crate::linalg::block::product;
use crate::linalg::covariates::RANK_TOLERANCE;
use crate::linalg::thin_svd::thin_svd;
use faer::{Mat, MatRef};

/// X and Y on the s samples of a mask, s × r.
#[derive(Clone, Debug)]
pub struct NullProjection {
    x: Mat<f64>,
    y: Mat<f64>,
    is_weighted: bool,
}

impl NullProjection {
    /// P, from the orthonormal covariates.
    pub(super) fn orthogonal(q: Mat<f64>) -> Self {
        Self {
            x: q.clone(),
            y: q,
            is_weighted: false,
        }
    }

    /// With weights v, s values of at least 0. Cost: O(s r²).
    pub(crate) fn weighted(q: MatRef<'_, f64>, variances: &[f64]) -> Self {
        let (s, r) = q.shape();
        let roots: Vec<f64> = variances.iter().map(|v| v.max(0.0).sqrt()).collect();
        let weighted = Mat::from_fn(s, r, |i, j| roots[i] * q[(i, j)]);
        let svd = (s > 0 && r > 0).then(|| thin_svd(weighted.as_ref()));
        let basis = svd.flatten().map_or(Mat::zeros(s, 0), |svd| {
            let is_there = |size: &&f64| **size > RANK_TOLERANCE * svd.s[0] && **size > 0.0;
            let rank = svd.s.iter().take_while(is_there).count();
            svd.u.subcols(0, rank).to_owned()
        });
        let over = |i: usize, j: usize| match roots[i] > 0.0 {
            true => basis[(i, j)] / roots[i],
            false => 0.0,
        };
        Self {
            x: Mat::from_fn(s, basis.ncols(), |i, j| roots[i] * basis[(i, j)]),
            y: Mat::from_fn(s, basis.ncols(), over),
            is_weighted: true,
        }
    }

    pub(super) fn x(&self) -> MatRef<'_, f64> {
        self.x.as_ref()
    }

    pub(super) fn y(&self) -> MatRef<'_, f64> {
        self.y.as_ref()
    }

    pub(super) fn is_weighted(&self) -> bool {
        self.is_weighted
    }

    /// h, s values.
    pub(super) fn leverages(&self) -> Vec<f64> {
        let of = |i: usize| (0..self.x.ncols()).map(move |j| self.x[(i, j)] * self.y[(i, j)]);
        (0..self.x.nrows()).map(|i| of(i).sum()).collect()
    }

    /// N'M.
    pub(super) fn off(&self, m: Mat<f64>) -> Mat<f64> {
        let along = product(self.x.transpose(), &m);
        m - product(&self.y, &along)
    }

    /// diag(N'AN) from that of A and `ax` = A X.
    pub(super) fn diagonal(&self, diagonal: &[f64], ax: MatRef<'_, f64>) -> Vec<f64> {
        let within = product(self.x.transpose(), ax);
        let along = product(&self.y, &within);
        let own = |(i, a): (usize, &f64)| {
            let terms =
                (0..self.y.ncols()).map(|j| self.y[(i, j)] * (along[(i, j)] - 2.0 * ax[(i, j)]));
            (a + terms.sum::<f64>()).max(0.0)
        };
        diagonal.iter().enumerate().map(own).collect()
    }

    /// Of M symmetric, T with N'MN = M − Y T' − T Y', from `mx` = M X: T = M X − Y X'M X / 2.
    pub(super) fn taken_off(&self, mx: Mat<f64>) -> Mat<f64> {
        let half = 0.5 * product(self.x.transpose(), &mx);
        mx - product(&self.y, &half)
    }
}
