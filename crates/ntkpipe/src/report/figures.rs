//! The figures over all phenotypes, and of the spectrum.

use ntkpipe_store::spectrum::SpectrumRecord;
use statrs::distribution::{Beta, ContinuousCDF};

use crate::report::numbers::number;
use crate::report::plot::{ACCENT, Axis, BAND, Mark, POINT, Plot};
use crate::run::phenotype_row::{PhenotypeRow, Status};
use crate::words::{agreeing, counted};

/// Ranks at which the band of the QQ plot is computed.
const BAND_POINTS: usize = 120;

/// A drawing with its words.
pub struct Figure {
    /// Heading.
    pub title: &'static str,
    /// What is to be seen.
    pub caption: String,
    /// The drawing.
    pub svg: String,
    /// Indices of the phenotypes that its dots are, in order; empty where they are none.
    pub phenotypes: String,
}

impl Figure {
    fn new(
        title: &'static str,
        caption: String,
        plot: &Plot,
        phenotypes: &[usize],
    ) -> anyhow::Result<Self> {
        let svg = plot.to_svg(&format!("{title}. {caption}"))?;
        let phenotypes: Vec<String> = phenotypes.iter().map(ToString::to_string).collect();
        Ok(Self {
            title,
            caption,
            svg,
            phenotypes: phenotypes.join(" "),
        })
    }
}

/// All figures that there is something to draw in.
pub fn all(
    rows: &[PhenotypeRow],
    spectrum: Option<&SpectrumRecord>,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    figures.extend(quantiles(rows)?);
    figures.extend(tests(rows)?);
    figures.extend(stopping_times(rows)?);
    figures.extend(in_sample(rows)?);
    figures.extend(left_out(rows)?);
    figures.extend(out_of_sample(rows)?);
    if let Some(spectrum) = spectrum.filter(|it| !it.eigenvalues.is_empty()) {
        figures.push(eigenvalues(spectrum)?);
        figures.push(trace(spectrum)?);
    }
    Ok(figures)
}

/// Rows that `pair` gives two numbers of, with their indices.
fn pairs(
    rows: &[PhenotypeRow],
    pair: impl Fn(&PhenotypeRow) -> Option<(f64, f64)>,
) -> (Vec<usize>, Vec<(f64, f64)>) {
    rows.iter()
        .enumerate()
        .filter_map(|(i, row)| Some((i, pair(row)?)))
        .unzip()
}

/// Observed −log10 p against that of uniform p-values. Of m independent ones, the i-th smallest is Beta(i, m + 1 − i).
fn quantiles(rows: &[PhenotypeRow]) -> anyhow::Result<Option<Figure>> {
    let (mut indices, values): (Vec<usize>, Vec<f64>) = rows
        .iter()
        .enumerate()
        .filter_map(|(i, row)| Some((i, row.neg_log10_p?)))
        .unzip();
    if values.is_empty() {
        return Ok(None);
    }
    let found = |i: usize| rows[i].neg_log10_p.unwrap_or_default();
    indices.sort_by(|&a, &b| found(b).total_cmp(&found(a)));
    let m = indices.len() as f64;
    let expected = |rank: f64| -((rank - 0.5) / m).log10();
    let points: Vec<(f64, f64)> = indices
        .iter()
        .enumerate()
        .map(|(at, &i)| (expected(at as f64 + 1.0), found(i)))
        .collect();
    let mut band = Vec::new();
    for step in 0..BAND_POINTS {
        // Ranks from 1 to m, evenly on the logarithmic scale of the axis.
        let rank = m.powf(step as f64 / (BAND_POINTS - 1) as f64);
        let order = Beta::new(rank, m + 1.0 - rank)?;
        let ends = [0.975, 0.025].map(|level| -order.inverse_cdf(level).log10());
        band.push((expected(rank), ends[0], ends[1]));
    }
    let x = Axis::from_zero("expected −log10 p", points.iter().map(|p| p.0));
    let all = points.iter().map(|p| p.1).chain(band.iter().map(|b| b.2));
    // What is far above the band only has to be seen to be so.
    let y = Axis::from_zero("observed −log10 p", all).at_most(2.0 * x.end() + 4.0);
    let above = points.iter().filter(|p| p.1 > y.end()).count();
    let mut caption = format!(
        "Score tests of {} against uniform p-values; shaded: where each point would lie in 95 % of cases if no phenotype had signal (and phenotypes were independent).",
        counted(points.len(), "phenotypes")
    );
    if above > 0 {
        caption += &format!(" Above the axis, and drawn at its end: {above}.");
    }
    let diagonal = vec![(0.0, 0.0), (x.end(), x.end())];
    let plot = Plot {
        x,
        y,
        marks: vec![
            Mark::Band(band),
            Mark::Line(diagonal, ACCENT),
            Mark::Points(points, POINT),
        ],
    };
    Figure::new("p-values", caption, &plot, &indices).map(Some)
}

/// The robust −log10 p against the Gaussian one.
fn tests(rows: &[PhenotypeRow]) -> anyhow::Result<Option<Figure>> {
    let (indices, points) = pairs(rows, |r| {
        Some((r.neg_log10_p_gaussian?, r.neg_log10_p_robust?))
    });
    if points.is_empty() {
        return Ok(None);
    }
    let x = Axis::from_zero("Gaussian −log10 p", points.iter().map(|p| p.0));
    let y = Axis::from_zero("robust −log10 p", points.iter().map(|p| p.1));
    let end = x.end().min(y.end());
    let caption = "Robust p-values, which assume independent errors, against those for Gaussian errors of one variance; the line is where they are equal. Far below it, the noise variance follows the features or a few samples hold most of the variance.".to_owned();
    let plot = Plot {
        x,
        y,
        marks: vec![
            Mark::Line(vec![(0.0, 0.0), (end, end)], ACCENT),
            Mark::Points(points, POINT),
        ],
    };
    Figure::new("Robust and Gaussian p-values", caption, &plot, &indices).map(Some)
}

/// t_hat with its interval against −log10 p.
fn stopping_times(rows: &[PhenotypeRow]) -> anyhow::Result<Option<Figure>> {
    let (indices, points) = pairs(rows, |r| {
        Some((r.neg_log10_p?, r.t_hat.filter(|t| *t > 0.0)?))
    });
    if points.is_empty() {
        return Ok(None);
    }
    let lengths: Vec<(f64, f64, f64)> = indices
        .iter()
        .zip(&points)
        .map(|(&i, &(x, _))| {
            let row = &rows[i];
            (
                x,
                row.t_hat_lower.unwrap_or(0.0),
                row.t_hat_upper.unwrap_or(f64::INFINITY),
            )
        })
        .collect();
    let least = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let ends = lengths.iter().flat_map(|l| [l.1.max(least / 3.0), l.2]);
    let mut caption =
        "Stopping time with its 95 % interval against the strength of the signal.".to_owned();
    let count = |status: Status| rows.iter().filter(|r| r.status == status).count();
    let (at_zero, unbounded) = (count(Status::AtZero), count(Status::Unbounded));
    if at_zero + unbounded > 0 {
        caption += &format!(" Not drawn: {at_zero} at zero, {unbounded} without bound.");
    }
    let plot = Plot {
        x: Axis::logarithmic("−log10 p", points.iter().map(|p| p.0)),
        y: Axis::logarithmic(
            "t_hat, learning rate × epochs",
            points.iter().map(|p| p.1).chain(ends),
        ),
        marks: vec![Mark::Intervals(lengths), Mark::Points(points, POINT)],
    };
    Figure::new("Stopping time and signal", caption, &plot, &indices).map(Some)
}

/// In-sample R² against the share of the samples that the fit spends.
fn in_sample(rows: &[PhenotypeRow]) -> anyhow::Result<Option<Figure>> {
    let (indices, points) = pairs(rows, |r| {
        // At the time that predictions are made for.
        let edf = if r.t_stop == r.t_hat {
            r.edf?
        } else {
            r.edf_loo?
        };
        Some((edf / r.n_samples as f64, r.in_sample_r2?))
    });
    if points.is_empty() {
        return Ok(None);
    }
    let plot = Plot {
        x: Axis::from_zero("edf / samples", points.iter().map(|p| p.0)),
        y: Axis::from_zero("in-sample R²", points.iter().map(|p| p.1)),
        marks: vec![Mark::Points(points, POINT)],
    };
    let caption = "In-sample R² at t_stop against the effective degrees of freedom per sample. It measures fit, not accuracy: it rises with edf whether or not new samples are predicted better.".to_owned();
    Figure::new("In-sample R²", caption, &plot, &indices).map(Some)
}

/// R² of held-out samples against R² in sample.
fn out_of_sample(rows: &[PhenotypeRow]) -> anyhow::Result<Option<Figure>> {
    let (indices, points) = pairs(rows, |r| Some((r.in_sample_r2?, r.out_of_sample_r2?)));
    if points.is_empty() {
        return Ok(None);
    }
    let below = points.iter().filter(|p| p.1 < 0.0).count();
    let x = Axis::from_zero("in-sample R²", points.iter().map(|p| p.0));
    let y = Axis::signed("held-out R²", points.iter().map(|p| p.1));
    let end = x.end().min(y.end());
    let mut caption = "R² of samples held out against R² of the samples fitted; the line is where they are equal.".to_owned();
    if below > 0 {
        caption += &format!(" Below zero, worse than the mean: {below}.");
    }
    let plot = Plot {
        x,
        y,
        marks: vec![
            Mark::Line(vec![(0.0, 0.0), (end, end)], ACCENT),
            Mark::Points(points, POINT),
        ],
    };
    Figure::new("Held-out R²", caption, &plot, &indices).map(Some)
}

/// Leave-one-out R² at t_loo against that at t_hat.
fn left_out(rows: &[PhenotypeRow]) -> anyhow::Result<Option<Figure>> {
    let (indices, points) = pairs(rows, |r| Some((r.loo_r2?, r.loo_r2_best?)));
    if points.is_empty() {
        return Ok(None);
    }
    let x = Axis::signed("leave-one-out R² at t_hat", points.iter().map(|p| p.0));
    let y = Axis::signed("leave-one-out R² at t_loo", points.iter().map(|p| p.1));
    let (start, end) = (x.start().max(y.start()), x.end().min(y.end()));
    let is_better = |i: &&usize| rows[**i].loo_predicts_better == Some(true);
    let better = indices.iter().filter(is_better).count();
    let caption = format!(
        "Leave-one-out R²: each sample is predicted by the fit of the others, and compared with the covariates alone (0). Across: at REML's stopping time; up: at the best time. The line is where they are equal. Above it by more than the standard error of the difference: {better}, which `--stop loo` predicts better."
    );
    let plot = Plot {
        x,
        y,
        marks: vec![
            Mark::Line(vec![(start, start), (end, end)], ACCENT),
            Mark::Points(points, POINT),
        ],
    };
    Figure::new("Leave-one-out R²", caption, &plot, &indices).map(Some)
}

fn ranked(values: impl Iterator<Item = f64>) -> Vec<(f64, f64)> {
    values
        .enumerate()
        .map(|(i, v)| (i as f64 + 1.0, v))
        .collect()
}

/// Leading eigenvalues on logarithmic axes, beside the mean of the others.
fn eigenvalues(spectrum: &SpectrumRecord) -> anyhow::Result<Figure> {
    let points = ranked(spectrum.eigenvalues.iter().copied());
    let (left, mean) = tail(spectrum);
    let k = points.len();
    let caption = match left {
        0 => format!(
            "{} λ of the projected kernel PKP/n.",
            agreeing(k, "The 1 eigenvalue", &format!("All {k} eigenvalues"))
        ),
        _ => format!(
            "The {} λ of the projected kernel PKP/n. Line: the mean of the other {left}, {}.",
            counted(k, "leading eigenvalues"),
            number(mean)
        ),
    };
    let plot = Plot {
        x: Axis::logarithmic("rank", points.iter().map(|p| p.0)),
        y: Axis::logarithmic("eigenvalue λ", points.iter().map(|p| p.1).chain([mean])),
        marks: vec![
            Mark::Line(
                if left > 0 {
                    vec![(1.0, mean), (k as f64, mean)]
                } else {
                    Vec::new()
                },
                BAND,
            ),
            Mark::Points(points, POINT),
        ],
    };
    Figure::new("Eigenvalue decay", caption, &plot, &[])
}

/// Share of the trace that the first k eigenvalues carry.
fn trace(spectrum: &SpectrumRecord) -> anyhow::Result<Figure> {
    let mut sum = 0.0;
    let points = ranked(spectrum.eigenvalues.iter().map(|v| {
        sum += v;
        100.0 * sum / spectrum.trace
    }));
    let share = points.last().map_or(0.0, |p| p.1);
    let (left, _) = tail(spectrum);
    let caption = format!(
        "The {} leading eigenvalues carry {share:.1} % of the trace, {}; the tail of {left} carries the other {:.1} %.",
        points.len(),
        number(spectrum.trace),
        100.0 - share
    );
    let plot = Plot {
        x: Axis::from_zero("leading eigenvalues", points.iter().map(|p| p.0)),
        y: Axis::from_zero("share of the trace, %", [100.0].into_iter()),
        marks: vec![
            Mark::Line(points.clone(), POINT),
            Mark::Points(points, POINT),
        ],
    };
    Figure::new("Share of the trace", caption, &plot, &[])
}

/// Number and mean of the eigenvalues that are not among the leading ones.
fn tail(spectrum: &SpectrumRecord) -> (usize, f64) {
    let left = spectrum.dof.saturating_sub(spectrum.eigenvalues.len());
    let carried: f64 = spectrum.eigenvalues.iter().sum();
    (
        left,
        (spectrum.trace - carried).max(0.0) / left.max(1) as f64,
    )
}
