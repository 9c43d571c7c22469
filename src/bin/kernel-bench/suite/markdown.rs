//! The report that a person reads in a minute.

use super::part::{Kind, Part, Status};
use super::steps::Step;
use super::{Report, compared};
use serde_json::Value;

/// Measurements of the probe that are shown beside its verdicts, by the beginning of their names.
const PROBED: [&str; 7] = [
    "copy_best",
    "read_",
    "ring_8x16KiB",
    "edge_streaming_counter",
    "host_round_trip",
    "mma_bf16",
    "clock_ring",
];

/// The whole report.
pub fn of(report: &Report) -> String {
    let mut text = head(report);
    text += &verdicts(report);
    text += "\n## Parts\n\n";
    let rows = report.parts.iter().map(part);
    text += &table(&["part", "", "s", ""], rows.collect());
    text += &steps(report);
    text += &rounds(report);
    text += &bits(report);
    let compared = compared::ops(report);
    if !compared.is_empty() {
        text += "\n## Beside other programs\n\n";
        let titles = [
            "op",
            "shape",
            "rows",
            "context",
            "ours, us",
            "theirs, us",
            "ours / theirs",
        ];
        text += &table(&titles, compared);
    }
    let tokens = compared::tokens(report);
    if !tokens.is_empty() {
        text += "\n## Tokens a second\n\n";
        text += &table(&["program", "", "tokens/s"], tokens);
    }
    text
}

fn head(report: &Report) -> String {
    let device = report.device.as_ref();
    let smi = report.nvidia_smi.as_ref();
    let smi = smi.and_then(|csv| csv.lines().last());
    let name = device
        .and_then(|device| device["name"].as_str())
        // Where only tests ran, no part says it.
        .or_else(|| smi.and_then(|line| line.split(',').next()));
    let driver = device.and_then(|device| device["driver_version"].as_u64());
    let driver = driver.map_or_else(String::new, |driver| {
        format!(", driver of CUDA {}.{}", driver / 1000, driver % 1000 / 10)
    });
    let quick = if report.quick { ", quick" } else { "" };
    let mut text = format!(
        "# GPU suite: {}\n\n{}, {}{driver}{quick}; version {}.\n\n",
        name.unwrap_or("unknown device"),
        report.date,
        report.asked,
        report.version
    );
    if let Some(line) = smi {
        text += &format!("nvidia-smi: {line}\n\n");
    }
    if report.is_virtual {
        text += "**The results are of a virtual GPU. No time and no rate here is one of a GPU; numbers with ~ are estimates.**\n\n";
    }
    let bad: Vec<&str> = report.failures().map(|part| part.name.as_str()).collect();
    text += &match bad.is_empty() {
        true => "**Passed.**\n".to_owned(),
        false => format!("**Failed: {}.**\n", bad.join(", ")),
    };
    text
}

fn verdicts(report: &Report) -> String {
    let probe = report.parts.iter().find(|part| part.kind == Kind::Probe);
    let Some(probe) = probe.and_then(|probe| probe.report.as_ref()) else {
        return String::new();
    };
    let mut rows = Vec::new();
    let number = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |x| format!("{x:.2}"))
    };
    for verdict in probe["verdicts"].as_array().into_iter().flatten() {
        let answer = match (verdict["go"].as_bool(), verdict["why_not"].as_str()) {
            (Some(true), _) => "**GO**".to_owned(),
            (Some(false), _) => "**NO GO**".to_owned(),
            (None, why) => format!("no verdict: {}", why.unwrap_or("not said")),
        };
        let condition = verdict["condition"].as_str().unwrap_or("?").to_owned();
        rows.push([condition, number(&verdict["measured"]), answer]);
    }
    for row in probe["rows"].as_array().into_iter().flatten() {
        let name = row["name"].as_str().unwrap_or_default();
        if PROBED.iter().any(|start| name.starts_with(start)) {
            let unit = row["unit"].as_str().unwrap_or("?");
            let share = row["share_of_copy"].as_f64();
            let share = share.map_or_else(String::new, |x| format!(", {:.1} % of copy", 100.0 * x));
            rows.push([
                name.to_owned(),
                number(&row["median"]),
                format!("{unit}{share}"),
            ]);
        }
    }
    format!("\n## Probe\n\n{}", table(&["", "measured", ""], rows))
}

fn part(part: &Part) -> [String; 4] {
    let status = match part.status {
        Status::Passed => "passed",
        Status::Failed => "**failed**",
        Status::TimedOut => "**timed out**",
        Status::Skipped => "skipped",
    };
    let tests = part
        .tests
        .as_ref()
        .map(|tests| format!("{} passed, {} failed", tests.passed, tests.failed.len()));
    let bits = part.bits.as_ref();
    let bits = bits.map(|bits| format!("{} of {} bytes differ", bits.differing, bits.bytes));
    let said = [tests, bits, part.why.clone()];
    let said: Vec<String> = said.into_iter().flatten().collect();
    [
        part.name.clone(),
        status.to_owned(),
        format!("{:.0}", part.seconds),
        said.join("; "),
    ]
}

fn steps(report: &Report) -> String {
    let steps = Step::all(report, Kind::Bench);
    let is_call = |step: &&Step| {
        matches!(step.op.as_str(), "step" | "tree-verify") || step.op.starts_with("draft-")
    };
    let rows = steps.iter().filter(is_call).map(|step| {
        [
            format!("{} ({} layers)", step.shape, step.layers),
            step.format.clone(),
            step.rows.to_string(),
            step.context.to_string(),
            step.time(),
            step.rate(),
            step.share(),
            step.op.clone(),
        ]
    });
    let titles = [
        "of",
        "format",
        "rows",
        "context",
        "us",
        "GB/s of weights",
        "of measured copy",
        "call",
    ];
    section("Steps", &titles, rows.collect())
}

fn rounds(report: &Report) -> String {
    let reports = report.parts.iter().filter_map(|part| part.report.as_ref());
    let lines = reports.filter_map(|report| report["acceptance"].as_array());
    let rows = lines.flatten().map(|line| {
        let text = |key: &str| line[key].as_str().unwrap_or("?").to_owned();
        let number = |key: &str, digits: usize| {
            let number = line[key].as_f64();
            number.map_or_else(|| "-".to_owned(), |x| format!("{x:.digits$}"))
        };
        let mark = if line["is_estimate"] == true { "~" } else { "" };
        let kept = line["speed_up"].as_f64().zip(line["accept_len"].as_f64());
        let kept = kept.map_or_else(
            || "-".to_owned(),
            |(gain, length)| format!("{mark}{:.0} %", 100.0 * gain / length),
        );
        [
            text("shape"),
            text("format"),
            number("rows", 0),
            number("context", 0),
            number("accept_len", 1),
            format!("{mark}{}", number("tokens_per_second", 0)),
            format!("{mark}{}", number("speed_up", 2)),
            kept,
            line["draft"].as_str().unwrap_or("not counted").to_owned(),
            text("verify"),
        ]
    });
    let titles = [
        "round of",
        "format",
        "rows",
        "context",
        "tokens a round",
        "tokens/s",
        "times plain",
        "share of tokens that is gain",
        "draft",
        "verified by",
    ];
    section("Rounds", &titles, rows.collect())
}

fn bits(report: &Report) -> String {
    let all: Vec<_> = report
        .parts
        .iter()
        .filter_map(|part| part.bits.as_ref())
        .collect();
    if all.is_empty() {
        return String::new();
    }
    let bytes: u64 = all.iter().map(|bits| bits.bytes).sum();
    let kernels = all.iter().flat_map(|bits| &bits.lines);
    let mut names: Vec<&str> = kernels.clone().map(|line| line.kernels.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let wrong = kernels.filter(|line| line.differing > 0).map(|line| {
        [
            line.kernels.clone(),
            line.test.clone().unwrap_or_default(),
            line.bytes.to_string(),
            line.differing.to_string(),
        ]
    });
    let wrong: Vec<_> = wrong.collect();
    let text = format!(
        "\n## Bits of ops\n\n{bytes} bytes of results of {} kernels were compared with those of the virtual GPU",
        names.len()
    );
    match wrong.is_empty() {
        true => text + "; all are equal.\n",
        false => {
            let titles = ["kernel", "test", "bytes", "differ"];
            format!("{text}; in these some differ.\n\n{}", table(&titles, wrong))
        }
    }
}

/// A section with a table; nothing without rows.
fn section<const N: usize>(title: &str, titles: &[&str; N], rows: Vec<[String; N]>) -> String {
    match rows.is_empty() {
        true => String::new(),
        false => format!("\n## {title}\n\n{}", table(titles, rows)),
    }
}

/// A table in Markdown.
fn table<const N: usize>(titles: &[&str; N], rows: Vec<[String; N]>) -> String {
    let mut text = format!("| {} |\n|{}\n", titles.join(" | "), "---|".repeat(N));
    for row in rows {
        // A cell is one line, and a bar ends it.
        let row = row.map(|cell| cell.replace('|', "\\|").replace(['\n', '\r'], " "));
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}
