use super::tally::Tally;
use anyhow::{Context, Result};
use plotters::prelude::*;
use std::io::Write;
use std::path::Path;
use stheno::engine::AtomicFile;

const HEIGHT: u32 = 320;
const COLUMN: u32 = 150;
const BLUE: RGBColor = RGBColor(0x3b, 0x6e, 0xa8);
const ORANGE: RGBColor = RGBColor(0xd0, 0x7a, 0x2d);

/// Writes an SVG with two rows of bars, one bar a category: the speed-up of decoding, and tokens a round.
pub fn write(path: &Path, categories: &[(&str, Tally)]) -> Result<()> {
    let svg = draw(categories).context("the plot cannot be drawn")?;
    let mut file = AtomicFile::create(path)?;
    let written = file.write_all(svg.as_bytes());
    written.with_context(|| format!("{}", path.display()))?;
    Ok(file.finish()?)
}

fn draw(categories: &[(&str, Tally)]) -> Result<String> {
    let mut svg = String::new();
    let width = COLUMN * categories.len().max(3) as u32;
    {
        let area = SVGBackend::with_string(&mut svg, (width, 2 * HEIGHT)).into_drawing_area();
        area.fill(&WHITE)?;
        let (above, below) = area.split_vertically(HEIGHT);
        let names: Vec<&str> = categories.iter().map(|(name, _)| *name).collect();
        let values = |of: fn(&Tally) -> f64| categories.iter().map(move |(_, sum)| of(sum));
        let speed_up: Vec<f64> = values(Tally::speed_up).collect();
        let accept_len: Vec<f64> = values(|sum| sum.speculation.accept_len()).collect();
        let caption = "decoding: times as fast as without the draft";
        bars(&above, caption, &names, &speed_up, BLUE)?;
        let caption = "accept_len: tokens a round";
        bars(&below, caption, &names, &accept_len, ORANGE)?;
        area.present()?;
    }
    Ok(svg)
}

/// A bar a name, its value above it, and a line at 1: what plain decoding does.
fn bars(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    caption: &str,
    names: &[&str],
    values: &[f64],
    color: RGBColor,
) -> Result<()> {
    let count = names.len().max(1);
    let top = values.iter().copied().fold(1.0, f64::max) * 1.2;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(caption, ("sans-serif", 16))
        .x_label_area_size(28)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..count as f64, 0.0..top)
        .map_err(owned)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(WHITE)
        .y_labels(6)
        .draw()
        .map_err(owned)?;
    let at = |i: usize| i as f64 + 0.5;
    let bar = |(i, value): (usize, &f64)| {
        Rectangle::new([(at(i) - 0.3, 0.0), (at(i) + 0.3, *value)], color.filled())
    };
    chart
        .draw_series(values.iter().enumerate().map(bar))
        .map_err(owned)?;
    let line = [(0.0, 1.0), (count as f64, 1.0)];
    chart
        .draw_series(LineSeries::new(line, BLACK))
        .map_err(owned)?;
    let centred = |anchor| {
        use plotters::style::text_anchor::{HPos, Pos};
        let style: TextStyle<'_> = ("sans-serif", 13).into_font().into();
        style.pos(Pos::new(HPos::Center, anchor))
    };
    use plotters::style::text_anchor::VPos;
    for (i, (name, value)) in names.iter().zip(values).enumerate() {
        let place = chart.backend_coord(&(at(i), *value));
        let number = format!("{value:.2}");
        area.draw_text(&number, &centred(VPos::Bottom), relative(area, place, -3))
            .map_err(owned)?;
        let place = chart.backend_coord(&(at(i), 0.0));
        area.draw_text(name, &centred(VPos::Top), relative(area, place, 6))
            .map_err(owned)?;
    }
    Ok(())
}

/// A place of the whole picture, counted from an area's corner and moved down.
fn relative(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    (x, y): (i32, i32),
    down: i32,
) -> (i32, i32) {
    let (left, top) = area.get_base_pixel();
    (x - left, y - top + down)
}

/// The drawing library's errors borrow nothing, but its types do.
fn owned(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
