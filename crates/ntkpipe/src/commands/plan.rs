//! What a run will take, before it starts: `ntkpipe plan` and `--dry-run`.

use std::fmt::Write as _;
use std::path::Path;

use ntk::kernel::tile::is_on_amx_unit;

use crate::cohort::Inputs;
use crate::cohort::prepare::base_mask;
use crate::commands::prepare::open;
use crate::commands::stdout::print;
use crate::options::Options;
use crate::options::hold_out::HoldOut;
use crate::options::settings::{FULL_PROBES, Settings, spectrum_passes};
use crate::ordered_map::OrderedMap;
use crate::run::machine::Machine;
use crate::run::plan::Plan;
use crate::run::stage::StageSpec;
use crate::run::tiles;
use crate::stages::{cross_validate, fit, ingest, kernel, predict, spectrum};

/// Passes and vectors that a phenotype usually takes.
const USUAL_PASSES: usize = 4;

const USUAL_VECTORS: f64 = 11.0;

/// Share of the phenotypes that are usually trained.
const USUAL_SHARE_TRAINED: f64 = 0.7;

/// How many times as fast as square products those of the features are on Intel AMX: 1.3 to 1.9, with what else the core's
/// other thread does.
const UNIT_SPEED: f64 = 1.6;

/// Share of the speed of square products that a pass reaches with the probes' few columns, and with a batch of phenotypes.
const PROBES_SPEED: f64 = 0.6;

const PHENOTYPES_SPEED: f64 = 0.8;

// What is not a product with the kernel, in the multiply-adds that take as long on a core.
/// Reading, checking and standardising a feature of a sample.
const INGESTED_VALUE: f64 = 4.4e3;

/// The recursion through a hidden layer, for an entry of the kernel.
const ENTRY_AND_LAYER: f64 = 90.0;

/// The flow of a phenotype, for a sample.
const FITTED_SAMPLE: f64 = 2e5;

/// The low-rank approximation and null distribution of a mask.
const MASK: f64 = 4e9;

/// A prediction.
const PREDICTION: f64 = 3e4;

/// A standard deviation of a prediction, for each square of the probes' space.
const DEVIATION: f64 = 2.0;

/// Comparing the checksum of a byte of the tiles, and mapping it.
const CHECKED_BYTE: f64 = 90.0;

impl Plan {
    /// Estimates what the inputs will take on this machine, whose speed is measured; `own_masks` phenotypes have missing values.
    pub fn new(inputs: &Inputs, settings: &Settings, own_masks: usize) -> Self {
        let (n, p, m) = (
            inputs.n_kernel,
            inputs.features.columns.len(),
            inputs.phenotypes.columns.len(),
        );
        let (n_all, tile) = (
            inputs.samples.sample_id.len(),
            tiles::tile_side(settings, n),
        );
        let side = n.div_ceil(tile);
        let bytes = tiles::bytes(n, tile) as f64;
        let square = (n as f64).powi(2);
        // Every phenotype is fitted once more without each fold, on a mask that those without missing values share.
        let folds = settings.hold_out.map_or(0, HoldOut::n_folds);
        let fits = m * (1 + folds);
        // Each trained phenotype is predicted in one more column.
        let predicted = m as f64 * USUAL_SHARE_TRAINED;
        let probes = (spectrum_passes(n) * FULL_PROBES) as f64;
        let columns = [
            probes,
            m as f64 * USUAL_VECTORS,
            (m * folds) as f64 * USUAL_VECTORS + predicted * folds as f64,
            predicted,
        ];
        let [of_probes, of_phenotypes, of_folds, of_predictions] = columns.map(|c| c * square);
        let entry = |speed, recursion| {
            let network = &settings.network;
            network.entry_multiply_adds(p as f64 / speed, recursion)
        };
        let kernel_multiply_adds = square / 2.0 * entry(1.0, 0.0);
        let speed = match is_on_amx_unit(p, [tile; 2]) {
            true => UNIT_SPEED,
            false => 1.0,
        };
        let kernel_work = square / 2.0 * entry(speed, ENTRY_AND_LAYER);
        let flows = |fits, masks| (fits * n) as f64 * FITTED_SAMPLE + masks as f64 * MASK;
        let check = bytes * CHECKED_BYTE;
        let predictions = (m * n_all) as f64 * PREDICTION;
        let intervals = f64::from(u8::from(settings.intervals));
        // A pass of few columns, each mask's low-rank approximation, and every deviation.
        let of_masks = own_masks as f64 * USUAL_SHARE_TRAINED * MASK;
        let of_samples = predicted * n_all as f64 * probes * probes * DEVIATION;
        let deviations = intervals * (check + of_masks + of_samples);
        let work = [
            (&ingest::SPEC, (n_all * p) as f64 * INGESTED_VALUE),
            (&kernel::SPEC, kernel_work),
            (&spectrum::SPEC, of_probes / PROBES_SPEED + check),
            (
                &fit::SPEC,
                of_phenotypes / PHENOTYPES_SPEED + flows(m, own_masks) + check,
            ),
            (
                &predict::SPEC,
                of_predictions / PHENOTYPES_SPEED + predictions + check + deviations,
            ),
            (
                &cross_validate::SPEC,
                of_folds / PHENOTYPES_SPEED + flows(m * folds, (own_masks + 1) * folds) + check,
            ),
        ];
        let is_of_run = |it: &&StageSpec| folds > 0 || **it != cross_validate::SPEC;
        let work = work.into_iter().filter(|it| is_of_run(&it.0));
        Self {
            samples: n,
            other_samples: n_all - n,
            features: p,
            phenotypes: m,
            fits,
            tile,
            tiles: side * (side + 1) / 2,
            kernel_bytes: tiles::bytes(n, tile),
            memory_bytes: settings.memory,
            kernel_multiply_adds,
            pass_multiply_adds: square * columns.iter().sum::<f64>(),
            seconds: seconds(work, settings.tiles_folder(), tiles::bytes(n, tile)),
        }
    }

    /// The plan as text: samples, phenotypes, tiles, bytes, multiply-adds, passes, memory, time.
    ///
    /// `own_masks`: phenotypes with missing values; `rank`: that of the covariates.
    pub fn describe(
        &self,
        settings: &Settings,
        own_masks: usize,
        rank: usize,
    ) -> anyhow::Result<String> {
        let mut text = String::new();
        let mut line = |name: &str, value: String| writeln!(text, "{name:<28}{value}");
        line("samples in the kernel", self.samples.to_string())?;
        line("samples predicted besides", self.other_samples.to_string())?;
        line("features", self.features.to_string())?;
        line(
            "phenotypes",
            format!("{} ({own_masks} with missing values)", self.phenotypes),
        )?;
        if let Some(how) = settings.hold_out {
            line("fits", format!("{} (each phenotype {how})", self.fits))?;
        }
        line("covariates", format!("{rank} (rank)"))?;
        line(
            "tiles",
            format!("{} of {} x {}", self.tiles, self.tile, self.tile),
        )?;
        line("bytes of tiles", self.kernel_bytes.to_string())?;
        if settings.hold_out.is_some() {
            let of_folds = (self.fits - self.phenotypes) * self.samples * 4;
            line("bytes of folds, for a while", of_folds.to_string())?;
        }
        line(
            "bytes of features",
            ((self.samples + self.other_samples) * self.features * 4).to_string(),
        )?;
        line(
            "multiply-adds, kernel",
            format!("{:.3e}", self.kernel_multiply_adds),
        )?;
        line(
            "multiply-adds, passes",
            format!("{:.3e}", self.pass_multiply_adds),
        )?;
        line("passes over the kernel", {
            let held_out = match settings.hold_out {
                None => String::new(),
                Some(_) => format!(" + about {} for those held out", USUAL_PASSES + 1),
            };
            let predicted = if settings.intervals { 2 } else { 1 };
            format!(
                "{} + about {USUAL_PASSES} for the phenotypes{held_out} + {predicted}",
                spectrum_passes(self.samples)
            )
        })?;
        line("memory bound", format!("{} bytes", self.memory_bytes))?;
        line("threads", rayon::current_num_threads().to_string())?;
        let stages: Vec<String> = self
            .seconds
            .iter()
            .map(|(stage, seconds)| format!("{stage} {seconds:.1}"))
            .collect();
        line(
            "estimated time",
            format!(
                "{:.1} s ({})",
                self.seconds.values().sum::<f64>(),
                stages.join(", ")
            ),
        )?;
        Ok(text)
    }
}

/// Seconds of each stage on this machine, whose speed is measured, from its multiply-adds; the kernel stage also writes so many bytes of tiles
/// in a folder.
fn seconds<'s>(
    work: impl Iterator<Item = (&'s StageSpec, f64)>,
    folder: &Path,
    tile_bytes: u64,
) -> OrderedMap<f64> {
    let machine = Machine::measure(folder, tile_bytes);
    let mut seconds = OrderedMap::default();
    for (stage, multiply_adds) in work {
        let written = if *stage == kernel::SPEC {
            tile_bytes as f64
        } else {
            0.0
        };
        let writing = written / machine.bytes_written;
        seconds.insert(stage.name, multiply_adds / machine.multiply_adds + writing);
    }
    seconds
}

/// Phenotypes without a value on some sample of `base`.
pub fn own_masks(inputs: &Inputs, base: &[bool]) -> anyhow::Result<usize> {
    let columns: Vec<usize> = (0..inputs.phenotypes.columns.len()).collect();
    let mut own_masks = 0;
    for block in columns.chunks(64) {
        for values in inputs.phenotype_values(block)? {
            own_masks += usize::from(values.iter().zip(base).any(|(v, &b)| b && !v.is_finite()));
        }
    }
    Ok(own_masks)
}

/// Prints what a run would take, and does nothing.
pub fn plan(
    options: &Options,
    architectures: &[(String, Options)],
    as_json: bool,
) -> anyhow::Result<()> {
    match architectures {
        [] | [_] => print(plan_of_one(options, as_json)?.as_bytes()),
        several => several.iter().try_for_each(|(name, options)| {
            let text = plan_of_one(options, as_json)?;
            let heading = match as_json {
                true => String::new(),
                false => format!("architecture {name}\n"),
            };
            print((heading + &text).as_bytes())
        }),
    }
}

fn plan_of_one(options: &Options, as_json: bool) -> anyhow::Result<String> {
    let settings = Settings::new(options)?;
    let inputs = open(options, &settings)?;
    let columns = inputs.covariate_columns(settings.intercept)?;
    let on_kernel = columns.first(inputs.n_kernel);
    let covariates = reml::Covariates::new(inputs.n_kernel, &on_kernel);
    let base = base_mask(&inputs, &covariates, settings.missing)?;
    let masks = own_masks(&inputs, &base)?;
    let plan = Plan::new(&inputs, &settings, masks);
    match as_json {
        true => Ok(serde_json::to_string_pretty(&plan)? + "\n"),
        false => plan.describe(&settings, masks, covariates.rank()),
    }
}
