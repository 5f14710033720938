//! What a fit has finished so far, a line a phenotype, so that an interruption costs those under way and no other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::phenotype_row::PhenotypeRow;

/// A finished phenotype; its dual weights, if it has any, were written before.
#[derive(Debug, Serialize, Deserialize)]
pub struct Finished {
    /// Place among the phenotype columns.
    pub column: usize,
    /// Its row as the test alone leaves it.
    pub test: PhenotypeRow,
    /// Its row.
    pub row: PhenotypeRow,
    /// (t, Q(t) − Q(t_hat), edf(t)).
    pub curve: Vec<(f64, f64, f64)>,
}

/// The file of finished phenotypes of one fit; its first line is the fit's fingerprint.
#[derive(Debug)]
pub struct FitJournal {
    path: PathBuf,
    file: File,
    /// By column: those of the file, and those added since.
    pub finished: BTreeMap<usize, Finished>,
}

impl FitJournal {
    /// Opens the journal of the fit with this fingerprint; that of another is begun anew. A line cut short by a kill, and
    /// what `is_whole` refuses, counts as not finished.
    pub fn open(
        path: &Path,
        fingerprint: &str,
        is_whole: impl Fn(&Finished) -> bool,
    ) -> anyhow::Result<Self> {
        let describe = || format!("could not write `{}`", path.display());
        let former = std::fs::read(path).unwrap_or_default();
        let mut lines = former.split(|&byte| byte == b'\n');
        let mut finished = BTreeMap::new();
        if lines.next() == Some(fingerprint.as_bytes()) {
            let whole = lines.map_while(|line| serde_json::from_slice::<Finished>(line).ok());
            finished.extend(whole.filter(is_whole).map(|f| (f.column, f)));
        }
        let mut journal = Self {
            path: path.to_path_buf(),
            file: File::create(path).with_context(describe)?,
            finished: BTreeMap::new(),
        };
        writeln!(journal.file, "{fingerprint}").with_context(describe)?;
        for (_, phenotype) in finished {
            journal.add(phenotype)?;
        }
        Ok(journal)
    }

    /// Adds a finished phenotype.
    pub fn add(&mut self, phenotype: Finished) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&phenotype)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .with_context(|| format!("could not write `{}`", self.path.display()))?;
        self.finished.insert(phenotype.column, phenotype);
        Ok(())
    }

    /// Removes the file: its content stands in the tables.
    pub fn remove(self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.path)
            .with_context(|| format!("could not remove `{}`", self.path.display()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn phenotype(column: usize) -> Finished {
        Finished {
            column,
            test: PhenotypeRow::default(),
            row: PhenotypeRow {
                t_hat: Some(0.1 + 0.2),
                ..PhenotypeRow::default()
            },
            curve: vec![(0.0, 1.0 / 3.0, 2.0)],
        }
    }

    #[test]
    fn whole_lines_of_the_same_fit_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fit.jsonl");
        let mut journal = FitJournal::open(&path, "a", |_| true).unwrap();
        for column in [2, 0, 1] {
            journal.add(phenotype(column)).unwrap();
        }
        drop(journal);
        // The last line, column 1, cut short.
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        let journal = FitJournal::open(&path, "a", |f| f.column != 0).unwrap();
        assert_eq!(journal.finished.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!(journal.finished[&2].row, phenotype(2).row);
        assert_eq!(journal.finished[&2].curve, phenotype(2).curve);
        drop(journal);
        let journal = FitJournal::open(&path, "b", |_| true).unwrap();
        assert!(journal.finished.is_empty());
        journal.remove().unwrap();
        assert!(!path.exists());
    }
}
