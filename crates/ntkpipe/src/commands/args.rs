//! The command line as typed.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::commands::schema;
use crate::options::values::{LogFormat, NetworkActivation};
use crate::options::{Options, file};
use crate::run::shard::Shard;
use crate::stages::stage::Stage;
use crate::stages::{STAGES, predict};

/// Stopping times of wide networks by REML on their neural tangent kernel.
///
/// For every phenotype: should a deep network be trained at all, and for how long?
#[derive(Parser, Debug)]
#[command(name = "ntkpipe", version, max_term_width = 100)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// No progress and no log on stderr (run.log is still written)
    #[arg(long, global = true, help_heading = "Log")]
    pub quiet: bool,
    /// Form of the log [default: text]
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Log")]
    pub log_format: Option<LogFormat>,
}

/// Subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Everything: ingest, kernel, spectrum, test, fit, predict, cross-validate, report; resumes where it
    /// stopped
    Run(RunArgs),
    /// A stage by itself
    #[command(flatten)]
    Stage(StageCommand),
    /// Train the network of a run made with --network to the stopping times it found
    Train(TrainArgs),
    /// Networks in files: draw a new one
    Network {
        /// What to do
        #[command(subcommand)]
        command: NetworkCommand,
    },
    /// What a run would take: sizes, bytes, work and seconds of each stage, as --dry-run says it
    Plan(PlanArgs),
    /// What is done in a run directory, what is left, and about how long that takes
    Status(StatusArgs),
    /// Write an options file in which every option is explained
    Init(InitArgs),
    /// Write a cohort like the UK Biobank's proteomics, with the truth beside it
    Simulate(SimulateArgs),
    /// JSON Schema of run.json, of the options file or of a table; without a name, the names
    Schema {
        /// What to print the schema of
        name: Option<schema::Name>,
    },
    /// Completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Man page of ntkpipe, or of one of its commands
    Man {
        /// The command
        command: Option<String>,
    },
}

/// A stage by itself; the list of stages gives the names.
#[derive(Debug)]
pub struct StageCommand {
    /// The stage.
    pub stage: &'static dyn Stage,
    /// Its arguments.
    pub args: StageArgs,
}

/// Arguments of a stage.
#[derive(Debug)]
pub enum StageArgs {
    /// Those of a stage that can be split into shards.
    Sharded(ShardedArgs),
    /// Those of `predict`.
    Predict(PredictArgs),
    /// Those of any other stage.
    Run(RunArgs),
}

impl Subcommand for StageCommand {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        STAGES.iter().fold(command, |command, stage| {
            let spec = stage.spec();
            let of_stage = clap::Command::new(spec.name);
            let of_stage = match spec.name {
                _ if stage.sharded().is_some() => ShardedArgs::augment_args(of_stage),
                name if name == predict::SPEC.name => PredictArgs::augment_args(of_stage),
                _ => RunArgs::augment_args(of_stage),
            };
            command.subcommand(of_stage.about(spec.about).long_about(None))
        })
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        STAGES.iter().any(|stage| stage.spec().name == name)
    }
}

impl FromArgMatches for StageCommand {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let of_name = |name: &str| STAGES.iter().find(|stage| stage.spec().name == name);
        let found = matches.subcommand();
        let Some((&stage, given)) = found.and_then(|(name, given)| Some((of_name(name)?, given)))
        else {
            return Err(clap::Error::new(ErrorKind::MissingSubcommand));
        };
        let args = match stage.spec().name {
            _ if stage.sharded().is_some() => {
                StageArgs::Sharded(ShardedArgs::from_arg_matches(given)?)
            }
            name if name == predict::SPEC.name => {
                StageArgs::Predict(PredictArgs::from_arg_matches(given)?)
            }
            _ => StageArgs::Run(RunArgs::from_arg_matches(given)?),
        };
        Ok(Self { stage, args })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What is done with networks in files.
#[derive(Subcommand, Debug)]
pub enum NetworkCommand {
    /// Draw the weights of a new network, as `run --network` and PyTorch read them
    Init(NetworkInitArgs),
}

/// Arguments of `network init`.
#[derive(Args, Debug)]
pub struct NetworkInitArgs {
    /// File to write (safetensors)
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace a file of this name that is there already
    #[arg(long)]
    pub overwrite: bool,
    /// Features it takes; or pass --features-of
    #[arg(long, value_name = "P", required_unless_present = "features_of")]
    pub inputs: Option<usize>,
    /// Take as many features as this run directory holds
    #[arg(long, value_name = "DIR", conflicts_with = "inputs")]
    pub features_of: Option<PathBuf>,
    /// Widths of the hidden layers
    #[arg(
        long,
        value_name = "N,N",
        value_delimiter = ',',
        default_value = "500,500"
    )]
    pub widths: Vec<usize>,
    /// Activation between the layers
    #[arg(long, value_name = "ACTIVATION", default_value = "relu")]
    pub activation: NetworkActivation,
    /// How weights and biases are drawn
    #[arg(long, default_value = "pytorch")]
    pub scheme: DrawScheme,
    /// Variance of the weights, times the number of inputs [default: 2; with --scheme ntk]
    #[arg(long, value_name = "V")]
    pub weight_variance: Option<f64>,
    /// Variance of the biases [default: 0; with --scheme ntk]
    #[arg(long, value_name = "V")]
    pub bias_variance: Option<f64>,
    /// Start from a prediction of 0: twice as wide, the second half of each layer as the first, and its sign turned in the last
    #[arg(long)]
    pub antisymmetric: bool,
    /// What stands before the layers' places in the names of the tensors, such as net for net.0.weight
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<String>,
    /// Keep weights in double precision
    #[arg(long)]
    pub double: bool,
    /// Seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// How weights and biases are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DrawScheme {
    /// Both uniform on ±1/√inputs, as PyTorch draws them
    Pytorch,
    /// Weights normal with variance 2/inputs, biases 0 (He et al. 2015)
    He,
    /// In the NTK parameterisation, whose kernel goes to that of --activation, --depth, … as widths grow
    Ntk,
}

/// Arguments of `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Run directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// As JSON; `ntkpipe schema status` describes it
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// File to write
    #[arg(value_name = "FILE", default_value = file::DEFAULT)]
    pub file: PathBuf,
    /// Options to set in it
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of a run and of its stages.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Options
    #[command(flatten)]
    pub options: Options,
    /// Options file [default: ntkpipe.toml, where there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Run again even what is current (kernel tiles included)
    #[arg(long)]
    pub force: bool,
}

/// Arguments of a stage that can be split into shards.
#[derive(Args, Debug)]
pub struct ShardedArgs {
    /// Do the I-th of N shards of the stage, beside other jobs that do theirs
    #[arg(long, value_name = "I/N", help_heading = "Shards")]
    pub shard: Option<Shard>,
    /// Check that every shard is there and made from the same inputs and options, and finish the stage
    #[arg(long, aliases = ["finalize", "gather"], conflicts_with = "shard", help_heading = "Shards")]
    pub join_shards: bool,
    /// The rest
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// As JSON, the `plan` of run.json
    #[arg(long)]
    pub json: bool,
    /// The run
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `predict`.
#[derive(Args, Debug)]
pub struct PredictArgs {
    /// Predict the samples of --features with this model; --out is then the table to write
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Replace a table of this name that is there already
    #[arg(long, requires = "model")]
    pub overwrite: bool,
    /// The rest
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// Run directory
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Phenotypes, by name or glob; may be repeated [default: those whose test warrants training]
    #[arg(long = "phenotype", value_name = "NAME")]
    pub phenotypes: Vec<String>,
    /// Train also where the test does not warrant it
    #[arg(long)]
    pub all: bool,
    /// Epochs; with --learning-rate whatever t_stop [default: as many as end at t_stop, at least 100]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Learning rate, lowered so that a whole number of epochs ends at t_stop [default: that of the run,
    /// else at most 1/lambda_max]
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// Folder for weights, predictions and trained.parquet [default: trained in the run directory]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Threads [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// Arguments of `simulate`.
#[derive(Args, Debug)]
pub struct SimulateArgs {
    /// Folder for proteins.parquet, phenotypes.parquet, covariates.parquet, truth.parquet, cohort.json
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// People in the feature table
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub samples: usize,
    /// Proteins
    #[arg(long, value_name = "P", default_value_t = 500)]
    pub features: usize,
    /// Phenotypes
    #[arg(long, value_name = "M", default_value_t = 20)]
    pub phenotypes: usize,
    /// Phenotypes that are pure noise [default: a quarter]
    #[arg(long, value_name = "M")]
    pub noise_phenotypes: Option<usize>,
    /// Share of the phenotypes with missing values of their own
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub masked_share: f64,
    /// Largest share of a phenotype's values that is missing
    #[arg(long, value_name = "SHARE", default_value_t = 0.4)]
    pub max_missing: f64,
    /// Seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Threads [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}
