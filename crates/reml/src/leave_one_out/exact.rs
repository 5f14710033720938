//! The leave-one-out error of an operator whose eigenpairs are all known.

use crate::leave_one_out::result::LeaveOneOut;
use crate::leave_one_out::search::{grid, search, shown};
use crate::linalg::block::{self, product};
use crate::linalg::phi::decays;
use faer::{Mat, MatRef};

/// End of the times searched, in units of dof / tr A: the mean eigenvalue has decayed to exp(−50).
const LAST: f64 = 50.0;

/// Where the covariates leave less than this of a sample, they fit it exactly, and the other samples say nothing about it.
pub(super) const LEAST_FREE: f64 = 1e-10;

/// exp(−tA)ᵢᵢ of an operator whose eigenpairs are all known.
#[derive(Clone, Debug)]
pub struct Exact {
    values: Vec<f64>,
    vectors: Mat<f64>,
    squares: Mat<f64>,
    end: f64,
    /// The grid of times, and exp(−tA)ᵢᵢ on it, n × times.
    on_grid: (Vec<f64>, Mat<f64>),
}

impl Exact {
    /// From the eigenvalues, descending, and the eigenvectors, n × dof. Cost: O(n dof) flops a time of the grid.
    pub fn new(values: &[f64], vectors: Mat<f64>) -> Self {
        let values: Vec<f64> = values.iter().map(|l| l.max(0.0)).collect();
        let squares = block::convert(vectors.as_ref(), |u| u * u);
        let end = LAST * values.len() as f64 / values.iter().sum::<f64>();
        let largest = values.first().copied().unwrap_or(0.0);
        let times = grid(largest, end);
        let on_grid = product(&squares, decays(&values, &times));
        Self {
            on_grid: (times, on_grid),
            values,
            vectors,
            squares,
            end,
        }
    }

    /// Eigenvectors, n × dof.
    pub fn vectors(&self) -> MatRef<'_, f64> {
        self.vectors.as_ref()
    }

    /// eᵢ / sᵢ at times, n × times, for the spectral coefficients c = U'r.
    fn residuals(&self, coefficients: &[f64], times: &[f64]) -> Mat<f64> {
        let decays = decays(&self.values, times);
        let of_flow = Mat::from_fn(decays.nrows(), decays.ncols(), |k, q| {
            decays[(k, q)] * coefficients[k]
        });
        let mut e = product(&self.vectors, &of_flow);
        let (grid, on_grid) = &self.on_grid;
        let own;
        let s = match grid == times {
            true => on_grid,
            false => {
                own = product(&self.squares, decays);
                &own
            }
        };
        for q in 0..times.len() {
            for i in 0..e.nrows() {
                let free = on_grid[(i, 0)] > LEAST_FREE;
                e[(i, q)] = if free { e[(i, q)] / s[(i, q)] } else { 0.0 };
            }
        }
        e
    }

    /// Along the flow of a phenotype with spectral coefficients c = U'r that REML stops at `reml`.
    ///
    /// Cost: O(n dof) flops a time.
    pub fn leave_one_out(&self, coefficients: &[f64], reml: f64) -> LeaveOneOut {
        let largest = self.values.first().copied().unwrap_or(0.0);
        let sums = |times: &[Vec<f64>]| {
            let residuals = self.residuals(coefficients, &times[0]);
            let columns = (0..residuals.ncols()).map(|q| residuals.col(q).squared_norm_l2());
            vec![columns.collect()]
        };
        let time = search(1, largest, self.end, sums)[0];
        let times = shown(reml, time, self.end);
        let residuals = self.residuals(coefficients, &times);
        LeaveOneOut::new(time, self.end, reml, residuals.as_ref())
    }
}
