use std::sync::Arc;

use arrow_array::builder::Float32Builder;
use arrow_array::{ArrayRef, Float64Array, Int64Array};
use rand::RngExt;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use crate::error::SimulateError;
use crate::options::SimulateOptions;
use crate::person::{COMPONENTS, People, Person};
use crate::phenotype::{Kind, Phenotype};
use crate::plates::Plates;
use crate::proteome::{BLOCK, Proteome};
use crate::slab::Slab;
use crate::stream::{Purpose, stream};

/// Protein columns that one task turns into arrays: 16 values of four bytes are one cache line of a row.
const COLUMNS_PER_TASK: usize = 16;

/// Mean and standard deviation of a phenotype's signal over everyone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    mean: f64,
    sd: f64,
}

/// The design of a cohort: everything that is drawn before any person.
#[derive(Clone, Debug)]
pub(crate) struct Cohort {
    seed: u64,
    pub(crate) proteome: Proteome,
    pub(crate) plates: Plates,
    pub(crate) people: People,
    pub(crate) phenotypes: Vec<Phenotype>,
    /// Columns that some phenotype depends on, in rising order.
    causal: Vec<usize>,
}

/// The people of one slab with their complete protein values and their phenotypes.
pub(crate) struct Rows {
    pub(crate) people: Vec<Person>,
    /// Standard normal values z, rows x n_features, row-major.
    pub(crate) latent: Vec<f32>,
    /// Rows x n_phenotypes, row-major; NaN where missing.
    pub(crate) outcomes: Vec<f64>,
}

impl Cohort {
    pub(crate) fn draw(options: &SimulateOptions) -> Self {
        let proteome = Proteome::draw(options);
        let plates = Plates::draw(options, proteome.n_panels);
        let people = People::draw(options, proteome.n_panels);
        let phenotypes = Phenotype::draw_all(options);
        let mut causal: Vec<usize> = phenotypes.iter().flat_map(|p| &p.causal).copied().collect();
        causal.sort_unstable();
        causal.dedup();
        Self {
            seed: options.seed,
            proteome,
            plates,
            people,
            phenotypes,
            causal,
        }
    }

    /// The signals g of one block of people: rows x n_phenotypes, row-major.
    ///
    /// `latent`: rows x n_features.
    pub(crate) fn signals(&self, latent: &[f32]) -> Vec<f64> {
        let n = self.proteome.proteins.len();
        let mut x = vec![0.0_f32; n];
        let mut signals = Vec::with_capacity(latent.len() / n * self.phenotypes.len());
        for z in latent.chunks_exact(n) {
            for &j in &self.causal {
                x[j] = self.proteome.proteins[j].tail.apply(z[j]);
            }
            signals.extend(self.phenotypes.iter().map(|phenotype| phenotype.signal(&x)));
        }
        signals
    }

    /// Goes over everyone once for the mean and the standard deviation of each signal.
    ///
    /// Blocks are summed in parallel, and their sums are added in order. `progress` is called with the rows of each slab.
    ///
    /// # Errors
    ///
    /// [`SimulateError::ConstantSignal`] for a signal without variance.
    pub(crate) fn moments(
        &self,
        slabs: &[Slab],
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Moments>, SimulateError> {
        let n = self.proteome.proteins.len();
        let m = self.phenotypes.len();
        let mut count = 0.0;
        let mut mean = vec![0.0; m];
        let mut square = vec![0.0; m];
        for slab in slabs {
            let blocks: Vec<Vec<f64>> = slab
                .blocks()
                .into_par_iter()
                .map_init(
                    || vec![0.0_f32; BLOCK * n],
                    |latent, (block, rows)| {
                        let latent = &mut latent[..rows * n];
                        self.proteome.latent(block, latent);
                        self.signals(latent)
                    },
                )
                .collect();
            for row in blocks.iter().flat_map(|block| block.chunks_exact(m)) {
                // Welford 1962: the running mean, and the running sum of squares about it.
                count += 1.0;
                for ((mean, square), g) in mean.iter_mut().zip(&mut square).zip(row) {
                    let off = g - *mean;
                    *mean += off / count;
                    *square += off * (g - *mean);
                }
            }
            progress(slab.rows);
        }
        self.phenotypes
            .iter()
            .zip(mean.into_iter().zip(square))
            .map(|(phenotype, (mean, square))| {
                let sd = (square / count).sqrt();
                if phenotype.kind != Kind::Noise && sd <= 1e-9 * mean.abs().max(1e-9) {
                    return Err(SimulateError::ConstantSignal {
                        phenotype: phenotype.name.clone(),
                    });
                }
                Ok(Moments { mean, sd })
            })
            .collect()
    }

    /// Draws the people of a slab, their proteins and their phenotypes, blocks in parallel.
    pub(crate) fn rows(&self, slab: &Slab, moments: &[Moments]) -> Rows {
        let n = self.proteome.proteins.len();
        let m = self.phenotypes.len();
        let mut latent = vec![0.0_f32; slab.rows * n];
        let mut outcomes = vec![0.0_f64; slab.rows * m];
        let people: Vec<Vec<Person>> = latent
            .par_chunks_mut(BLOCK * n)
            .zip(outcomes.par_chunks_mut(BLOCK * m))
            .enumerate()
            .map(|(i, (latent, outcomes))| {
                let block = slab.first_block + i;
                self.proteome.latent(block, latent);
                let first = slab.first_person + i * BLOCK;
                let people = self
                    .people
                    .block(block, first, latent.len() / n, &self.plates);
                outcomes.copy_from_slice(&self.signals(latent));
                self.finish_outcomes(block, &people, moments, outcomes);
                people
            })
            .collect();
        Rows {
            people: people.into_iter().flatten().collect(),
            latent,
            outcomes,
        }
    }

    /// Turns the signals of a block into phenotypes: y = √s (g − mean g) / sd g + √(1 − s) e + covariate effects.
    fn finish_outcomes(
        &self,
        block: usize,
        people: &[Person],
        moments: &[Moments],
        outcomes: &mut [f64],
    ) {
        let mut rng = stream(self.seed, Purpose::Outcomes, block);
        for (person, row) in people.iter().zip(outcomes.chunks_exact_mut(moments.len())) {
            let covariates = person.covariates();
            for ((y, phenotype), moments) in row.iter_mut().zip(&self.phenotypes).zip(moments) {
                let noise: f64 = rng.sample(StandardNormal);
                let missing = rng.random::<f64>() < phenotype.missing_rate;
                let share = phenotype.signal_share;
                let signal = match phenotype.kind {
                    Kind::Noise => 0.0,
                    _ => share.sqrt() * (*y - moments.mean) / moments.sd,
                };
                *y = if missing {
                    f64::NAN
                } else {
                    signal + (1.0 - share).sqrt() * noise + phenotype.covariate_effect(&covariates)
                };
            }
        }
    }

    /// The columns of `proteins.parquet` for one slab, and how many values are missing.
    ///
    /// A value is location + scale (tail(z) + plate shift); it is null where the person does not have the panel, where it
    /// is below the detection limit, and in sporadic holes.
    pub(crate) fn protein_columns(&self, slab: &Slab, rows: &Rows) -> (Vec<ArrayRef>, u64) {
        let n = self.proteome.proteins.len();
        let people = &rows.people;
        let first_columns: Vec<usize> = (0..n).step_by(COLUMNS_PER_TASK).collect();
        let tasks: Vec<Vec<(ArrayRef, u64)>> = first_columns
            .into_par_iter()
            .map(|first| {
                let last = (first + COLUMNS_PER_TASK).min(n);
                let mut columns = vec![0.0_f32; (last - first) * people.len()];
                for (i, z) in rows.latent.chunks_exact(n).enumerate() {
                    for (j, &z) in z[first..last].iter().enumerate() {
                        columns[j * people.len() + i] = z;
                    }
                }
                columns
                    .chunks_exact(people.len())
                    .zip(first..last)
                    .map(|(z, j)| self.protein_column(slab, people, j, z))
                    .collect()
            })
            .collect();
        let mut arrays = Vec::with_capacity(n + 1);
        arrays.push(eids(people.iter()));
        let mut missing = 0;
        for (array, missing_here) in tasks.into_iter().flatten() {
            arrays.push(array);
            missing += missing_here;
        }
        (arrays, missing)
    }

    fn protein_column(
        &self,
        slab: &Slab,
        people: &[Person],
        j: usize,
        z: &[f32],
    ) -> (ArrayRef, u64) {
        let protein = &self.proteome.proteins[j];
        let n = self.proteome.proteins.len();
        let mut rng = stream(self.seed, Purpose::Holes, slab.index * n + j);
        // Holes are independent, so the gap to the next is geometric: floor(ln u / ln(1 − rate)).
        let per_step = (-protein.hole_rate).ln_1p();
        let mut gap = || ((1.0 - rng.random::<f64>()).ln() / per_step) as usize;
        let mut hole = gap();
        let mut missing = 0;
        let mut column = Float32Builder::with_capacity(z.len());
        for (i, (person, &z)) in people.iter().zip(z).enumerate() {
            let in_hole = i == hole;
            if in_hole {
                hole += 1 + gap();
            }
            if in_hole || z < protein.detection || person.lacks_panel(protein.panel) {
                column.append_null();
                missing += 1;
            } else {
                let x = protein.tail.apply(z) + self.plates.shift(person.plate, protein.panel);
                column.append_value(protein.location + protein.scale * x);
            }
        }
        (Arc::new(column.finish()), missing)
    }

    /// The columns of `phenotypes.parquet` for one slab.
    pub(crate) fn phenotype_columns(&self, rows: &Rows) -> Vec<ArrayRef> {
        let m = self.phenotypes.len();
        let present = |person: &&Person| person.in_phenotypes;
        let mut arrays = vec![eids(rows.people.iter().filter(present))];
        arrays.par_extend((0..m).into_par_iter().map(|k| {
            let column: Float64Array = rows
                .people
                .iter()
                .zip(rows.outcomes.chunks_exact(m))
                .filter(|(person, _)| person.in_phenotypes)
                .map(|(_, row)| (!row[k].is_nan()).then_some(row[k]))
                .collect();
            Arc::new(column) as ArrayRef
        }));
        arrays
    }

    /// The columns of `covariates.parquet` for one slab.
    pub(crate) fn covariate_columns(&self, rows: &Rows) -> Vec<ArrayRef> {
        let people: Vec<&Person> = rows.people.iter().filter(|p| p.in_covariates).collect();
        let whole = |of: fn(&Person) -> i64| -> ArrayRef {
            Arc::new(people.iter().map(|p| of(p)).collect::<Int64Array>())
        };
        let mut arrays = vec![
            whole(|p| p.eid),
            whole(|p| p.age),
            whole(|p| p.sex),
            whole(|p| p.batch),
        ];
        arrays.extend((0..COMPONENTS).map(|k| -> ArrayRef {
            let column = people.iter().map(|p| p.components[k]);
            Arc::new(Float64Array::from_iter_values(column))
        }));
        arrays
    }
}

fn eids<'a>(people: impl Iterator<Item = &'a Person>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(people.map(|p| p.eid)))
}
