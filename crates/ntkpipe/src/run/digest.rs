//! Digests of files, and of what a stage depends on.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ntkpipe_store::table;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One input file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InputRecord {
    /// Absolute path.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the content.
    pub blake3: String,
    /// Whether it was read from a pipe, and so can be read once only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub piped: bool,
}

/// BLAKE3 of a JSON value, for fingerprints.
pub fn fingerprint(value: &Value) -> String {
    blake3::hash(value.to_string().as_bytes())
        .to_hex()
        .to_string()
}

/// Digest of a file's content, or of a folder of Parquet parts: of their names and contents.
pub fn digest(path: &Path) -> anyhow::Result<InputRecord> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    for part in table::files(path)? {
        let unreadable = || format!("could not read `{}`", part.display());
        if part != path {
            let name = part.file_name().unwrap_or_default().to_string_lossy();
            hasher.update(format!("{name}\n").as_bytes());
        }
        hasher
            .update_reader(File::open(&part).with_context(unreadable)?)
            .with_context(unreadable)?;
        bytes += std::fs::metadata(&part).with_context(unreadable)?.len();
    }
    Ok(InputRecord {
        path: std::path::absolute(path)
            .with_context(|| format!("could not tell where `{}` is", path.display()))?,
        bytes,
        blake3: hasher.finalize().to_hex().to_string(),
        piped: false,
    })
}
