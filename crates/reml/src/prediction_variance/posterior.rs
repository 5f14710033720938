//! The reference spectrum as posterior variances use it, and the samples at which they are wanted.

use crate::linalg::block::{self, product};
use crate::linalg::kernel_matrix::KernelMatrix;
use crate::linalg::power_of_two::power_of_two;
use crate::reference_spectrum::ReferenceSpectrum;
use crate::spectral_density::SpectralDensity;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
use std::borrow::Cow;

/// Rows whose variances are formed together.
pub(super) const CHUNK_ROWS: usize = 1024;

/// An eigenvalue must exceed μ by this share of μ to be used for a new sample. Otherwise the division by λ − μ would amplify rounding.
const DISTINCT: f64 = 1e-3;

/// The reference spectrum, prepared for the posterior variances of every mask.
///
/// ```
/// use reml::prediction_variance::Posterior;
/// use reml::{Covariates, DenseKernel, Probes, ReferenceSpectrum};
///
/// // A kernel that is 1 where two samples have the same x; 12 samples.
/// let k = faer::Mat::from_fn(12, 12, |i, j| (-0.1 * (i as f64 - j as f64).powi(2)).exp());
/// let (kernel, covariates) = (DenseKernel::new(k.as_ref())?, Covariates::new(12, &[vec![1.0; 12]]));
/// let Ok(spectrum) = ReferenceSpectrum::new(&kernel, &covariates, &[true; 12], Probes::default(), |_| {});
///
/// let posterior = Posterior::new(&spectrum);
/// let Ok(points) = posterior.reference_points(&kernel);
/// let found = posterior.variances(spectrum.operator(), &[0.5, 5.0], &[(&points, &|_| true)]);
/// // In units of the noise variance: they grow with t, and are below 1 on the samples of the fit.
/// assert!((0..12).all(|i| found[0][(i, 0)] < found[0][(i, 1)] && found[0][(i, 1)] < 1.0));
/// # Ok::<(), reml::NotAKernel>(())
/// ```
pub struct Posterior<'s, 'a> {
    pub(super) reference: &'s ReferenceSpectrum<'a>,
    /// μ, and the eigenvalues of the probes' space above it with their vectors, m × kept.
    pub(super) tail_mean: f64,
    pub(super) values: Vec<f64>,
    pub(super) vectors: Mat<f64>,
    /// C = D K Q, n × r, with Q the orthonormal covariates and D the samples of the reference spectrum, in its unit: K C would be beyond single precision.
    pub(super) shares: Mat<f32>,
    pub(super) unit: f64,
    /// C'C and Q'KQ, r × r; C'G, r × m.
    pub(super) shares_gram: Mat<f64>,
    pub(super) covariates_gram: Mat<f64>,
    pub(super) shares_in_space: Mat<f64>,
    pub(super) measure: SpectralDensity,
    /// tr A − tr B and |A|² − |B|².
    pub(super) beyond: [f64; 2],
}

/// Samples at which variances are wanted: what the variances need to know of them, whatever the mask.
pub struct EvaluationPoints<'s> {
    /// Coordinates in the probes' space, rows × m in blocks of columns.
    pub(super) coordinates: Cow<'s, [Mat<f32>]>,
    /// Rows of the covariates' basis.
    pub(super) covariates: Mat<f64>,
    /// Whether these are the samples of the reference spectrum.
    pub(super) is_of_reference: bool,
    /// E_xx.
    pub(super) own: Vec<f64>,
    /// Σ_{i≠x} A_xi² − B_xi²; of a sample that is not of the reference spectrum |w|² beyond Ṽ.
    pub(super) off: Vec<f64>,
}

/// Products of the kernel's rows at some samples, from which their [`EvaluationPoints`] are found.
pub struct Products<'p> {
    /// K(x, ·) times [`Posterior::columns`], rows × columns.
    pub products: MatRef<'p, f32>,
    /// Σᵢ K(x, i)² over the samples of the reference spectrum.
    pub squares: &'p [f64],
    /// K(x, x).
    pub diagonal: &'p [f64],
}

impl<'s, 'a> Posterior<'s, 'a> {
    /// Reads the reference spectrum of all samples. Cost: 4 n m r flops for a rank r of the covariates.
    pub fn new(reference: &'s ReferenceSpectrum<'a>) -> Self {
        let (operator, space) = (reference.operator(), reference.probes());
        let tail_mean = reference.tail_mean();
        let q = operator.projection().orthonormal();
        let kq = reference.covariate_products();
        let mask = operator.projection().mask();
        let unit = power_of_two(f64::from(kq.norm_max()));
        let scale = (1.0 / unit) as f32;
        let shares = Mat::from_fn(kq.nrows(), kq.ncols(), |i, j| match mask[i] {
            true => scale * kq[(i, j)],
            false => 0.0,
        });
        let shares_in_space = match space.dimension() {
            0 => Mat::zeros(kq.ncols(), 0),
            _ => space.coordinates(&[&shares]).transpose() * faer::Scale(unit),
        };
        let (values, vectors) = space.eigen().map_or((&[][..], None), |e| {
            let kept = e.values.iter().take_while(|&&l| l > tail_mean).count();
            (
                &e.values[..kept],
                Some(e.vectors.subcols(0, kept).to_owned()),
            )
        });
        let excess: f64 = values.iter().map(|l| l - tail_mean).sum();
        let squares: f64 = values.iter().map(|l| l * l - tail_mean * tail_mean).sum();
        let (moments, dof) = (reference.moments(), operator.dof() as f64);
        Self {
            tail_mean,
            beyond: [
                moments.trace - excess - tail_mean * dof,
                moments.frobenius_squared - squares - tail_mean * tail_mean * dof,
            ],
            values: values.to_vec(),
            vectors: vectors.unwrap_or_else(|| Mat::zeros(0, 0)),
            shares_gram: block::inner(shares.as_ref(), shares.as_ref()) * faer::Scale(unit.powi(2)),
            covariates_gram: block::inner(q.as_ref(), kq.as_ref()),
            shares_in_space,
            measure: reference.density(),
            shares,
            unit,
            reference,
        }
    }

    /// The columns by which the kernel's rows at samples outside the reference spectrum are to be multiplied, n × (m + 2 r): G, Q and D K Q in its unit.
    pub fn columns(&self) -> Mat<f32> {
        let q = block::narrow(
            self.reference
                .operator()
                .projection()
                .orthonormal()
                .as_ref(),
        );
        let blocks = self.reference.probes().basis().iter();
        block::hstack(&blocks.chain([&q, &self.shares]).collect::<Vec<_>>())
    }

    /// The evaluation points of the kernel's samples, n of them; those of samples outside the reference spectrum mean nothing. Cost: one pass over the kernel
    /// with r columns and one of squares.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn reference_points<K: KernelMatrix>(
        &self,
        kernel: &K,
    ) -> Result<EvaluationPoints<'s>, K::Error> {
        let operator = self.reference.operator();
        let (of_shares, squares) =
            kernel.multiply(self.shares.as_ref(), operator.indicator().as_ref())?;
        let square = kernel.unit().powi(2);
        let squares = squares.col_as_slice(0).iter();
        let widened: Vec<f64> = squares.map(|&v| f64::from(v) * square).collect();
        let basis = operator.projection().basis();
        let q = operator.projection().extend(basis);
        let [own, size] = self.moments(
            &q,
            kernel.diagonal(),
            self.reference.covariate_products().as_ref(),
            of_shares.as_ref(),
            &widened,
        );
        let weights = Mat::from_fn(self.values.len(), 2, |j, c| {
            let (l, mu) = (self.values[j], self.tail_mean);
            [l - mu, l * l - mu * mu][c]
        });
        let coordinates = self.reference.probes().basis();
        let held = rotated_squares(coordinates, self.vectors.as_ref(), weights.as_ref());
        let mut places = EvaluationPoints {
            coordinates: Cow::Borrowed(coordinates),
            covariates: basis.to_owned(),
            is_of_reference: true,
            own,
            off: size,
        };
        for x in 0..q.nrows() {
            let left = 1.0 - row_square(&q, x);
            let diagonal = held[(x, 0)] + self.tail_mean * left;
            let squared = held[(x, 1)] + self.tail_mean * self.tail_mean * left;
            let beside = places.own[x].powi(2) - diagonal.powi(2);
            places.off[x] -= squared + beside;
            places.own[x] -= diagonal;
        }
        Ok(places)
    }

    /// The evaluation points of samples outside the reference spectrum, from the products of their kernel rows. `covariates` are their rows of the covariates'
    /// basis, rows × r ([`Covariates::rows`](crate::Covariates::rows)).
    ///
    /// A coordinate is that of Nyström: (λ − μ) U_j(x) = u_j'w. Cost: 4 m² flops a sample.
    pub fn others(&self, rows: &Products<'_>, covariates: Mat<f64>) -> EvaluationPoints<'static> {
        let (m, r) = (self.shares_in_space.ncols(), self.shares.ncols());
        let n = self.reference.operator().n_observed() as f64;
        let q = self
            .reference
            .operator()
            .projection()
            .extend(covariates.as_ref());
        let (of_space, rest) = rows.products.split_at_col(m);
        let (of_covariates, of_shares) = rest.split_at_col(r);
        let [mut own, mut off] =
            self.moments(&q, rows.diagonal, of_covariates, of_shares, rows.squares);
        // G'w = G'(k − C q) / n.
        let mut within = block::convert(of_space, f64::from);
        block::add_product(
            within.as_mut(),
            q.as_ref(),
            self.shares_in_space.as_ref(),
            -1.0,
        );
        let mut along = Mat::zeros(within.nrows(), self.values.len());
        block::add_product(
            along.as_mut(),
            within.as_ref(),
            self.vectors.as_ref(),
            1.0 / n,
        );
        for x in 0..along.nrows() {
            let (mut held, mut squared) = (0.0, 0.0);
            for (j, value) in self.values.iter().enumerate() {
                let gap = value - self.tail_mean;
                let size = along[(x, j)];
                if gap > DISTINCT * self.tail_mean {
                    along[(x, j)] = size / gap;
                    held += size * size / gap;
                    squared += size * size;
                } else {
                    along[(x, j)] = 0.0;
                }
            }
            own[x] -= held + self.tail_mean * (1.0 + row_square(&q, x));
            off[x] = (off[x] - squared).max(0.0);
        }
        let mut coordinates = Mat::zeros(along.nrows(), m);
        let back = self.vectors.transpose().to_owned();
        block::add_product(coordinates.as_mut(), along.as_ref(), back.as_ref(), 1.0);
        EvaluationPoints {
            coordinates: Cow::Owned(vec![block::narrow(coordinates.as_ref())]),
            covariates,
            is_of_reference: false,
            own,
            off,
        }
    }

    /// κ and |w|² at samples with the extended covariates `q` (rows × r): k = K(·, x) on the samples of the reference spectrum gives
    ///
    /// ```text
    ///     n κ = K(x, x) − 2 q'Q'k + q'(Q'KQ) q,   n w = P (k − C q),   P = 1 − Q Q'
    /// ```
    fn moments(
        &self,
        q: &Mat<f64>,
        diagonal: &[f64],
        of_covariates: MatRef<'_, f32>,
        of_shares: MatRef<'_, f32>,
        squares: &[f64],
    ) -> [Vec<f64>; 2] {
        let n = self.reference.operator().n_observed() as f64;
        let r = q.ncols();
        let (m, c) = (&self.covariates_gram, &self.shares_gram);
        (0..q.nrows())
            .map(|x| {
                let (mut own, mut size, mut along) = (diagonal[x], squares[x], 0.0);
                for i in 0..r {
                    let on_q = f64::from(of_covariates[(x, i)]);
                    let fitted: f64 = (0..r).map(|j| m[(i, j)] * q[(x, j)]).sum();
                    let crossed: f64 = (0..r).map(|j| c[(i, j)] * q[(x, j)]).sum();
                    own += q[(x, i)] * (fitted - 2.0 * on_q);
                    let on_share = self.unit * f64::from(of_shares[(x, i)]);
                    size += q[(x, i)] * (crossed - 2.0 * on_share);
                    along += (on_q - fitted).powi(2);
                }
                (own / n, (size - along) / (n * n))
            })
            .unzip()
            .into()
    }
}

/// |q(x)|².
pub(super) fn row_square(q: &Mat<f64>, x: usize) -> f64 {
    (0..q.ncols()).map(|j| q[(x, j)].powi(2)).sum()
}

/// Σⱼ (G V)²_xj weightsⱼ, rows × (columns of weights).
fn rotated_squares(g: &[Mat<f32>], v: MatRef<'_, f64>, weights: MatRef<'_, f64>) -> Mat<f64> {
    let n = g.first().map_or(0, Mat::nrows);
    let narrow = block::narrow(v);
    let mut sums = Mat::zeros(n, weights.ncols());
    let parts: Vec<Mat<f64>> = chunks(n)
        .map(|(start, len)| product(squares(&rotated(g, start, len, &narrow)), weights))
        .collect();
    for ((start, len), part) in chunks(n).collect::<Vec<_>>().into_iter().zip(parts) {
        sums.subrows_mut(start, len).copy_from(part);
    }
    sums
}

pub(super) fn chunks(n: usize) -> impl IndexedParallelIterator<Item = (usize, usize)> {
    (0..n.div_ceil(CHUNK_ROWS))
        .into_par_iter()
        .map(move |c| (c * CHUNK_ROWS, CHUNK_ROWS.min(n - c * CHUNK_ROWS)))
}

/// Rows of G M, in single precision.
pub(super) fn rotated(g: &[Mat<f32>], start: usize, len: usize, mix: &Mat<f32>) -> Mat<f32> {
    let mut y = Mat::zeros(len, mix.ncols());
    let mut at = 0;
    for block in g {
        let rows = mix.subrows(at, block.ncols());
        let part = block.subrows(start, len);
        matmul(y.as_mut(), Accum::Add, part, rows, 1.0, Par::Seq);
        at += block.ncols();
    }
    y
}

pub(super) fn squares(y: &Mat<f32>) -> Mat<f64> {
    block::convert(y.as_ref(), |v| f64::from(v) * f64::from(v))
}
