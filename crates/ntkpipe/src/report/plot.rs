//! A plot of the report: axes and marks, drawn as SVG that follows the page's colours.

use std::ops::Range;

use anyhow::Context as _;
use plotters::coord::combinators::BindKeyPoints as _;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// Size of the drawing in its own units; the page scales it.
const SIZE: (u32, u32) = (640, 420);

/// Space between the outermost value and the frame, as a share of the axis.
const MARGIN: f64 = 0.04;

/// The inks, as plotters writes them into the SVG and as the page's style calls them.
pub const INKS: [(RGBColor, &str); 5] = [
    (TEXT, "text"),
    (GRID, "grid"),
    (BAND, "band"),
    (POINT, "point"),
    (ACCENT, "accent"),
];

/// Axes, ticks and labels.
const TEXT: RGBColor = RGBColor(68, 68, 69);
/// Lines of the grid.
const GRID: RGBColor = RGBColor(225, 225, 226);
/// Areas of what is expected, and lengths of intervals.
pub const BAND: RGBColor = RGBColor(160, 176, 196);
/// What was found.
pub const POINT: RGBColor = RGBColor(31, 95, 168);
/// What stands out.
pub const ACCENT: RGBColor = RGBColor(192, 72, 20);

/// An axis; values outside its range are drawn at its end.
pub struct Axis {
    name: String,
    range: Range<f64>,
    logarithmic: bool,
}

impl Axis {
    /// A linear axis that covers `values` and zero.
    pub fn from_zero(name: impl Into<String>, values: impl Iterator<Item = f64>) -> Self {
        let end = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        Self {
            name: name.into(),
            range: 0.0..if end > 0.0 { end * (1.0 + MARGIN) } else { 1.0 },
            logarithmic: false,
        }
    }

    /// A linear axis that covers `values` and zero, below it as well.
    pub fn signed(name: impl Into<String>, values: impl Iterator<Item = f64> + Clone) -> Self {
        let finite = values.clone().filter(|v| v.is_finite());
        let least = finite.fold(0.0, f64::min);
        let mut axis = Self::from_zero(name, values);
        axis.range.start = least * (1.0 + MARGIN);
        axis
    }

    /// The start of the axis.
    pub fn start(&self) -> f64 {
        self.range.start
    }

    /// A logarithmic axis that covers the positive ones of `values`.
    pub fn logarithmic(name: impl Into<String>, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|v| v.is_finite() && *v > 0.0)
            .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), v| {
                (low.min(v), high.max(v))
            });
        let (low, high) = if high > 0.0 { (low, high) } else { (0.1, 10.0) };
        let room = (high / low).max(2.0).powf(MARGIN);
        Self {
            name: name.into(),
            range: low / room..high * room,
            logarithmic: true,
        }
    }

    /// Ends the axis at `end` at the latest.
    pub fn at_most(mut self, end: f64) -> Self {
        self.range.end = self.range.end.min(end);
        self
    }

    /// The end of the axis.
    pub fn end(&self) -> f64 {
        self.range.end
    }

    /// 1, 2 and 5 times the powers of ten on the axis, or the powers alone where it spans many.
    fn logarithmic_ticks(&self) -> Vec<f64> {
        let (low, high) = (self.range.start.log10(), self.range.end.log10());
        let steps: &[f64] = if high - low > 3.0 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let powers = low.floor() as i32..=high.ceil() as i32;
        powers
            .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
            .filter(|tick| self.range.contains(tick))
            .collect()
    }

    fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.range.start, self.range.end)
    }
}

/// What is drawn between the axes, first to last.
pub enum Mark {
    /// A dot at each (x, y).
    Points(Vec<(f64, f64)>, RGBColor),
    /// A line through (x, y).
    Line(Vec<(f64, f64)>, RGBColor),
    /// A vertical line from low to high at each (x, low, high).
    Intervals(Vec<(f64, f64, f64)>),
    /// The area between low and high along (x, low, high).
    Band(Vec<(f64, f64, f64)>),
}

/// Axes and marks.
pub struct Plot {
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Marks.
    pub marks: Vec<Mark>,
}

impl Plot {
    /// Draws the plot; `label` is what a screen reader says of it.
    ///
    /// The dots are `circle` elements in the order of the marks.
    pub fn to_svg(&self, label: &str) -> anyhow::Result<String> {
        let linear = |axis: &Axis| axis.range.clone();
        let logarithmic = |axis: &Axis| {
            let range = axis.range.clone().log_scale();
            range.with_key_points(axis.logarithmic_ticks())
        };
        let (x, y) = (&self.x, &self.y);
        let svg = match (x.logarithmic, y.logarithmic) {
            (false, false) => self.draw(linear(x), linear(y)),
            (false, true) => self.draw(linear(x), logarithmic(y)),
            (true, false) => self.draw(logarithmic(x), linear(y)),
            (true, true) => self.draw(logarithmic(x), logarithmic(y)),
        }?;
        let (_, body) = svg.split_once('>').context("plotters drew no SVG")?;
        let label = askama::filters::escape(label, askama::filters::Html)?;
        Ok(format!(
            "<svg role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {} {}\">{body}",
            SIZE.0, SIZE.1
        ))
    }

    fn draw<X, Y>(&self, x: X, y: Y) -> anyhow::Result<String>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            let mut chart = ChartBuilder::on(&area)
                .margin(12)
                .margin_right(24)
                .x_label_area_size(58)
                .y_label_area_size(80)
                .build_cartesian_2d(x, y)?;
            let font = |size: u32| ("sans-serif", size).into_font().color(&TEXT);
            chart
                .configure_mesh()
                .x_desc(&self.x.name)
                .y_desc(&self.y.name)
                .axis_desc_style(font(26))
                .label_style(font(23))
                .x_labels(6)
                .y_labels(6)
                .x_label_formatter(&|v| tick(*v))
                .y_label_formatter(&|v| tick(*v))
                .axis_style(TEXT)
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .draw()?;
            let at = |x: &f64, y: &f64| (self.x.clamp(*x), self.y.clamp(*y));
            for mark in &self.marks {
                match mark {
                    Mark::Points(points, ink) => chart.draw_series(
                        points
                            .iter()
                            .map(|(x, y)| Circle::new(at(x, y), 4, ink.mix(0.75).filled())),
                    )?,
                    Mark::Line(points, ink) => chart.draw_series(LineSeries::new(
                        points.iter().map(|(x, y)| at(x, y)),
                        ink.stroke_width(2),
                    ))?,
                    Mark::Intervals(lengths) => {
                        chart.draw_series(lengths.iter().map(|(x, low, high)| {
                            PathElement::new(
                                vec![at(x, low), at(x, high)],
                                BAND.mix(0.6).stroke_width(2),
                            )
                        }))?
                    }
                    Mark::Band(lengths) => {
                        let low = lengths.iter().map(|(x, low, _)| at(x, low));
                        let high = lengths.iter().rev().map(|(x, _, high)| at(x, high));
                        let outline: Vec<(f64, f64)> = low.chain(high).collect();
                        chart.draw_series([Polygon::new(outline, BAND.mix(0.45))])?
                    }
                };
            }
            area.present()?;
        }
        Ok(svg)
    }
}

/// The label of a tick: plain digits where they are few.
fn tick(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e5).contains(&size) {
        // What adding steps up leaves behind is cut off.
        ((value * 1e6).round() / 1e6).to_string()
    } else {
        format!("{value:.0e}")
    }
}
