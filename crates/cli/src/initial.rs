//! What a network predicts before it is trained, f₀: `initial_prediction.parquet`.

use std::path::PathBuf;

use anyhow::Context as _;
use ntkpipe_model::covariates::Covariates;
use ntkpipe_model::kernel::FiniteKernel;
use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::results::{Column, read_table, write_table};
use rayon::prelude::*;

use crate::failure::input;
use crate::stages::Context;

/// Name of the table, in the order of the feature table.
pub const FILE: &str = "initial_prediction.parquet";

/// Rows of features that go through the network together.
const BLOCK_ROWS: usize = 1024;

/// f₀, and the null model that holds it.
#[derive(Debug)]
pub struct Initial {
    /// A value a row of the feature array.
    pub values: Vec<f64>,
    /// The covariates of the kernel's samples with f₀ as one more.
    pub null: Covariates,
}

impl Initial {
    /// f₀ of every sample, written to the run directory. Cost: 2 flops a parameter and sample.
    pub fn write(context: &Context, kernel: &FiniteKernel) -> anyhow::Result<()> {
        let values = outputs(kernel, &FeatureArray::open(context.directory.root())?)?;
        let ids = &context.inputs.samples.sample_id;
        let order = context.inputs.samples.table_order();
        let columns = [
            (
                "sample_id".to_owned(),
                Column::Text(order.iter().map(|&i| ids[i].clone()).collect()),
            ),
            (
                "f0".to_owned(),
                Column::Float(order.iter().map(|&i| Some(values[i])).collect()),
            ),
        ];
        Ok(write_table(&path(context), &columns)?)
    }

    /// f₀ as the kernel stage left it; `None` where the network is infinitely wide, whose f₀ is 0.
    pub fn read(context: &Context) -> anyhow::Result<Option<Self>> {
        if context.settings.network.finite().is_none() {
            return Ok(None);
        }
        let path = path(context);
        let columns =
            read_table(&path).with_context(|| format!("could not read `{}`", path.display()))?;
        let samples = &context.inputs.samples;
        let f0 = columns.iter().find(|(name, _)| name == "f0");
        let mut values = vec![f64::NAN; samples.sample_id.len()];
        if let Some((_, Column::Float(f0))) = f0 {
            for (i, f0) in samples.table_order().into_iter().zip(f0) {
                values[i] = f0.unwrap_or(f64::NAN);
            }
        }
        if values.iter().any(|v| !v.is_finite()) {
            return Err(input(
                format!("`{}` does not hold a value of every sample", path.display()),
                "delete it and run the `kernel` stage again",
            ));
        }
        let n = context.inputs.n_kernel;
        let mut columns = context.covariate_columns.first(n);
        columns.push(values[..n].to_vec());
        Ok(Some(Self {
            null: Covariates::new(n, &columns),
            values,
        }))
    }

    /// f₀ of the kernel's samples.
    pub fn on_kernel(&self) -> &[f64] {
        &self.values[..self.null.n_samples()]
    }
}

fn path(context: &Context) -> PathBuf {
    context.directory.path(FILE)
}

/// The network's output for every row of the feature array. Cost: 2 flops a parameter and sample.
pub fn outputs(kernel: &FiniteKernel, features: &FeatureArray) -> anyhow::Result<Vec<f64>> {
    let [n, n_features] = features.shape();
    let blocks = (0..n.div_ceil(BLOCK_ROWS)).into_par_iter().map(|block| {
        let start = block * BLOCK_ROWS;
        let rows = features.read_rows_f64(start..(start + BLOCK_ROWS).min(n))?;
        Ok(kernel.output(&rows, n_features)?)
    });
    Ok(blocks.collect::<anyhow::Result<Vec<_>>>()?.concat())
}
