//! The stages of a run: each reads what the ones before it left in the run directory and adds its own.

pub mod cross_validate;
pub mod fit;
pub mod ingest;
pub mod kernel;
pub mod model_selection;
pub mod predict;
pub mod report;
pub mod sequence;
pub mod spectrum;
pub mod test;

use ntkpipe_store::zarr;

use crate::run::context::Context;
use crate::run::files;
use crate::run::fingerprints::Fingerprints;
use crate::run::reference_spectrum::missing_spectrum;
use crate::run::stage::{Stage, StageStatus};

impl Context {
    /// What the run directory holds of the stage: whether it was done with these inputs and options, and no file of it is
    /// gone or was exchanged. Chunks of arrays are only looked for; their checksums are compared when they are read.
    pub fn status(&self, stage: Stage, prints: &Fingerprints) -> anyhow::Result<StageStatus> {
        let recorded = self.directory.status(stage, prints.of(stage))?;
        if recorded != StageStatus::Current {
            return Ok(recorded);
        }
        let lost = match stage {
            Stage::Ingest => zarr::missing_chunk(&self.directory.path(files::FEATURES))?,
            Stage::Kernel => kernel::missing_tile(self, &prints.kernel),
            Stage::Spectrum => missing_spectrum(&self.directory.path(files::SPECTRUM))?,
            Stage::Test => None,
            // The fit also tests, and leaves the test's table.
            Stage::Fit => match self.directory.status(Stage::Test, &prints.test)? {
                StageStatus::Lost(path) => Some(path),
                _ => fit::missing_dual(self)?,
            },
            Stage::Predict => {
                let survey = self.directory.path(files::MODEL).join(files::SPECTRUM);
                match zarr::missing_chunk(&self.directory.path(files::MODEL).join(files::FEATURES))?
                {
                    None if self.settings.intervals => missing_spectrum(&survey)?,
                    lost => lost,
                }
            }
            Stage::Report => None,
        };
        Ok(lost.map_or(StageStatus::Current, StageStatus::Lost))
    }
}
