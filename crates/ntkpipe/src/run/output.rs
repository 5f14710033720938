//! What stages say and record of their work, and files they remove.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use ntkpipe_store::atomic;
use ntkpipe_store::tiled_kernel::TiledKernel;
use serde_json::Value;

use crate::options::network::Network;
use crate::run::shard::Shard;
use crate::run::stage::StageSpec;
use crate::words::counted;

/// Says that a stage, or a shard of it, is done; the seconds it took.
pub fn say_done(stage: &StageSpec, share: Option<Shard>, started: Instant, figures: &Value) -> f64 {
    let seconds = started.elapsed().as_secs_f64();
    let figure = |name: &str| figures[name].as_u64();
    let bytes = [figure("bytes_read"), figure("bytes_written")];
    let rates = bytes.map(|bytes| bytes.map(|bytes| bytes as f64 / seconds.max(1e-9)));
    let (name, share) = (stage.name, share.map(|share| share.to_string()));
    let of = share
        .as_ref()
        .map_or(String::new(), |it| format!(" share {it}"));
    tracing::info!(
        event = "done",
        stage = name,
        share,
        seconds,
        passes = figure("passes"),
        columns = figure("columns"),
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

/// What a stage read and multiplied, logged and recorded.
pub fn traffic(stage: &str, kernel: &TiledKernel) -> anyhow::Result<Value> {
    let done = kernel.traffic();
    tracing::info!(
        "{stage}: {} over the kernel, {} multiplied, {} bytes read",
        counted(done.passes as usize, "passes"),
        counted(done.columns as usize, "columns"),
        done.bytes_read
    );
    Ok(serde_json::to_value(done)?)
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
