//! The names in a table's header: which column holds the ids, and which columns are selected.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::TableError;
use super::reading::{Columns, Reading};
use super::row_numbers::{
    Content, Head, can_be_ids, is_counted, is_distinct, is_rising, is_shuffled_count,
};
use crate::words::first_few;

/// Header of a table with one row per sample.
pub(super) struct Names {
    pub(super) path: PathBuf,
    pub(super) all: Vec<String>,
    /// Position of the ids.
    pub(super) id: usize,
    /// Positions of all columns but the ids.
    others: Vec<usize>,
    /// Which columns are not values of a sample; these are taken only when their full name is given.
    is_aside: Vec<bool>,
    /// What a person should know about the choice of the ids.
    warnings: Vec<String>,
}

/// What is known about the columns of a table besides their names.
pub(super) trait Columnar {
    /// The first values of the column at `place`.
    fn head(&self, place: usize) -> Result<Head, TableError>;

    /// The columns that pandas kept as the index of its rows.
    fn pandas_index(&self) -> Vec<String>;
}

impl Names {
    /// Finds the id column and the columns that are not values, and checks that names are unique.
    pub(super) fn new(
        path: &Path,
        all: Vec<String>,
        id_column: Option<&str>,
        table: &impl Columnar,
    ) -> Result<Self, TableError> {
        let has_name = |name: &&String| !name.is_empty();
        check_unique(path, all.iter().filter(has_name).cloned().collect())?;
        let mut warnings = Vec::new();
        let found = match id_column {
            Some(column) => all.iter().position(|name| name == column),
            None => default_id(path, &all, table, &mut warnings)?,
        };
        let Some(id) = found else {
            return Err(TableError::NoIdColumn {
                path: path.to_path_buf(),
                column: id_column.unwrap_or_default().to_owned(),
                names: first_few(&all),
            });
        };
        let others: Vec<usize> = (0..all.len()).filter(|place| *place != id).collect();
        let mut is_aside = vec![false; all.len()];
        let has = |wanted: &str| all.iter().any(|it| it == wanted);
        let is_oxford = has("ID_1") && has("ID_2");
        for &place in &others {
            is_aside[place] = is_aside_by_name(&all[place], &all[id], is_oxford)
                || counts_rows(&all[place]) && holds_no_values(table, id, place, &all[place])?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            all,
            id,
            others,
            is_aside,
            warnings,
        })
    }

    /// The proteins of a long table as column names, all of them values.
    pub(super) fn of_proteins(
        path: &Path,
        id: String,
        proteins: Vec<String>,
    ) -> Result<Self, TableError> {
        let all: Vec<String> = std::iter::once(id).chain(proteins).collect();
        check_unique(path, all.clone())?;
        Ok(Self {
            path: path.to_path_buf(),
            id: 0,
            others: (1..all.len()).collect(),
            is_aside: vec![false; all.len()],
            warnings: Vec::new(),
            all,
        })
    }

    /// What a person should know about the choice of the ids, and about columns that `reading` would select if they were
    /// values.
    pub(super) fn warnings(&self, reading: &Reading, selected: &[usize]) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        let Columns::Matching(patterns) = &reading.columns else {
            return warnings;
        };
        let is_wanted = |place: &&usize| {
            let is_meant = |it: &String| matches(it, &self.all[**place]);
            let is_meant = patterns.is_empty() || patterns.iter().any(is_meant);
            self.is_aside[**place] && is_meant && !selected.contains(place)
        };
        let left: Vec<&String> = self
            .others
            .iter()
            .filter(is_wanted)
            .map(|&it| &self.all[it])
            .collect();
        let (named, nameless): (Vec<&String>, Vec<&String>) =
            left.into_iter().partition(|it| !it.is_empty());
        let mut what = Vec::new();
        if !named.is_empty() {
            what.push(first_few(&named));
        }
        match nameless.len() {
            0 => {}
            1 => what.push("1 column without a name".to_owned()),
            n => what.push(format!("{n} columns without a name")),
        }
        if !what.is_empty() {
            warnings.push(format!(
                "left out {}, as ids, row numbers or without a name: a column that holds values is taken by its full name",
                what.join(" and ")
            ));
        }
        warnings
    }

    /// Names of the columns that can be selected by globs.
    pub(super) fn candidate_names(&self) -> Vec<&String> {
        self.candidates().map(|place| &self.all[place]).collect()
    }

    /// Columns whose names look like ids, for a message.
    pub(super) fn like_ids(&self) -> Vec<&String> {
        let others = self.others.iter().map(|&place| &self.all[place]);
        others
            .filter(|name| name.to_ascii_lowercase().ends_with("id"))
            .collect()
    }

    /// Positions of the columns of numbers, and of the columns of text, that `reading` selects.
    pub(super) fn select(&self, reading: &Reading) -> Result<(Vec<usize>, Vec<usize>), TableError> {
        let text = match reading.text_columns.is_empty() {
            true => Vec::new(),
            false => self.matching(&reading.text_columns)?,
        };
        let numbers = match &reading.columns {
            Columns::Named(names) => self.named(names)?,
            Columns::All => self.others.clone(),
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
        others.filter(|&place| !self.is_aside[place])
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
            return Err(TableError::NoMatch {
                path: self.path.clone(),
                patterns: first_few(&unmatched),
                names: first_few(&self.candidate_names()),
            });
        }
        let others = self.others.iter().copied();
        Ok(others.filter(|&place| selected[place]).collect())
    }
}

/// Refuses names that occur more than once.
pub(super) fn check_unique(path: &Path, names: Vec<String>) -> Result<(), TableError> {
    let repeated = repeated(&names);
    if repeated.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = repeated.iter().map(|(name, _)| *name).collect();
    Err(TableError::DuplicateColumns {
        path: path.to_path_buf(),
        names: first_few(&names),
    })
}

/// Place of the ids where no column is named: `IID` in any case, else UK Biobank's `eid`, else Oxford's `ID_2`, else the index
/// of pandas, else the first column that does not count the rows.
fn default_id(
    path: &Path,
    names: &[String],
    table: &impl Columnar,
    warnings: &mut Vec<String>,
) -> Result<Option<usize>, TableError> {
    let place = |is_it: &dyn Fn(&str) -> bool| names.iter().position(|name| is_it(name));
    let is_oxford = place(&|name| name == "ID_1").is_some();
    let known = place(&|name| name == "IID")
        .or_else(|| place(&is_iid))
        .or_else(|| place(&is_eid))
        .or_else(|| place(&|name| is_oxford && name == "ID_2"));
    if known.is_some() || names.is_empty() {
        return Ok(known);
    }
    if let [index] = table.pandas_index().as_slice()
        && let Some(index) = names.iter().position(|name| name == index)
        && holds_index(names, index, table)?
    {
        warnings.push(format!("the ids are pandas' index, `{}`", names[index]));
        return Ok(Some(index));
    }
    // Row numbers would join tables by their rows.
    let mut place = 0;
    let mut head = table.head(0)?;
    while place + 1 < names.len() {
        let next = table.head(place + 1)?;
        let is_like_ids = can_be_ids(&next) && !next.iter().any(is_fraction);
        if !is_count(&names[place], &head, is_like_ids) {
            break;
        }
        (place, head) = (place + 1, next);
    }
    if place == 0 || is_count(&names[place], &head, false) {
        if is_counted(&table.head(0)?) {
            warnings.push(format!(
                "the ids, in {}, count the rows: tables are joined by their rows unless `--id-column` names the ids",
                called(&names[0])
            ));
        }
        return Ok(Some(0));
    }
    let before: Vec<String> = names[..place].iter().map(|it| called(it)).collect();
    let (name, before) = (&names[place], before.join(", "));
    if let Some(row) = head.iter().position(is_fraction) {
        return Err(TableError::IdType {
            path: path.to_path_buf(),
            column: name.clone(),
            found: format!(
                "`{}` in row {}, and {before} before it counts the rows",
                head[row].as_deref().unwrap_or(""),
                row + 1
            ),
            candidates: String::new(),
        });
    }
    warnings.push(format!(
        "the ids are taken from `{name}`, for {before} before it counts the rows; `--id-column` names another"
    ));
    Ok(Some(place))
}

/// Whether a column of this name counts the rows. If the next column can hold the ids, it may also hold the row numbers of a
/// larger table.
fn is_count(name: &str, head: &Head, is_next_like_ids: bool) -> bool {
    let first = head
        .first()
        .and_then(|it| it.as_deref()?.parse::<u32>().ok());
    let starts_low = first.is_some_and(|it| it < 1000);
    let is_letter = name.len() <= 2 && !is_row_name(name);
    let is_part = starts_low && is_rising(head) || !is_letter && is_shuffled_count(head);
    let is_count = is_counted(head) || is_next_like_ids && is_part;
    (is_row_name(name) || counts_rows(name)) && is_count
}

fn is_fraction(value: &Option<String>) -> bool {
    let number = value.as_deref().and_then(|it| it.parse::<f64>().ok());
    number.is_some_and(|it| it.fract() != 0.0)
}

/// A name as it stands in a message.
fn called(name: &str) -> String {
    match name {
        "" => "the column without a name".to_owned(),
        name => format!("`{name}`"),
    }
}

/// Whether the index of pandas holds the ids. An index without a name may hold the row numbers of a larger table.
fn holds_index(names: &[String], index: usize, table: &impl Columnar) -> Result<bool, TableError> {
    if !is_pandas_index(&names[index]) {
        return Ok(true);
    }
    let head = table.head(index)?;
    let Some(first) = (0..names.len()).find(|it| *it != index) else {
        return Ok(can_be_ids(&head));
    };
    let is_first = can_be_ids(&table.head(first)?);
    let is_part = is_rising(&head) || is_shuffled_count(&head);
    Ok(can_be_ids(&head) && !is_counted(&head) && !(is_first && is_part))
}

/// Whether a name says that its column is not a value: it names rows, or another id besides `id`. `is_oxford`: whether the ids
/// are `ID_1` and `ID_2`.
fn is_aside_by_name(name: &str, id: &str, is_oxford: bool) -> bool {
    let is_of_plink = is_iid(id) && ["SID", "PAT", "MAT"].contains(&name);
    let is_of_oxford = is_oxford && ["ID_1", "ID_2", "missing"].contains(&name);
    is_row_name(name)
        || is_eid(name)
        || is_iid(name)
        || plain(name).eq_ignore_ascii_case("fid")
        || is_of_plink
        || is_of_oxford
}

/// Whether the column holds row numbers or the ids again, as its name suggests.
fn holds_no_values(
    table: &impl Columnar,
    id: usize,
    place: usize,
    name: &str,
) -> Result<bool, TableError> {
    let (head, ids) = (table.head(place)?, table.head(id)?);
    let is_letter = name.len() <= 2;
    Ok(Content::of(&head, &ids).is_some() || is_rising(&head) || !is_letter && is_distinct(&head))
}

/// Whether a name is a default for rows, as R and pandas write it (``, `Unnamed: 0`, `Unnamed: 0.1`, `...1`,
/// `__index_level_0__`).
fn is_row_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let unnamed = name.strip_prefix("Unnamed: ");
    name.is_empty()
        || unnamed.is_some_and(|it| it.starts_with(|first: char| first.is_ascii_digit()))
        || name.strip_prefix("...").is_some_and(is_number)
        || is_pandas_index(name)
}

/// Whether a name may belong to a column of row numbers: programs give such names to columns without one, but so do people.
fn counts_rows(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "x",
        "v1",
        "x1",
        "index",
        "level_0",
        "row",
        "rowname",
        "rownames",
        "rownum",
        "rownumber",
        "rowid",
        "rowindex",
        "rn",
        "obs",
    ];
    let mut plain = name.to_ascii_lowercase();
    if plain != "level_0" {
        plain.retain(|c| !matches!(c, '_' | '.' | ' '));
    }
    NAMES.contains(&plain.as_str())
}

/// A name without the `#` that PLINK writes before the first one.
fn plain(name: &str) -> &str {
    name.trim_start_matches('#')
}

fn is_iid(name: &str) -> bool {
    plain(name).eq_ignore_ascii_case("iid")
}

/// Whether a name is UK Biobank's participant id: `eid`, `f.eid`, `n_eid`, or that of a table, such as `participant.eid`.
pub(crate) fn is_eid(name: &str) -> bool {
    let name = plain(name).to_ascii_lowercase();
    name == "n_eid" || name.rsplit('.').next() == Some("eid")
}

/// Places of `names`; an error if one is missing.
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

/// The names that occur more than once, and where, in order of their first place.
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

/// Glob match. `*` also matches `/`, which is an ordinary character in a column name. A pattern may leave out the table name
/// that UK Biobank's platform puts before a column, such as `participant.` or `olink_instance_0.`.
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
