use crate::cases::BenchOp;
use crate::record::Record;
use serde::Serialize;

/// What rounds of verification would make of a mean number of tokens a round, without the cost of guessing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Acceptance {
    pub shape: String,
    pub layers: u32,
    pub format: String,
    pub context: u32,
    /// Rows of a round.
    pub rows: u32,
    /// Tokens that a round gives.
    pub accept_len: f64,
    /// Seconds of a round, and of a step of one row.
    pub round: f64,
    pub step: f64,
    /// `round / step`.
    pub cost: f64,
    pub tokens_per_second: f64,
    /// Against steps of one row.
    pub speed_up: f64,
    /// Whether times are estimates.
    pub is_estimate: bool,
}

/// A line for each number of rows above 1 of each whole step of which one row was measured too.
pub fn simulate(records: &[Record], accept_len: f64) -> Vec<Acceptance> {
    let steps: Vec<&Record> = records
        .iter()
        .filter(|record| record.op == BenchOp::Step)
        .collect();
    let same = |a: &Record, b: &Record| {
        (&a.shape, a.layers, &a.format, a.context) == (&b.shape, b.layers, &b.format, b.context)
    };
    let simulated = steps.iter().filter_map(|record| {
        // No round gives more tokens than it has rows.
        if record.rows == 1 || accept_len > f64::from(record.rows) {
            return None;
        }
        let mut single = steps.iter().filter(|other| other.rows == 1);
        let single = single.find(|other| same(other, record))?;
        let (round, step) = (record.seconds()?, single.seconds()?);
        Some(Acceptance {
            shape: record.shape.clone(),
            layers: record.layers,
            format: record.format.clone(),
            context: record.context,
            rows: record.rows,
            accept_len,
            round,
            step,
            cost: round / step,
            tokens_per_second: accept_len / round,
            speed_up: accept_len * step / round,
            is_estimate: record.is_estimate(),
        })
    });
    simulated.collect()
}

pub fn table(list: &[Acceptance]) -> String {
    let mut text = String::new();
    for line in list {
        let what = if line.is_estimate { ", estimate" } else { "" };
        text += &format!(
            "{} ({} layers) {}, context {}: a round of {} rows costs {:.2} steps; at {} tokens a round {:.0} tokens/s, {:.2} \
             times as many{what}\n",
            line.shape,
            line.layers,
            line.format,
            line.context,
            line.rows,
            line.cost,
            line.accept_len,
            line.tokens_per_second,
            line.speed_up
        );
    }
    text
}
