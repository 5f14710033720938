//! Standard deviations of predictions, given the data: `prediction_sd.parquet`, and those of a stored model for new samples.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use faer::Mat;
use ntk::kernel::TangentKernel;
use ntkpipe_store::features::FeatureArray;
use ntkpipe_store::kernel_tiles::{CrossProducts, KernelTilesError, cross_products};
use ntkpipe_store::masks::Masks;
use ntkpipe_store::results::{Column, PredictionColumns, read_table, write_table};
use ntkpipe_store::spectrum;
use ntkpipe_store::tiled_kernel::TiledKernel;
use rayon::prelude::*;
use reml::prediction_variance::{EvaluationPoints, Posterior, Products};
use reml::{Covariates, KernelMatrix as _, MaskedOperator};

use crate::failure::input;
use crate::progress::Progress;
use crate::run::context::Context;
use crate::run::files;
use crate::run::link::link_folder;
use crate::run::model::{ModelFit, ModelPhenotype};
use crate::run::output::remove_file;
use crate::run::reference_spectrum::load_reference;
use crate::stages::predict::products::fits_at_once;

/// The column of [`files::of_model::TRAINING`] that says which samples the reference spectrum is of.
const IN_REFERENCE: &str = "in_reference_spectrum";

/// Rows, and columns, that go through the kernel together.
const BLOCK_ROWS: usize = 1024;

const BLOCK_COLUMNS: usize = 64;

/// Masks looked at together.
const MASKS_AT_ONCE: usize = 16;

/// Phenotypes that share a mask.
struct Group {
    /// Row of the masks.
    mask: usize,
    fits: Vec<ModelFit>,
}

/// Points with what the caller numbers their samples by.
type PlacedPoints<'s> = (EvaluationPoints<'s>, Vec<usize>);

/// Fits by mask, in the order in which masks first come.
struct Groups<'m> {
    masks: &'m Masks,
    groups: Vec<Group>,
}

impl<'m> Groups<'m> {
    fn new(masks: &'m Masks, fits: impl IntoIterator<Item = ModelFit>) -> Self {
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for fit in fits {
            let place = *places.entry(fit.mask).or_insert_with(|| {
                groups.push(Group {
                    mask: fit.mask,
                    fits: Vec::new(),
                });
                groups.len() - 1
            });
            groups[place].fits.push(fit);
        }
        Self { masks, groups }
    }

    /// Hands on the standard deviations of each phenotype at each point, in the units of its noise variance.
    fn deviations(
        &self,
        posterior: &Posterior<'_, '_>,
        covariates: &Covariates,
        points: &[PlacedPoints<'_>],
        mut take: impl FnMut(usize, &PlacedPoints<'_>, &[f64]),
    ) -> anyhow::Result<()> {
        let bar = Progress::new("intervals", "masks");
        for (done, groups) in self.groups.chunks(MASKS_AT_ONCE).enumerate() {
            let read = |group: &Group| self.masks.read(group.mask);
            let masks: Vec<Vec<bool>> = groups.iter().map(read).collect::<Result<_, _>>()?;
            let found: Vec<Vec<Mat<f64>>> = groups
                .par_iter()
                .zip(&masks)
                .map(|(Group { fits, .. }, mask)| {
                    let operator = MaskedOperator::new(covariates, mask);
                    let times: Vec<f64> = fits.iter().map(|fit| fit.time).collect();
                    let is_in = |x: usize| mask[x];
                    let places: Vec<(&EvaluationPoints<'_>, &(dyn Fn(usize) -> bool + Sync))> =
                        points.iter().map(|it| (&it.0, &is_in as _)).collect();
                    posterior.variances(&operator, &times, &places)
                })
                .collect();
            for (group, variances) in groups.iter().zip(found) {
                for (at, fit) in group.fits.iter().enumerate() {
                    for (point, variances) in points.iter().zip(&variances) {
                        let sd = |v: &f64| (v * fit.noise_variance).sqrt();
                        let of_fit: Vec<f64> = variances.col_as_slice(at).iter().map(sd).collect();
                        take(fit.column, point, &of_fit);
                    }
                }
            }
            bar.set(done * MASKS_AT_ONCE + groups.len(), self.groups.len());
        }
        Ok(())
    }
}

/// Places samples outside the reference spectrum, from the products of their rows of the kernel and their covariates, a column each.
fn place(
    posterior: &Posterior<'_, '_>,
    covariates: &Covariates,
    found: &CrossProducts,
    columns: &[Vec<f64>],
) -> EvaluationPoints<'static> {
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let products = Products {
        products: found.products.as_ref(),
        squares: &found.squares,
        diagonal: &found.diagonal,
    };
    posterior.others(&products, covariates.rows(found.diagonal.len(), &columns))
}

/// `prediction_sd.parquet`. Passes over the kernel: one of few columns for all phenotypes; where `--missing complete` left samples of the kernel out,
/// one for each 64 columns of the probes' space besides.
pub fn write(
    context: &Context,
    phenotypes: &[ModelPhenotype],
    kernel: &TiledKernel,
    network: &TangentKernel,
    features: &FeatureArray,
) -> anyhow::Result<()> {
    let n = context.inputs.n_kernel;
    let n_all = context.inputs.samples.sample_id.len();
    let (covariates, columns) = (&context.covariates, &context.covariate_columns.values);
    let reference = load_reference(context)?;
    let posterior = Posterior::new(&reference);
    let points = points(context, &posterior, kernel, network, features)?;
    let has_covariates = |row: usize| columns.iter().all(|c| c[row].is_finite());
    let order = context.inputs.samples.table_order();
    let ids = context.inputs.samples.ids_of(&order);
    let model = context.directory.path(files::MODEL);
    let masks = read_masks(&model, n)?;
    let fits = ModelFit::of(&model, phenotypes)?;
    let all: Vec<usize> = (0..phenotypes.len()).collect();
    let path = context.directory.path(files::DEVIATIONS);
    PredictionColumns::write(&path, &context.inputs.phenotypes.columns, &ids, |table| {
        for block in all.chunks(fits_at_once(context)) {
            let mut deviations = vec![vec![f64::NAN; n_all]; block.len()];
            for (&column, values) in block.iter().zip(&mut deviations) {
                // Predicted from the covariates alone: there is no increment to be unsure of.
                if phenotypes[column].predicted && !phenotypes[column].trained {
                    values.fill(0.0);
                }
            }
            let is_of_block = |it: &&ModelFit| block.contains(&it.column);
            let fits = fits.iter().filter(is_of_block).copied();
            Groups::new(&masks, fits).deviations(
                &posterior,
                covariates,
                &points,
                |column, (_, samples), sds| {
                    for (&sample, &sd) in samples.iter().zip(sds) {
                        deviations[column - block[0]][sample] = sd;
                    }
                },
            )?;
            for values in &deviations {
                let value = |&row: &usize| match has_covariates(row) {
                    true => values[row],
                    false => f64::NAN,
                };
                table.push(&order.iter().map(value).collect::<Vec<f64>>())?;
            }
        }
        anyhow::Ok(())
    })
}

/// The points of all samples: of the kernel and, through `features`, of those besides.
fn points<'s>(
    context: &Context,
    posterior: &Posterior<'s, '_>,
    kernel: &TiledKernel,
    network: &TangentKernel,
    features: &FeatureArray,
) -> anyhow::Result<Vec<PlacedPoints<'s>>> {
    let n = context.inputs.n_kernel;
    let n_all = context.inputs.samples.sample_id.len();
    let (covariates, columns) = (&context.covariates, &context.covariate_columns.values);
    let has_covariates = |row: usize| columns.iter().all(|c| c[row].is_finite());
    let of_rows = |rows: &[usize]| -> Vec<Vec<f64>> {
        let of_column = |c: &Vec<f64>| rows.iter().map(|&row| c[row]).collect();
        columns.iter().map(of_column).collect()
    };
    let mut points = vec![(posterior.reference_points(kernel)?, (0..n).collect())];
    let left_out: Vec<usize> = (0..n)
        .filter(|&row| !context.base[row] && has_covariates(row))
        .collect();
    if !left_out.is_empty() {
        let found = of_kernel(posterior, kernel, &context.base, &left_out)?;
        let places = place(posterior, covariates, &found, &of_rows(&left_out));
        points.push((places, left_out));
    }
    let multiplied = posterior.columns();
    for start in (n..n_all).step_by(BLOCK_ROWS) {
        let range = start..(start + BLOCK_ROWS).min(n_all);
        let (x, over) = (multiplied.as_ref(), Some(&context.base[..]));
        let found = match features {
            FeatureArray::F32(array) => {
                cross_products(network, array, &array.read_rows(range.clone())?, x, over)?
            }
            FeatureArray::F64(array) => {
                cross_products(network, array, &array.read_rows(range.clone())?, x, over)?
            }
        };
        let others: Vec<usize> = range.collect();
        let places = place(posterior, covariates, &found, &of_rows(&others));
        points.push((places, others));
    }
    Ok(points)
}

/// Products of the kernel's own rows, for those outside the reference spectrum.
fn of_kernel(
    posterior: &Posterior<'_, '_>,
    kernel: &TiledKernel,
    base: &[bool],
    rows: &[usize],
) -> anyhow::Result<CrossProducts> {
    let columns = posterior.columns();
    let indicator = Mat::from_fn(base.len(), 1, |i, _| f32::from(u8::from(base[i])));
    let none = Mat::<f32>::zeros(base.len(), 0);
    let mut products = Mat::zeros(rows.len(), columns.ncols());
    let mut squares = Vec::new();
    for start in (0..columns.ncols()).step_by(BLOCK_COLUMNS) {
        let width = BLOCK_COLUMNS.min(columns.ncols() - start);
        let over = if start == 0 { &indicator } else { &none };
        let part = columns.subcols(start, width);
        let (found, of_rows) = kernel.multiply(part, over.as_ref())?;
        for j in 0..width {
            for (i, &row) in rows.iter().enumerate() {
                products[(i, start + j)] = found[(row, j)];
            }
        }
        if start == 0 {
            let square = kernel.unit().powi(2);
            let of_row = |&row: &usize| f64::from(of_rows[(row, 0)]) * square;
            squares = rows.iter().map(of_row).collect();
        }
    }
    Ok(CrossProducts {
        products,
        squares,
        diagonal: rows.iter().map(|&row| kernel.diagonal()[row]).collect(),
    })
}

/// Leaves in a model what the standard deviations of new samples need: the reference spectrum (links to the run's files) and the covariates it was made with.
pub fn write_model(context: &Context, model: &Path) -> anyhow::Result<()> {
    link_folder(
        &context.directory.path(files::SPECTRUM),
        &model.join(files::SPECTRUM),
    )?;
    let n = context.inputs.n_kernel;
    let mut table = vec![(
        IN_REFERENCE.to_owned(),
        Column::Bool(context.base.iter().map(|&is_in| Some(is_in)).collect()),
    )];
    let columns = &context.covariate_columns;
    for (name, values) in columns.names.iter().zip(&columns.values) {
        let values = values[..n].iter().map(|v| v.is_finite().then_some(*v));
        table.push((format!("covariate {name}"), Column::Float(values.collect())));
    }
    Ok(write_table(&model.join(files::of_model::TRAINING), &table)?)
}

/// Removes what an earlier run left.
pub fn remove(context: &Context, model: &Path) -> anyhow::Result<()> {
    let spectrum = model.join(files::SPECTRUM);
    if spectrum.exists() {
        std::fs::remove_dir_all(&spectrum)
            .with_context(|| format!("could not remove `{}`", spectrum.display()))?;
    }
    remove_file(&model.join(files::of_model::TRAINING))?;
    remove_file(&context.directory.path(files::DEVIATIONS))
}

/// The masks of a model of so many samples.
fn read_masks(model: &Path, n: usize) -> anyhow::Result<Masks> {
    let path = model.join(files::of_model::MASKS);
    Masks::open(&path, n)?.ok_or_else(|| does_not_fit(&path))
}

fn does_not_fit(path: &Path) -> anyhow::Error {
    input(
        format!(
            "`{}` does not fit the other files of the model",
            path.display()
        ),
        "run the `predict` stage of the run again to rebuild it",
    )
}

/// What a model knows of the standard deviations of its predictions: the samples of the reference spectrum and their covariates, and the mask of
/// each fit.
pub struct StoredReference {
    base: Vec<bool>,
    covariates: Covariates,
    masks: Masks,
    fits: Vec<ModelFit>,
}

impl StoredReference {
    /// Reads them from the folder of a model of `n` samples.
    pub fn read(model: &Path, n: usize, fits: Vec<ModelFit>) -> anyhow::Result<Self> {
        let path = model.join(files::of_model::TRAINING);
        let (mut base, mut columns) = (Vec::new(), Vec::new());
        for (name, column) in read_table(&path)? {
            match column {
                Column::Bool(values) if name == IN_REFERENCE => {
                    base = values.into_iter().map(|v| v == Some(true)).collect();
                }
                Column::Float(values) => columns.push(
                    values
                        .into_iter()
                        .map(|v| v.unwrap_or(f64::NAN))
                        .collect::<Vec<f64>>(),
                ),
                _ => {}
            }
        }
        if base.len() != n {
            return Err(does_not_fit(&path));
        }
        Ok(Self {
            covariates: Covariates::new(n, &columns),
            base,
            masks: read_masks(model, n)?,
            fits,
        })
    }

    /// Standard deviations of new samples, rows × phenotypes and column-major, 0 where `fits` has none. `cross` gives the products of a block of rows
    /// with columns and over samples; `columns` are the covariates of all.
    pub fn deviations(
        &self,
        model: &Path,
        shape: [usize; 2],
        columns: &[Vec<f64>],
        blocks: impl Iterator<Item = anyhow::Result<(std::ops::Range<usize>, Vec<f64>)>>,
        cross: impl Fn(&[f64], &Mat<f32>, &[bool]) -> Result<CrossProducts, KernelTilesError>,
    ) -> anyhow::Result<Vec<f64>> {
        let operator = MaskedOperator::new(&self.covariates, &self.base);
        let reference = spectrum::read(&model.join(files::SPECTRUM), operator)?.0;
        let posterior = Posterior::new(&reference);
        let multiplied = posterior.columns();
        let mut points: Vec<PlacedPoints<'_>> = Vec::new();
        for block in blocks {
            let (range, values) = block?;
            let found = cross(&values, &multiplied, &self.base)?;
            let of_rows: Vec<Vec<f64>> =
                columns.iter().map(|c| c[range.clone()].to_vec()).collect();
            let places = place(&posterior, &self.covariates, &found, &of_rows);
            points.push((places, range.collect()));
        }
        let [n_rows, n_phenotypes] = shape;
        let mut deviations = vec![0.0; n_rows * n_phenotypes];
        Groups::new(&self.masks, self.fits.iter().copied()).deviations(
            &posterior,
            &self.covariates,
            &points,
            |column, point, sds| {
                for (&row, &sd) in point.1.iter().zip(sds) {
                    deviations[column * n_rows + row] = sd;
                }
            },
        )?;
        Ok(deviations)
    }
}
