//! Other programs beside ours.

use super::Report;
use super::part::Kind;
use super::steps::Step;
use serde_json::Value;

/// Rows of a table: op, shape, rows, context, ours, the other's, ours over the other's.
pub fn ops(report: &Report) -> Vec<[String; 7]> {
    let ours = Step::all(report, Kind::Bench);
    let others = Step::all(report, Kind::Compare);
    let row = |other: Step| {
        let own = ours.iter().find(|own| own.is_like(&other));
        [
            other.op.clone(),
            other.shape.clone(),
            other.rows.to_string(),
            other.context.to_string(),
            own.map_or_else(|| "-".to_owned(), Step::time),
            other.time(),
            own.map_or_else(
                || "-".to_owned(),
                |own| {
                    let mark = if own.is_estimate { "~" } else { "" };
                    format!("{mark}{:.2}", own.seconds / other.seconds)
                },
            ),
        ]
    };
    others.into_iter().map(row).collect()
}

/// Rows of a table: program and model, what was computed, tokens a second.
pub fn tokens(report: &Report) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    for part in report.parts.iter().filter(|part| part.kind == Kind::Tokens) {
        let Some(found) = &part.report else {
            continue;
        };
        let mut row = |what: String, rate: Option<f64>| {
            if let Some(rate) = rate {
                rows.push([part.name.clone(), what, format!("{rate:.1}")]);
            }
        };
        match found {
            // Of llama-bench: a prompt, an answer.
            Value::Array(tests) => {
                for test in tests {
                    let (prompt, answer) = (&test["n_prompt"], &test["n_gen"]);
                    row(
                        format!("prompt {prompt}, answer {answer}"),
                        test["avg_ts"].as_f64(),
                    );
                }
            }
            _ => {
                for (what, key) in [
                    ("prompt", "prefill_tokens_per_second"),
                    ("answer", "decode_tokens_per_second"),
                ] {
                    let rates = found[key].as_array().into_iter().flatten();
                    let mut rates: Vec<f64> = rates.filter_map(Value::as_f64).collect();
                    rates.sort_by(f64::total_cmp);
                    row(what.to_owned(), rates.get(rates.len() / 2).copied());
                }
            }
        }
    }
    rows
}
