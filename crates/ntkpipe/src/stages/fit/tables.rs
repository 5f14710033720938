//! Rows, curves, dual weights and journals that fits leave.

use std::path::Path;

use ntkpipe_store::results::{Column, write_table, write_tsv};
use ntkpipe_store::zarr::{ArraySpec, ZarrArray};
use reml::Analysis;

use crate::run::context::Context;
use crate::run::journal::{Entry, FitJournal};
use crate::run::phenotype_row::PhenotypeRow;
use crate::run::{files, phenotype_row};
use crate::stages::fit::scheduler::Metadata;

/// The row of a phenotype, analysed or not.
pub fn row_of(
    name: &str,
    known: Metadata,
    analysis: Option<&Analysis>,
    rate: Option<f64>,
) -> PhenotypeRow {
    match analysis {
        Some(analysis) => {
            let at_start = known.at_start.map(|it| it.errors);
            PhenotypeRow::new(name, analysis, known.n_missing, known.sd, rate, at_start)
        }
        None => PhenotypeRow::too_few_cases(name, known.n_samples, known.n_missing),
    }
}

/// `phenotypes.parquet` and `phenotypes.tsv`.
pub fn write_phenotypes(context: &Context, rows: &[PhenotypeRow]) -> anyhow::Result<()> {
    let columns = phenotype_row::to_columns(rows);
    write_table(&context.directory.path(files::PHENOTYPES), &columns)?;
    write_tsv(&context.directory.path(files::PHENOTYPES_TEXT), &columns)?;
    Ok(())
}

/// Dual weights: one row per fit, one column per sample of the kernel. A fit that does not train has no chunk.
pub fn dual_spec(n_fits: usize, n: usize) -> ArraySpec {
    ArraySpec {
        dimension_names: Some(["phenotype".into(), "sample".into()]),
        ..ArraySpec::new([n_fits, n], [1, n])
    }
}

/// Opens a journal; a fit whose dual weights (`weights_row`) are not in the array counts as not finished.
pub fn open_journal<E: Entry>(
    path: &Path,
    fingerprint: &str,
    (array, spec): (&Path, &ArraySpec),
    weights_row: impl Fn(&E) -> Option<usize>,
) -> anyhow::Result<FitJournal<E>> {
    let former = ZarrArray::<f32>::open(array)
        .ok()
        .filter(|array| array.spec() == spec);
    let is_there = |row: usize| former.as_ref().is_some_and(|array| array.has_chunk(row, 0));
    let journal = FitJournal::open(path, fingerprint, |entry| {
        weights_row(entry).is_none_or(is_there)
    })?;
    Ok(journal)
}

/// Rows of `curves.parquet`.
#[derive(Default)]
pub struct Curves {
    phenotype: Vec<String>,
    t: Vec<Option<f64>>,
    q: Vec<Option<f64>>,
    edf: Vec<Option<f64>>,
}

impl Curves {
    /// Adds the curve of a phenotype.
    pub fn add(&mut self, phenotype: &str, curve: &[(f64, f64, f64)]) {
        for &(t, q, edf) in curve {
            self.phenotype.push(phenotype.to_owned());
            self.t.push(Some(t));
            self.q.push(Some(q));
            self.edf.push(Some(edf));
        }
    }

    /// The columns of the table.
    pub fn columns(self) -> Vec<(String, Column)> {
        vec![
            ("phenotype".into(), Column::Text(self.phenotype)),
            ("t".into(), Column::Float(self.t)),
            ("Q".into(), Column::Float(self.q)),
            ("edf".into(), Column::Float(self.edf)),
        ]
    }
}
