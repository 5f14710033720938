//! How a file is to be read as a table.

use std::path::PathBuf;

/// Which columns of a table are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Columns {
    /// Those that match one of these names and globs, in file order; all if the list is empty.
    Matching(Vec<String>),
    /// Exactly these, in this order.
    Named(Vec<String>),
    /// All except the ids, whatever their names.
    All,
}

impl Default for Columns {
    fn default() -> Self {
        Self::Matching(Vec::new())
    }
}

/// How a file is to be read as a table; the default reads every column of a wide table as numbers.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Column of the sample ids; by default `IID`, else `eid` (UK Biobank, in any spelling), else `ID_2` next to `ID_1`, else
    /// the index of pandas, else the first column that does not count the rows.
    pub id_column: Option<String>,
    /// Columns of numbers.
    pub columns: Columns,
    /// Names and globs of columns that are read as text, even if [`columns`](Self::columns) selects them.
    pub text_columns: Vec<String>,
    /// Further words for a missing value, besides [`MISSING_VALUES`](super::MISSING_VALUES); a number matches in all its
    /// spellings.
    pub missing_values: Vec<String>,
    /// How a long file is read.
    pub long: LongReading,
    /// Where the columns of a large text file are kept while it is read; by default the folder for temporary files.
    pub folder: Option<PathBuf>,
}

impl Reading {
    /// The numbers among the words for a missing value.
    pub(super) fn missing_numbers(&self) -> Vec<f64> {
        let words = self.missing_values.iter();
        words.filter_map(|it| it.parse().ok()).collect()
    }
}

/// How a long file, with one row per sample and protein, is read; ignored for wide files.
#[derive(Debug, Clone, Default)]
pub struct LongReading {
    /// Column of the values; by default `NPX`, else the first of Olink's other quantities in the file.
    pub value_column: Option<String>,
    /// Which values are dropped because of their quality control.
    pub drop_qc: DropQc,
    /// The instance (visit) of UK Biobank that is read.
    pub instance: u32,
    /// Table that names the proteins of UK Biobank: `coding` and `meaning`, as in coding 143.
    pub protein_names: Option<PathBuf>,
}

/// Values dropped because of the quality control of their sample or assay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DropQc {
    /// Those that failed.
    #[default]
    Fail,
    /// Those that failed or have a warning.
    Warn,
    /// None.
    None,
}
