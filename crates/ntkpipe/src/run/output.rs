//! What stages say and record of their work, and files they remove.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use ntkpipe_store::atomic;
use ntkpipe_store::tiled_kernel::TiledKernel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::options::network::Network;
use crate::run::shard::Shard;
use crate::run::stage::StageSpec;
use crate::words::counted;

/// What a stage read, multiplied and wrote, as far as it says.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Work {
    /// Passes over the kernel.
    pub passes: Option<u64>,
    /// Columns multiplied.
    pub columns: Option<u64>,
    /// Bytes of tiles read.
    pub bytes_read: Option<u64>,
    /// Bytes of tiles written.
    pub bytes_written: Option<u64>,
}

impl Work {
    /// The part of a stage's figures that counts its work.
    pub fn of(figures: &Value) -> Self {
        Self::deserialize(figures).unwrap_or_default()
    }
}

impl From<Traffic> for Work {
    fn from(traffic: Traffic) -> Self {
        Self {
            passes: Some(traffic.passes),
            columns: Some(traffic.columns),
            bytes_read: Some(traffic.bytes_read),
            bytes_written: None,
        }
    }
}

/// Says that a stage, or a shard of it, is done; the seconds it took.
pub fn say_done(stage: &StageSpec, shard: Option<Shard>, started: Instant, work: Work) -> f64 {
    let seconds = started.elapsed().as_secs_f64();
    let bytes = [work.bytes_read, work.bytes_written];
    let rates = bytes.map(|bytes| bytes.map(|bytes| bytes as f64 / seconds.max(1e-9)));
    let (name, shard) = (stage.name, shard.map(|shard| shard.to_string()));
    let of = shard
        .as_ref()
        .map_or(String::new(), |it| format!(" shard {it}"));
    tracing::info!(
        event = "done",
        stage = name,
        shard,
        seconds,
        passes = work.passes,
        columns = work.columns,
        bytes_read = bytes[0],
        bytes_written = bytes[1],
        bytes_read_per_second = rates[0],
        bytes_written_per_second = rates[1],
        "{name}:{of} done in {seconds:.1} s"
    );
    seconds
}

/// Removes a file if it is there.
pub fn remove_file(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// What a stage read of the kernel and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Passes over the kernel.
    pub passes: u64,
    /// Columns multiplied, all passes together.
    pub columns: u64,
    /// Bytes of tiles read.
    pub bytes_read: u64,
}

/// What a stage read and multiplied, logged and recorded.
pub fn traffic(stage: &str, kernel: &TiledKernel) -> Traffic {
    let done = kernel.traffic();
    tracing::info!(
        "{stage}: {} over the kernel, {} multiplied, {} bytes read",
        counted(done.passes as usize, "passes"),
        counted(done.columns as usize, "columns"),
        done.bytes_read
    );
    Traffic {
        passes: done.passes,
        columns: done.columns,
        bytes_read: done.bytes_read,
    }
}

/// The network as the kernel's attributes and the model record it.
pub fn network_record(network: &Network) -> Value {
    serde_json::to_value(network).unwrap_or(Value::Null)
}

/// Removes a folder if it is there.
pub fn remove_folder(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        atomic::remove_folder(path)?;
    }
    Ok(())
}
