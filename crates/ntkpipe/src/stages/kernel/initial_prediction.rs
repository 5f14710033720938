//! What a network predicts before it is trained, f₀: `initial_prediction.parquet`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::Context as _;
use ntk::kernel::FiniteKernel;
use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::results::{Column, read_table, write_table};
use rayon::prelude::*;
use reml::Covariates;

use crate::failure::input;
use crate::run::context::Context;
use crate::run::files;

/// f₀, and the null model that holds it.
#[derive(Debug)]
pub struct Initial {
    /// One value per row of the feature array.
    pub values: Vec<f64>,
    /// The covariates of the kernel's samples with f₀ as one more.
    pub null: Covariates,
}

impl Initial {
    /// Writes f₀ of every sample to the run directory. `known` has the values that need not be computed again, in blocks of `side` samples of the kernel by
    /// the first of each block. Cost: 2 flops per parameter and sample.
    pub fn write(
        context: &Context,
        kernel: &FiniteKernel,
        mut known: BTreeMap<usize, Vec<f64>>,
        side: usize,
    ) -> anyhow::Result<()> {
        let features = FeatureArray::open(context.directory.root())?;
        let n = context.inputs.n_kernel;
        // The same blocks, so that the bits do not depend on which are known.
        let missing = (0..n)
            .step_by(side)
            .filter(|start| !known.contains_key(start));
        let missing: Vec<usize> = missing.collect();
        let found: Vec<_> = missing
            .into_par_iter()
            .map(|start| {
                Ok((
                    start,
                    output(kernel, &features, start..(start + side).min(n))?,
                ))
            })
            .collect::<anyhow::Result<_>>()?;
        known.extend(found);
        let mut values: Vec<f64> = known.into_values().flatten().collect();
        values.extend(outputs(kernel, &features, n..features.shape()[0])?);
        if kernel.network().is_antisymmetric() {
            // The two halves of the network cancel: what is left is rounding, and no direction.
            values.fill(0.0);
        }
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

    /// f₀ as the kernel stage left it; `None` where it is 0, as that of a network that is infinitely wide or antisymmetric.
    pub fn read(context: &Context) -> anyhow::Result<Option<Self>> {
        let Some(values) = Self::stored(context)? else {
            return Ok(None);
        };
        if values.iter().all(|v| *v == 0.0) {
            return Ok(None);
        }
        let n = context.inputs.n_kernel;
        let mut columns = context.covariate_columns.first(n);
        columns.push(values[..n].to_vec());
        Ok(Some(Self {
            null: Covariates::new(n, &columns),
            values,
        }))
    }

    /// f₀ of every row of the feature array as the kernel stage left it; `None` where the network is infinitely wide.
    pub fn stored(context: &Context) -> anyhow::Result<Option<Vec<f64>>> {
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
        Ok(Some(values))
    }

    /// f₀ of the kernel's samples.
    pub fn on_kernel(&self) -> &[f64] {
        &self.values[..self.null.n_samples()]
    }
}

fn path(context: &Context) -> PathBuf {
    context.directory.path(files::INITIAL_PREDICTION)
}

/// The network's output for rows of the feature array. Cost: 2 flops a parameter and sample.
pub fn outputs(
    kernel: &FiniteKernel,
    features: &FeatureArray,
    rows: Range<usize>,
) -> anyhow::Result<Vec<f64>> {
    const BLOCK_ROWS: usize = 1024;
    let starts: Vec<usize> = rows.clone().step_by(BLOCK_ROWS).collect();
    let blocks = starts
        .into_par_iter()
        .map(|start| output(kernel, features, start..(start + BLOCK_ROWS).min(rows.end)));
    Ok(blocks.collect::<anyhow::Result<Vec<_>>>()?.concat())
}

/// The same of a few rows, on the calling thread.
fn output(
    kernel: &FiniteKernel,
    features: &FeatureArray,
    rows: Range<usize>,
) -> anyhow::Result<Vec<f64>> {
    let x = features.read_rows_f64(rows)?;
    Ok(kernel.output(&x, features.shape()[1])?)
}
