//! Tables with one row per sample and protein: Olink's NPX files, and UK Biobank's table of Olink results.

mod batch;
mod first_pass;
mod layout;
mod numbering;
mod rules;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use self::batch::Batch;
use self::first_pass::FirstPass;
use self::layout::Part;
use self::rules::Rules;
use super::error::TableError;
use super::origin::Dropped;
use super::parquet::{Parquet, is_numeric};
use super::reading::LongReading;

pub(super) use self::layout::Layout;
pub use self::layout::{OLINK, UK_BIOBANK};

/// Bytes of values that one pass over a long file collects.
const COLLECTED_BYTES: usize = 512 << 20;

/// A long table after its first pass: its samples, its proteins and its rules.
#[derive(Debug, Clone)]
pub(super) struct Long {
    parquet: Parquet,
    layout: Layout,
    rules: Rules,
    samples: HashMap<String, u32>,
    proteins: HashMap<String, u32>,
}

/// What else [`Long::open`] found.
#[derive(Debug)]
pub(super) struct Contents {
    /// Samples with a kept value, in order of their first one.
    pub(super) ids: Vec<String>,
    /// Proteins with a kept value, in order of their first one, under their names in the file.
    pub(super) proteins: Vec<String>,
    pub(super) dropped: Vec<Dropped>,
    pub(super) warnings: Vec<String>,
}

impl Long {
    /// Reads all rows once: numbers the samples and proteins that are kept, counts what is left out, and refuses a second value
    /// for a sample and protein.
    ///
    /// Cost: one pass over all columns but the values. Memory: the ids, and one bit for each sample and protein.
    pub(crate) fn open(
        parquet: &Parquet,
        layout: Layout,
        reading: &LongReading,
    ) -> Result<(Self, Contents), TableError> {
        let value = parquet.schema().field(layout.parts[&Part::Value]);
        if !is_numeric(value.data_type()) {
            return Err(TableError::NotNumeric {
                path: parquet.path().to_path_buf(),
                n: 1,
                n_selected: 1,
                shown: format!("`{}` ({})", value.name(), value.data_type()),
            });
        }
        let mut long = Self {
            parquet: parquet.with_dictionaries()?,
            layout,
            rules: Rules {
                drop_qc: reading.drop_qc,
                instance: reading.instance,
            },
            samples: HashMap::new(),
            proteins: HashMap::new(),
        };
        let mut pass = FirstPass::default();
        let mut parts: Vec<Part> = long.layout.parts.keys().copied().collect();
        parts.retain(|part| *part != Part::Value);
        for batch in long.batches(&parts)? {
            if pass.has_enough() {
                break;
            }
            pass.take(&long.rules, &batch?)?;
        }
        pass.refuse_duplicates(parquet.path())?;
        let contents = Contents {
            ids: pass.samples.kept(),
            proteins: pass.proteins.kept(),
            dropped: pass.dropped(long.rules.instance),
            warnings: pass.warnings(),
        };
        (long.samples, long.proteins) = (pass.samples.places(), pass.proteins.places());
        Ok((long, contents))
    }

    /// How many columns of `n_rows` values to request in one [`read`](Self::read): few passes, within 512 MiB.
    pub(crate) fn columns_at_once(n_rows: usize) -> usize {
        COLLECTED_BYTES / (8 * n_rows.max(1))
    }

    /// Reads `rows` of the proteins with these numbers; NaN where a sample has no kept value.
    ///
    /// Cost: one pass over the file, even for few columns.
    pub(crate) fn read(
        &self,
        proteins: &[usize],
        rows: Range<usize>,
    ) -> Result<Vec<Vec<f64>>, TableError> {
        let mut values = vec![vec![f64::NAN; rows.len()]; proteins.len()];
        let mut column_of = vec![None; self.proteins.len()];
        for (column, &protein) in proteins.iter().enumerate() {
            column_of[protein].get_or_insert(column);
        }
        let parts: Vec<Part> = self.layout.parts.keys().copied().collect();
        for batch in self.batches(&parts)? {
            let batch = batch?;
            let place = |places: &HashMap<String, u32>, it: Option<&str>| {
                places.get(it?).map(|place| *place as usize)
            };
            let row_of = batch.each(Part::Sample, |id| {
                let row = place(&self.samples, id)?.checked_sub(rows.start)?;
                (row < rows.len()).then_some(row)
            })?;
            let column = batch.each(Part::Protein, |id| column_of[place(&self.proteins, id)?])?;
            let reasons = self.rules.reasons(&batch)?;
            let value = batch.values()?;
            for (at, why) in reasons.into_iter().enumerate() {
                if let (Some(row), Some(column), None) = (row_of[at], column[at], why) {
                    values[column][row] = value[at];
                }
            }
        }
        for (column, &protein) in proteins.iter().enumerate() {
            if let Some(first) = column_of[protein].filter(|first| *first != column) {
                values[column] = values[first].clone();
            }
        }
        Ok(values)
    }

    /// Streams the columns of these parts.
    fn batches(
        &self,
        parts: &[Part],
    ) -> Result<impl Iterator<Item = Result<Batch, TableError>>, TableError> {
        let mut positions: Vec<usize> = parts.iter().map(|it| self.layout.parts[it]).collect();
        positions.sort_unstable();
        positions.dedup();
        let places: BTreeMap<Part, usize> = parts
            .iter()
            .map(|part| {
                (
                    *part,
                    positions.partition_point(|at| *at < self.layout.parts[part]),
                )
            })
            .collect();
        let batches = self.parquet.batches(&positions, 0..self.parquet.n_rows())?;
        let path = self.parquet.path().to_path_buf();
        Ok(batches.map(move |batch| {
            Ok(Batch {
                path: path.clone(),
                columns: batch?,
                places: places.clone(),
            })
        }))
    }
}
