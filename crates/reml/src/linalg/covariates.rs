//! The covariates Z and the projection P = I − Z (Z'Z)⁺ Z' on the samples of a mask.

use crate::linalg::block::{self, product};
use crate::linalg::eigen::symmetric_eigen;
use crate::linalg::power_of_two::power_of_two;
use crate::linalg::thin_svd::{ThinSvd, thin_svd};
use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef};

/// Relative size of a singular value of the scaled covariates below which they count as collinear.
pub(crate) const RANK_TOLERANCE: f64 = 1e-8;

/// Relative size of an eigenvalue of B_S'B_S, B the basis of all samples, below which a direction is absent from S.
const MASKED_RANK_TOLERANCE: f64 = 1e-11;

/// Covariates of all kernel samples, with an orthonormal basis of their span.
///
/// Samples with a missing covariate are in no mask; their rows are zero here.
///
/// ```
/// use reml::Covariates;
///
/// // The third column is the sum of the others.
/// let covariates = Covariates::new(4, &[vec![1.0; 4], vec![0.0, 1.0, 2.0, 4.0], vec![1.0, 2.0, 3.0, 5.0]]);
/// assert_eq!(covariates.rank(), 2);
/// let y = faer::Mat::from_fn(4, 1, |i, _| [3.0, 5.0, 7.0, 11.0][i]);
/// let mut residual = y.clone();
/// covariates.on(&[true; 4]).apply(residual.as_mut());
/// assert!(residual.norm_max() < 1e-12);
/// ```
#[derive(Clone, Debug)]
pub struct Covariates {
    /// n × r orthonormal basis B of the span of Z on the samples with complete covariates.
    basis: Mat<f64>,
    /// q × r: B = Z · transform.
    transform: Mat<f64>,
    complete: Vec<bool>,
}

impl Covariates {
    /// Takes the columns of Z (intercept included by the caller where wanted); NaN is missing.
    ///
    /// Columns are scaled by their root mean square, so that units do not decide the rank. Cost: O(n q²).
    pub fn new(n: usize, columns: &[Vec<f64>]) -> Self {
        let q = columns.len();
        let complete: Vec<bool> = (0..n)
            .map(|i| columns.iter().all(|c| c[i].is_finite()))
            .collect();
        let value = |i: usize, j: usize| if complete[i] { columns[j][i] } else { 0.0 };
        // With an intercept, centring the other columns keeps a large mean from hiding their variation.
        let constant = (0..q).find(|&j| {
            let mut seen = (0..n).filter(|&i| complete[i]).map(|i| columns[j][i]);
            let first = seen.next().unwrap_or(0.0);
            first != 0.0 && seen.all(|v| v == first)
        });
        let count = complete.iter().filter(|&&c| c).count().max(1) as f64;
        let centre: Vec<f64> = (0..q)
            .map(|j| match constant {
                Some(c) if c != j => (0..n).map(|i| value(i, j)).sum::<f64>() / count,
                _ => 0.0,
            })
            .collect();
        let centred = |i: usize, j: usize| {
            if complete[i] {
                columns[j][i] - centre[j]
            } else {
                0.0
            }
        };
        let scale: Vec<f64> = (0..q)
            .map(|j| {
                let magnitude = (0..n).fold(0.0_f64, |m, i| m.max(value(i, j).abs()));
                // In units of that, so that no square overflows or vanishes.
                let unit = power_of_two(magnitude);
                let squares = (0..n).map(|i| (centred(i, j) / unit).powi(2));
                let rms = unit * (squares.sum::<f64>() / count).sqrt();
                // A column that is constant up to rounding carries nothing beside the intercept.
                if rms > 1e-13 * magnitude && rms > 0.0 {
                    1.0 / rms
                } else {
                    0.0
                }
            })
            .collect();
        let scaled = Mat::from_fn(n, q, |i, j| centred(i, j) * scale[j]);
        // Z̃ = U Σ V'; the Householder thin SVD keeps small singular values honest.
        let svd = (q > 0 && n > 0)
            .then(|| thin_svd(scaled.as_ref()))
            .flatten();
        let (basis, mix) = match svd {
            Some(ThinSvd { u, s: sigma, v }) => {
                let top = sigma[0];
                let rank = (0..sigma.len())
                    .take_while(|&k| sigma[k] > top * RANK_TOLERANCE && top > 0.0)
                    .count();
                let basis = u.subcols(0, rank).to_owned();
                let mix = Mat::from_fn(q, rank, |j, k| v[(j, k)] / sigma[k] * scale[j]);
                (basis, mix)
            }
            None => (Mat::zeros(n, 0), Mat::zeros(q, 0)),
        };
        // Undo the centring: (z_j − centre_j) m = z_j m − (centre_j / constant value) · constant column · m.
        let mut transform = mix.clone();
        if let Some(c) = constant {
            let level = (0..n).find(|&i| complete[i]).map_or(1.0, |i| columns[c][i]);
            for k in 0..mix.ncols() {
                let shift: f64 = (0..q).map(|j| centre[j] * mix[(j, k)]).sum();
                transform[(c, k)] -= shift / level;
            }
        }
        Self {
            basis,
            transform,
            complete,
        }
    }

    /// Number of samples n.
    pub fn n_samples(&self) -> usize {
        self.complete.len()
    }

    /// Rows of the basis B at `n` samples, of the n or not: Z T, n × r, for their `columns` of Z.
    pub fn rows(&self, n: usize, columns: &[&[f64]]) -> Mat<f64> {
        let z = Mat::from_fn(n, columns.len(), |i, j| columns[j][i]);
        product(z, &self.transform)
    }

    /// Rank of the covariates over all samples where they are complete.
    pub fn rank(&self) -> usize {
        self.basis.ncols()
    }

    /// B, n × r: an orthonormal basis of the covariates where they are complete, zero elsewhere.
    pub(crate) fn basis(&self) -> MatRef<'_, f64> {
        self.basis.as_ref()
    }

    /// Whether each sample's covariates are all present.
    pub fn complete(&self) -> &[bool] {
        &self.complete
    }

    /// The projection off the covariates on the samples in `mask`.
    ///
    /// The mask must hold only samples with complete covariates. Cost: O(n r²).
    pub fn on(&self, mask: &[bool]) -> Projection<'_> {
        assert_eq!(mask.len(), self.n_samples());
        let masked = Mat::from_fn(self.basis.nrows(), self.rank(), |i, k| {
            if mask[i] { self.basis[(i, k)] } else { 0.0 }
        });
        // B_S'B_S = W diag(g) W'; D_S B W g^-1/2 is orthonormal on S.
        let eigen = symmetric_eigen(block::inner(masked.as_ref(), masked.as_ref()).as_ref());
        let rank = eigen
            .values
            .iter()
            .take_while(|&&g| g > MASKED_RANK_TOLERANCE)
            .count();
        let factor = Mat::from_fn(self.rank(), rank, |i, k| {
            eigen.vectors[(i, k)] / eigen.values[k].sqrt()
        });
        Projection {
            covariates: self,
            mask: mask.to_vec(),
            factor,
        }
    }
}

/// P = I − Q Q' on the samples S of one mask, Q = D_S B L orthonormal.
#[derive(Clone, Debug)]
pub struct Projection<'a> {
    covariates: &'a Covariates,
    mask: Vec<bool>,
    /// L, rank of all samples × rank on S.
    factor: Mat<f64>,
}

impl Projection<'_> {
    /// Rank of the covariates on S.
    pub fn rank(&self) -> usize {
        self.factor.ncols()
    }

    /// The covariates that are projected off.
    pub(crate) fn covariates(&self) -> &Covariates {
        self.covariates
    }

    /// Which samples are in S.
    pub fn mask(&self) -> &[bool] {
        &self.mask
    }

    /// L, r × rank: Q = D_S B L.
    pub(crate) fn factor(&self) -> &Mat<f64> {
        &self.factor
    }

    /// Q, n × rank: the orthonormal covariates on S, zero elsewhere. Cost: O(n r²).
    pub fn orthonormal(&self) -> Mat<f64> {
        let mut q = Mat::zeros(self.mask.len(), self.rank());
        block::add_product(
            q.as_mut(),
            self.covariates.basis.as_ref(),
            self.factor.as_ref(),
            1.0,
        );
        self.zero_outside(q.as_mut());
        q
    }

    /// B, n × rank of all samples.
    pub(crate) fn basis(&self) -> MatRef<'_, f64> {
        self.covariates.basis.as_ref()
    }

    /// Q(x) = B(x) L for rows of the basis: with Q'a = Q(x), a in the span of the covariates on S fits those of x. rows × rank.
    pub(crate) fn extend(&self, rows: MatRef<'_, f64>) -> Mat<f64> {
        product(rows, &self.factor)
    }

    /// L with Q_S = D_S Q L for the orthonormal covariates Q of a larger mask (n × rank), rank there × rank here.
    pub(crate) fn within(&self, larger: MatRef<'_, f64>) -> Mat<f64> {
        // Q_S = D_S B L_S, and D B L_S on the larger mask D is spanned by Q.
        product(
            block::inner(larger, self.covariates.basis.as_ref()),
            &self.factor,
        )
    }

    fn zero_outside(&self, mut y: MatMut<'_, f64>) {
        for column in y.rb_mut().col_iter_mut() {
            for (value, &kept) in column.iter_mut().zip(&self.mask) {
                if !kept {
                    *value = 0.0;
                }
            }
        }
    }

    /// Y ← P D_S Y in place: zero outside S, then the covariates projected off, twice for orthogonality to rounding.
    ///
    /// Cost: 8 n r b flops for b columns.
    pub fn apply(&self, mut y: MatMut<'_, f64>) {
        self.zero_outside(y.rb_mut());
        if self.rank() == 0 {
            return;
        }
        for _ in 0..2 {
            // Q'y = L' B' y as y vanishes outside S.
            let coordinates = product(
                self.factor.transpose(),
                block::inner(self.covariates.basis.as_ref(), y.as_ref()),
            );
            let back = product(&self.factor, &coordinates);
            block::add_product(
                y.rb_mut(),
                self.covariates.basis.as_ref(),
                back.as_ref(),
                -1.0,
            );
            self.zero_outside(y.rb_mut());
        }
    }

    /// β with Z β the least-squares fit of `y` (n × b, zero outside S) on S: β = T L L' B' y, q × b.
    ///
    /// Collinear columns share the effect; Z β is the same for every solution on S.
    pub fn effects(&self, y: MatRef<'_, f64>) -> Mat<f64> {
        let coordinates = product(
            self.factor.transpose(),
            block::inner(self.covariates.basis.as_ref(), y),
        );
        product(
            &self.covariates.transform,
            product(&self.factor, &coordinates),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(n: usize) -> Vec<Vec<f64>> {
        let age: Vec<f64> = (0..n)
            .map(|i| 1e6 + (i as f64 * 0.7).sin() * 10.0)
            .collect();
        let twice: Vec<f64> = age.iter().map(|a| 2.0 * a + 5.0).collect();
        vec![vec![1.0; n], age, twice]
    }

    #[test]
    fn more_columns_than_samples_span_what_there_is() {
        let columns: Vec<Vec<f64>> = (0..5)
            .map(|j| {
                (0..3)
                    .map(|i| ((7 * i * i + 3 * i * j + j * j) as f64).sin())
                    .collect()
            })
            .collect();
        let covariates = Covariates::new(3, &columns);
        assert_eq!(covariates.rank(), 3);
        let mut y = Mat::from_fn(3, 1, |i, _| 1.0 + i as f64);
        covariates.on(&[true; 3]).apply(y.as_mut());
        assert!(y.norm_max() < 1e-12);
    }

    #[test]
    fn collinear_columns_count_once_and_large_means_do_not_hide_variation() {
        assert_eq!(Covariates::new(40, &columns(40)).rank(), 2);
        assert_eq!(Covariates::new(40, &[]).rank(), 0);
        for unit in [1e-200, 1e200] {
            let mut z = columns(40);
            z[1].iter_mut().for_each(|v| *v *= unit);
            assert_eq!(Covariates::new(40, &z[..2]).rank(), 2, "{unit:e}");
        }
    }

    #[test]
    fn projection_removes_the_covariates_on_the_mask_alone() {
        let (n, z) = (60, columns(60));
        let covariates = Covariates::new(n, &z);
        let mask: Vec<bool> = (0..n).map(|i| i % 3 != 0).collect();
        let projection = covariates.on(&mask);
        assert_eq!(projection.rank(), 2);
        let mut y = Mat::from_fn(n, 1, |i, _| (i as f64).cos() + z[1][i]);
        projection.apply(y.as_mut());
        for column in &z {
            let dot: f64 = (0..n).map(|i| y[(i, 0)] * column[i]).sum();
            assert!(dot.abs() < 1e-5, "{dot}");
        }
        assert!((0..n).all(|i| mask[i] || y[(i, 0)] == 0.0));
    }

    #[test]
    fn effects_reproduce_a_fit() {
        let (n, z) = (50, columns(50));
        let covariates = Covariates::new(n, &z[..2]);
        let mask: Vec<bool> = (0..n).map(|i| i % 4 != 1).collect();
        let y = Mat::from_fn(n, 1, |i, _| if mask[i] { 3.0 + 0.5 * z[1][i] } else { 0.0 });
        let beta = covariates.on(&mask).effects(y.as_ref());
        assert!((beta[(1, 0)] - 0.5).abs() < 1e-7, "{beta:?}");
        let fit = beta[(0, 0)] + beta[(1, 0)] * z[1][3];
        let want = 3.0 + 0.5 * z[1][3];
        assert!((fit - want).abs() < 1e-10 * want, "{}", fit - want);
    }
}
