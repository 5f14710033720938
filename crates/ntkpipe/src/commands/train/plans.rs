//! What `ntkpipe train` does about each phenotype.

use ntk::train::Training;
use ntkpipe_store::{spectrum, table};

use crate::commands::args::TrainArgs;
use crate::commands::train::closed_form;
use crate::commands::train::schedule::{MOST_EPOCHS, Schedule};
use crate::commands::train::session::Session;
use crate::failure::{input, resources};
use crate::run::files;
use crate::run::trained_row::{TrainedRow, TrainedStatus};
use crate::words::counted;

/// A phenotype and what is to be done about it.
pub struct Plan {
    pub column: usize,
    pub n_samples: usize,
    pub lambda_max: f64,
    pub todo: Result<Schedule, TrainedStatus>,
}

impl Session<'_> {
    /// What is to be done about each phenotype asked for; a learning rate that is too large is refused.
    pub fn plans(&self, args: &TrainArgs) -> anyhow::Result<Vec<Plan>> {
        let context = self.context;
        let names = &context.inputs.phenotypes.columns;
        let columns = self.asked_for(args)?;
        let rate = self.rate(args)?;
        // On a mask S, v'K v / n_S ≤ n/n_S λ_max for every v that vanishes outside S and is orthogonal to the covariates.
        let record = spectrum::read_record(&context.directory.path(files::SPECTRUM))?;
        let largest = record.eigenvalues.first().copied().unwrap_or(0.0);
        let n_base = context.base.iter().filter(|&&b| b).count();
        let mut plans = Vec::new();
        for block in columns.chunks(32) {
            for (&column, prepared) in block.iter().zip(self.prepare(block)?) {
                let n_samples = prepared.phenotype.mask.iter().filter(|&&m| m).count();
                let lambda_max = largest * n_base as f64 / n_samples.max(1) as f64;
                let row = &self.rows[column];
                let schedule = Schedule::new(args.epochs, rate, row.t_stop, lambda_max);
                let todo = match (row.training_warranted, schedule) {
                    _ if !row.is_tested() => Err(TrainedStatus::NoStoppingTime),
                    (Some(true), Some(schedule)) => Ok(schedule),
                    (_, Some(schedule)) if args.all => Ok(schedule),
                    (Some(true), None) => Err(TrainedStatus::NoStoppingTime),
                    (_, None) if args.all => Err(TrainedStatus::NoStoppingTime),
                    _ => Err(TrainedStatus::NotWarranted),
                };
                plans.push(Plan {
                    column,
                    n_samples,
                    lambda_max,
                    todo,
                });
            }
        }
        check_epochs(&plans, names)?;
        check_rate(&plans, rate, names)?;
        Ok(plans)
    }

    /// The columns of the phenotypes asked for.
    fn asked_for(&self, args: &TrainArgs) -> anyhow::Result<Vec<usize>> {
        let context = self.context;
        let names = &context.inputs.phenotypes.columns;
        let is_match =
            |pattern: &String, name: &String| pattern == name || table::matches(pattern, name);
        if let Some(pattern) = args
            .phenotypes
            .iter()
            .find(|p| !names.iter().any(|name| is_match(p, name)))
        {
            return Err(input(
                format!("no phenotype of the run is called `{pattern}` or matches it"),
                format!(
                    "they are listed in `{}`",
                    context.directory.path(files::PHENOTYPES_TEXT).display()
                ),
            ));
        }
        Ok((0..names.len())
            .filter(|&i| {
                args.phenotypes.is_empty() || args.phenotypes.iter().any(|p| is_match(p, &names[i]))
            })
            .collect())
    }

    /// The learning rate that is asked for, of this command or of the run.
    fn rate(&self, args: &TrainArgs) -> anyhow::Result<Option<f64>> {
        if let Some(epochs) = args.epochs.filter(|it| *it > MOST_EPOCHS) {
            return Err(input(
                format!("epochs is {epochs}, expected at most {MOST_EPOCHS}"),
                "pass for example `--epochs 200`",
            ));
        }
        if args.epochs == Some(0) {
            return Err(input(
                "epochs is 0, expected at least 1",
                "pass for example `--epochs 200`",
            ));
        }
        // The rate that the run was told of counts unless the epochs say it.
        let recorded = self
            .context
            .settings
            .learning_rate
            .filter(|_| args.epochs.is_none());
        let rate = args.learning_rate.or(recorded);
        if let Some(rate) = rate.filter(|r| !(r.is_finite() && *r > 0.0)) {
            return Err(input(
                format!("learning rate is {rate}, expected a positive number"),
                "pass for example `--learning-rate 0.01`",
            ));
        }
        Ok(rate)
    }

    /// Refuses trainings that do not fit the memory.
    pub fn check_memory(&self, plans: &[Plan]) -> anyhow::Result<()> {
        let trained = || plans.iter().filter(|plan| plan.todo.is_ok());
        let n = trained().map(|plan| plan.n_samples).max().unwrap_or(0);
        let network = &self.file.network;
        let training = match self.file.is_double {
            true => Training::<f64>::bytes(network, n),
            false => Training::<f32>::bytes(network, n),
        };
        let of_phenotype = self.context.inputs.samples.sample_id.len() * (8 + closed_form::BYTES);
        let needed = training + (trained().count() * of_phenotype) as u64;
        let memory = self.context.settings.memory;
        if needed <= memory {
            return Ok(());
        }
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        Err(resources(
            format!(
                "training on {} takes {:.1} GiB of memory, and {:.1} GiB are allowed",
                counted(n, "samples"),
                gib(needed),
                gib(memory)
            ),
            "use a larger machine or a narrower network, or fewer phenotypes at a time with `--phenotype`",
        ))
    }

    /// The row before anything is trained.
    pub fn row(&self, plan: &Plan) -> TrainedRow {
        let inputs = &self.context.inputs;
        let schedule = plan.todo.ok();
        TrainedRow {
            phenotype: inputs.phenotypes.columns[plan.column].clone(),
            status: plan.todo.err().unwrap_or(TrainedStatus::Trained),
            n_samples: plan.n_samples as i64,
            n_held_out: None,
            lambda_max: plan.lambda_max,
            t_hat: self.rows[plan.column].t_hat,
            learning_rate: schedule.map(|it| it.learning_rate),
            epochs: schedule.map(|it| it.epochs as i64),
            t: schedule.map(|it| it.t()),
            loss_start: None,
            loss_end: None,
            distance_train: None,
            distance_held_out: None,
            r2_train: None,
            r2_train_closed_form: None,
            r2_held_out: None,
            weights: None,
        }
    }
}

/// Refuses a training that would not end.
fn check_epochs(plans: &[Plan], names: &[String]) -> anyhow::Result<()> {
    let is_endless = |plan: &&Plan| plan.todo.ok().is_some_and(|it| it.epochs > MOST_EPOCHS);
    if let Some(plan) = plans.iter().find(is_endless) {
        return Err(input(
            format!(
                "the training of `{}` would take more than {MOST_EPOCHS} epochs",
                names[plan.column]
            ),
            "pass a higher `--learning-rate`, or `--epochs`; without either ntkpipe chooses",
        ));
    }
    Ok(())
}

/// Refuses a learning rate at which the loss would grow.
fn check_rate(plans: &[Plan], rate: Option<f64>, names: &[String]) -> anyhow::Result<()> {
    let rate_of = |plan: &Plan| rate.or(plan.todo.ok().map(|it| it.learning_rate));
    let is_too_fast = |plan: &&Plan| {
        let rate = rate_of(plan).filter(|_| plan.todo.is_ok());
        rate.is_some_and(|rate| rate * plan.lambda_max >= 2.0)
    };
    let fast: Vec<&Plan> = plans.iter().filter(is_too_fast).collect();
    if let Some(worst) = fast
        .iter()
        .max_by(|a, b| a.lambda_max.total_cmp(&b.lambda_max))
    {
        return Err(input(
            format!(
                "a learning rate of {} makes the training of {} diverge: the largest eigenvalue λ of `{}` is {:.4e}, and the rate must be below 2/λ = {:.4e}",
                rate_of(worst).unwrap_or_default(),
                counted(fast.len(), "phenotypes"),
                names[worst.column],
                worst.lambda_max,
                2.0 / worst.lambda_max
            ),
            "pass a lower `--learning-rate`, or more `--epochs`; without either ntkpipe chooses",
        ));
    }
    Ok(())
}
