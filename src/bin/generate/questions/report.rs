use super::file::Question;
use super::tally::Tally;
use crate::speculation_report::draft_to_json;
use serde_json::{Value, json};
use stheno::engine::{Engine, GenerateOptions};
use stheno::speculation::{Policy, SpeculationOptions};

/// A question with all of its turns answered both ways.
#[derive(Debug)]
pub struct Answered {
    pub question: Question,
    pub tally: Tally,
}

/// What was measured.
#[derive(Debug)]
pub struct Report {
    answers: Vec<Answered>,
    /// Questions that do not fit the context.
    pub skipped: usize,
    max_tokens: Option<usize>,
    temperature: f32,
    seed: u64,
    acceptance: String,
    /// Shape of the trees, or that it is chosen every round.
    tree: Value,
}

/// Columns of the table.
const HEADINGS: [&str; 10] = [
    "category",
    "questions",
    "tokens",
    "plain t/s",
    "draft t/s",
    "speed-up",
    "accept_len",
    "whole plain t/s",
    "whole draft t/s",
    "differing",
];

impl Report {
    pub fn new(options: &GenerateOptions, speculation: &SpeculationOptions) -> Self {
        Report {
            answers: Vec::new(),
            skipped: 0,
            max_tokens: options.max_tokens,
            temperature: options.sampling.temperature,
            seed: options.sampling.seed,
            acceptance: speculation.acceptance.to_string(),
            tree: match speculation.policy {
                Policy::Fixed(shape) => json!({
                    "num_steps": shape.num_steps,
                    "topk": shape.topk,
                    "num_draft_tokens": shape.num_draft_tokens,
                }),
                Policy::Automatic => "automatic".into(),
                Policy::Off => Value::Null,
            },
        }
    }

    pub fn push(&mut self, answered: Answered) {
        self.answers.push(answered);
    }

    /// Names of the questions whose answers differ.
    pub fn differing(&self) -> Vec<String> {
        let answers = self.answers.iter().filter(|a| a.tally.differing > 0);
        answers.map(|a| a.question.name()).collect()
    }

    /// Sums of the categories, in the order of the file.
    pub fn categories(&self) -> Vec<(&str, Tally)> {
        let mut sums: Vec<(&str, Tally)> = Vec::new();
        for answered in &self.answers {
            let group = answered.question.group();
            match sums.iter_mut().find(|(name, _)| *name == group) {
                Some((_, sum)) => sum.add(&answered.tally),
                None => sums.push((group, answered.tally.clone())),
            }
        }
        sums
    }

    fn overall(&self) -> Tally {
        let mut sum = Tally::default();
        self.answers.iter().for_each(|a| sum.add(&a.tally));
        sum
    }

    /// Times of decoding, then those with the prompts' counted.
    pub fn to_table(&self) -> String {
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(self.categories().iter().map(|(name, sum)| row(name, sum)));
        rows.push(row("overall", &self.overall()));
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max();
        let widths: Vec<usize> = (0..HEADINGS.len()).filter_map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(i, (cell, &width))| match i {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
            text += &cells.collect::<Vec<_>>().join("  ");
            text += "\n";
        }
        if self.skipped > 0 {
            text += &format!("skipped: {} (longer than the context)\n", self.skipped);
        }
        text
    }

    pub fn to_json(&self, engine: &Engine) -> Value {
        let categories = self.categories();
        let categories = categories
            .iter()
            .map(|(name, sum)| ((*name).to_owned(), sum.to_json()));
        let question = |answered: &Answered| {
            let mut object = answered.tally.to_json();
            object["question_id"] = answered.question.question_id.clone();
            object["category"] = answered.question.category.clone().into();
            object["group"] = answered.question.group().into();
            object
        };
        json!({
            "model": engine.path(),
            "draft": draft_to_json(engine),
            "tree": self.tree,
            "acceptance": self.acceptance,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "threads": engine.threads(),
            "activation_dtype": engine.precision().activation.to_string(),
            "skipped": self.skipped,
            "overall": self.overall().to_json(),
            "categories": categories.collect::<serde_json::Map<_, _>>(),
            "questions": self.answers.iter().map(question).collect::<Vec<_>>(),
        })
    }
}

fn row(name: &str, sum: &Tally) -> [String; HEADINGS.len()] {
    [
        name.to_owned(),
        sum.questions.to_string(),
        sum.speculative.tokens.to_string(),
        format!("{:.1}", sum.plain.rate()),
        format!("{:.1}", sum.speculative.rate()),
        format!("{:.2}x", sum.speed_up()),
        format!("{:.2}", sum.speculation.accept_len()),
        format!("{:.1}", sum.plain.whole_rate()),
        format!("{:.1}", sum.speculative.whole_rate()),
        sum.differing.to_string(),
    ]
}
