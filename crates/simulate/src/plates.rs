use rand::RngExt;
use rand_distr::StandardNormal;

use crate::options::SimulateOptions;
use crate::stream::{Purpose, stream};

/// Number of batches of plates.
pub(crate) const BATCHES: usize = 7;

const PEOPLE_PER_PLATE: usize = 88;

/// The plates of the samples, and the shift that each gives a panel.
#[derive(Clone, Debug)]
pub(crate) struct Plates {
    pub(crate) count: usize,
    n_panels: usize,
    /// count x n_panels, row-major, in standard deviations of a protein.
    shifts: Vec<f32>,
}

impl Plates {
    pub(crate) fn draw(options: &SimulateOptions, n_panels: usize) -> Self {
        let mut rng = stream(options.seed, Purpose::Plates, 0);
        let count = options.samples.div_ceil(PEOPLE_PER_PLATE);
        let by_batch: Vec<f64> = (0..BATCHES * n_panels)
            .map(|_| 0.12 * rng.sample::<f64, _>(StandardNormal))
            .collect();
        let mut plates = Self {
            count,
            n_panels,
            shifts: Vec::with_capacity(count * n_panels),
        };
        for plate in 0..count {
            let batch = plates.batch(plate) - 1;
            for panel in 0..n_panels {
                let own = 0.12 * rng.sample::<f64, _>(StandardNormal);
                plates
                    .shifts
                    .push((by_batch[batch * n_panels + panel] + own) as f32);
            }
        }
        plates
    }

    /// The batch, from 1 to [`BATCHES`], that a plate belongs to.
    pub(crate) fn batch(&self, plate: usize) -> usize {
        1 + plate * BATCHES / self.count
    }

    /// The shift of a panel on a plate, in standard deviations of a protein.
    pub(crate) fn shift(&self, plate: usize, panel: usize) -> f32 {
        self.shifts[plate * self.n_panels + panel]
    }
}
