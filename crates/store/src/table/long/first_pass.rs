//! The first pass over a long file: which samples and proteins it holds, and which rows are left out.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::batch::Batch;
use super::layout::Part;
use super::numbering::{Numbering, Pairs};
use super::rules::{Reason, Rules};
use crate::table::error::TableError;
use crate::table::origin::Dropped;
use crate::words::{SHOWN, and_more, first_few};

/// Number of second values after which the search ends: a file of a few bytes may hold 2³¹.
const MOST_DUPLICATES: usize = 1_000_000;

/// What the rows read so far hold.
#[derive(Default)]
pub(super) struct FirstPass {
    pub(super) samples: Numbering,
    pub(super) proteins: Numbering,
    normalizations: Numbering,
    /// Control samples that were left out.
    controls: Numbering,
    /// Rows left out for each reason, and the samples or proteins they are of.
    dropped: BTreeMap<Reason, (usize, HashSet<u32>)>,
    seen: Pairs,
    /// Second values of a sample and protein, and the first few of them for a message.
    n_duplicates: usize,
    duplicates: Vec<String>,
    n_rows: usize,
}

impl FirstPass {
    /// Whether so many second values were found that no more rows need to be read.
    pub(super) fn has_enough(&self) -> bool {
        self.n_duplicates >= MOST_DUPLICATES
    }

    /// Reads the rows of a batch, which has all parts but the values.
    pub(super) fn take(&mut self, rules: &Rules, batch: &Batch) -> Result<(), TableError> {
        let sample = batch.each(Part::Sample, |id| self.samples.code(id))?;
        let protein = batch.each(Part::Protein, |id| self.proteins.code(id))?;
        let normalization = batch.each(Part::Normalization, |it| self.normalizations.code(it))?;
        let reasons = rules.reasons(batch)?;
        for (row, reason) in reasons.into_iter().enumerate() {
            self.n_rows += 1;
            let (Some(sample), Some(protein)) = (sample[row], protein[row]) else {
                let part = match sample[row] {
                    None => Part::Sample,
                    Some(_) => Part::Protein,
                };
                return Err(TableError::MissingIds {
                    path: batch.path.clone(),
                    column: batch.name(part),
                    n: 1,
                    row: self.n_rows,
                });
            };
            match reason {
                Some(reason) => self.drop(reason, sample, protein),
                None => {
                    if let Some(Some(it)) = normalization.get(row) {
                        self.normalizations.keep(*it);
                    }
                    self.keep(sample, protein);
                }
            }
        }
        Ok(())
    }

    fn drop(&mut self, reason: Reason, sample: u32, protein: u32) {
        let (rows, whose) = self.dropped.entry(reason).or_default();
        *rows += 1;
        whose.insert(if reason.is_of_assay() {
            protein
        } else {
            sample
        });
        if reason == Reason::ControlSample {
            self.controls.code(Some(self.samples.name(sample)));
        }
    }

    fn keep(&mut self, sample: u32, protein: u32) {
        self.samples.keep(sample);
        self.proteins.keep(protein);
        if !self.seen.insert(sample, protein) {
            self.n_duplicates += 1;
            if self.duplicates.len() < SHOWN {
                let (sample, protein) = (self.samples.name(sample), self.proteins.name(protein));
                self.duplicates.push(format!("`{protein}` of `{sample}`"));
            }
        }
    }

    /// Refuses a second value of a sample and protein.
    pub(super) fn refuse_duplicates(&self, path: &Path) -> Result<(), TableError> {
        match self.n_duplicates {
            0 => Ok(()),
            n => Err(TableError::DuplicateValues {
                path: path.to_path_buf(),
                n,
                is_least: self.has_enough(),
                shown: and_more(&self.duplicates, n),
            }),
        }
    }

    /// What a person should know before trusting the values.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mixed = self.normalizations.kept();
        if mixed.len() > 1 {
            warnings.push(format!(
                "values are normalised in {} ways ({}): values of different ways are not comparable unless bridged",
                mixed.len(),
                first_few(&mixed)
            ));
        }
        let controls = self.controls.names();
        if !controls.is_empty() {
            warnings.push(format!(
                "control samples are left out: {}",
                first_few(controls)
            ));
        }
        warnings
    }

    /// What was left out, by reason; `instance` is the instance that is read.
    pub(super) fn dropped(&self, instance: u32) -> Vec<Dropped> {
        let by_reason = self.dropped.iter();
        let mut dropped: Vec<Dropped> = by_reason
            .map(|(reason, (rows, whose))| Dropped {
                why: reason.text(instance),
                rows: *rows,
                of: whose.len(),
            })
            .collect();
        for (numbering, why) in [
            (&self.samples, "samples without a value that is kept"),
            (&self.proteins, "assays without a value that is kept"),
        ] {
            let n = numbering.names().len() - numbering.n_kept();
            if n > 0 {
                dropped.push(Dropped {
                    why: why.to_owned(),
                    rows: 0,
                    of: n,
                });
            }
        }
        dropped
    }
}
