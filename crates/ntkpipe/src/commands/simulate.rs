//! `ntkpipe simulate`: a cohort with the truth beside it.

use ntkpipe_simulate::{
    COHORT, COVARIATES, PHENOTYPES, PROTEINS, SimulateOptions, TRUTH, simulate,
};

use crate::commands::args::SimulateArgs;
use crate::log;
use crate::options::values::LogFormat;
use crate::progress::Progress;
use crate::run::ownership;
use crate::run::ownership::holding::Role;
use crate::run::ownership::place;
use crate::stages::LAYOUT;
use crate::words::counted;

/// Simulates the cohort that the arguments describe.
pub fn simulate_cohort(
    args: &SimulateArgs,
    (quiet, format): (bool, LogFormat),
) -> anyhow::Result<()> {
    log::start(None, quiet, format)?;
    let options = SimulateOptions {
        samples: args.samples,
        features: args.features,
        phenotypes: args.phenotypes,
        seed: args.seed,
        noise_phenotypes: args.noise_phenotypes,
        masked_share: args.masked_share,
        max_missing: args.max_missing,
        ..SimulateOptions::default()
    };
    place::check_place(&LAYOUT, &args.out, Role::Cohort)?;
    let names = [PROTEINS, PHENOTYPES, COVARIATES, TRUTH, COHORT];
    ownership::take(&LAYOUT, &args.out, Role::Cohort, &names)?;
    let bar = Progress::new("simulate", "people");
    let summary = simulate(&options, &args.out, &|done, total| {
        bar.set(done as usize, total as usize)
    })?;
    drop(bar);
    ownership::seal(&LAYOUT, &args.out, Role::Cohort, &names)?;
    tracing::info!(
        "simulate: {} x {}, {} in `{}`",
        counted(summary.feature_rows, "people"),
        counted(options.features, "proteins"),
        counted(options.phenotypes, "phenotypes"),
        args.out.display()
    );
    Ok(())
}
