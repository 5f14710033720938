//! The null distribution of the robust score: Pr(Σ μᵢ χ²₁ > 0) for the eigenvalues μ of M, from [log det(I − 2zM)](LogDet) along a contour.

use crate::robust_test::log_det::{LogDet, Node, RobustOperator, ZERO};
use faer::c64;

/// An upper tail probability, (1/π) ∫ Re exp(κ)/z dy with κ = −log det(I − 2zM) / 2 along a contour that crosses the real axis at z.
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    /// Where the contour crosses the real axis; negative where the integral is that of the lower tail.
    pub z: f64,
    /// log det(I − 2zM) there.
    pub log_det: f64,
    /// Half a standard deviation 1 / √κ'' nearer 0; `None` as the integral.
    pub nearer: Option<f64>,
    /// log of the integral over exp(κ) there; `None` where the equation could not be followed along the contour. What is left is
    /// Chernoff's bound exp(κ), which is not below the probability.
    log_integral: Option<f64>,
}

/// Share of the integral at which a value of the contour is left out, and how much two steps of the trapezoid rule may differ.
const NEGLIGIBLE: f64 = 1e-6;
const ROUGH: f64 = 3e-3;

/// Values of the contour before steps are halved, at most.
const MOST_NODES: usize = 400;

/// Where the contour's bend is measured, in units of 1 / √κ'', and how much it is at most.
const BENT: f64 = 0.4;
const MOST_BEND: f64 = 1.5;

/// How near the edge of the real z the saddle is sought, relative to z.
const NEAR_EDGE: f64 = 2e-2;

impl RobustOperator<'_> {
    /// Pr(Σ μᵢ χ²₁ > 0); `None` where the self-consistent equation has no solution near 0.
    ///
    /// Cost: s (k + 2 r + h)² flops, and some 40 times 30 (k + 2 r)³ + 20 (k + 2 r + h)² h.
    pub fn upper_tail(&self) -> Option<Tail> {
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let unit = mean(self.diagonal) * mean(self.squares);
        let tail = LogDet::new(self).upper_tail()?;
        Some(Tail {
            z: tail.z / unit,
            nearer: tail.nearer.map(|z| z / unit),
            ..tail
        })
    }
}

impl Tail {
    /// Whether the integral is known, not a bound of it alone.
    pub fn is_whole(&self) -> bool {
        self.log_integral.is_some()
    }

    /// log Pr(Σ μᵢ χ²₁ > 0).
    pub fn log_p(&self) -> f64 {
        self.with_log_det(self.log_det)
    }

    /// The same where log det(I − 2zM) is known at the point where the contour crosses the real axis: the shape of the integrand is approximate, its height exact.
    pub fn with_log_det(&self, log_det: f64) -> f64 {
        let height = -0.5 * log_det;
        match self.log_integral {
            Some(log_integral) if self.z > 0.0 => (log_integral + height).min(0.0),
            Some(log_integral) => (-(log_integral + height).exp()).ln_1p(),
            None if self.z > 0.0 => height.min(0.0),
            None => 0.0,
        }
    }
}

impl LogDet<'_> {
    fn upper_tail(&self) -> Option<Tail> {
        let origin = Node {
            z: ZERO,
            f: ZERO,
            u: ZERO,
            slope: ZERO,
        };
        let small = 1e-3 / self.size;
        let [up, down] = [
            self.node(c64::from(small), &origin)?,
            self.node(c64::from(-small), &origin)?,
        ];
        let variance = (-0.5 * (up.f.re + down.f.re) / (small * small)).max(0.0);
        let mut step = 0.5 * self.trace.abs() / variance;
        let sign = if self.trace < 0.0 { 1.0 } else { -1.0 };
        let deviation = 1.0 / variance.sqrt();
        step = step.max(0.05 * deviation);
        // Down the convex κ, until it rises.
        let (mut before, mut here) = (origin, origin);
        let mut after = None;
        for _ in 0..400 {
            let z = here.z.re + sign * step;
            match self.node(c64::from(z), &here) {
                Some(node) if node.f.re > here.f.re => {
                    before = here;
                    here = node;
                    step *= 1.4;
                }
                Some(node) => {
                    after = Some(node);
                    break;
                }
                None => {
                    step *= 0.5;
                    if step < NEAR_EDGE * here.z.re.abs().max(1e-3 * deviation) {
                        break;
                    }
                }
            }
        }
        let mut c = here;
        if let Some(after) = after {
            // The vertex of the parabola through the last three.
            if before.z != here.z {
                let (x, y) = (
                    [before.z.re, here.z.re, after.z.re],
                    [before.f.re, here.f.re, after.f.re],
                );
                let (d1, d2) = ((y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1]));
                let curve = (d2 - d1) / (x[2] - x[0]);
                let vertex = 0.5 * (x[0] + x[1]) - 0.5 * d1 / curve;
                if let Some(node) = self
                    .node(c64::from(vertex), &here)
                    .filter(|n| n.f.re > c.f.re)
                {
                    c = node;
                }
            }
        }
        let integral = self.log_integral(&mut c, sign, deviation);
        Some(Tail {
            z: c.z.re,
            log_det: c.f.re,
            nearer: integral.map(|(_, s)| c.z.re - 0.5 * sign * s),
            log_integral: integral.map(|(log_integral, _)| log_integral),
        })
    }

    /// 1 / √κ'' at a real z, by differences.
    fn spread(&self, c: &Node, deviation: f64) -> Option<f64> {
        let mut gap = 1e-2 * deviation.min(c.z.re.abs().max(0.1 * deviation));
        for _ in 0..8 {
            let beside = [gap, -gap].map(|gap| self.node(c64::from(c.z.re + gap), c));
            if let [Some(a), Some(b)] = beside {
                let second = -0.5 * (a.f.re + b.f.re - 2.0 * c.f.re) / (gap * gap);
                if second > 0.0 {
                    return Some(1.0 / second.sqrt());
                }
            }
            gap *= 0.5;
        }
        None
    }

    /// log of the integral through c over exp(κ) there, and 1 / √κ''; c is moved where it is too near the pole at 0.
    fn log_integral(&self, c: &mut Node, sign: f64, deviation: f64) -> Option<(f64, f64)> {
        let mut s = self.spread(c, deviation)?;
        if c.z.re.abs() < s {
            let mut nearer = (0..20).map(|k| sign * s * 0.7_f64.powi(k));
            *c = nearer.find_map(|z| self.node(c64::from(z), c))?;
            s = self.spread(c, deviation)?;
        }
        Some((self.contour(c, s)? + 0.5 * c.f.re, s))
    }

    /// log of |(1/2πi) ∫ exp(κ)/z dz| along z = c + s (i sinh x + τ (cosh x − 1)), by the trapezoid rule with steps that halve until it settles.
    ///
    /// The path of steepest descent is c + iy + y² κ''' / 6κ'' near c, so that τ = s³ κ''' / 3: where a few eigenvalues stand apart, it goes around their
    /// branch cut, along which exp(κ) oscillates and hardly falls on the straight line. All singularities are on the real axis.
    fn contour(&self, c: &Node, s: f64) -> Option<f64> {
        let (own, _, [_, g, _]) = self.balance(c.z, c.u);
        let share = if own.norm() > 0.0 {
            (g / own).re - 1.0
        } else {
            0.0
        };
        let k0 = -0.5 * c.f.re;
        // Im κ(c + iy) = κ' y − κ''' y³ / 6.
        let nearer = self.complex(c.z + c64::new(0.0, BENT * s), c, share)?;
        let farther = self.complex(c.z + c64::new(0.0, 2.0 * BENT * s), &nearer, share)?;
        let third = 0.5 * (farther.f.im - 2.0 * nearer.f.im) / BENT.powi(3);
        let bend = (third / 3.0).clamp(-MOST_BEND, MOST_BEND);
        let at = |x: f64| c.z + c64::new(s * bend * (x.cosh() - 1.0), s * x.sinh());
        let along = |x: f64| c64::new(s * bend * x.sinh(), s * x.cosh());
        let exponential = |x: f64, node: &Node| (node.f * -0.5 - k0).exp() / node.z * along(x);
        let value = |x: f64, node: &Node| exponential(x, node).im;
        let mut step = 0.5;
        let mut nodes = vec![*c];
        let mut sum = 0.5 * value(0.0, c);
        let mut quiet = 0;
        while quiet < 2 {
            let here = nodes[nodes.len() - 1];
            let x = nodes.len() as f64 * step;
            let ahead = match nodes.len() {
                1 => here,
                n => here.towards(&nodes[n - 2], at(x)),
            };
            let node = self.complex(at(x), &ahead, share)?;
            sum += value(x, &node);
            let is_small = exponential(x, &node).norm() < NEGLIGIBLE * sum.abs();
            quiet = if is_small { quiet + 1 } else { 0 };
            nodes.push(node);
            if nodes.len() > MOST_NODES {
                return None;
            }
        }
        for _ in 0..6 {
            let mut finer = vec![*c];
            let mut between = 0.0;
            for (j, pair) in nodes.windows(2).enumerate() {
                let x = (j as f64 + 0.5) * step;
                let node = self.complex(at(x), &pair[0].towards(&pair[1], at(x)), share)?;
                between += value(x, &node);
                finer.extend([node, pair[1]]);
            }
            let change = between - sum;
            sum += between;
            step *= 0.5;
            nodes = finer;
            // The error of a step is nearly the square of that of the step twice as long.
            if change.abs() <= 2.0 * ROUGH * sum.abs() {
                return Some(k0 + (sum.abs() * step / std::f64::consts::PI).ln());
            }
        }
        None
    }
}

impl Node {
    /// What a straight line through this node and another expects at z.
    fn towards(&self, other: &Self, z: c64) -> Self {
        let share = (z - self.z) / (other.z - self.z);
        let on_line = |a: c64, b: c64| a + (b - a) * share;
        Self {
            z,
            f: on_line(self.f, other.f),
            u: on_line(self.u, other.u),
            slope: on_line(self.slope, other.slope),
        }
    }
}
