//! The quadratic form of the robust test on few samples, as it stands: log det(I − 2zM) by Cholesky factors.

use crate::robust_test::null_distribution::Tail;
use crate::robust_test::saddlepoint::{self, Barrier};
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place, solve_upper_triangular_in_place,
};
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, Mat, MatRef, Par, Side};

/// The approximate log det(I − 2zM) at its saddlepoint may be off by this much plus this share of the exact one. Up to that, its shape near the saddlepoint is used.
const MOST_ERROR: (f64, f64) = (0.2, 2e-3);

/// log p below which the approximate contour must cross the axis near the saddlepoint of M itself.
const FAR: f64 = -18.4;

/// How many standard deviations of the integrand it may be off: at a distance e, terms that are e^(e² / 2) too large cancel in the integral.
const APART: f64 = 1.0;

/// Rows and columns at a time.
const PANEL: usize = 128;

/// As the bits depend on the degree of parallelism, it is fixed.
fn two() -> Par {
    Par::rayon(2)
}

/// M of one phenotype on few samples, in units of Σ d² A_ii, with room for a Cholesky factor.
pub(super) struct QuadraticForm {
    /// M above the diagonal; from the diagonal down, what [`QuadraticForm::factor`] made last. s × s.
    m: Mat<f32>,
    /// M's diagonal.
    diagonal: Vec<f32>,
    unit: f64,
}

impl QuadraticForm {
    /// `m`: M in units of `unit`, of which what is below the diagonal is not read.
    pub(super) fn new(m: Mat<f32>, unit: f64) -> Self {
        let diagonal = (0..m.nrows()).map(|i| m[(i, i)]).collect();
        Self { m, diagonal, unit }
    }

    /// The Cholesky factor of T = I − 2zM, z in units of 1 / M; `None` where T is not positive definite. What it returns is the factor from the
    /// diagonal down. Cost: s³ / 3 multiplications.
    fn factor(&mut self, z: f64) -> Option<MatRef<'_, f32>> {
        let s = self.m.nrows();
        let by = (-2.0 * z * self.unit) as f32;
        for across in (0..s).step_by(PANEL) {
            for down in (across..s).step_by(PANEL) {
                for j in across..s.min(across + PANEL) {
                    for i in down.max(j + 1)..s.min(down + PANEL) {
                        self.m[(i, j)] = by * self.m[(j, i)];
                    }
                }
            }
        }
        for (i, own) in self.diagonal.iter().enumerate() {
            self.m[(i, i)] = by * own + 1.0;
        }
        // faer's factorisation of the whole in place leaves other values above the diagonal, where M is.
        for first in (0..s).step_by(PANEL) {
            let mut left = self
                .m
                .as_mut()
                .submatrix_mut(first, first, s - first, s - first);
            let width = PANEL.min(s - first);
            let block = Mat::from_fn(width, width, |i, j| left[(i.max(j), i.min(j))]);
            let block = block.llt(Side::Lower).ok()?;
            for j in 0..width {
                for i in j..width {
                    left[(i, j)] = block.L()[(i, j)];
                }
            }
            let (_, _, mut below, rest) = left.split_at_mut(width, width);
            solve_lower_triangular_in_place(block.L(), below.rb_mut().transpose_mut(), two());
            triangular::matmul(
                rest,
                BlockStructure::TriangularLower,
                Accum::Add,
                below.rb(),
                BlockStructure::Rectangular,
                below.rb().transpose(),
                BlockStructure::Rectangular,
                -1.0,
                two(),
            );
        }
        Some(self.m.as_ref())
    }

    /// log det(I − 2zM) from its factor.
    fn log_det(factor: MatRef<'_, f32>) -> f64 {
        let pivots = (0..factor.nrows()).map(|i| f64::from(factor[(i, i)]));
        pivots.map(|pivot| 2.0 * pivot.ln()).sum()
    }

    /// f = −log det T with f' = tr(T⁻¹ − I) / z and f'' = |T⁻¹ − I|² / z². Cost: s³ multiplications.
    fn barrier(&mut self, z: f64) -> Option<Barrier> {
        let factor = self.factor(z)?;
        let s = factor.nrows();
        let (mut trace, mut squares) = (0.0, 0.0);
        // T⁻¹ from the diagonal down, a panel of columns at a time: what is below row j is a matter of the factor below row j.
        for first in (0..s).step_by(PANEL) {
            let below = factor.submatrix(first, first, s - first, s - first);
            let mut inverse = Mat::<f32>::identity(s - first, PANEL.min(s - first));
            solve_lower_triangular_in_place(below, inverse.as_mut(), two());
            solve_upper_triangular_in_place(below.transpose(), inverse.as_mut(), two());
            for j in 0..inverse.ncols() {
                let column = &inverse.col_as_slice(j)[j..];
                let own = f64::from(column[0]) - 1.0;
                let below: f64 = column[1..].iter().map(|x| f64::from(*x).powi(2)).sum();
                trace += own;
                squares += own * own + 2.0 * below;
            }
        }
        Some(Barrier {
            value: -Self::log_det(factor),
            first: trace / z,
            second: squares / (z * z),
        })
    }

    /// log p from the approximate tail, with the exact log determinant at its saddlepoint. Where the approximation is too far off, log p is from the
    /// saddlepoint of M itself.
    pub(super) fn log_p(mut self, tail: Tail) -> Option<f64> {
        let (most, share) = MOST_ERROR;
        let is_near =
            |log_det: &f64| (log_det - tail.log_det).abs() <= most + share * log_det.abs();
        let exact = self.factor(tail.z).map(Self::log_det);
        let exact = exact.filter(is_near).filter(|_| tail.is_whole());
        exact
            .filter(|log_det| self.has_saddle(&tail, *log_det))
            .map(|log_det| tail.with_log_det(log_det))
            .or_else(|| saddlepoint::log_survival(|z| self.barrier(z), tail.z))
    }

    /// Whether a far tail's contour goes through the saddlepoint of M: half a standard deviation from it, log det has fallen by a quarter. `log_det`: at the tail's z.
    fn has_saddle(&mut self, tail: &Tail, log_det: f64) -> bool {
        let at = |z| self.factor(z).map(Self::log_det);
        let is_flat = |nearer: f64| (nearer - log_det + 0.25).abs() <= APART;
        tail.log_p() > FAR || tail.nearer.and_then(at).is_some_and(is_flat)
    }
}
