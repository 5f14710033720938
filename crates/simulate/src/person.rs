use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::eid::Eids;
use crate::options::SimulateOptions;
use crate::plates::{BATCHES, Plates};
use crate::stream::{Purpose, stream};

/// Genetic principal components among the covariates.
pub(crate) const COMPONENTS: usize = 10;

/// Numbers that a phenotype's covariate effects multiply.
pub(crate) const COVARIATES: usize = 3 + COMPONENTS;

/// Share of people without any panel of the second half.
const SECOND_HALF_MISSING: f64 = 0.04;

/// All data of a person except proteins and phenotypes.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) eid: i64,
    pub(crate) age: i64,
    pub(crate) sex: i64,
    pub(crate) batch: i64,
    pub(crate) plate: usize,
    pub(crate) components: [f64; COMPONENTS],
    /// Bit k: panel k is missing.
    panels_missing: u8,
    pub(crate) in_phenotypes: bool,
    pub(crate) in_covariates: bool,
}

impl Person {
    pub(crate) fn lacks_panel(&self, panel: usize) -> bool {
        self.panels_missing >> panel & 1 == 1
    }

    /// Age, sex, batch and components, centred and scaled to be of order 1.
    pub(crate) fn covariates(&self) -> [f64; COVARIATES] {
        let mut covariates = [0.0; COVARIATES];
        covariates[0] = (self.age as f64 - 57.0) / 8.0;
        covariates[1] = self.sex as f64 - 0.5;
        covariates[2] = (self.batch as f64 - 0.5 * (BATCHES + 1) as f64) / 2.0;
        covariates[3..].copy_from_slice(&self.components);
        covariates
    }
}

/// The people of a cohort, drawn block by block.
#[derive(Clone, Debug)]
pub(crate) struct People {
    seed: u64,
    absent_share: f64,
    eids: Eids,
    /// For each panel, the share of people who do not have it.
    pub(crate) panel_missing: Vec<f64>,
}

impl People {
    pub(crate) fn draw(options: &SimulateOptions, n_panels: usize) -> Self {
        let mut rng = stream(options.seed, Purpose::Plates, 1);
        Self {
            seed: options.seed,
            absent_share: options.absent_share,
            eids: Eids::draw(options.seed),
            panel_missing: (0..n_panels)
                .map(|_| rng.random_range(0.06..0.12))
                .collect(),
        }
    }

    /// The `rows` people of a block, of whom the first is number `first` in the cohort.
    pub(crate) fn block(
        &self,
        block: usize,
        first: usize,
        rows: usize,
        plates: &Plates,
    ) -> Vec<Person> {
        let mut rng = stream(self.seed, Purpose::People, block);
        (first..first + rows)
            .map(|person| self.person(person, plates, &mut rng))
            .collect()
    }

    fn person(&self, person: usize, plates: &Plates, rng: &mut ChaCha8Rng) -> Person {
        let age = 40 + (31.0 * rng.random::<f64>().powf(0.8)) as i64;
        let sex = i64::from(rng.random::<f64>() < 0.456);
        let plate = rng.random_range(0..plates.count);
        let far = rng.random::<f64>() < 0.06;
        let direction: f64 = rng.random_range(-1.0..1.0);
        let components = std::array::from_fn(|k| {
            let normal: f64 = rng.sample(StandardNormal);
            // A few people of other ancestries lie far out on the first four components.
            let shift = if far && k < 4 {
                4.0 * direction / (k + 1) as f64
            } else {
                0.0
            };
            normal / ((k + 1) as f64).sqrt() + shift
        });
        let n_panels = self.panel_missing.len();
        let together = n_panels > 1 && rng.random::<f64>() < SECOND_HALF_MISSING;
        let mut panels_missing = 0_u8;
        for (panel, &rate) in self.panel_missing.iter().enumerate() {
            let alone: f64 = rng.random();
            let second_half = n_panels > 1 && panel >= n_panels / 2;
            let missing = if second_half {
                together || alone < (rate - SECOND_HALF_MISSING) / (1.0 - SECOND_HALF_MISSING)
            } else {
                alone < rate
            };
            panels_missing |= u8::from(missing) << panel;
        }
        Person {
            eid: self.eids.of(person),
            age,
            sex,
            batch: plates.batch(plate) as i64,
            plate,
            components,
            panels_missing,
            in_phenotypes: rng.random::<f64>() >= self.absent_share,
            in_covariates: rng.random::<f64>() >= self.absent_share,
        }
    }
}
