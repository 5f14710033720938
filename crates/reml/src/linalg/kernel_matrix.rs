//! What the statistics need of a kernel matrix.

use crate::linalg::power_of_two::power_of_two;
use faer::{Mat, MatRef};

/// A symmetric positive semidefinite matrix K on n samples that multiplies blocks of vectors, perhaps out of core.
///
/// [`multiply`](Self::multiply) is the only access to its entries that must be written. [`submatrix`](Self::submatrix) and [`columns`](Self::columns) take a
/// pass each; write them too where they can be cheaper.
///
/// ```
/// use faer::{Mat, MatRef};
/// use reml::KernelMatrix;
///
/// /// K = ones + identity, which needs no memory.
/// struct OnesAndIdentity(Vec<f64>);
///
/// impl KernelMatrix for OnesAndIdentity {
///     type Error = std::convert::Infallible;
///     fn n_samples(&self) -> usize {
///         self.0.len()
///     }
///     fn diagonal(&self) -> &[f64] {
///         &self.0
///     }
///     fn multiply(&self, x: MatRef<'_, f32>, s: MatRef<'_, f32>) -> Result<(Mat<f32>, Mat<f32>), Self::Error> {
///         let sum = |x: MatRef<'_, f32>, j: usize| x.col(j).iter().sum::<f32>();
///         let product = Mat::from_fn(x.nrows(), x.ncols(), |i, j| sum(x, j) + x[(i, j)]);
///         // K∘K = ones + 3 identity.
///         let unit = (self.unit() as f32).powi(2);
///         let squares = Mat::from_fn(s.nrows(), s.ncols(), |i, j| (sum(s, j) + 3.0 * s[(i, j)]) / unit);
///         Ok((product, squares))
///     }
/// }
///
/// let kernel = OnesAndIdentity(vec![2.0; 5]);
/// let Ok(columns) = kernel.columns(&[1]);
/// assert_eq!((columns[(0, 0)], columns[(1, 0)]), (1.0, 2.0));
/// ```
pub trait KernelMatrix: Sync {
    /// Why a product may fail (an unreadable tile, say).
    type Error: Send;

    /// Number of samples n.
    fn n_samples(&self) -> usize;

    /// The diagonal of K, n values.
    fn diagonal(&self) -> &[f64];

    /// A power of two of about the size of K's diagonal. In this unit, single precision holds K and the squares of its entries.
    fn unit(&self) -> f64 {
        let diagonal = self.diagonal();
        power_of_two(diagonal.iter().sum::<f64>() / diagonal.len().max(1) as f64)
    }

    /// One pass over the kernel: (K X, (K∘K) S / [`unit`](KernelMatrix::unit)²) for blocks X (n × b) and S (n × s), column-major.
    ///
    /// Each column's bits depend on that column alone. The rows of [`far_samples`](crate::far_samples::far_samples) are summed in double precision;
    /// where they are not, their fitted values count as more exact than they are. Cost: 2 n² (b + s) flops, one read of the kernel.
    ///
    /// # Errors
    /// When a part of the kernel cannot be read.
    fn multiply(
        &self,
        x: MatRef<'_, f32>,
        squared: MatRef<'_, f32>,
    ) -> Result<(Mat<f32>, Mat<f32>), Self::Error>;

    /// K on the given samples, s × s, for few of them.
    ///
    /// Cost: s² entries read.
    ///
    /// # Errors
    /// When a part of the kernel cannot be read.
    fn submatrix(&self, samples: &[usize]) -> Result<Mat<f32>, Self::Error> {
        let columns = self.columns(samples)?;
        let s = samples.len();
        Ok(Mat::from_fn(s, s, |i, j| columns[(samples[i], j)]))
    }

    /// The columns of K of the given samples, n × s.
    ///
    /// Cost: n s entries read, one read of the kernel at most.
    ///
    /// # Errors
    /// When a part of the kernel cannot be read.
    fn columns(&self, samples: &[usize]) -> Result<Mat<f32>, Self::Error> {
        let n = self.n_samples();
        let x = Mat::from_fn(n, samples.len(), |i, j| {
            f32::from(u8::from(i == samples[j]))
        });
        let none = Mat::zeros(n, 0);
        Ok(self.multiply(x.as_ref(), none.as_ref())?.0)
    }
}
