use crate::learner::Measure;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps made, this one among them.
    pub step: u64,
    /// Epochs seen, in parts.
    pub epoch: f64,
    /// Positions of answers seen since the run began.
    pub tokens: u64,
    /// Weighted sum of the losses.
    pub objective: f64,
    /// Mean loss of each step of the training-time test, or of each head.
    pub loss: Vec<f64>,
    /// Share of positions at which the best guess is right, likewise.
    pub accuracy: Vec<f64>,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Positions of answers per second of this step.
    pub tokens_per_second: f64,
    /// Time since the run began, over all sittings.
    pub seconds: f64,
}

/// An evaluation on what is held out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Steps made.
    pub step: u64,
    /// Examples that were evaluated.
    pub examples: usize,
    /// Weighted sum of the losses.
    pub objective: f64,
    /// Mean loss of each step of the training-time test, or of each head.
    pub loss: Vec<f64>,
    /// Share of positions at which the best guess is right, likewise.
    pub accuracy: Vec<f64>,
    /// `[step or head][rank]`: share of positions at which that guess is right.
    pub rank_accuracy: Vec<Vec<f64>>,
}

/// A line of a run's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Record {
    /// A step.
    Step(StepRecord),
    /// An evaluation.
    Evaluation(EvaluationRecord),
}

impl Record {
    fn step(&self) -> u64 {
        match self {
            Record::Step(record) => record.step,
            Record::Evaluation(record) => record.step,
        }
    }
}

impl EvaluationRecord {
    pub(super) fn new(step: u64, examples: usize, measures: &[Measure], weights: &[f64]) -> Self {
        EvaluationRecord {
            step,
            examples,
            objective: objective(measures, weights),
            loss: measures.iter().map(Measure::mean_loss).collect(),
            accuracy: measures.iter().map(Measure::accuracy).collect(),
            rank_accuracy: measures.iter().map(Measure::rank_accuracies).collect(),
        }
    }
}

pub(super) fn objective(measures: &[Measure], weights: &[f64]) -> f64 {
    let losses = measures.iter().map(Measure::mean_loss);
    losses
        .zip(weights)
        .map(|(loss, weight)| loss * weight)
        .sum()
}

/// Reads a run's log.
///
/// # Errors
/// If the file cannot be read or a line is no record.
pub fn read_log(path: &Path) -> Result<Vec<Record>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    // A killed run may leave half a line at the end.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().enumerate();
    let record = |(i, line)| {
        let record = serde_json::from_str(line);
        record.map_err(|e| Error::malformed(path, format!("line {}: {e}", i + 1)))
    };
    lines.map(record).collect()
}

/// A file of JSON lines.
pub(super) struct Log {
    path: PathBuf,
}

impl Log {
    /// A log that goes on after `step`: what an interrupted run wrote past its checkpoint comes again.
    pub fn after(path: PathBuf, step: u64) -> Result<Self> {
        let records = match path.exists() && step > 0 {
            true => read_log(&path)?,
            false => Vec::new(),
        };
        let mut kept = String::new();
        for record in records.iter().filter(|record| record.step() <= step) {
            kept += &line(&path, record)?;
        }
        let unfinished = path.with_extension("tmp");
        fs::write(&unfinished, kept).map_err(Error::io(&unfinished))?;
        fs::rename(&unfinished, &path).map_err(Error::io(&path))?;
        Ok(Log { path })
    }

    pub fn write(&self, record: &Record) -> Result<()> {
        let file = OpenOptions::new().append(true).open(&self.path);
        let mut file = file.map_err(Error::io(&self.path))?;
        let line = line(&self.path, record)?;
        file.write_all(line.as_bytes())
            .map_err(Error::io(&self.path))
    }
}

fn line(path: &Path, record: &Record) -> Result<String> {
    let json = serde_json::to_string(record);
    let json = json.map_err(|e| Error::malformed(path, e.to_string()))?;
    Ok(json + "\n")
}
