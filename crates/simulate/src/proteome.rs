use rand::RngExt;
use rand_distr::StandardNormal;

use crate::options::SimulateOptions;
use crate::stream::{Purpose, stream};
use crate::tail::Tail;

/// People whose values come from one random stream.
pub(crate) const BLOCK: usize = 64;

/// Eigenvalue j of the proteins' correlations falls about as j^-DECAY.
const DECAY: f64 = 0.9;
const GLOBAL_FACTORS: usize = 40;
const FACTORS_PER_PATHWAY: usize = 4;
/// Columns computed at a time; their loadings stay in the first-level cache.
const COLUMNS: usize = 128;
/// The factors explain at most this much of a protein, on average.
const MOST_EXPLAINED: f64 = 0.85;

/// Name, shape and units of one protein.
#[derive(Clone, Debug)]
pub(crate) struct Protein {
    pub(crate) name: String,
    pub(crate) panel: usize,
    pub(crate) tail: Tail,
    /// Mean, in NPX.
    pub(crate) location: f32,
    /// Standard deviation, in NPX.
    pub(crate) scale: f32,
    /// Share of sporadic holes.
    pub(crate) hole_rate: f64,
    /// Latent values below this are below the detection limit, and so missing.
    pub(crate) detection: f32,
}

/// The factor model that complete protein values follow.
///
/// Latent value of protein j: z_j = Σ_k a_jk f_k + Σ_i b_ji h_{c(j) i} + d_j e_j, with all f, h, e standard normal and Var z_j
/// = 1. The 40 global factors f reach every protein, with E a_jk² ∝ k^-0.9. Each of 20 to 40 pathways has 4 factors h, which
/// reach only its members c(j) and give the eigenvalues after the 40th. The protein's value is x_j = tail_j(z_j).
#[derive(Clone, Debug)]
pub(crate) struct Proteome {
    seed: u64,
    pub(crate) proteins: Vec<Protein>,
    pub(crate) n_panels: usize,
    n_pathways: usize,
    /// GLOBAL_FACTORS x n_features, row-major.
    global: Vec<f32>,
    /// FACTORS_PER_PATHWAY x n_features, row-major.
    local: Vec<f32>,
    /// d_j.
    own: Vec<f32>,
}

const PANELS: [&str; 8] = [
    "cardio", "inflam", "neuro", "onco", "cardio2", "inflam2", "neuro2", "onco2",
];

impl Proteome {
    pub(crate) fn draw(options: &SimulateOptions) -> Self {
        let n = options.features;
        let n_pathways = (n / 100).clamp(20, 40).min(n);
        let n_panels = match n {
            64.. => 8,
            16.. => 4,
            _ => 1,
        };
        let (global_share, local_share) = shares(n, n_pathways);
        let explained: f64 = global_share.iter().chain(&local_share).sum();
        let shrink = (MOST_EXPLAINED / explained).min(1.0);
        let left = 1.0 - explained * shrink;

        let mut rng = stream(options.seed, Purpose::Proteome, 0);
        let width = n.to_string().len().max(4);
        let mut global = vec![0.0_f32; GLOBAL_FACTORS * n];
        let mut local = vec![0.0_f32; FACTORS_PER_PATHWAY * n];
        let mut own = vec![0.0_f32; n];
        let mut proteins = Vec::with_capacity(n);
        let mut loading = [0.0_f64; GLOBAL_FACTORS + FACTORS_PER_PATHWAY];
        let (mut panel, mut in_panel) = (0, 0);
        // Every fiftieth protein, from a random first one, is mostly below the detection limit.
        let faint = rng.random_range(0..50_usize);
        for j in 0..n {
            let mut variance = 0.0;
            for (k, share) in global_share.iter().chain(&local_share).enumerate() {
                let normal: f64 = rng.sample(StandardNormal);
                // Most proteins rise together with the first factor, as in blood samples.
                let unit = if k == 0 { 0.8 + 0.6 * normal } else { normal };
                loading[k] = unit * (share * shrink).sqrt();
                variance += loading[k] * loading[k];
            }
            let own_variance = left * rng.random_range(0.4..1.6);
            let total = (variance + own_variance).sqrt();
            for k in 0..GLOBAL_FACTORS {
                global[k * n + j] = (loading[k] / total) as f32;
            }
            for i in 0..FACTORS_PER_PATHWAY {
                local[i * n + j] = (loading[GLOBAL_FACTORS + i] / total) as f32;
            }
            own[j] = (own_variance.sqrt() / total) as f32;

            let here = j * n_panels / n;
            if here != panel {
                (panel, in_panel) = (here, 0);
            }
            in_panel += 1;
            let tail = Tail::draw(&mut rng);
            let location: f64 = 2.0 * rng.sample::<f64, _>(StandardNormal) + 1.0;
            let scale = rng.random_range(0.3..1.2);
            let hole_rate = 0.01 * rng.random_range(0.5..1.5);
            // Φ(-0.84) = 0.20, Φ(-0.26) = 0.40.
            let limit = rng.random_range(-0.84..-0.26);
            proteins.push(Protein {
                name: format!("{}_{in_panel:0width$}", PANELS[panel]),
                panel,
                tail,
                location: location as f32,
                scale: scale as f32,
                hole_rate,
                detection: if j % 50 == faint {
                    limit as f32
                } else {
                    f32::NEG_INFINITY
                },
            });
        }
        Self {
            seed: options.seed,
            proteins,
            n_panels,
            n_pathways,
            global,
            local,
            own,
        }
    }

    /// Writes the latent values z of one block of people.
    ///
    /// `z`: rows x n_features, row-major, at most [`BLOCK`] rows. Cost: 88 flops and one normal number per value.
    pub(crate) fn latent(&self, block: usize, z: &mut [f32]) {
        let n = self.proteins.len();
        debug_assert!(z.len() <= BLOCK * n);
        let n_local = self.n_pathways * FACTORS_PER_PATHWAY;
        let n_factors = GLOBAL_FACTORS + n_local;
        let rows = z.len() / n;
        let mut rng = stream(self.seed, Purpose::Latent, block);
        let mut factors = vec![0.0_f32; rows * n_factors];
        for (z, factors) in z
            .chunks_exact_mut(n)
            .zip(factors.chunks_exact_mut(n_factors))
        {
            factors.fill_with(|| rng.sample(StandardNormal));
            for (value, own) in z.iter_mut().zip(&self.own) {
                *value = own * rng.sample::<f32, _>(StandardNormal);
            }
        }
        for first in (0..n).step_by(COLUMNS) {
            let last = (first + COLUMNS).min(n);
            for (row, factors) in factors.chunks_exact(n_factors).enumerate() {
                let z = &mut z[row * n + first..row * n + last];
                let (f, h) = factors.split_at(GLOBAL_FACTORS);
                for k in (0..GLOBAL_FACTORS).step_by(4) {
                    let loadings = |i: usize| &self.global[(k + i) * n + first..(k + i) * n + last];
                    let pairs = loadings(0).iter().zip(loadings(1));
                    let others = loadings(2).iter().zip(loadings(3));
                    for ((value, (a, b)), (c, d)) in z.iter_mut().zip(pairs).zip(others) {
                        *value += (f[k] * a + f[k + 1] * b) + (f[k + 2] * c + f[k + 3] * d);
                    }
                }
                let mut pathway = first % self.n_pathways;
                for (j, value) in (first..last).zip(z) {
                    let h = &h[pathway * FACTORS_PER_PATHWAY..][..FACTORS_PER_PATHWAY];
                    for (i, h) in h.iter().enumerate() {
                        *value += h * self.local[i * n + j];
                    }
                    pathway += 1;
                    if pathway == self.n_pathways {
                        pathway = 0;
                    }
                }
            }
        }
    }
}

/// The mean share of a protein's variance that each global factor explains, and then each factor of its pathway.
///
/// Eigenvalue j of p should be p j^-0.9 / Σ_i i^-0.9. A global factor of share v gives the eigenvalue p v; a factor of one of C
/// pathways gives p v / C. The factors of the pathways take the places after the global ones, C at a time.
fn shares(n_features: usize, n_pathways: usize) -> (Vec<f64>, Vec<f64>) {
    let total: f64 = (1..=n_features).map(|j| (j as f64).powf(-DECAY)).sum();
    let share = |j: usize| (j as f64).powf(-DECAY) / total;
    let global = (1..=GLOBAL_FACTORS).map(share).collect();
    let local = (0..FACTORS_PER_PATHWAY)
        .map(|i| {
            let first = GLOBAL_FACTORS + 1 + i * n_pathways;
            (first..first + n_pathways).map(share).sum()
        })
        .collect();
    (global, local)
}
