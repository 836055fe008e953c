//! The chart of `bench --plot`: for each shape and code path, its time over the roofline.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nvfp4_dual_gemm::checkpoint;
use plotters::coord::combinators::LogCoord;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// One measured point.
#[derive(Debug, Clone)]
pub struct Point {
    /// The group of points.
    pub shape: String,
    /// Code path, the series of the legend.
    pub path: String,
    /// Time over the roofline; 1 is the roofline.
    pub ratio: f64,
    /// Written at the point.
    pub label: String,
}

const WIDTH: i32 = 960;
const ROW: i32 = 24;
const GAP: i32 = 14;
const TOP: i32 = 92;
const BOTTOM: i32 = 58;
const RIGHT: i32 = 170;
/// Okabe and Ito's colors, which the color-blind can tell apart.
const COLORS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 86, 86),
];
const INK: RGBColor = RGBColor(30, 30, 30);
const GRAY: RGBColor = RGBColor(110, 110, 110);
const LINE: RGBColor = RGBColor(222, 222, 222);

/// Refuses a file name that says another format than SVG.
pub fn check_name(file: &Path) -> Result<()> {
    match file.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("svg") => Ok(()),
        _ => bail!("{}: the plot is an SVG, so its file name must end in .svg", file.display()),
    }
}

/// Writes the chart.
pub fn write(file: &Path, title: &str, subtitle: &str, points: &[Point]) -> Result<()> {
    let svg = draw(title, subtitle, points).context("cannot draw the plot")?;
    Ok(checkpoint::write_file(file, svg)?)
}

/// The SVG.
pub fn draw(title: &str, subtitle: &str, points: &[Point]) -> Result<String> {
    let mut series: Vec<&str> = Vec::new();
    for point in points {
        if !series.contains(&point.path.as_str()) {
            series.push(&point.path);
        }
    }
    let new_group = |i: usize| i > 0 && points[i].shape != points[i - 1].shape;
    let gaps = (0..points.len()).filter(|&i| new_group(i)).count() as i32;
    let rows = i32::try_from(points.len()).context("too many points")?;
    let bottom = TOP + GAP + rows * ROW + gaps * GAP;
    let height = bottom + BOTTOM;
    let longest = points.iter().map(|p| p.shape.chars().count()).max().unwrap_or(0) as i32;
    let left = 40 + 9 * longest;

    let axis = Axis::over(points.iter().map(|p| p.ratio), left, WIDTH - RIGHT);
    let mut svg = String::new();
    {
        let area =
            SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let text = |words: &str, x: i32, y: i32, size: i32, color: RGBColor, side: HPos| {
            // plotters takes the height of a line, which it holds to be 1.24 font sizes.
            let style = ("sans-serif", f64::from(size) * 1.24).into_font().color(&color);
            let style = style.pos(Pos::new(side, VPos::Center));
            area.draw_text(words, &style, (x, y)).map_err(failed)
        };
        let line = |from: (i32, i32), to: (i32, i32), color: RGBColor, width: u32| {
            area.draw(&PathElement::new([from, to], color.stroke_width(width))).map_err(failed)
        };

        text(title, 20, 24, 21, INK, HPos::Left)?;
        text(subtitle, 20, 48, 14, GRAY, HPos::Left)?;
        for tick in &axis.ticks {
            let x = axis.x(*tick);
            let roof = *tick == 1.0;
            line((x, TOP), (x, bottom), if roof { GRAY } else { LINE }, if roof { 2 } else { 1 })?;
            text(&format!("{tick}"), x, bottom + 14, 14, INK, HPos::Center)?;
        }
        let middle = (left + WIDTH - RIGHT) / 2;
        let words =
            "time / roofline, log scale (1 = the most this machine could do; less is better)";
        text(words, middle, bottom + 38, 14, INK, HPos::Center)?;

        if series.len() > 1 {
            let mut x = left;
            for (s, name) in series.iter().enumerate() {
                area.draw(&Circle::new((x, 74), 5, color(s).filled())).map_err(failed)?;
                text(name, x + 11, 74, 14, INK, HPos::Left)?;
                x += 40 + 8 * name.chars().count() as i32;
            }
        }

        let mut y = TOP + GAP / 2 + ROW / 2;
        for (i, point) in points.iter().enumerate() {
            if new_group(i) {
                y += GAP;
            }
            if i == 0 || new_group(i) {
                let group = points[i..].iter().take_while(|p| p.shape == point.shape).count();
                let center = y + (group as i32 - 1) * ROW / 2;
                text(&point.shape, left - 12, center, 15, INK, HPos::Right)?;
            }
            let s = series.iter().position(|name| *name == point.path).unwrap_or(0);
            let x = axis.x(point.ratio);
            line((axis.x(1.0), y), (x, y), color(s), 4)?;
            area.draw(&Circle::new((x, y), 6, color(s).filled())).map_err(failed)?;
            text(&point.label, x.max(axis.x(1.0)) + 13, y, 14, INK, HPos::Left)?;
            y += ROW;
        }
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn color(series: usize) -> RGBColor {
    COLORS[series % COLORS.len()]
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

/// A logarithmic axis with ticks at 1, 2, 5, 10, …; those of plotters are at powers of ten alone.
struct Axis {
    coordinates: LogCoord<f64>,
    pixels: (i32, i32),
    ticks: Vec<f64>,
}

impl Axis {
    /// From the roofline, or the lowest value below it, to the tick past the highest value.
    fn over(values: impl Iterator<Item = f64> + Clone, left: i32, right: i32) -> Self {
        let steps: Vec<f64> = (-3..7)
            .flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(decade)))
            // 5·10^-1 and so on print as decimals only when they are the nearest double.
            .map(|tick| format!("{tick:.3}").parse().unwrap_or(tick))
            .collect();
        let clamp = |value: f64| value.clamp(steps[0], steps[steps.len() - 1]);
        let least = clamp(values.clone().fold(1.0, f64::min));
        let most = clamp(values.fold(2.0, f64::max));
        let low = steps.iter().rev().find(|&&tick| tick <= least).copied().unwrap_or(1.0);
        let high = steps.iter().find(|&&tick| tick >= most).copied().unwrap_or(10.0);
        let ticks = steps.into_iter().filter(|tick| (low..=high).contains(tick)).collect();
        Axis { coordinates: (low..high).log_scale().into(), pixels: (left, right), ticks }
    }

    fn x(&self, value: f64) -> i32 {
        let Range { start, end } = self.coordinates.range();
        self.coordinates.map(&value.clamp(start, end), self.pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_holds_all_values_and_the_roofline() {
        for values in [vec![1.2, 3.0], vec![0.4, 900.0], vec![1.0], vec![f64::INFINITY, 0.0]] {
            let axis = Axis::over(values.iter().copied(), 100, 700);
            assert!(axis.ticks.contains(&1.0), "{values:?}");
            assert!(axis.ticks.len() >= 2, "{values:?}");
            for &value in &values {
                assert!((100..=700).contains(&axis.x(value)));
            }
        }
        let axis = Axis::over([3.0].into_iter(), 0, 100);
        assert_eq!((axis.x(1.0), axis.x(5.0)), (0, 100));
        assert_eq!(axis.ticks, [1.0, 2.0, 5.0]);
    }

    #[test]
    fn every_point_and_series_is_drawn() {
        let point = |shape: &str, path: &str, ratio: f64| Point {
            shape: shape.to_owned(),
            path: path.to_owned(),
            ratio,
            label: format!("{ratio:.1}x"),
        };
        let points = [
            point("256x4096x7168", "cpu (avx512)", 1.4),
            point("256x4096x7168", "cpu (avx2)", 3.25),
            point("1x4096x7168", "cpu (avx512)", 0.8),
            point("1x4096x7168", "cpu (avx2)", 1234.5),
        ];
        let svg = draw("title & <more>", "subtitle", &points).unwrap();
        // A circle for each point, and one for each series of the legend.
        assert_eq!(svg.matches("<circle").count(), points.len() + 2);
        assert_eq!(svg.matches("\n256x4096x7168\n").count(), 1);
        assert_eq!(svg.matches("\n1234.5x\n").count(), 1);
        assert!(svg.contains("title &amp; &lt;more&gt;"));
    }

    #[test]
    fn other_formats_are_refused() {
        assert!(check_name(Path::new("a.svg")).is_ok());
        assert!(check_name(Path::new("a.png")).is_err());
        assert!(check_name(Path::new("svg")).is_err());
    }
}
