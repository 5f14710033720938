//! Lists of samples to keep or to remove.

use std::collections::HashSet;
use std::path::Path;

use ntkpipe_store::id_list::{IdList, read_id_list};
use ntkpipe_store::table::Table;

use crate::cohort::id_match::IdMatch;
use crate::cohort::record::ListRecord;
use crate::failure::input;
use crate::options::Options;

/// A list of samples to keep or to remove.
#[derive(Debug)]
pub struct SampleList {
    flag: &'static str,
    /// The list.
    pub list: IdList,
    /// Its ids that a table has.
    n_found: usize,
}

impl SampleList {
    /// Reads the list. Refuses one without a single id of `tables`, the features first, unless that is allowed.
    pub fn read(
        flag: &'static str,
        path: &Path,
        tables: &[&Table],
        options: &Options,
    ) -> anyhow::Result<Self> {
        let known: HashSet<&str> = tables
            .iter()
            .flat_map(|table| table.ids.iter().map(String::as_str))
            .collect();
        let mut list = read_id_list(
            options.copies.of(path),
            options.id_column.as_deref(),
            &|id| known.contains(id),
        )?;
        // Messages name what was given.
        list.path = path.to_path_buf();
        let n_found = list
            .ids
            .iter()
            .filter(|id| known.contains(id.as_str()))
            .count();
        if n_found == 0 && !options.allow_empty_lists.unwrap_or(false) {
            let why = match list.ids.is_empty() {
                true => format!("the list of `{flag}` names nobody: `{}`", path.display()),
                false => format!(
                    "nobody in the list of `{flag}` is in a table: {}",
                    IdMatch::new(&list, tables[0]).describe()
                ),
            };
            return Err(input(
                why,
                "write the ids as they stand in the tables; pass `--allow-empty-lists` where a list may name nobody",
            ));
        }
        Ok(Self {
            flag,
            list,
            n_found,
        })
    }

    /// How the ids were found, and that few were.
    pub fn warnings(&self, features: &Table) -> Vec<String> {
        let path = self.list.path.display();
        let found = self.list.warnings.iter();
        let mut warnings: Vec<String> = found
            .map(|it| format!("list of `{}`, `{path}`: {it}", self.flag))
            .collect();
        let ids = IdMatch::new(&self.list, features);
        let few = (2 * self.n_found < self.list.ids.len()).then(|| ids.describe());
        warnings
            .extend(few.map(|it| format!("few of the list of `{}` are found: {it}", self.flag)));
        if let (true, Some(warning)) = (warnings.is_empty(), ids.warning_of_rest()) {
            warnings.push(format!("list of `{}`: {warning}", self.flag));
        }
        warnings
    }

    /// What `run.json` records of it.
    pub fn record(&self) -> ListRecord {
        ListRecord {
            flag: self.flag.to_owned(),
            path: self.list.path.clone(),
            ids_from: self.list.column.clone(),
            ids: self.list.ids.len(),
            found: self.n_found,
        }
    }
}
