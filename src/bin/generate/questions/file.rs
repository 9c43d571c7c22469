use crate::failure::Usage;
use crate::input;
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// MT-bench's categories, which Spec-Bench counts as one.
const MULTI_TURN: [&str; 8] = [
    "writing",
    "roleplay",
    "reasoning",
    "math",
    "coding",
    "extraction",
    "stem",
    "humanities",
];

/// A line of a question file; fields beside these are passed over.
#[derive(Debug, Clone, Deserialize)]
pub struct Question {
    pub question_id: Value,
    pub category: String,
    /// What the user says, one after the other.
    pub turns: Vec<String>,
}

impl Question {
    /// The category that it is counted in.
    pub fn group(&self) -> &str {
        match MULTI_TURN.contains(&self.category.as_str()) {
            true => "multi-turn",
            false => &self.category,
        }
    }

    /// Its id as people write it.
    pub fn name(&self) -> String {
        match &self.question_id {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        }
    }
}

/// Reads the questions of some categories (all if none are named), `most` of each.
pub fn read(path: &Path, categories: &[String], most: Option<usize>) -> Result<Vec<Question>> {
    let name = path.display();
    let text = input::read_text(path)?;
    let mut questions = Vec::new();
    for (line, text) in text.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let at = || format!("{name} line {}", line + 1);
        let question: Question = serde_json::from_str(text).with_context(at)?;
        if question.turns.is_empty() || question.turns.iter().any(String::is_empty) {
            anyhow::bail!("{}: a question without a turn, or with an empty one", at());
        }
        questions.push(question);
    }
    let named = |question: &Question, category: &String| {
        category == question.group() || *category == question.category
    };
    for category in categories {
        if !questions.iter().any(|question| named(question, category)) {
            let mut there: Vec<&str> = questions.iter().map(Question::group).collect();
            there.sort_unstable();
            there.dedup();
            let there = there.join(", ");
            return Err(Usage(format!(
                "--categories {category}: {name} has no such questions; there are {there}"
            ))
            .into());
        }
    }
    questions.retain(|question| {
        categories.is_empty() || categories.iter().any(|category| named(question, category))
    });
    if questions.is_empty() || most == Some(0) {
        return Err(Usage(format!("{name}: no questions are left to answer")).into());
    }
    Ok(match most {
        Some(most) => sample(questions, most),
        None => questions,
    })
}

/// The first `most` of each group, its categories by turns; in the order of the file.
fn sample(questions: Vec<Question>, most: usize) -> Vec<Question> {
    let mut seen = BTreeMap::<String, usize>::new();
    let mut groups = BTreeMap::<String, Vec<(usize, usize)>>::new();
    for (index, question) in questions.iter().enumerate() {
        let rank = seen.entry(question.category.clone()).or_default();
        let group = groups.entry(question.group().to_owned()).or_default();
        group.push((*rank, index));
        *rank += 1;
    }
    let mut kept = Vec::new();
    for mut group in groups.into_values() {
        group.sort_unstable();
        kept.extend(group.into_iter().take(most).map(|(_, index)| index));
    }
    kept.sort_unstable();
    let kept = |(index, question)| kept.binary_search(&index).is_ok().then_some(question);
    questions.into_iter().enumerate().filter_map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: &[(u32, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |(id, category): &(u32, &str)| {
            format!(r#"{{"question_id": {id}, "category": "{category}", "turns": ["x"]}}"#)
        };
        let lines: Vec<String> = lines.iter().map(line).collect();
        std::fs::write(file.path(), lines.join("\n\n")).unwrap();
        file
    }

    fn ids(questions: &[Question]) -> Vec<String> {
        questions.iter().map(Question::name).collect()
    }

    #[test]
    fn categories_are_grouped_filtered_and_sampled() {
        let file = file(&[
            (1, "writing"),
            (2, "writing"),
            (3, "math"),
            (4, "qa"),
            (5, "qa"),
        ]);
        let read = |categories: &[&str], most| {
            let categories: Vec<String> = categories.iter().map(|c| c.to_string()).collect();
            read(file.path(), &categories, most)
        };
        let all = read(&[], None).unwrap();
        assert_eq!(all[0].group(), "multi-turn");
        assert_eq!(all[3].group(), "qa");
        assert_eq!(ids(&read(&[], Some(2)).unwrap()), ["1", "3", "4", "5"]);
        assert_eq!(ids(&read(&["multi-turn"], None).unwrap()), ["1", "2", "3"]);
        assert_eq!(ids(&read(&["math", "qa"], Some(1)).unwrap()), ["3", "4"]);
        let error = read(&["rag"], None).unwrap_err().to_string();
        assert!(error.contains("there are multi-turn, qa"), "{error}");
        assert!(read(&[], Some(0)).unwrap_err().is::<Usage>());
    }
}
