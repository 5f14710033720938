//! A file that a table is opened from: Parquet or text.

use rayon::prelude::*;

use super::error::TableError;
use super::ids;
use super::names::{Columnar, Names};
use super::parquet::Parquet;
use super::row_numbers::{Content, HEAD, Head};
use super::text::Text;
use crate::words::{agreeing, counted, first_few};

/// Where a table's columns come from.
pub(super) enum File {
    Parquet(Parquet),
    Text(Text),
}

impl Columnar for Parquet {
    fn head(&self, place: usize) -> Result<Head, TableError> {
        ids::head(self, place, HEAD)
    }

    fn pandas_index(&self) -> Vec<String> {
        Self::pandas_index(self)
    }
}

impl Columnar for File {
    fn head(&self, place: usize) -> Result<Head, TableError> {
        match self {
            Self::Parquet(parquet) => Columnar::head(parquet, place),
            Self::Text(text) => Ok(text.head(place)),
        }
    }

    fn pandas_index(&self) -> Vec<String> {
        match self {
            Self::Parquet(parquet) => parquet.pandas_index(),
            Self::Text(_) => Vec::new(),
        }
    }
}

impl File {
    pub(super) fn warnings(&self) -> Vec<String> {
        match self {
            Self::Parquet(_) => Vec::new(),
            Self::Text(text) => text.warnings.clone(),
        }
    }

    /// Warns of the columns at `places` that are row numbers, the ids again, or part of pandas' index.
    ///
    /// Cost: for Parquet, the first pages of the columns whose range allows it.
    pub(super) fn warn_of_no_values(
        &self,
        names: &Names,
        places: &[usize],
    ) -> Result<Vec<String>, TableError> {
        let ids = self.head(names.id)?;
        let numbers = ids.iter().flatten().filter_map(|id| id.parse::<f64>().ok());
        let bounds = numbers.fold(None, |bounds: Option<(f64, f64)>, id| {
            let (low, high) = bounds.unwrap_or((id, id));
            Some((low.min(id), high.max(id)))
        });
        let may_be = |place: &usize| {
            let Self::Parquet(parquet) = self else {
                return true;
            };
            let n = parquet.n_rows() as f64;
            parquet.range(*place).is_none_or(|(low, high)| {
                let may_be_ids = |it: (f64, f64)| low <= it.0 && it.1 <= high;
                [(0.0, n - 1.0), (1.0, n)].contains(&(low, high)) || bounds.is_some_and(may_be_ids)
            })
        };
        let found: Vec<Option<Content>> = places
            .par_iter()
            .map(|place| match may_be(place) {
                true => Ok(Content::of(&self.head(*place)?, &ids)),
                false => Ok(None),
            })
            .collect::<Vec<Result<_, TableError>>>()
            .into_iter()
            .collect::<Result<_, _>>()?;
        let of = |wanted: Content| -> Vec<&String> {
            let pairs = places.iter().zip(&found);
            let those = pairs.filter(|(_, it)| **it == Some(wanted));
            those.map(|(place, _)| &names.all[*place]).collect()
        };
        let levels = self.pandas_index();
        let pairs = places.iter().map(|it| &names.all[*it]).zip(&found);
        let of_index = pairs.filter(|(name, content)| content.is_none() && levels.contains(*name));
        let told = [
            (of(Content::Ids), "the ids again"),
            (of(Content::RowNumbers), "row numbers"),
            (of_index.map(|(name, _)| name).collect(), "of pandas' index"),
        ];
        let told = told.into_iter().filter(|(columns, _)| !columns.is_empty());
        Ok(told
            .map(|(columns, what)| {
                format!(
                    "{} {} {what}, and {} taken as a value all the same: {}; leave out what is none",
                    counted(columns.len(), "columns"),
                    agreeing(columns.len(), "seems to be", "seem to be"),
                    agreeing(columns.len(), "is", "are"),
                    first_few(&columns)
                )
            })
            .collect())
    }
}
