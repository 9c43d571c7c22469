use crate::cases::BenchOp;
use crate::record::Record;
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;

const WIDTH: u32 = 340;
const HEIGHT: u32 = 260;
const COLUMNS: usize = 3;

/// Grey that stands out from white and from black alike.
const INK: RGBColor = RGBColor(0x80, 0x86, 0x90);

/// Of the formats, in the order of their first record; each stands out from white and from black.
const COLORS: [RGBColor; 6] = [
    RGBColor(0x4c, 0x8d, 0xd6),
    RGBColor(0xe0, 0x83, 0x2b),
    RGBColor(0x3f, 0xa7, 0x66),
    RGBColor(0xc0, 0x5c, 0xc4),
    RGBColor(0xd9, 0x4f, 0x57),
    RGBColor(0x9a, 0x8a, 0x3c),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// An SVG with a field for each op of each shape: microseconds against rows, a line a format. Nothing fills the ground, so
/// that it shows on light and dark pages.
pub fn draw(records: &[Record], title: &str) -> Result<String> {
    let mut fields: Vec<(BenchOp, &str, u32)> = Vec::new();
    let mut formats: Vec<&str> = Vec::new();
    for record in records {
        let field = (record.op, record.shape.as_str(), record.context);
        // A prompt chunk has one width.
        if record.op != BenchOp::Prefill && !fields.contains(&field) {
            fields.push(field);
        }
        if !formats.contains(&record.format.as_str()) {
            formats.push(&record.format);
        }
    }
    let lines = fields.len().div_ceil(COLUMNS).max(1);
    let size = (WIDTH * COLUMNS as u32, HEIGHT * lines as u32 + 60);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let (head, body) = area.split_vertically(60);
        let text = format!("microseconds against rows: {title}");
        head.draw_text(&text, &style(15), (12, 10)).map_err(owned)?;
        for (i, format) in formats.iter().enumerate() {
            let (x, color) = (12 + 90 * i as i32, COLORS[i % COLORS.len()]);
            let key = PathElement::new([(x, 44), (x + 24, 44)], color.stroke_width(3));
            head.draw(&key).map_err(owned)?;
            head.draw_text(format, &style(13), (x + 30, 36))
                .map_err(owned)?;
        }
        let parts = body.split_evenly((lines, COLUMNS));
        for (field, part) in fields.iter().zip(&parts) {
            let of_field =
                |record: &&Record| (record.op, record.shape.as_str(), record.context) == *field;
            let own: Vec<&Record> = records.iter().filter(of_field).collect();
            draw_field(part, &own, &formats)?;
        }
        area.present().map_err(owned)?;
    }
    Ok(svg)
}

fn draw_field(area: &Area<'_>, records: &[&Record], formats: &[&str]) -> Result<()> {
    let Some(first) = records.first() else {
        return Ok(());
    };
    let micros = |record: &Record| record.seconds().map(|seconds| 1e6 * seconds);
    let top = records.iter().filter_map(|r| micros(r)).fold(0.0, f64::max);
    let top = if top > 0.0 { 1.1 * top } else { 1.0 };
    let widest = records.iter().map(|record| record.rows).max().unwrap_or(1);
    let name = match first.op.sees_context() {
        true => format!("{} @{}, {}", first.op, first.context, first.shape),
        false => format!("{}, {}", first.op, first.shape),
    };
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption(name, style(14))
        .x_label_area_size(24)
        .y_label_area_size(46)
        .build_cartesian_2d(0.0..f64::from(widest) * 1.05, 0.0..top)
        .map_err(owned)?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .label_style(style(11))
        .bold_line_style(INK.mix(0.25))
        .light_line_style(TRANSPARENT)
        .x_labels(5)
        .y_labels(5)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| {
            if top < 10.0 {
                format!("{y:.1}")
            } else {
                format!("{y:.0}")
            }
        })
        .draw()
        .map_err(owned)?;
    for (i, format) in formats.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let own = records.iter().filter(|record| record.format == *format);
        let points: Vec<(f64, f64)> = own
            .filter_map(|record| Some((f64::from(record.rows), micros(record)?)))
            .collect();
        let dots = points
            .iter()
            .map(|point| Circle::new(*point, 3, color.filled()));
        chart.draw_series(dots).map_err(owned)?;
        let line = LineSeries::new(points.iter().copied(), color.stroke_width(2));
        chart.draw_series(line).map_err(owned)?;
    }
    Ok(())
}

fn style(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// The drawing library's errors borrow nothing, but its types do.
fn owned(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
