//! The trait of a stage: what it depends on, what is missing of it, how it runs.

use std::fmt::Debug;
use std::path::PathBuf;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::options::Options;
use crate::options::settings::Settings;
use crate::run::context::Context;
use crate::run::fingerprints::Fingerprints;
use crate::run::shard::Shard;
use crate::run::stage::{StageSpec, StageStatus};

/// A stage of a run: it reads what the stages before it left in the run directory, and adds its own.
pub trait Stage: Debug + Sync {
    /// Name, version and outputs.
    fn spec(&self) -> &'static StageSpec;

    /// Whether a run with these settings has this stage.
    fn applies(&self, _settings: &Settings) -> bool {
        true
    }

    /// Takes back what the stage left, in a run that does not have it.
    fn leave_out(&self, _context: &mut Context) -> anyhow::Result<()> {
        Ok(())
    }

    /// The inputs and options that its output depends on, besides those of the stages it builds on.
    fn depends_on(&self, options: &Options, context: &Context) -> Value;

    /// The first file that is missing of what it left. Files that are recorded with their digest were compared before; chunks of arrays are
    /// only looked for, and their checksums compared when they are read.
    fn missing(
        &self,
        _context: &Context,
        _prints: &Fingerprints,
    ) -> anyhow::Result<Option<PathBuf>> {
        Ok(None)
    }

    /// JSON Schema of the figures that `run.json` keeps of the stage.
    fn figures_schema(&self, _generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }

    /// Runs the stage, whatever is there.
    fn run(&self, context: &mut Context, prints: &Fingerprints) -> anyhow::Result<()>;

    /// Removes what a killed run of the stage left behind after the stage was recorded as done.
    fn tidy(&self, _context: &Context) -> anyhow::Result<()> {
        Ok(())
    }

    /// Removes what makes the stage go on where it was interrupted, so that it begins from the beginning.
    fn forget(&self, context: &Context) -> anyhow::Result<()> {
        self.tidy(context)
    }

    /// How jobs do it shard by shard, where they can.
    fn sharded(&self) -> Option<&dyn Sharded> {
        None
    }
}

/// A stage that several jobs can do, a shard each.
pub trait Sharded {
    /// Does one shard, beside other jobs.
    fn run_shard(
        &self,
        context: &Context,
        prints: &Fingerprints,
        shard: Shard,
    ) -> anyhow::Result<()>;

    /// Puts together what the shards left, before the stage runs on it.
    ///
    /// # Errors
    /// Where something is missing.
    fn join_shards(
        &self,
        context: &Context,
        prints: &Fingerprints,
        shards: &[Shard],
    ) -> anyhow::Result<()>;
}

/// What the run directory holds of a stage: whether it was done with these inputs and options, and no file of it is gone or was exchanged.
pub fn status(
    stage: &dyn Stage,
    context: &Context,
    prints: &Fingerprints,
) -> anyhow::Result<StageStatus> {
    let recorded = context
        .directory
        .status(stage.spec(), prints.of(stage.spec()))?;
    if recorded != StageStatus::Current {
        return Ok(recorded);
    }
    let lost = stage.missing(context, prints)?;
    Ok(lost.map_or(StageStatus::Current, StageStatus::Lost))
}
