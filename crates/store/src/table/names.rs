//! The names in a table's header: which is the id, which are selected.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Columns, Reading, TableError};
use crate::first_few;

/// Header of a table of which each row is a sample.
pub(super) struct Names {
    path: PathBuf,
    pub(super) all: Vec<String>,
    /// Position of the ids.
    pub(super) id: usize,
    /// Positions of all columns but the ids.
    others: Vec<usize>,
}

impl Names {
    /// Checks that names are unique and finds the id column.
    pub(super) fn new(
        path: &Path,
        all: Vec<String>,
        id_column: Option<&str>,
    ) -> Result<Self, TableError> {
        check_unique(path, &all)?;
        let found = match id_column {
            Some(column) => all.iter().position(|name| name == column),
            None => default_id(&all),
        };
        let Some(id) = found else {
            return Err(TableError::NoIdColumn {
                path: path.to_path_buf(),
                column: id_column.unwrap_or_default().to_owned(),
                names: first_few(&all),
            });
        };
        Ok(Self {
            path: path.to_path_buf(),
            others: (0..all.len()).filter(|place| *place != id).collect(),
            all,
            id,
        })
    }

    /// Names of the columns that globs do not reach, for a warning.
    pub(super) fn left_out(&self) -> Vec<&String> {
        let names = self.others.iter().map(|&place| &self.all[place]);
        names.filter(|name| self.is_aside(name)).collect()
    }

    /// Positions of the columns of numbers and of those of text that `reading` wants.
    pub(super) fn select(&self, reading: &Reading) -> Result<(Vec<usize>, Vec<usize>), TableError> {
        let text = match reading.text_columns.is_empty() {
            true => Vec::new(),
            false => self.matching(&reading.text_columns)?,
        };
        let numbers = match &reading.columns {
            Columns::Named(names) => self.named(names)?,
            Columns::Matching(patterns) if patterns.is_empty() => self.candidates().collect(),
            Columns::Matching(patterns) => self.matching(patterns)?,
        };
        let numbers = numbers
            .into_iter()
            .filter(|it| !text.contains(it))
            .collect();
        Ok((numbers, text))
    }

    fn candidates(&self) -> impl Iterator<Item = usize> {
        let others = self.others.iter().copied();
        others.filter(|&place| !self.is_aside(&self.all[place]))
    }

    /// Whether a column is no value of a sample, and so only taken when its full name is given.
    fn is_aside(&self, name: &str) -> bool {
        let id = &self.all[self.id];
        is_pandas_index(name) || (id == "IID" && name == "FID") || (is_eid(id) && is_eid(name))
    }

    fn named(&self, names: &[String]) -> Result<Vec<usize>, TableError> {
        let places: HashMap<&str, usize> = self
            .others
            .iter()
            .map(|&place| (self.all[place].as_str(), place))
            .collect();
        all_places(&self.path, names, &places)
    }

    /// Positions of the columns that `patterns` select, in file order.
    fn matching(&self, patterns: &[String]) -> Result<Vec<usize>, TableError> {
        let mut selected = vec![false; self.all.len()];
        let mut unmatched = Vec::new();
        for pattern in patterns {
            let mut others = self.others.iter().copied();
            let exact = others.find(|&place| self.all[place] == *pattern);
            let matched: Vec<usize> = match exact {
                Some(place) => vec![place],
                None => self
                    .candidates()
                    .filter(|&place| matches(pattern, &self.all[place]))
                    .collect(),
            };
            if matched.is_empty() {
                unmatched.push(pattern);
            }
            matched.into_iter().for_each(|place| selected[place] = true);
        }
        if !unmatched.is_empty() {
            let names: Vec<&String> = self.candidates().map(|place| &self.all[place]).collect();
            return Err(TableError::NoMatch {
                path: self.path.clone(),
                patterns: first_few(&unmatched),
                names: first_few(&names),
            });
        }
        let others = self.others.iter().copied();
        Ok(others.filter(|&place| selected[place]).collect())
    }
}

/// Refuses names that stand more than once.
pub(super) fn check_unique(path: &Path, names: &[String]) -> Result<(), TableError> {
    let repeated = repeated(names);
    if repeated.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = repeated.iter().map(|(name, _)| *name).collect();
    Err(TableError::DuplicateColumns {
        path: path.to_path_buf(),
        names: first_few(&names),
    })
}

/// Place of the ids where none is named: `IID`, else UK Biobank's `eid`, else the first column.
fn default_id(names: &[String]) -> Option<usize> {
    let place = |is_it: fn(&str) -> bool| names.iter().position(|name| is_it(name));
    place(|name| name == "IID")
        .or_else(|| place(is_eid))
        .or((!names.is_empty()).then_some(0))
}

/// Whether a name is UK Biobank's participant id: `eid`, `f.eid`, `n_eid`, or that of a table, as `participant.eid`.
pub(crate) fn is_eid(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "n_eid" || name.rsplit('.').next() == Some("eid")
}

/// Places of `names`, all of which must be there.
pub(super) fn all_places(
    path: &Path,
    names: &[String],
    places: &HashMap<&str, usize>,
) -> Result<Vec<usize>, TableError> {
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !places.contains_key(name.as_str()))
        .collect();
    if missing.is_empty() {
        return Ok(names.iter().map(|name| places[name.as_str()]).collect());
    }
    let (n, n_wanted, names) = (missing.len(), names.len(), first_few(&missing));
    Err(TableError::MissingColumns {
        path: path.to_path_buf(),
        n,
        n_wanted,
        names,
    })
}

/// The names that stand more than once and where, in order of their first place.
pub(super) fn repeated(names: &[String]) -> Vec<(&str, Vec<usize>)> {
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    let mut again: HashMap<usize, Vec<usize>> = HashMap::new();
    for (place, name) in names.iter().enumerate() {
        match first.get(name.as_str()) {
            Some(&before) => again
                .entry(before)
                .or_insert_with(|| vec![before])
                .push(place),
            None => {
                first.insert(name, place);
            }
        }
    }
    let mut repeated: Vec<(&str, Vec<usize>)> = again
        .into_iter()
        .map(|(before, places)| (names[before].as_str(), places))
        .collect();
    repeated.sort_unstable_by_key(|(_, places)| places[0]);
    repeated
}

/// Glob match in which `*` also spans `/`, which is nothing special in a column name. A pattern may leave out the table that
/// UK Biobank's platform writes before a name, as `participant.` or `olink_instance_0.`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let plain = |text: &str| text.replace('/', "\u{1}");
    let whole = glob_match::glob_match(&plain(pattern), &plain(name));
    let field = name.split_once('.').filter(|(table, _)| is_table(table));
    whole
        || field.is_some_and(|(_, field)| {
            !pattern.starts_with('!') && glob_match::glob_match(&plain(pattern), &plain(field))
        })
}

fn is_table(name: &str) -> bool {
    name == "participant" || name.starts_with("olink_instance_")
}

fn is_pandas_index(name: &str) -> bool {
    name.strip_prefix("__index_level_")
        .and_then(|rest| rest.strip_suffix("__"))
        .is_some_and(|level| !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit()))
}
