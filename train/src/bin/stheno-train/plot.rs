use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::io::Write;
use std::path::Path;
use stheno::engine::AtomicFile;
use stheno_train::{Record, read_log};

const SIZE: (u32, u32) = (760, 300);
/// Steps of a training-time test, or heads, from the first on.
const COLORS: [RGBColor; 5] = [
    RGBColor(0x3b, 0x6e, 0xa8),
    RGBColor(0xd0, 0x7a, 0x2d),
    RGBColor(0x4c, 0x95, 0x5b),
    RGBColor(0xa8, 0x4b, 0x6e),
    RGBColor(0x7a, 0x68, 0xb0),
];

/// One line of a plot: what is measured, and its values by step.
struct Curve {
    points: Vec<(f64, f64)>,
    color: RGBColor,
    /// Of what is held out, not of what is learnt from.
    held_out: bool,
}

/// Draws the log of a run into `training.svg` beside it: loss above, accuracy below.
pub fn write(run_dir: &Path) -> Result<()> {
    let log = read_log(&run_dir.join("log.jsonl"))?;
    let svg = draw(&log).context("the plot cannot be drawn")?;
    let path = run_dir.join("training.svg");
    let mut file = AtomicFile::create(&path)?;
    let written = file.write_all(svg.as_bytes());
    written.with_context(|| path.display().to_string())?;
    Ok(file.finish()?)
}

fn draw(log: &[Record]) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (SIZE.0, 2 * SIZE.1)).into_drawing_area();
        area.fill(&WHITE)?;
        let (above, below) = area.split_vertically(SIZE.1);
        let loss = curves(log, |record| match record {
            Record::Step(step) => (step.step, &step.loss),
            Record::Evaluation(evaluation) => (evaluation.step, &evaluation.loss),
        });
        chart(&above, "loss of each step ahead (dots: held out)", &loss)?;
        let accuracy = curves(log, |record| match record {
            Record::Step(step) => (step.step, &step.accuracy),
            Record::Evaluation(evaluation) => (evaluation.step, &evaluation.accuracy),
        });
        chart(
            &below,
            "accuracy of the best guess (dots: held out)",
            &accuracy,
        )?;
        area.present()?;
    }
    Ok(svg)
}

/// A curve for each step ahead, of steps and of evaluations. Steps are averaged, so that a plot has no more than 200 of them.
fn curves(log: &[Record], of: impl Fn(&Record) -> (u64, &Vec<f64>)) -> Vec<Curve> {
    let (steps, evaluations): (Vec<&Record>, Vec<&Record>) = log
        .iter()
        .partition(|record| matches!(record, Record::Step(_)));
    let ahead = log
        .iter()
        .map(|record| of(record).1.len())
        .max()
        .unwrap_or(0);
    let mut curves = Vec::new();
    for i in 0..ahead {
        let point = |record: &&Record| {
            let (step, values) = of(record);
            values.get(i).map(|value| (step as f64, *value))
        };
        let raw: Vec<(f64, f64)> = steps.iter().filter_map(point).collect();
        let mean = |points: &[(f64, f64)]| {
            let sum = points
                .iter()
                .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
            (sum.0 / points.len() as f64, sum.1 / points.len() as f64)
        };
        let points = raw.chunks(raw.len().div_ceil(200).max(1)).map(mean);
        let color = COLORS[i % COLORS.len()];
        curves.push(Curve {
            points: points.collect(),
            color,
            held_out: false,
        });
        curves.push(Curve {
            points: evaluations.iter().filter_map(point).collect(),
            color,
            held_out: true,
        });
    }
    curves
}

fn chart(area: &DrawingArea<SVGBackend<'_>, Shift>, caption: &str, curves: &[Curve]) -> Result<()> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let last = points().map(|(step, _)| *step).fold(1.0, f64::max);
    let top = points().map(|(_, value)| *value).fold(0.1, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(caption, ("sans-serif", 16))
        .x_label_area_size(28)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..last, 0.0..top)
        .map_err(owned)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .draw()
        .map_err(owned)?;
    for curve in curves {
        if curve.held_out {
            let dots = curve
                .points
                .iter()
                .map(|point| Circle::new(*point, 3, curve.color.filled()));
            chart.draw_series(dots).map_err(owned)?;
        } else {
            let line = LineSeries::new(curve.points.iter().copied(), curve.color.mix(0.7));
            chart.draw_series(line).map_err(owned)?;
        }
    }
    Ok(())
}

/// Errors of the backend borrow the text that is drawn into.
fn owned(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
