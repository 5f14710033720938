//! The tests of phenotypes that have had their first pass.

use crate::fit::active::ActivePhenotype;
use crate::fit::pattern::MissingnessPattern;
use crate::fit::result::{AnalysisOptions, TestResult};
use crate::fit::spectrum::Spectrum;
use crate::linalg::kernel_matrix::KernelMatrix;
use crate::linalg::operator::MaskedOperator;
use crate::robust_test::null_distribution::Tail;
use crate::robust_test::{self, Leading, MaskedTest, TOGETHER, heaviest};
use faer::Mat;
use rayon::prelude::*;

/// A phenotype that waits for its test, with what it shares with the others of its mask.
pub(super) struct Untested<'x, 'a> {
    operator: &'x MaskedOperator<'a>,
    spectrum: &'x Spectrum,
    of_null_model: &'x Mat<f32>,
    diagonal: &'x [f64],
    active: &'x mut ActivePhenotype,
}

impl Untested<'_, '_> {
    fn on_mask(&self, leading: &Leading) -> MaskedTest {
        leading.on_mask(self.operator, self.diagonal, self.of_null_model.as_ref())
    }

    /// On the mask as it is for all but outcomes, with the weights of one.
    fn weighted(&self, leading: &Leading) -> Option<MaskedTest> {
        let weighted = self.active.weighted.as_ref()?;
        let on_mask = self.on_mask(leading);
        Some(on_mask.with_weights(&weighted.projection, weighted.image.as_ref()))
    }

    /// r / |r| and r'Ar / r'r.
    fn residual(&self) -> (Vec<f64>, f64) {
        (self.active.flow.direction(), self.active.flow.score_ratio())
    }

    fn finish(&mut self, log_p: Option<f64>, options: &AnalysisOptions) {
        let (dof, ratio) = (self.operator.dof(), self.active.flow.score_ratio());
        let robust = log_p.filter(|log_p| log_p.is_finite());
        let test = TestResult::new(self.spectrum, dof, ratio, robust, options);
        self.active.test = Some(test);
        self.active.weighted = None;
    }
}

/// The phenotypes that have had their first pass and no test; none on masks where single precision has lost the operator.
pub(super) fn untested<'x, 'a>(
    patterns: &'x mut [MissingnessPattern<'a>],
) -> Vec<Untested<'x, 'a>> {
    let mut untested = Vec::new();
    for pattern in patterns {
        let MissingnessPattern {
            operator,
            spectrum: Some(spectrum),
            of_null_model: Some(of_null_model),
            diagonal,
            is_lost: false,
            phenotypes,
            ..
        } = pattern
        else {
            continue;
        };
        let (operator, spectrum, diagonal) = (&*operator, &*spectrum, &diagonal[..]);
        let of_null_model = &*of_null_model;
        let waiting = phenotypes.iter_mut().filter(|it| it.test.is_none());
        untested.extend(waiting.map(|active| Untested {
            operator,
            spectrum,
            of_null_model,
            diagonal,
            active,
        }));
    }
    untested
}

/// Tests each phenotype, [`TOGETHER`] at a time.
///
/// # Errors
/// When the kernel cannot be read.
pub(super) fn test<K: KernelMatrix>(
    kernel: &K,
    leading: &Leading,
    untested: &mut [Untested<'_, '_>],
    options: &AnalysisOptions,
) -> Result<(), K::Error> {
    for few in untested.chunks_mut(TOGETHER) {
        let unsettled = test_by_null_distribution(kernel, leading, few, options)?;
        refine(kernel, leading, unsettled, options)?;
    }
    Ok(())
}

/// The phenotypes that their approximate null distribution does not settle, with its tail.
type Unsettled<'w, 'x, 'a> = Vec<(&'w mut Untested<'x, 'a>, Tail)>;

/// Tests a few phenotypes by their approximate null distributions, the kernel's columns of all of them read together.
fn test_by_null_distribution<'w, 'x, 'a, K: KernelMatrix>(
    kernel: &K,
    leading: &Leading,
    few: &'w mut [Untested<'x, 'a>],
    options: &AnalysisOptions,
) -> Result<Unsettled<'w, 'x, 'a>, K::Error> {
    let samples: Vec<Vec<usize>> = few
        .par_iter()
        .map(|it| {
            let weighted = it.active.weighted.as_ref().map(|it| &it.projection);
            heaviest(it.operator, &it.active.flow.direction(), weighted)
        })
        .collect();
    let columns = kernel.columns(&samples.concat())?;
    let ends = samples.iter().scan(0, |end, samples| {
        *end += samples.len();
        Some(*end)
    });
    // Of a mask that many share, once.
    let of_many = few
        .windows(2)
        .find(|two| std::ptr::eq(two[0].operator, two[1].operator))
        .map(|two| (two[0].operator, two[0].on_mask(leading)));
    let unsettled = few
        .par_iter_mut()
        .zip(ends.collect::<Vec<_>>())
        .zip(&samples)
        .filter_map(|((it, end), samples)| {
            let columns = columns.subcols(end - samples.len(), samples.len());
            let (direction, ratio) = it.residual();
            let own;
            let on_mask = match (&of_many, it.weighted(leading)) {
                (_, Some(weighted)) => {
                    own = weighted;
                    &own
                }
                (Some((of, on_mask)), None) if std::ptr::eq(*of, it.operator) => on_mask,
                _ => {
                    own = it.on_mask(leading);
                    &own
                }
            };
            match on_mask.tail(&direction, ratio, columns) {
                Some(tail) if !on_mask.is_settled(&tail) => Some((it, tail)),
                tail => {
                    it.finish(tail.map(|tail| tail.log_p()), options);
                    None
                }
            }
        });
    Ok(unsettled.collect())
}

/// Tests phenotypes on few samples by their quadratic form itself.
fn refine<K: KernelMatrix>(
    kernel: &K,
    leading: &Leading,
    mut unsettled: Unsettled<'_, '_, '_>,
    options: &AnalysisOptions,
) -> Result<(), K::Error> {
    let refine = |(it, tail): &mut (&mut Untested<'_, '_>, Tail)| {
        let (direction, ratio) = it.residual();
        let on_mask = it.weighted(leading);
        let on_mask = on_mask.unwrap_or_else(|| it.on_mask(leading));
        let log_p = on_mask.refined_log_p(kernel, &direction, ratio, *tail)?;
        it.finish(log_p, options);
        Ok(())
    };
    let at_once =
        |it: &(&mut Untested<'_, '_>, Tail)| robust_test::at_once(it.0.operator.n_observed());
    unsettled.sort_by_key(|it| it.0.operator.n_observed());
    for alike in unsettled.chunk_by_mut(|a, b| at_once(a) == at_once(b)) {
        match at_once(&alike[0]) {
            // On this thread alone: with several threads, each would keep the memory that it has freed.
            1 => alike.iter_mut().try_for_each(refine)?,
            at_once => {
                for some in alike.chunks_mut(at_once) {
                    some.par_iter_mut().try_for_each(refine)?;
                }
            }
        }
    }
    Ok(())
}
