//! Draws the rates of reports as SVG charts.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;

use crate::figures::{Line, Report};
use crate::growth::{Grows, GrowthLine, GrowthReport};
use crate::options::GOAL_CONNECTIONS;

const SIZE: (u32, u32) = (860, 520);
const GROWTH_SIZE: (u32, u32) = (1000, 720);
const CURVES: [RGBColor; 3] = [
    RGBColor(38, 110, 170),
    RGBColor(190, 90, 40),
    RGBColor(90, 140, 60),
];
const OURS: RGBColor = RGBColor(38, 110, 170);
const OTHERS: RGBColor = RGBColor(160, 170, 180);

/// Draws the rates with 64 clients into an SVG file, the fastest row on top.
///
/// # Errors
/// If the file cannot be written or the report has no line for 64 clients.
pub fn draw(report: &Report, file: &Path) -> Result<()> {
    let lines = report.lines.iter();
    // The rate of Redis alone would make all other bars too short to compare.
    let mut lines: Vec<&Line> = lines
        .filter(|line| line.connections == GOAL_CONNECTIONS && line.name != "store reserve")
        .collect();
    // The chart places the first line at the bottom.
    lines.sort_by(|a, b| a.rate.median.total_cmp(&b.rate.median));
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    bars(&root, report, &lines).map_err(|e| anyhow!("drawing {}: {e}", file.display()))
}

/// Draws one chart for each thing that grows into an SVG file: requests per second of each row.
///
/// # Errors
/// If the file cannot be written.
pub fn draw_growth(report: &GrowthReport, file: &Path) -> Result<()> {
    let root = SVGBackend::new(file, GROWTH_SIZE).into_drawing_area();
    growth(&root, report).map_err(|e| anyhow!("drawing {}: {e}", file.display()))
}

fn growth<'a>(root: &Area<'a>, report: &GrowthReport) -> Result<(), Failure<'a>> {
    root.fill(&WHITE)?;
    let root = root.titled(
        &format!(
            "Requests per second on {} ({}, {} cores)",
            report.host, report.machine.processor, report.machine.cores
        ),
        ("sans-serif", 16),
    )?;
    for (area, grows) in root.split_evenly((2, 2)).iter().zip(Grows::ALL) {
        let lines = report.lines.iter().filter(|line| line.grows == grows);
        curves(area, grows, &lines.collect::<Vec<_>>())?;
    }
    root.present()
}

/// One curve for each row. The values are far apart, so they are spaced evenly.
fn curves<'a>(area: &Area<'a>, grows: Grows, lines: &[&GrowthLine]) -> Result<(), Failure<'a>> {
    let greatest = lines.iter().map(|l| l.line.rate.max).fold(0.0, f64::max);
    let mut values: Vec<u64> = lines.iter().map(|line| line.value).collect();
    values.sort_unstable();
    values.dedup();
    let mut rows: Vec<&str> = lines.iter().map(|line| line.line.name.as_str()).collect();
    rows.sort_unstable();
    rows.dedup();
    let mut chart = ChartBuilder::on(area)
        .caption(grows.name(), ("sans-serif", 14))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(52)
        .build_cartesian_2d((0..values.len()).into_segmented(), 0.0..greatest * 1.05)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(values.len())
        .x_label_formatter(&|x| {
            match x {
                SegmentValue::CenterOf(index) => values.get(*index).map(u64::to_string),
                _ => None,
            }
            .unwrap_or_default()
        })
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .label_style(("sans-serif", 12))
        .draw()?;
    for (row, colour) in rows.into_iter().zip(CURVES) {
        let points: Vec<_> = lines
            .iter()
            .filter(|line| line.line.name == row)
            .filter_map(|line| {
                let index = values.iter().position(|value| *value == line.value)?;
                Some((SegmentValue::CenterOf(index), line.line.rate.median))
            })
            .collect();
        let dots = points
            .iter()
            .map(|point| Circle::new(point.clone(), 3, colour.filled()));
        chart.draw_series(dots)?;
        let curve = LineSeries::new(points.iter().cloned(), colour.stroke_width(2));
        chart
            .draw_series(curve)?
            .label(row)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 12))
        .draw()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Failure<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn bars<'a>(root: &Area<'a>, report: &Report, lines: &[&Line]) -> Result<(), Failure<'a>> {
    let greatest = lines.iter().map(|l| l.rate.max).fold(0.0, f64::max);
    let rows = 0..lines.len();
    let name = |index: usize| {
        let line = lines.get(index)?;
        let host = line.host.as_deref().filter(|host| host.starts_with("Spin"));
        Some(host.map_or(line.name.clone(), |host| format!("{} ({host})", line.name)))
    };
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(root)
        .caption(
            format!(
                "Requests per second, {GOAL_CONNECTIONS} clients ({}, {} cores)",
                report.machine.processor, report.machine.cores
            ),
            ("sans-serif", 16),
        )
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(150)
        .build_cartesian_2d(0.0..greatest * 1.05, rows.into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(lines.len())
        .y_label_formatter(&|row| match row {
            SegmentValue::CenterOf(index) => name(*index).unwrap_or_default(),
            _ => String::new(),
        })
        .x_label_formatter(&|rate| format!("{rate:.0}"))
        .label_style(("sans-serif", 13))
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let (top, bottom) = (SegmentValue::Exact(index), SegmentValue::Exact(index + 1));
        let ours = ["create", "replay", "mix"].contains(&line.name.as_str());
        let colour = if ours { OURS } else { OTHERS };
        let mut bar = Rectangle::new([(0.0, top), (line.rate.median, bottom)], colour.filled());
        bar.set_margin(5, 5, 0, 0);
        let middle = SegmentValue::CenterOf(index);
        let spread = [(line.rate.min, middle.clone()), (line.rate.max, middle)];
        chart.draw_series([bar])?;
        chart.draw_series([PathElement::new(spread, BLACK.stroke_width(2))])?;
    }
    root.present()
}
