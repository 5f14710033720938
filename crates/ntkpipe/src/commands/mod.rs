//! From arguments to commands.

pub mod architectures;
pub mod args;
pub mod init;
pub mod manual;
pub mod network_init;
pub mod plan;
pub mod predict_new;
pub mod prepare;
pub mod run;
pub mod schema;
pub mod simulate;
pub mod status;
pub mod stdout;
pub mod threads;
pub mod train;

use clap::ValueEnum as _;

use crate::commands::args::{Cli, Command, NetworkCommand, PredictArgs, StageArgs, StageCommand};
use crate::commands::init::init;
use crate::commands::plan::plan;
use crate::commands::predict_new::predict_with;
use crate::commands::prepare::{complete, read_options};
use crate::commands::run::{Task, run};
use crate::commands::simulate::simulate_cohort;
use crate::commands::status::status;
use crate::commands::stdout::print;
use crate::commands::threads::in_pool;
use crate::commands::train::train;
use crate::options::values::LogFormat;

/// Runs the command.
pub fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let logging = (cli.quiet, cli.log_format.unwrap_or(LogFormat::Text));
    match cli.command {
        Command::Run(args) => run(args, None, logging),
        Command::Plan(args) => {
            let (options, architectures) = complete(read_options(args.run)?, true, true)?;
            in_pool(options.threads, || {
                plan(&options, &architectures, args.json)
            })
        }
        Command::Stage(StageCommand { stage, args }) => match args {
            StageArgs::Sharded(args) => {
                let task = Task::new(stage, args.shard, args.join_shards);
                run(args.run, Some(task), logging)
            }
            StageArgs::Predict(PredictArgs {
                model: Some(model),
                overwrite,
                run: args,
            }) => {
                let threads = args.options.threads;
                in_pool(threads, || {
                    predict_with(model, args.options, overwrite, logging)
                })
            }
            StageArgs::Predict(PredictArgs { run: args, .. }) | StageArgs::Run(args) => {
                run(args, Some(Task::Stage(stage)), logging)
            }
        },
        Command::Train(args) => train(&args, logging),
        Command::Network {
            command: NetworkCommand::Init(args),
        } => network_init::init(&args),
        Command::Status(args) => status(&args.directory, args.json),
        Command::Init(args) => init(&args),
        Command::Simulate(args) => in_pool(args.threads, || simulate_cohort(&args, logging)),
        Command::Schema { name: Some(name) } => {
            let schema = serde_json::to_string_pretty(&schema::of(name))?;
            print(format!("{schema}\n").as_bytes())
        }
        Command::Schema { name: None } => {
            let words = schema::Name::value_variants()
                .iter()
                .map(|name| name.word() + "\n");
            print(words.collect::<String>().as_bytes())
        }
        Command::Completions { shell } => print(&manual::completions(shell)),
        Command::Man { command } => print(&manual::page(command.as_deref())?),
    }
}
