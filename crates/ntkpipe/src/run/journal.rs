//! What a fit has finished so far, one line per phenotype. An interruption loses only the phenotypes under way.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ntkpipe_store::atomic;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::run::phenotype_row::{PhenotypeRow, Status};

/// A line of the journal.
pub trait Entry: Serialize + DeserializeOwned {
    /// What tells it from every other.
    type Key: Copy + Ord;

    /// Its key.
    fn key(&self) -> Self::Key;
}

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

impl Entry for Finished {
    type Key = usize;

    fn key(&self) -> usize {
        self.column
    }
}

/// A phenotype that was fitted without the samples of a fold; its dual weights, if it has any, were written before.
#[derive(Debug, Serialize, Deserialize)]
pub struct FinishedInFold {
    /// The fold.
    pub fold: usize,
    /// Place among the phenotype columns.
    pub column: usize,
    /// How it came out.
    pub status: Status,
    /// Whether it has dual weights.
    pub is_trained: bool,
}

impl Entry for FinishedInFold {
    type Key = (usize, usize);

    fn key(&self) -> (usize, usize) {
        (self.fold, self.column)
    }
}

/// The file of what one fit has finished; its first line is the fit's fingerprint.
#[derive(Debug)]
pub struct FitJournal<E: Entry> {
    path: PathBuf,
    file: File,
    /// Those of the file, and those added since.
    pub finished: BTreeMap<E::Key, E>,
}

impl<E: Entry> FitJournal<E> {
    /// Opens the journal of the fit with this fingerprint; that of another is begun anew. A line cut short by a kill, and
    /// what `is_whole` refuses, counts as not finished.
    pub fn open(
        path: &Path,
        fingerprint: &str,
        is_whole: impl Fn(&E) -> bool,
    ) -> anyhow::Result<Self> {
        let former = std::fs::read(path).unwrap_or_default();
        let mut lines = former.split(|&byte| byte == b'\n');
        let mut finished = BTreeMap::new();
        if lines.next() == Some(fingerprint.as_bytes()) {
            let whole = lines.map_while(|line| serde_json::from_slice::<E>(line).ok());
            finished.extend(whole.filter(is_whole).map(|it| (it.key(), it)));
        }
        // Whole at every moment: what was finished is not lost to a kill here.
        let mut text = format!("{fingerprint}\n").into_bytes();
        for entry in finished.values() {
            text.extend(line(entry)?);
        }
        atomic::write(path, &[&text])?;
        let file = File::options().append(true).open(path);
        Ok(Self {
            path: path.to_path_buf(),
            file: file.with_context(|| format!("could not write `{}`", path.display()))?,
            finished,
        })
    }

    /// Adds what is finished.
    pub fn add(&mut self, entry: E) -> anyhow::Result<()> {
        self.file
            .write_all(&line(&entry)?)
            .with_context(|| format!("could not write `{}`", self.path.display()))?;
        self.finished.insert(entry.key(), entry);
        Ok(())
    }
}

fn line(entry: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line)
}

/// Whether the file begins with a fingerprint, as journals do and what shards leave; one that `may_be_short` may end within it.
pub fn is_ours(path: &Path, may_be_short: bool) -> bool {
    const LENGTH: usize = 64;
    let Ok(true) = path.symlink_metadata().map(|it| it.is_file()) else {
        return false;
    };
    let mut start = Vec::new();
    let read = File::open(path).and_then(|it| it.take(LENGTH as u64 + 1).read_to_end(&mut start));
    let digits = &start[..start.len().min(LENGTH)];
    let is_whole = start.is_empty() || start.get(LENGTH) == Some(&b'\n');
    read.is_ok() && digits.iter().all(u8::is_ascii_hexdigit) && (is_whole || may_be_short)
}

/// Whole lines of the journal at `path` after its first: what a fit under way has finished.
pub fn count(path: &Path) -> usize {
    let text = std::fs::read(path).unwrap_or_default();
    let lines = text.iter().filter(|&&byte| byte == b'\n').count();
    lines.saturating_sub(1)
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
        let mut journal = FitJournal::<Finished>::open(&path, "a", |_| true).unwrap();
        for column in [2, 0, 1] {
            journal.add(phenotype(column)).unwrap();
        }
        drop(journal);
        assert_eq!(count(&path), 3);
        // The last line, column 1, cut short.
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        assert_eq!(count(&path), 2);
        let journal = FitJournal::<Finished>::open(&path, "a", |f| f.column != 0).unwrap();
        assert_eq!(journal.finished.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!(journal.finished[&2].row, phenotype(2).row);
        assert_eq!(journal.finished[&2].curve, phenotype(2).curve);
        drop(journal);
        let journal = FitJournal::<Finished>::open(&path, "b", |_| true).unwrap();
        assert!(journal.finished.is_empty());
        assert_eq!(count(&path), 0);
    }
}
