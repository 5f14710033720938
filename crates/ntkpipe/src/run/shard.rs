//! Shards of a stage done by jobs of their own in one run directory: what a job leaves to say that it is done, and which shards are missing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use ntkpipe_store::atomic;

use crate::failure::input;
use crate::run::files;

/// The I-th of N shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    index: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self {
                index: index - 1,
                of,
            }),
            _ => Err("expected I/N with I from 1 to N, such as 3/8".to_owned()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.of)
    }
}

impl Shard {
    /// All N shards, in order.
    fn all(of: usize) -> impl Iterator<Item = Self> {
        (0..of).map(move |index| Self { index, of })
    }

    /// Its part of a list, in one piece: neighbours share what they read.
    pub fn piece<'t, T>(&self, of: &'t [T]) -> &'t [T] {
        let end = |index: usize| of.len() * index / self.of;
        &of[end(self.index)..end(self.index + 1)]
    }

    /// Whether it has the i-th of a list that is dealt out in turn: phenotypes of one cost stand side by side.
    pub fn is_dealt(&self, i: usize) -> bool {
        i % self.of == self.index
    }

    /// What a job of this shard leaves for `stage`, such as `kernel.json`.
    pub fn file(&self, out: &Path, stage: &str) -> PathBuf {
        let name = format!("{stage}-{}-of-{}", self.index + 1, self.of);
        out.join(files::SHARDS).join(name)
    }

    /// Records that the shard of the stage with this fingerprint is done.
    pub fn leave(&self, out: &Path, stage: &str, fingerprint: &str) -> anyhow::Result<()> {
        create_folder(out)?;
        let line = format!("{fingerprint}\n");
        Ok(atomic::write(&self.file(out, stage), &[line.as_bytes()])?)
    }
}

/// The folder of what the jobs leave.
pub fn create_folder(out: &Path) -> anyhow::Result<()> {
    let folder = out.join(files::SHARDS);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("could not create the folder `{}`", folder.display()))
}

/// The shards of a stage that were left, if all are there and of the stage with this fingerprint.
///
/// N is the largest one recorded. The first line of what a shard left is the fingerprint. Missing ones are named, and those made from
/// other inputs, options or versions.
pub fn all_there(out: &Path, stage: &str, fingerprint: &str) -> anyhow::Result<Vec<Shard>> {
    let of = left(out, stage)?.into_iter().map(|it| it.of).max();
    let again =
        |shard: &Shard| format!("`ntkpipe {stage} --shard {shard} --out {}`", out.display());
    let Some(of) = of else {
        return Err(input(
            format!(
                "no shard of the stage `{stage}` was made in `{}`",
                out.display()
            ),
            format!("run {} first", again(&Shard { index: 0, of: 1 })),
        ));
    };
    let (mut missing, mut foreign) = (Vec::new(), Vec::new());
    for shard in Shard::all(of) {
        match std::fs::read(shard.file(out, stage)) {
            Err(_) => missing.push(shard),
            Ok(text) if text.split(|&b| b == b'\n').next() == Some(fingerprint.as_bytes()) => {}
            Ok(_) => foreign.push(shard),
        }
    }
    let list = |shards: &[Shard]| {
        let words: Vec<String> = shards.iter().map(Shard::to_string).collect();
        words.join(", ")
    };
    match (missing.first(), foreign.first()) {
        (Some(first), _) => Err(input(
            format!(
                "stage `{stage}`: these shards are missing: {}",
                list(&missing)
            ),
            format!("run {} and the like", again(first)),
        )),
        (None, Some(first)) => Err(input(
            format!(
                "stage `{stage}`: these shards were made from other inputs or options, or by another version: {}",
                list(&foreign)
            ),
            format!("run {} and the like again", again(first)),
        )),
        (None, None) => Ok(Shard::all(of).collect()),
    }
}

/// Removes what the shards of a stage left.
pub fn forget(out: &Path, stage: &str) -> anyhow::Result<()> {
    for shard in left(out, stage)? {
        std::fs::remove_file(shard.file(out, stage))?;
    }
    // Goes with the last.
    let _ = std::fs::remove_dir(out.join(files::SHARDS));
    Ok(())
}

/// The shards of a stage that are recorded.
fn left(out: &Path, stage: &str) -> anyhow::Result<Vec<Shard>> {
    let folder = out.join(files::SHARDS);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let name = entry?.file_name();
        let shard = name
            .to_str()
            .and_then(|name| name.strip_prefix(stage)?.strip_prefix('-'))
            .and_then(|rest| rest.replace("-of-", "/").parse::<Shard>().ok());
        found.extend(shard);
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_a_list_once() {
        let list: Vec<usize> = (0..23).collect();
        for of in [1, 2, 7, 23, 40] {
            let pieces: Vec<usize> = Shard::all(of)
                .flat_map(|s| s.piece(&list).to_vec())
                .collect();
            assert_eq!(pieces, list);
            for i in &list {
                assert_eq!(Shard::all(of).filter(|s| s.is_dealt(*i)).count(), 1);
            }
        }
        for wrong in ["0/4", "5/4", "1", "a/b", "1/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn missing_shards_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let shard = |text: &str| text.parse::<Shard>().unwrap();
        let refusal = || all_there(out, "kernel", "a").unwrap_err().to_string();
        assert!(refusal().contains("no shard"));
        shard("1/3").leave(out, "kernel", "a").unwrap();
        assert!(refusal().contains("2/3, 3/3"));
        shard("2/3").leave(out, "kernel", "b").unwrap();
        shard("3/3").leave(out, "kernel", "a").unwrap();
        assert!(refusal().ends_with("version: 2/3"));
        shard("2/3").leave(out, "kernel", "a").unwrap();
        assert_eq!(all_there(out, "kernel", "a").unwrap().len(), 3);
        forget(out, "kernel").unwrap();
        assert!(!out.join(files::SHARDS).exists());
    }
}
