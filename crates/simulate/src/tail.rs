use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The shape of a protein's distribution: an increasing function of a standard normal value, with mean 0 and variance 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tail {
    /// x = z.
    Normal,
    /// x = (z + a max(z, 0)² − a/2) / sd, sd² = 1 + 4a φ(0) + 5a²/4: a right tail like that of an exponential.
    Bent { bend: f32, scale: f32 },
    /// x = (exp(sz) − exp(s²/2)) / sd, sd² = exp(s²) (exp(s²) − 1): the tail of a lognormal.
    Lognormal { sigma: f32, mean: f32, scale: f32 },
}

impl Tail {
    /// One protein in seven has an exponential-like tail, and one in ten a lognormal tail.
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let kind: f64 = rng.random();
        let strength: f64 = rng.random();
        if kind < 0.15 {
            Self::bent(0.2 + 0.8 * strength)
        } else if kind < 0.25 {
            Self::lognormal(0.3 + 0.5 * strength)
        } else {
            Self::Normal
        }
    }

    fn bent(bend: f64) -> Self {
        // 4 φ(0) = 1.5957...: twice E[z max(z, 0)²] = 2 φ(0).
        let four_phi = 4.0 / (2.0 * std::f64::consts::PI).sqrt();
        let variance = 1.0 + four_phi * bend + 1.25 * bend * bend;
        Self::Bent {
            bend: bend as f32,
            scale: variance.sqrt().recip() as f32,
        }
    }

    fn lognormal(sigma: f64) -> Self {
        let square = sigma * sigma;
        Self::Lognormal {
            sigma: sigma as f32,
            mean: (square / 2.0).exp() as f32,
            scale: (square.exp() * square.exp_m1()).sqrt().recip() as f32,
        }
    }

    /// The value that belongs to the standard normal value `z`.
    #[inline]
    pub(crate) fn apply(self, z: f32) -> f32 {
        match self {
            Self::Normal => z,
            Self::Bent { bend, scale } => {
                let above = z.max(0.0);
                (z + bend * above * above - 0.5 * bend) * scale
            }
            Self::Lognormal { sigma, mean, scale } => ((sigma * z).exp() - mean) * scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tail_has_mean_zero_variance_one_and_increases() {
        for tail in [
            Tail::Normal,
            Tail::bent(0.2),
            Tail::bent(1.0),
            Tail::lognormal(0.3),
            Tail::lognormal(0.8),
        ] {
            let step = 1e-3;
            let (mut mass, mut mean, mut square, mut last) = (0.0, 0.0, 0.0, f32::NEG_INFINITY);
            for i in -9000..=9000 {
                let z = f64::from(i) * step;
                let weight = (-0.5 * z * z).exp() * step;
                let x = tail.apply(z as f32);
                assert!(x >= last);
                last = x;
                mass += weight;
                mean += weight * f64::from(x);
                square += weight * f64::from(x) * f64::from(x);
            }
            assert!((mean / mass).abs() < 1e-4, "{tail:?}: mean {}", mean / mass);
            assert!(
                (square / mass - 1.0).abs() < 1e-4,
                "{tail:?}: variance {}",
                square / mass
            );
        }
    }
}
