//! `run.json`: what is recorded of a run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::cohort::record::SamplesRecord;
use crate::failure::input;
use crate::options::Options;
use crate::ordered_map::OrderedMap;
use crate::run::digest::InputRecord;
use crate::run::files;
use crate::run::plan::Plan;

/// A stage that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageRecord {
    /// Digest of everything the stage's output depends on.
    pub fingerprint: String,
    /// Wall time.
    pub seconds: f64,
    /// Figures of the stage: counts, bytes, passes. The stage's own type says which.
    pub figures: Value,
    /// BLAKE3 of each file it left, chunks of arrays apart.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// What it warned of.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `run.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// Version of ntkpipe that last wrote here.
    pub version: String,
    /// Options in effect.
    pub options: Options,
    /// BLAKE3 digests of the input files.
    pub inputs: BTreeMap<String, InputRecord>,
    /// From rows read to samples used.
    #[serde(deserialize_with = "of_this_version")]
    pub samples: SamplesRecord,
    /// What the run was estimated to take.
    #[serde(default)]
    pub plan: Plan,
    /// What was warned of before the first stage.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Stages done.
    pub stages: OrderedMap<StageRecord>,
}

impl StageRecord {
    /// The figures as the stage's own type; nothing where another version wrote others.
    pub fn figures<T: DeserializeOwned>(&self) -> Option<T> {
        T::deserialize(&self.figures).ok()
    }
}

/// What is recorded anew by each run, and may have another form in the record of an earlier version: then nothing of it is taken.
fn of_this_version<'de, D: Deserializer<'de>, T: Default + DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(T::deserialize(&value).unwrap_or_default())
}

/// Whether a text is the beginning of `run.json`, or begins like one.
pub fn is_beginning(text: &str) -> bool {
    const HEAD: &str = "{\n  \"version\": \"";
    HEAD.starts_with(text) || text.starts_with(HEAD)
}

/// Reads `run.json` of a directory, if there is one.
pub fn read_record(root: &Path) -> anyhow::Result<Option<RunRecord>> {
    let path = root.join(files::RECORD);
    match std::fs::read(&path) {
        Ok(text) => {
            let record: RunRecord = serde_json::from_slice(&text).map_err(|e| {
                input(
                    format!(
                        "`{}` is damaged or not of this version: {e}",
                        path.display()
                    ),
                    "delete it to start the run afresh; finished kernel tiles are kept",
                )
            })?;
            Ok(Some(RunRecord {
                options: record.options.under_present_names()?,
                ..record
            }))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("could not read `{}`", path.display())),
    }
}
