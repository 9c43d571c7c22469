//! The loop: examples in a shuffled order, optimizer steps, evaluation, log, and checkpoints from which a run goes on as if
//! it had never stopped.

mod checkpoint;
mod log;
mod settings;

pub use log::{EvaluationRecord, Record, StepRecord, read_log};
pub use settings::{HeldOut, RunSettings};

use crate::learner::{Learner, Measure};
use crate::optimizer::AdamW;
use crate::parameters::Gradients;
use crate::{Error, Example, Features, Result, Source};
use checkpoint::State;
use log::{Log, objective};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What a run tells while it goes.
#[derive(Debug)]
pub enum Progress<'a> {
    /// It begins, or goes on, after `step` of `total` steps.
    Start {
        /// Steps made.
        step: u64,
        /// Steps of the whole run.
        total: u64,
        /// Examples for training.
        examples: usize,
        /// Examples held out.
        held_out: usize,
    },
    /// Examples are done of a batch of as many.
    Example {
        /// Examples of the batch that are done.
        done: usize,
        /// Examples of the batch.
        batch: usize,
    },
    /// A step is done.
    Step(&'a StepRecord),
    /// An evaluation is done.
    Evaluation(&'a EvaluationRecord),
    /// A checkpoint is written.
    Checkpoint(&'a Path),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Whether all steps are done; otherwise it was stopped and can be resumed.
    pub finished: bool,
    /// Steps made.
    pub step: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// Positions of answers seen.
    pub tokens: u64,
    /// Time of training, over all sittings.
    pub seconds: f64,
    /// The last evaluation, if the run is finished and something is held out.
    pub evaluation: Option<EvaluationRecord>,
}

/// Trains `learner` on `source` and keeps `log.jsonl` and `checkpoints/` in `dir`. With `resume` it goes on from the newest
/// checkpoint there, if there is one; the parameters that come out are those of a run that never stopped, bit for bit, with
/// the same number of threads. It ends with a checkpoint after the step in which `stop` is set.
///
/// # Errors
/// If an example or a file cannot be read or written, `dir` has a run and `resume` is false, or the run there has other
/// settings.
pub fn run(
    learner: &mut dyn Learner,
    source: &mut dyn Source,
    settings: &RunSettings,
    dir: &Path,
    resume: bool,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Outcome> {
    if settings.batch == 0 {
        return Err(Error::Invalid(
            "a batch has at least one example".to_owned(),
        ));
    }
    let (training, held_out) = settings.held_out.split(source.len());
    if training.is_empty() {
        return Err(Error::Invalid(format!(
            "none of {} examples is left for training",
            source.len()
        )));
    }
    let checkpoints = dir.join("checkpoints");
    std::fs::create_dir_all(&checkpoints).map_err(Error::io(&checkpoints))?;
    let mut run = Run {
        optimizer: AdamW::new(settings.optimizer.clone(), learner.parameters()),
        state: State {
            step: 0,
            epoch: 0,
            position: 0,
            tokens: 0,
            seconds: 0.0,
            updates: 0,
            run: settings.deciding(),
            learner: learner.settings(),
            examples: source.len(),
        },
        total: settings.total_steps(training.len()),
        checkpoints,
        learner,
        source,
        settings,
    };
    run.restore(resume)?;
    let log = Log::after(dir.join("log.jsonl"), run.state.step)?;
    progress(Progress::Start {
        step: run.state.step,
        total: run.total,
        examples: training.len(),
        held_out: held_out.len(),
    });
    let begun = run.state.step;
    let start = Instant::now();
    let mut order = settings::order(&training, settings.seed, run.state.epoch);
    let mut saved = None;
    while run.state.step < run.total {
        if run.state.position >= order.len() {
            run.state.epoch += 1;
            run.state.position = 0;
            order = settings::order(&training, settings.seed, run.state.epoch);
        }
        let record = run.step(&order, progress)?;
        let step = run.state.step;
        let due = |every: Option<u64>| every.is_some_and(|n| n > 0 && step.is_multiple_of(n));
        progress(Progress::Step(&record));
        log.write(&Record::Step(record))?;
        if due(settings.evaluate_every) && step < run.total && !held_out.is_empty() {
            let record = run.evaluate(&held_out)?;
            progress(Progress::Evaluation(&record));
            log.write(&Record::Evaluation(record))?;
        }
        let late = settings
            .max_seconds
            .is_some_and(|most| start.elapsed().as_secs_f64() >= most);
        let stops = late || stop.load(Ordering::Relaxed);
        if due(settings.checkpoint_every) || stops || step >= run.total {
            let path = run.save()?;
            progress(Progress::Checkpoint(&path));
            saved = Some(step);
        }
        if stops {
            break;
        }
    }
    if saved.is_none() && run.state.step == 0 {
        run.save()?;
    }
    let finished = run.state.step >= run.total;
    let evaluation = match finished && !held_out.is_empty() {
        true => {
            let record = run.evaluate(&held_out)?;
            progress(Progress::Evaluation(&record));
            // A finished run that is resumed has it already.
            if begun < run.total {
                log.write(&Record::Evaluation(record.clone()))?;
            }
            Some(record)
        }
        false => None,
    };
    Ok(Outcome {
        finished,
        step: run.state.step,
        total: run.total,
        tokens: run.state.tokens,
        seconds: run.state.seconds,
        evaluation,
    })
}

/// Takes up the parameters of the newest checkpoint in the `dir` of a run, finished or not. Returns the steps made, or
/// `None` if there is no checkpoint.
///
/// # Errors
/// If the checkpoint is of another draft, or cannot be read.
pub fn restore(learner: &mut dyn Learner, dir: &Path) -> Result<Option<u64>> {
    let Some(path) = checkpoint::newest(&dir.join("checkpoints"))? else {
        return Ok(None);
    };
    let state = checkpoint::state(&path)?;
    if state.learner != learner.settings() {
        return Err(Error::Invalid(format!(
            "{} is of a run with another draft",
            path.display()
        )));
    }
    let mut optimizer = AdamW::new(state.run.optimizer.clone(), learner.parameters());
    checkpoint::read_tensors(&path, &state, learner.parameters_mut(), &mut optimizer)?;
    Ok(Some(state.step))
}

struct Run<'a> {
    learner: &'a mut dyn Learner,
    source: &'a mut dyn Source,
    settings: &'a RunSettings,
    optimizer: AdamW,
    state: State,
    total: u64,
    checkpoints: PathBuf,
}

impl Run<'_> {
    /// Takes up the newest checkpoint.
    fn restore(&mut self, resume: bool) -> Result<()> {
        let Some(path) = checkpoint::newest(&self.checkpoints)? else {
            return Ok(());
        };
        if !resume {
            return Err(Error::Invalid(format!(
                "{} is of an earlier run; resume it, or train into another directory",
                path.display()
            )));
        }
        let state = checkpoint::state(&path)?;
        let now = &self.state;
        let same = [
            ("other training settings", state.run == now.run),
            ("another draft", state.learner == now.learner),
            ("another number of examples", state.examples == now.examples),
        ];
        if let Some((what, _)) = same.iter().find(|(_, same)| !same) {
            return Err(Error::Invalid(format!(
                "{} is of a run with {what}; it resumes only with the same",
                path.display()
            )));
        }
        let parameters = self.learner.parameters_mut();
        checkpoint::read_tensors(&path, &state, parameters, &mut self.optimizer)?;
        self.state = state;
        Ok(())
    }

    fn save(&self) -> Result<PathBuf> {
        let parameters = self.learner.parameters();
        checkpoint::write(&self.checkpoints, &self.state, parameters, &self.optimizer)
    }

    /// One optimizer step over the next examples of the epoch.
    fn step(
        &mut self,
        order: &[usize],
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<StepRecord> {
        let start = Instant::now();
        let first = self.state.position;
        let batch = &order[first..(first + self.settings.batch).min(order.len())];
        let mut measures = vec![Measure::default(); self.learner.weights().len()];
        let mut sum: Option<Gradients> = None;
        let mut done = 0;
        for together in batch.chunks(self.settings.parallel.max(1)) {
            let lessons = self.side_by_side(together, |learner, example, features| {
                learner.learn(example, features)
            })?;
            // In the order of the batch, however many are computed together.
            for (found, gradients) in lessons {
                for (measure, found) in measures.iter_mut().zip(&found) {
                    measure.add(found);
                }
                match (&mut sum, gradients) {
                    (Some(sum), Some(gradients)) => sum.add(gradients),
                    (sum @ None, gradients) => *sum = gradients,
                    (Some(_), None) => {}
                }
            }
            done += together.len();
            progress(Progress::Example {
                done,
                batch: batch.len(),
            });
        }
        let state = &mut self.state;
        let lr = self.settings.schedule.at(state.step, self.total);
        let first = measures.first().cloned().unwrap_or_default();
        let mut grad_norm = 0.0;
        if let Some(mut gradients) = sum {
            gradients.scale(1.0 / first.counted.max(1) as f32);
            let parameters = self.learner.parameters_mut();
            grad_norm = self.optimizer.step(parameters, gradients, lr)?;
        }
        state.updates = self.optimizer.steps;
        state.step += 1;
        state.position += batch.len();
        state.tokens += first.positions as u64;
        let seconds = start.elapsed().as_secs_f64();
        state.seconds += seconds;
        Ok(StepRecord {
            step: state.step,
            epoch: state.epoch as f64 + state.position as f64 / order.len() as f64,
            tokens: state.tokens,
            objective: objective(&measures, self.learner.weights()),
            loss: measures.iter().map(Measure::mean_loss).collect(),
            accuracy: measures.iter().map(Measure::accuracy).collect(),
            lr,
            grad_norm,
            tokens_per_second: first.positions as f64 / seconds.max(1e-9),
            seconds: state.seconds,
        })
    }

    fn evaluate(&mut self, held_out: &[usize]) -> Result<EvaluationRecord> {
        let few = &held_out[..held_out.len().min(self.settings.evaluate_at_most)];
        let mut measures = vec![Measure::default(); self.learner.weights().len()];
        for together in few.chunks(self.settings.parallel.max(1)) {
            let all = self.side_by_side(together, |learner, example, features| {
                learner.evaluate(example, features)
            })?;
            for found in all {
                for (measure, found) in measures.iter_mut().zip(&found) {
                    measure.add(found);
                }
            }
        }
        let weights = self.learner.weights();
        Ok(EvaluationRecord::new(
            self.state.step,
            few.len(),
            &measures,
            weights,
        ))
    }

    /// Asks the learner about examples at the same time; answers come in the order of `indices`.
    fn side_by_side<T: Send>(
        &mut self,
        indices: &[usize],
        ask: impl Fn(&dyn Learner, &Example, &Features) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let examples: Result<Vec<_>> = indices.iter().map(|&i| self.source.get(i)).collect();
        let examples = examples?;
        let learner = &*self.learner;
        let ask = |(example, features): &(Example, Features)| ask(learner, example, features);
        std::thread::scope(|scope| {
            let others = examples.iter().skip(1);
            let others: Vec<_> = others.map(|e| scope.spawn(|| ask(e))).collect();
            let first = examples.first().map(ask);
            let others = others.into_iter().map(|other| match other.join() {
                Ok(answer) => answer,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            first.into_iter().chain(others).collect()
        })
    }
}
