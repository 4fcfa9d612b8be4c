//! Draws the report's rates as an SVG chart.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;

use crate::figures::{Line, Report};
use crate::options::GOAL_CONNECTIONS;

const SIZE: (u32, u32) = (860, 520);
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
