//! The arguments of `ntkpipe predict --model`, and where its tables go.

use std::path::{Path, PathBuf};

use crate::options::Options;

/// The arguments of `ntkpipe predict --model`.
#[derive(Clone, Debug)]
pub struct NewSamples {
    /// Folder of the model.
    pub model: PathBuf,
    /// Features of the new samples.
    pub features: PathBuf,
    /// Their covariates, where the model has any besides the intercept.
    pub covariates: Option<PathBuf>,
    /// How the tables are read, where the model's run was not told otherwise.
    pub options: Options,
    /// Table to write.
    pub out: PathBuf,
    /// Whether it may replace a file that is there.
    pub overwrite: bool,
}

/// Where the standard deviations of predictions in `out` are written: `NAME_sd.parquet` beside `NAME.parquet`, `NAME_sd.csv` beside
/// `NAME.csv`.
pub fn deviations_path(out: &Path) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let ending = out.extension().unwrap_or_default().to_string_lossy();
    let ending = match ending.to_lowercase().as_str() {
        "csv" | "tsv" | "txt" => ending,
        _ => "parquet".into(),
    };
    out.with_file_name(format!("{stem}_sd.{ending}"))
}
