use crate::accept;
use crate::args::RunArgs;
use crate::bench::{Bench, Measured, Program};
use crate::cases::{BenchOp, DRAFT_WIDTH};
use crate::estimate::H100;
use crate::failure::{Usage, print};
use crate::place::Place;
use crate::plot;
use crate::rates::Rates;
use crate::record::Record;
use crate::shape::Shape;
use crate::table::table;
use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use stheno::device::Cublas;
use stheno::draft::RandomDraft;
use stheno::engine::AtomicFile;
use stheno::model::RandomFormat;
use stheno_codegen::jit::Cache;
use stheno_codegen::tune::ROW_LAYOUTS;

/// Rows of one call, at most.
const MAX_ROWS: u32 = 64;

/// Layers of a model that are run on the virtual GPU: the first is like all others, the last works on output rows.
const VIRTUAL_LAYERS: u32 = 2;

/// Formats of the drafts of `--all-small`: each takes two programs more.
const SMALL_DRAFT_FORMATS: [RandomFormat; 2] = [RandomFormat::Bf16, RandomFormat::Int4];

/// `kernel-bench run`.
pub fn run(args: &RunArgs) -> Result<()> {
    check(args)?;
    let start = Instant::now();
    let place = Place::open(args)?;
    let is_virtual = place.counters.is_some();
    let programs = programs(args, is_virtual)?;
    let cache = Cache::default_directory().map(Cache::open).transpose();
    let rates = match is_virtual {
        true => None,
        false => Some(Rates::measure(&place.context, args.iterations)?),
    };
    let bench = Bench {
        cublas: Cublas::find(&place.context),
        // Without a place to keep them, kernels are compiled anew.
        cache: cache.ok().flatten(),
        place,
        measurements: args.iterations,
        edge_seconds: args.edge_us * 1e-6,
    };
    let records = measure(&bench, &programs)?;
    if records.is_empty() {
        bail!(Usage(
            "no shape has any of the ops; matmul is of NxK, all others but choices and embed are of models".into()
        ));
    }
    let mut text = device_line(&bench, rates.as_ref());
    text += &table(&records, rates.as_ref());
    let accept_lens = args.simulate_accept_len.iter();
    let acceptance: Vec<_> = accept_lens
        .flat_map(|accept_len| accept::simulate(&records, *accept_len))
        .collect();
    text += &accept::table(&acceptance);
    print(&text)?;
    if let Some(path) = &args.json {
        let facts = bench.place.context.facts();
        let report = json!({
            "format": 1,
            "version": env!("CARGO_PKG_VERSION"),
            "date": jiff::Zoned::now().date().to_string(),
            "seconds": start.elapsed().as_secs_f64(),
            "device": {
                "name": device_name(&bench),
                "is_virtual": facts.is_virtual,
                "compute_capability": facts.compute_capability,
                "sms": facts.sm_count,
                "l2_bytes": facts.l2_bytes,
                "driver_version": facts.driver_version,
            },
            "rates": rates,
            "estimate": {
                "note": "seconds of an H100 SXM from counted work; no GPU ran it",
                "machine": H100,
                "edge_seconds": bench.edge_seconds,
            },
            "records": records,
            "acceptance": acceptance,
        });
        write(path, format!("{report:#}\n").as_bytes())?;
    }
    if let Some(path) = &args.plot {
        let title = match is_virtual {
            true => "estimate for an H100 SXM, all edges hidden",
            false => "median of measurements",
        };
        write(path, plot::draw(&records, title)?.as_bytes())?;
    }
    Ok(())
}

fn check(args: &RunArgs) -> Result<()> {
    let fault = if args.rows.iter().any(|rows| !(1..=MAX_ROWS).contains(rows)) {
        format!("--rows: a call has 1 to {MAX_ROWS} rows")
    } else if args.iterations == 0 {
        "--iterations must be at least 1".to_owned()
    } else if args.sms == Some(0) {
        "--sms must be at least 1".to_owned()
    } else if args.layout.is_some_and(|rows| !ROW_LAYOUTS.contains(&rows)) {
        "--layout: programs are laid out for 8, 16, 32 or 64 rows".to_owned()
    } else if let (Some(layout), Some(rows)) = (args.layout, args.rows.iter().max())
        && *rows > layout
    {
        format!("--rows {rows}: a program laid out for {layout} rows takes no more")
    } else if args.context.iter().any(|context| *context > 1 << 20) {
        format!("--context: at most {} positions", 1 << 20)
    } else if !(args.edge_us >= 0.0 && args.edge_us <= 1e6) {
        "--edge-us: microseconds, 0 or more".to_owned()
    } else if args
        .simulate_accept_len
        .iter()
        .any(|x| !(1.0..=64.0).contains(x))
    {
        "--simulate-accept-len: a round gives 1 token or more, at most its rows".to_owned()
    } else {
        return Ok(());
    };
    Err(Usage(fault).into())
}

/// The programs that are needed: one for each shape, format and layout.
fn programs(args: &RunArgs, is_virtual: bool) -> Result<Vec<Program>> {
    let mut ops: Vec<BenchOp> = args
        .op
        .iter()
        .flat_map(|name| name.0.iter().copied())
        .collect();
    let mut seen = Vec::new();
    ops.retain(|op| !seen.contains(op) && (seen.push(*op), true).1);
    let (shapes, formats, contexts): (Vec<Shape>, Vec<RandomFormat>, Vec<u32>) =
        match args.all_small {
            true => (
                vec!["smollm2-135m".parse()?],
                RandomFormat::ALL.to_vec(),
                vec![512],
            ),
            false => (
                args.shape.clone(),
                args.format.clone(),
                args.context.clone(),
            ),
        };
    let layout_of = |rows: u32| match (args.layout, args.all_small) {
        (Some(layout), _) => layout,
        // Two layouts, so that there is half as much to compile.
        (None, true) => {
            if rows <= 8 {
                8
            } else {
                64
            }
        }
        (None, false) => rows.next_multiple_of(8).next_power_of_two(),
    };
    let mut programs: Vec<Program> = Vec::new();
    for &shape in &shapes {
        let layers = shape.layers(args.layers)?;
        let layers_run = match is_virtual {
            true => layers.min(VIRTUAL_LAYERS),
            false => layers,
        };
        for &format in &formats {
            let program = |layout_rows, rows, draft, ops| Program {
                shape,
                layers,
                layers_run,
                format,
                layout_rows,
                rows,
                contexts: contexts.clone(),
                draft,
                ops,
            };
            let own: Vec<BenchOp> = ops.iter().copied().filter(|op| !op.is_draft()).collect();
            for layout_rows in ROW_LAYOUTS {
                let rows = args.rows.iter().copied();
                let rows: Vec<u32> = rows
                    .filter(|rows| layout_of(*rows) == layout_rows)
                    .collect();
                if !rows.is_empty() && !own.is_empty() {
                    programs.push(program(layout_rows, rows, None, own.clone()));
                }
            }
            // A matrix has no drafts.
            if layers == 0 || args.all_small && !SMALL_DRAFT_FORMATS.contains(&format) {
                continue;
            }
            let mut drafts: Vec<RandomDraft> = Vec::new();
            for draft in ops.iter().filter_map(|op| op.draft()) {
                if drafts.contains(&draft) {
                    continue;
                }
                drafts.push(draft);
                let of_draft = ops.iter().filter(|op| op.draft() == Some(draft));
                programs.push(Program {
                    // Nothing of the model runs.
                    layers_run: 1,
                    ..program(
                        args.layout.unwrap_or(DRAFT_WIDTH),
                        Vec::new(),
                        Some(draft),
                        of_draft.copied().collect(),
                    )
                });
            }
        }
    }
    Ok(programs)
}

fn measure(bench: &Bench, programs: &[Program]) -> Result<Vec<Record>> {
    let bar =
        ProgressBar::with_draw_target(Some(programs.len() as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    let mut records = Vec::new();
    let mut last: Option<Measured> = None;
    for program in programs {
        let (shape, format) = (program.shape, program.format);
        let name = match program.ops.first().filter(|_| program.draft.is_some()) {
            Some(op) => format!("{op} of {shape} {format}"),
            None => format!("{shape} {format} for {} rows", program.layout_rows),
        };
        let progress = |what: &str| bar.set_message(format!("{name}: {what}"));
        let measured = bench.run(program, &progress);
        let measured = measured.with_context(|| name.clone())?;
        // One program is measured while the one before it is reported on.
        if let Some(before) = last.replace(measured) {
            records.extend(before.finish()?);
        }
        bar.inc(1);
    }
    bar.set_message("waiting for the compiler's report");
    if let Some(last) = last {
        records.extend(last.finish()?);
    }
    bar.finish_and_clear();
    let order = |record: &Record| {
        let op = BenchOp::ALL.iter().position(|op| *op == record.op);
        let format = programs
            .iter()
            .position(|p| p.format.to_string() == record.format);
        let shape = programs
            .iter()
            .position(|p| p.shape.to_string() == record.shape);
        (shape, op, format, record.context, record.rows)
    };
    records.sort_by_key(order);
    Ok(records)
}

fn device_name(bench: &Bench) -> String {
    bench.place.context.facts().name.clone()
}

fn device_line(bench: &Bench, rates: Option<&Rates>) -> String {
    let sms = bench.place.context.facts().sm_count;
    let rates = rates.map_or_else(String::new, |rates| {
        format!(
            ", copies at {:.0} GB/s, reads at {:.0} GB/s",
            rates.copy / 1e9,
            rates.read / 1e9
        )
    });
    let cublas = if bench.cublas.is_some() {
        ", cuBLAS found"
    } else {
        ""
    };
    format!(
        "{}, {sms} multiprocessors{rates}{cublas}\n",
        device_name(bench)
    )
}

pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    let written = file.write_all(bytes);
    written.with_context(|| format!("{}", path.display()))?;
    Ok(file.finish()?)
}
