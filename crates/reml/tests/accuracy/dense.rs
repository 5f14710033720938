//! The definitions executed literally: dense, f64, one eigendecomposition a mask. Made to be read and to be compared
//! against, not to be fast.

use faer::{Mat, MatRef, Side};
use reml::chi_squared_mixture::log_survival;

/// 95 % quantile of χ²₁.
const WIDTH: f64 = 3.841_458_820_694_124;

/// An eigenvalue of the f32-rounded kernel below this share of the largest is a zero of the kernel itself.
const ZERO: f64 = 1e-7;

/// A = P H P on the range of P, for one mask, fully decomposed.
pub struct DenseOperator {
    kernel: Mat<f64>,
    observed: Vec<usize>,
    covariates: Mat<f64>,
    basis: Mat<f64>,
    /// Eigenvalues, descending, and eigenvectors on the observed samples.
    pub lambda: Vec<f64>,
    pub u: Mat<f64>,
}

/// Every number reported for one phenotype.
pub struct DenseAnalysis {
    pub score: f64,
    pub log_p: f64,
    /// t̂, `None` where Q decreases for ever.
    pub time: Option<f64>,
    pub lower: f64,
    pub upper: Option<f64>,
    pub reml_ratio: f64,
    pub effective_dof: f64,
    pub noise_variance: f64,
    /// At the time used for prediction: dual weights on all samples, K α + Z β on all samples, and R².
    pub dual: Vec<f64>,
    pub fitted: Vec<f64>,
    pub r2: f64,
    /// Q'(0) / Σλ: how clearly t̂ is at or off zero; and Q''(t̂) / Σλ, in units of 1 / time.
    pub slope_at_zero: f64,
    pub curvature: f64,
    pub loss: SpectralLoss,
}

/// Q of one phenotype.
pub struct SpectralLoss {
    pub lambda: Vec<f64>,
    pub c2: Vec<f64>,
    pub dof: f64,
}

impl SpectralLoss {
    /// Q, Q' and Q''.
    pub fn at(&self, t: f64) -> (f64, f64, f64) {
        let terms = || {
            self.lambda
                .iter()
                .zip(&self.c2)
                .filter(|(_, c2)| **c2 > 0.0)
        };
        let shift = terms().map(|(l, _)| *l).fold(f64::INFINITY, f64::min);
        let weight = |l: f64, c2: f64| c2 * (-t * (l - shift)).exp();
        let total: f64 = terms().map(|(&l, &c2)| weight(l, c2)).sum();
        let mean = terms().map(|(&l, &c2)| weight(l, c2) * l).sum::<f64>() / total;
        let variance = terms()
            .map(|(&l, &c2)| weight(l, c2) * (l - mean).powi(2))
            .sum::<f64>()
            / total;
        let trace: f64 = self.lambda.iter().sum();
        (
            self.dof * (total.ln() - t * shift) + t * trace,
            trace - self.dof * mean,
            self.dof * variance,
        )
    }

    pub fn effective_dof(&self, t: f64) -> f64 {
        self.lambda.iter().map(|l| -(-t * l).exp_m1()).sum()
    }
}

/// Root of an increasing f beyond `start`, by doubling and bisection; `None` past 1e12 / `largest`.
fn root_beyond(f: impl Fn(f64) -> f64, start: f64, largest: f64) -> Option<f64> {
    let mut high = (2.0 * start).max(1.0 / largest);
    while f(high) < 0.0 {
        high *= 2.0;
        if high * largest > 1e12 {
            return None;
        }
    }
    Some(bisect(|t| f(t) < 0.0, start, high))
}

/// Where `below` turns from true to false.
fn bisect(below: impl Fn(f64) -> bool, mut low: f64, mut high: f64) -> f64 {
    for _ in 0..400 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

impl DenseOperator {
    /// `kernel` n × n; `covariates` columns of length n.
    pub fn new(kernel: MatRef<'_, f32>, covariates: &[Vec<f64>], mask: &[bool]) -> Self {
        let observed: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
        let n = observed.len();
        let kernel = Mat::from_fn(kernel.nrows(), kernel.ncols(), |i, j| {
            f64::from(kernel[(i, j)])
        });
        let z = Mat::from_fn(kernel.nrows(), covariates.len(), |i, j| covariates[j][i]);
        // Columns of unit norm, so that units do not decide the rank; a column of zeros stays.
        let norm = |j: usize| {
            observed
                .iter()
                .map(|&i| z[(i, j)].powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let norms: Vec<f64> = (0..z.ncols()).map(norm).collect();
        let scaled = Mat::from_fn(n, z.ncols(), |i, j| {
            if norms[j] > 0.0 {
                z[(observed[i], j)] / norms[j]
            } else {
                0.0
            }
        });
        let basis = if scaled.ncols() == 0 || n == 0 {
            Mat::zeros(n, 0)
        } else {
            let svd = scaled.thin_svd().expect("finite covariates");
            let sigma = svd.S().column_vector();
            let rank = (0..sigma.nrows())
                .filter(|&k| sigma[k] > 1e-8 * sigma[0])
                .count();
            svd.U().subcols(0, rank).to_owned()
        };
        // An orthonormal basis N of the complement: A on the range of P is N'HN, dof × dof.
        let complement = if basis.ncols() == 0 {
            Mat::identity(n, n)
        } else {
            basis
                .qr()
                .compute_Q()
                .subcols(basis.ncols(), n - basis.ncols())
                .to_owned()
        };
        let h = Mat::from_fn(n, n, |i, j| kernel[(observed[i], observed[j])] / n as f64);
        let a = complement.transpose() * &h * &complement;
        let dof = a.nrows();
        let (lambda, u) = if dof == 0 {
            (Vec::new(), Mat::zeros(n, 0))
        } else {
            let eigen = a.self_adjoint_eigen(Side::Lower).expect("finite kernel");
            let ascending = eigen.S().column_vector();
            let largest = ascending[dof - 1].max(0.0);
            let lambda = (0..dof)
                .rev()
                .map(|i| {
                    if ascending[i] > ZERO * largest {
                        ascending[i]
                    } else {
                        0.0
                    }
                })
                .collect();
            let u = &complement * eigen.U();
            (lambda, Mat::from_fn(n, dof, |i, j| u[(i, dof - 1 - j)]))
        };
        Self {
            kernel,
            observed,
            covariates: z,
            basis,
            lambda,
            u,
        }
    }

    pub fn n_observed(&self) -> usize {
        self.observed.len()
    }

    pub fn rank(&self) -> usize {
        self.basis.ncols()
    }

    pub fn dof(&self) -> usize {
        self.lambda.len()
    }

    /// |y − ȳ|² and |P y|² on the observed samples.
    pub fn variation(&self, values: &[f64]) -> (f64, f64) {
        let n = self.n_observed();
        let y = Mat::from_fn(n, 1, |i, _| values[self.observed[i]]);
        let mean = y.col(0).iter().sum::<f64>() / n as f64;
        let variation = y.col(0).iter().map(|v| (v - mean).powi(2)).sum();
        (variation, (self.u.transpose() * &y).squared_norm_l2())
    }

    /// log p of the robust test, as `reml::robust_test` defines it.
    pub fn robust_log_p(&self, values: &[f64]) -> f64 {
        let n = self.n_observed();
        let q = &self.basis;
        let h = Mat::from_fn(n, n, |i, j| {
            self.kernel[(self.observed[i], self.observed[j])] / n as f64
        });
        let p = Mat::<f64>::identity(n, n) - q * q.transpose();
        let y = Mat::from_fn(n, 1, |i, _| values[self.observed[i]]);
        let w = &p * y;
        let a = &p * &h * &p;
        let own: Vec<f64> = (0..n).map(|i| a[(i, i)] / p[(i, i)]).collect();
        let total = w.squared_norm_l2();
        let taken_off: f64 = (0..n).map(|i| own[i] * w[(i, 0)].powi(2)).sum();
        let ratio = ((w.transpose() * &h * &w)[(0, 0)] - taken_off) / total;
        let c = Mat::from_fn(n, n, |i, j| match i == j {
            true => h[(i, j)] - own[i] - ratio,
            false => h[(i, j)],
        });
        let d = |i: usize| w[(i, 0)].abs() / p[(i, i)].sqrt();
        let middle = &p * c * &p;
        let m = Mat::from_fn(n, n, |i, j| {
            d(i) * 0.5 * (middle[(i, j)] + middle[(j, i)]) * d(j)
        });
        let values = m.self_adjoint_eigenvalues(Side::Lower).expect("finite");
        log_survival(&values, &vec![1.0; n])
    }

    /// log p of the robust test of a working residual r with null variances v (n values each): with the projection N = I − V Z (Z'VZ)⁺ Z' of the null model.
    pub fn weighted_log_p(&self, residual: &[f64], variances: &[f64]) -> f64 {
        let n = self.n_observed();
        let (r, v) = (
            |i: usize| residual[self.observed[i]],
            |i: usize| variances[self.observed[i]],
        );
        let z = &self.basis;
        let vz = Mat::from_fn(n, z.ncols(), |i, j| v(i) * z[(i, j)]);
        let eigen = (z.transpose() * &vz)
            .self_adjoint_eigen(Side::Lower)
            .expect("finite");
        let values = eigen.S().column_vector();
        let largest = values.iter().copied().fold(0.0, f64::max);
        let scaled = Mat::from_fn(z.ncols(), z.ncols(), |i, j| {
            let inverse = if values[j] > 1e-14 * largest {
                1.0 / values[j]
            } else {
                0.0
            };
            eigen.U()[(i, j)] * inverse
        });
        let inverse = scaled * eigen.U().transpose();
        let off = Mat::<f64>::identity(n, n) - &vz * inverse * z.transpose();
        let h = Mat::from_fn(n, n, |i, j| {
            self.kernel[(self.observed[i], self.observed[j])] / n as f64
        });
        let nhn = off.transpose() * &h * &off;
        let own: Vec<f64> = (0..n).map(|i| nhn[(i, i)] / off[(i, i)]).collect();
        let column = Mat::from_fn(n, 1, |i, _| r(i));
        let taken_off: f64 = (0..n).map(|i| own[i] * r(i).powi(2)).sum();
        let ratio =
            ((column.transpose() * &h * &column)[(0, 0)] - taken_off) / column.squared_norm_l2();
        let c = Mat::from_fn(n, n, |i, j| match i == j {
            true => h[(i, j)] - own[i] - ratio,
            false => h[(i, j)],
        });
        let middle = off.transpose() * &c * &off;
        let d = |i: usize| r(i).abs() / off[(i, i)].sqrt();
        let m = Mat::from_fn(n, n, |i, j| {
            d(i) * 0.5 * (middle[(i, j)] + middle[(j, i)]) * d(j)
        });
        let values = m.self_adjoint_eigenvalues(Side::Lower).expect("finite");
        log_survival(&values, &vec![1.0; n])
    }

    /// Tests and fits one phenotype. With `gate`, one that is not warranted at `alpha` is predicted at t = 0.
    pub fn analyse(&self, values: &[f64], alpha: f64, gate: bool) -> DenseAnalysis {
        let n = self.n_observed();
        let y = Mat::from_fn(n, 1, |i, _| values[self.observed[i]]);
        let c = self.u.transpose() * &y;
        let c2: Vec<f64> = (0..self.dof()).map(|i| c[(i, 0)].powi(2)).collect();
        let total: f64 = c2.iter().sum();
        // Weights of rounding size are zeros.
        let c2: Vec<f64> = c2
            .iter()
            .map(|&w| if w > 1e-14 * total { w } else { 0.0 })
            .collect();
        let total: f64 = c2.iter().sum();
        let loss = SpectralLoss {
            lambda: self.lambda.clone(),
            c2,
            dof: self.dof() as f64,
        };
        let trace: f64 = self.lambda.iter().sum();
        let largest = self.lambda[0];

        let q = loss
            .lambda
            .iter()
            .zip(&loss.c2)
            .map(|(l, w)| l * w)
            .sum::<f64>()
            / total;
        let shifted: Vec<f64> = self.lambda.iter().map(|l| l - q).collect();
        let log_p = log_survival(&shifted, &vec![1.0; self.dof()]);

        let time = if loss.at(0.0).1 >= 0.0 {
            Some(0.0)
        } else {
            root_beyond(|t| loss.at(t).1, 0.0, largest)
        };
        let gap = |t: f64| loss.at(t).0 - loss.at(time.unwrap_or(0.0)).0 - WIDTH;
        let upper = time.and_then(|t| root_beyond(gap, t, largest));
        let lower = match time {
            Some(t) if t > 0.0 && gap(0.0) > 0.0 => bisect(|s| gap(s) > 0.0, 0.0, t),
            _ => 0.0,
        };
        let used = if gate && log_p >= alpha.ln() {
            Some(0.0)
        } else {
            time
        };
        let dual = self.dual(values, used);
        let fitted = self.fitted(&dual, values);
        let mean = y.col(0).iter().sum::<f64>() / n as f64;
        let residual: f64 = self
            .observed
            .iter()
            .map(|&i| (values[i] - fitted[i]).powi(2))
            .sum();
        let variation: f64 = self
            .observed
            .iter()
            .map(|&i| (values[i] - mean).powi(2))
            .sum();
        let decay = |l: f64| match time {
            Some(t) => (-t * l).exp(),
            None => f64::from(u8::from(l == 0.0)),
        };
        let at_time = loss.at(time.unwrap_or(0.0));
        DenseAnalysis {
            score: self.dof() as f64 * q,
            log_p,
            time,
            lower,
            upper,
            reml_ratio: time.map_or(f64::INFINITY, |_| loss.at(0.0).0 - at_time.0),
            effective_dof: self.lambda.iter().map(|&l| 1.0 - decay(l)).sum(),
            noise_variance: loss
                .lambda
                .iter()
                .zip(&loss.c2)
                .map(|(&l, w)| w * decay(l))
                .sum::<f64>()
                / loss.dof,
            dual: dual.col_as_slice(0).to_vec(),
            fitted,
            r2: 1.0 - residual / variation,
            slope_at_zero: loss.at(0.0).1 / trace,
            curvature: at_time.2 / trace,
            loss,
        }
    }

    /// α at a time (infinite where there is none), on all samples.
    pub fn dual(&self, values: &[f64], time: Option<f64>) -> Mat<f64> {
        let n = self.n_observed();
        let y = Mat::from_fn(n, 1, |i, _| values[self.observed[i]]);
        let c = self.u.transpose() * &y;
        let shrunk = |l: f64| match time {
            None if l > 0.0 => 1.0 / l,
            None => 0.0,
            Some(t) if l == 0.0 => t,
            Some(t) => -(-t * l).exp_m1() / l,
        };
        let weights = Mat::from_fn(self.dof(), 1, |i, _| {
            shrunk(self.lambda[i]) * c[(i, 0)] / n as f64
        });
        let on_observed = &self.u * weights;
        let mut dual = Mat::zeros(values.len(), 1);
        for (i, &at) in self.observed.iter().enumerate() {
            dual[(at, 0)] = on_observed[(i, 0)];
        }
        dual
    }

    /// K α + Z β on all samples, β = Z⁺ (y − K α) on the observed ones.
    pub fn fitted(&self, dual: &Mat<f64>, values: &[f64]) -> Vec<f64> {
        let increment = &self.kernel * dual;
        let q = self.covariates.ncols();
        let rest = Mat::from_fn(self.n_observed(), 1, |i, _| {
            let at = self.observed[i];
            values[at] - increment[(at, 0)]
        });
        // On S the fit of the covariates is Q Q'(y − K α); other samples need β, the least-norm one of scaled columns.
        let beta = self.least_squares(&rest);
        (0..self.kernel.nrows())
            .map(|i| {
                increment[(i, 0)]
                    + (0..q)
                        .map(|j| self.covariates[(i, j)] * beta[j])
                        .sum::<f64>()
            })
            .collect()
    }

    /// Posterior variance of the increment at every sample in units of σ², from the definition: t κ − w'η_t(A) w, η_t = ∫₀ᵗ φ_s ds; each
    /// sample's covariates are fitted by the least-norm combination of those on the mask.
    pub fn posterior_variance(&self, t: f64) -> Vec<f64> {
        let (n, q) = (self.n_observed(), self.covariates.ncols());
        let z = Mat::from_fn(n, q, |i, j| self.covariates[(self.observed[i], j)]);
        let svd = z.thin_svd().expect("finite covariates");
        let rank = self.rank();
        // a(x) = Z (Z'Z)⁺ z(x).
        let to_span = Mat::from_fn(n, q, |i, j| {
            let sigma = svd.S().column_vector();
            (0..rank)
                .map(|k| svd.U()[(i, k)] * svd.V()[(j, k)] / sigma[k])
                .sum::<f64>()
        });
        let a = to_span * self.covariates.transpose();
        let size = self.kernel.nrows();
        let k = Mat::from_fn(n, size, |i, x| self.kernel[(self.observed[i], x)]);
        let on_mask = Mat::from_fn(n, n, |i, j| k[(i, self.observed[j])]);
        let fitted = &on_mask * &a;
        let w = self.u.transpose() * (&k - &fitted);
        let eta = |l: f64| match t * l < 1e-4 {
            true => t * t * (0.5 - t * l / 6.0),
            false => (t + (-t * l).exp_m1() / l) / l,
        };
        (0..size)
            .map(|x| {
                let own = self.kernel[(x, x)]
                    + (0..n)
                        .map(|i| a[(i, x)] * (fitted[(i, x)] - 2.0 * k[(i, x)]))
                        .sum::<f64>();
                let known: f64 = (0..self.dof())
                    .map(|j| (w[(j, x)] / n as f64).powi(2) * eta(self.lambda[j]))
                    .sum();
                t * own / n as f64 - known
            })
            .collect()
    }

    /// eᵢ / sᵢ at times on the observed samples, n_S × times: e = exp(−tA) P y, s the diagonal of exp(−tA) on the range of P.
    pub fn left_out(&self, values: &[f64], times: &[f64]) -> Mat<f64> {
        let n = self.n_observed();
        let y = Mat::from_fn(n, 1, |i, _| values[self.observed[i]]);
        let c = self.u.transpose() * &y;
        let decay = Mat::from_fn(self.dof(), times.len(), |k, q| {
            (-times[q] * self.lambda[k]).exp()
        });
        let decayed = Mat::from_fn(self.dof(), times.len(), |k, q| decay[(k, q)] * c[(k, 0)]);
        let squares = Mat::from_fn(n, self.dof(), |i, k| self.u[(i, k)].powi(2));
        let free: Vec<bool> = (0..n)
            .map(|i| squares.row(i).iter().sum::<f64>() > 1e-10)
            .collect();
        let (e, s) = (&self.u * decayed, squares * decay);
        Mat::from_fn(n, times.len(), |i, q| {
            if free[i] { e[(i, q)] / s[(i, q)] } else { 0.0 }
        })
    }

    /// Σ (eᵢ / sᵢ)² at times.
    pub fn leave_one_out(&self, values: &[f64], times: &[f64]) -> Vec<f64> {
        let left_out = self.left_out(values, times);
        (0..times.len())
            .map(|q| left_out.col(q).squared_norm_l2())
            .collect()
    }

    /// Its minimum over [0, 50 dof / tr A], (t, LOO): grids in log t, each about the best of the one before; t is infinite at the end.
    pub fn loo_time(&self, values: &[f64]) -> (f64, f64) {
        let top = 50.0 * self.dof() as f64 / self.lambda.iter().sum::<f64>();
        let (mut low, mut high, mut n) = (1e-4 / self.lambda[0], top, 200);
        let none = self.leave_one_out(values, &[0.0])[0];
        loop {
            let at = |k: usize| low * (high / low).powf(k as f64 / n as f64);
            let times: Vec<f64> = (0..=n).map(at).collect();
            let found = self.leave_one_out(values, &times);
            let best = (0..=n)
                .min_by(|&a, &b| found[a].total_cmp(&found[b]))
                .unwrap_or(0);
            if none <= found[best] {
                return (0.0, none);
            }
            if times[best] >= top * (1.0 - 1e-12) {
                return (f64::INFINITY, found[n]);
            }
            if n < 200 && high / low < 1.001 {
                return (times[best], found[best]);
            }
            (low, high) = (times[best.saturating_sub(1)], times[(best + 1).min(n)]);
            n = 16;
        }
    }

    fn least_squares(&self, rest: &Mat<f64>) -> Vec<f64> {
        let q = self.covariates.ncols();
        if q == 0 {
            return Vec::new();
        }
        let z = Mat::from_fn(self.n_observed(), q, |i, j| {
            self.covariates[(self.observed[i], j)]
        });
        let norms: Vec<f64> = (0..q).map(|j| z.col(j).norm_l2()).collect();
        let scaled = Mat::from_fn(z.nrows(), q, |i, j| {
            if norms[j] > 0.0 {
                z[(i, j)] / norms[j]
            } else {
                0.0
            }
        });
        let svd = scaled.thin_svd().expect("finite covariates");
        let sigma = svd.S().column_vector();
        let mut beta = vec![0.0; q];
        for k in 0..self.rank() {
            let on: f64 = (0..z.nrows()).map(|i| svd.U()[(i, k)] * rest[(i, 0)]).sum();
            for (j, b) in beta.iter_mut().enumerate() {
                if norms[j] > 0.0 {
                    *b += svd.V()[(j, k)] * on / sigma[k] / norms[j];
                }
            }
        }
        beta
    }
}
