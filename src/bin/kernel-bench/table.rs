use crate::rates::Rates;
use crate::record::Record;

const TITLES: [&str; 12] = [
    "op",
    "shape",
    "format",
    "rows",
    "unique B",
    "weights B",
    "instr",
    "mma",
    "conflicts",
    "regs",
    "time",
    "GB/s",
];

/// Columns of text, numbers to the right. Estimates are marked by `~`, from the slowest resource alone to all edges exposed.
pub fn table(records: &[Record], rates: Option<&Rates>) -> String {
    let rows: Vec<[String; 12]> = records.iter().map(|record| row(record, rates)).collect();
    let mut widths = TITLES.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; 12]| {
        let mut line = String::new();
        for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
            line += &match i < 3 {
                true => format!("{cell:<width$}  "),
                false => format!("{cell:>width$}  "),
            };
        }
        format!("{}\n", line.trim_end())
    };
    let mut text = line(&TITLES.map(str::to_owned));
    rows.iter().for_each(|row| text += &line(row));
    if records.iter().any(Record::is_estimate) {
        text += "~ estimate for an H100 SXM from counted work: the slowest resource alone, to all edges exposed; no GPU ran it\n";
    }
    text
}

fn row(record: &Record, rates: Option<&Rates>) -> [String; 12] {
    let counted = |of: fn(&crate::counters::Counted) -> u64| {
        let counted = record.counters.as_ref().map(of);
        counted.map_or_else(|| "-".to_owned(), short)
    };
    let op = match record.op.sees_context() {
        true => format!("{} @{}", record.op, record.context),
        false => record.op.to_string(),
    };
    [
        op,
        record.shape.clone(),
        record.format.clone(),
        record.rows.to_string(),
        counted(|counted| counted.unique_read_bytes),
        short(record.streamed_bytes),
        counted(|counted| counted.warp_instructions),
        counted(|counted| counted.mma),
        counted(|counted| counted.bank_conflicts),
        match &record.compiler {
            Some(report) if report.spill_stores + report.spill_loads > 0 => {
                format!("{} (spills)", report.registers)
            }
            Some(report) => report.registers.to_string(),
            None => "-".to_owned(),
        },
        time(record),
        rate(record, rates),
    ]
}

fn time(record: &Record) -> String {
    match (&record.time, &record.estimate) {
        (Some(time), _) => {
            let spread = (time.most - time.least) / 2.0;
            let cublas = record.cublas.map_or_else(String::new, |cublas| {
                format!(" (cuBLAS {:.1})", 1e6 * cublas.median)
            });
            format!("{:.1} ±{:.1} us{cublas}", 1e6 * time.median, 1e6 * spread)
        }
        (None, Some(estimate)) => format!(
            "~{:.1}..{:.1} us {}",
            1e6 * estimate.least,
            1e6 * estimate.most,
            estimate.bound
        ),
        (None, None) => "-".to_owned(),
    }
}

/// Of weights alone, against the copy rate where it was measured.
fn rate(record: &Record, rates: Option<&Rates>) -> String {
    let Some(seconds) = record.seconds().filter(|seconds| *seconds > 0.0) else {
        return "-".to_owned();
    };
    if record.streamed_bytes == 0 {
        return "-".to_owned();
    }
    let rate = record.streamed_bytes as f64 / seconds;
    let mark = if record.is_estimate() { "~" } else { "" };
    match rates {
        Some(rates) => format!(
            "{mark}{:.0} ({:.0} %)",
            rate / 1e9,
            100.0 * rate / rates.copy
        ),
        None => format!("{mark}{:.0}", rate / 1e9),
    }
}

/// Three digits or so, with a suffix of thousands.
fn short(number: u64) -> String {
    let value = number as f64;
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1}k", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}M", value / 1e6),
        _ => format!("{:.2}G", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shorts = [0, 9999, 10_000, 1_234_567, 2_500_000_000].map(short);
        assert_eq!(shorts, ["0", "9999", "10.0k", "1.23M", "2.50G"]);
    }
}
