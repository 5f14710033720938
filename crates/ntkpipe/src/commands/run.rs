//! `ntkpipe run` and its stages by themselves.

use anyhow::Context as _;

use crate::commands::architectures::run_architectures;
use crate::commands::args::RunArgs;
use crate::commands::plan::plan;
use crate::commands::prepare::{Access, complete, prepare, read_options};
use crate::commands::threads::in_pool;
use crate::failure::input;
use crate::log;
use crate::options::Options;
use crate::options::values::LogFormat;
use crate::run::context::Context;
use crate::run::fingerprints::Fingerprints;
use crate::run::record::{RunRecord, read_record};
use crate::run::shard;
use crate::run::shard::Shard;
use crate::stages::sequence::{all_stages, check_earlier, run_alone, with_remedy};
use crate::stages::stage::{Sharded, Stage};

/// What a command does of a run.
#[derive(Clone, Copy)]
pub enum Task {
    /// A stage.
    Stage(&'static dyn Stage),
    /// A shard of it, beside other jobs.
    Shard(&'static dyn Stage, Shard),
    /// It, from shards that are all there.
    JoinShards(&'static dyn Stage),
}

impl Task {
    /// What a stage's arguments ask for.
    pub fn new(stage: &'static dyn Stage, shard: Option<Shard>, joins: bool) -> Self {
        match shard {
            Some(shard) => Self::Shard(stage, shard),
            None if joins => Self::JoinShards(stage),
            None => Self::Stage(stage),
        }
    }

    fn stage(self) -> &'static dyn Stage {
        match self {
            Self::Stage(stage) | Self::Shard(stage, _) | Self::JoinShards(stage) => stage,
        }
    }
}

/// Runs everything that is not current, or one task.
pub fn run(args: RunArgs, only: Option<Task>, logging: (bool, LogFormat)) -> anyhow::Result<()> {
    let (force, is_dry) = (args.force, args.dry_run);
    let (options, architectures) = complete(read_options(args)?, only.is_some(), is_dry)?;
    in_pool(options.threads, || match is_dry {
        true => plan(&options, &architectures, false),
        false => run_with(&options, architectures, only, force, logging),
    })
}

/// Runs everything that is not current, without a word on stderr; gives what `run.json` says then.
pub fn run_quietly(options: Options) -> anyhow::Result<RunRecord> {
    let (options, architectures) = complete(options, false, false)?;
    let logging = (true, LogFormat::Text);
    in_pool(options.threads, || {
        run_with(&options, architectures, None, false, logging)
    })?;
    let out = options.out.context("the run has a directory")?;
    read_record(&out)?.context("the run has left its record")
}

fn run_with(
    options: &Options,
    architectures: Vec<(String, Options)>,
    only: Option<Task>,
    force: bool,
    logging: (bool, LogFormat),
) -> anyhow::Result<()> {
    if architectures.len() > 1 {
        let stage = match only {
            None => None,
            Some(Task::Stage(stage)) => Some(stage),
            Some(_) => {
                return Err(input(
                    "a run with several architectures is not split into shards",
                    "run each architecture in a directory of its own, or all without `--shard`",
                ));
            }
        };
        return run_architectures(options, architectures, stage, force, logging);
    }
    if let Some(Task::Shard(stage, shard)) = only {
        log::start(None, logging.0, logging.1)?;
        let (context, prints) = prepare(options, Access::Shared)?;
        check_earlier(&context, &prints, stage)?;
        context.directory.take(stage.spec())?;
        let done = sharded(stage)?.run_shard(&context, &prints, shard);
        return done.map_err(|error| with_remedy(error, &context));
    }
    let (mut context, prints) = prepare(options, Access::Alone(logging))?;
    let done = match only {
        Some(task) => one_task(&mut context, &prints, task),
        None => all_stages(&mut context, &prints, force),
    };
    done.map_err(|error| with_remedy(error, &context))
}

/// How shards of a stage are done.
fn sharded(stage: &'static dyn Stage) -> anyhow::Result<&'static dyn Sharded> {
    let name = stage.spec().name;
    stage
        .sharded()
        .with_context(|| format!("the stage `{name}` has no shards"))
}

/// Runs one stage, or puts its shards together; those it builds on must be current.
fn one_task(context: &mut Context, prints: &Fingerprints, task: Task) -> anyhow::Result<()> {
    let (out, stage) = (context.directory.root().to_path_buf(), task.stage());
    check_earlier(context, prints, stage)?;
    let name = stage.spec().name;
    if let Task::JoinShards(_) = task {
        let shards = shard::all_there(&out, name, prints.of(stage.spec()))?;
        sharded(stage)?.join_shards(context, prints, &shards)?;
    }
    run_alone(context, prints, stage)?;
    match task {
        Task::JoinShards(_) => shard::forget(&out, name),
        _ => Ok(()),
    }
}
