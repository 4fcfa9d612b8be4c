//! Draws the rates of a report as bars in an SVG file, one chart for each thing that grows.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;

use crate::contestants::{Contestant, GOAL_CONNECTIONS, ROWS};
use crate::figures::{Line, Report};

const WIDTH: u32 = 860;
const OURS: RGBColor = RGBColor(38, 110, 170);
const OTHERS: RGBColor = RGBColor(160, 170, 180);

/// Draws a report: of contestants only the rates with 64 clients, the fastest row on top.
///
/// # Errors
/// If the file cannot be written.
pub fn draw(report: &Report, file: &Path) -> Result<()> {
    let mut lines: Vec<&Line> = report.lines.iter().collect();
    let compares_contestants = !report.goals.is_empty();
    if compares_contestants {
        lines.retain(|line| line.connections == GOAL_CONNECTIONS);
        lines.sort_by(|a, b| b.rate.median.total_cmp(&a.rate.median));
    }
    let charts: Vec<&[&Line]> = lines.chunk_by(|a, b| a.grows == b.grows).collect();
    let heights: Vec<u32> = charts.iter().map(|l| 70 + 22 * l.len() as u32).collect();
    let root = SVGBackend::new(file, (WIDTH, heights.iter().sum())).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("drawing {}: {error}", file.display());
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let ends = heights.iter().scan(0, |end, height| {
        *end += height;
        Some(*end)
    });
    let areas = root.split_by_breakpoints([] as [u32; 0], ends.collect::<Vec<_>>());
    for (lines, area) in charts.iter().zip(&areas) {
        bars(area, report, lines).map_err(|error| failed(&error))?;
    }
    root.present().map_err(|error| failed(&error))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Failure<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn bars<'a>(area: &Area<'a>, report: &Report, lines: &[&Line]) -> Result<(), Failure<'a>> {
    let greatest = lines.iter().map(|l| l.rate.max).fold(0.0, f64::max);
    // The chart places the first line at the bottom.
    let lines: Vec<&Line> = lines.iter().rev().copied().collect();
    let name = |line: &&Line| {
        let host = line.host.as_deref().unwrap_or("no host");
        format!("{} {}, {} ({host})", line.value, line.grows.name(), line.name)
    };
    let machine = &report.machine;
    let caption = format!("Requests per second ({}, {} cores)", machine.processor, machine.cores);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(300)
        .build_cartesian_2d(0.0..greatest * 1.05, (0..lines.len()).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(lines.len())
        .y_label_formatter(&|row| match row {
            SegmentValue::CenterOf(index) => lines.get(*index).map(name).unwrap_or_default(),
            _ => String::new(),
        })
        .x_label_formatter(&|rate| format!("{rate:.0}"))
        .label_style(("sans-serif", 13))
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let (top, bottom) = (SegmentValue::Exact(index), SegmentValue::Exact(index + 1));
        let ours = |row: &crate::contestants::Row| row.contestant == Contestant::Ours;
        let is_other = ROWS.iter().any(|row| row.name == line.name && !ours(row));
        let colour = if is_other { OTHERS } else { OURS };
        let mut bar = Rectangle::new([(0.0, top), (line.rate.median, bottom)], colour.filled());
        bar.set_margin(3, 3, 0, 0);
        let middle = SegmentValue::CenterOf(index);
        let spread = [(line.rate.min, middle.clone()), (line.rate.max, middle)];
        chart.draw_series([bar])?;
        chart.draw_series([PathElement::new(spread, BLACK.stroke_width(2))])?;
    }
    Ok(())
}
