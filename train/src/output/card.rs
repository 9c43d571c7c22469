use crate::run::{EvaluationRecord, Outcome, RunSettings};
use serde_json::Value;
use std::fmt::Write;

/// What a model card says besides what the draft itself knows.
#[derive(Debug, Clone, Default)]
pub struct Card {
    /// Heading.
    pub title: String,
    /// Name of the target, on the hub if it is there.
    pub base_model: String,
    /// Licence, as the hub abbreviates it.
    pub license: Option<String>,
    /// What it was trained on, in Markdown.
    pub data: String,
    /// How it was trained.
    pub run: RunSettings,
    /// How that went.
    pub outcome: Option<Outcome>,
    /// Anything else, in Markdown: acceptance as the engine measures it.
    pub more: String,
}

impl Card {
    /// The text of README.md; `kind` is `EAGLE-3 layer` or `Medusa heads`, `settings` the learner's.
    pub(super) fn render(&self, kind: &str, settings: &Value) -> String {
        let mut text = format!("---\nbase_model: {}\n", self.base_model);
        if let Some(license) = &self.license {
            text += &format!("license: {license}\n");
        }
        text += "tags:\n- speculative-decoding\n---\n\n";
        text += &format!(
            "# {}\n\n{kind} for `{}`, trained with `stheno-train`.\n\n## Data\n\n{}\n\n## Training\n\n",
            self.title,
            self.base_model,
            self.data.trim()
        );
        text += "| setting | value |\n|---|---|\n";
        let run = serde_json::to_value(&self.run).unwrap_or_default();
        for (name, settings) in [("", settings), ("", &run)] {
            rows(&mut text, name, settings);
        }
        if let Some(outcome) = &self.outcome {
            let _ = write!(
                text,
                "\n{} steps over {} positions of answers took {:.0} minutes.\n",
                outcome.step,
                outcome.tokens,
                outcome.seconds / 60.0
            );
            if let Some(evaluation) = &outcome.evaluation {
                text += &table(evaluation);
            }
        }
        if !self.more.trim().is_empty() {
            text += &format!("\n{}\n", self.more.trim());
        }
        text
    }
}

/// Leaves of a JSON value as rows of a table.
fn rows(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = match name {
                    "" => key.clone(),
                    name => format!("{name}.{key}"),
                };
                rows(text, &name, value);
            }
        }
        Value::Null => {}
        Value::String(value) => *text += &format!("| {name} | {value} |\n"),
        value => *text += &format!("| {name} | {value} |\n"),
    }
}

fn table(evaluation: &EvaluationRecord) -> String {
    let mut text = format!(
        "\nOn {} examples that were held out:\n\n| ahead | loss | best guess right | among the best three |\n|---|---|---|---|\n",
        evaluation.examples
    );
    let all = evaluation.loss.iter().zip(&evaluation.accuracy);
    for (i, ((loss, accuracy), ranks)) in all.zip(&evaluation.rank_accuracy).enumerate() {
        let three: f64 = ranks.iter().take(3).sum();
        let _ = writeln!(
            text,
            "| {} | {loss:.3} | {:.1} % | {:.1} % |",
            i + 1,
            100.0 * accuracy,
            100.0 * three
        );
    }
    text
}
