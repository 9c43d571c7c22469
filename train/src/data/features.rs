use crate::{Error, Example, Features, Result, Source};
use stheno::engine::{Engine, EngineBuilder, Forward, Session, SessionOptions};
use stheno::model::ModelConfig;
use stheno::plan::{Row, SegmentKind, SequenceIndex};

/// Rows of a call: the target's head runs over all of them.
const ROWS: usize = 128;

/// Runs the target over examples and takes its hidden states.
#[derive(Debug)]
pub struct FeatureComputer {
    engine: Engine,
    session: Session,
    forward: Forward,
    aux: [u32; 3],
    last: u32,
    norm: Vec<f32>,
    eps: f32,
}

impl FeatureComputer {
    /// Builds the engine that `builder` describes with what is needed of it: the outputs of `aux` layers, counted from 0, and of
    /// the last. `norm` is [`crate::Target::norm`].
    ///
    /// # Errors
    /// Those of the builder.
    pub fn new(
        builder: EngineBuilder,
        aux: [u32; 3],
        config: &ModelConfig,
        norm: &[f32],
    ) -> Result<Self> {
        let last = config.num_hidden_layers.saturating_sub(1);
        let engine = builder.taps(&[aux[0], aux[1], aux[2], last]).build()?;
        Ok(FeatureComputer {
            session: engine.session(SessionOptions::default())?,
            engine,
            forward: Forward::default(),
            aux,
            last,
            norm: norm.to_vec(),
            eps: config.rms_norm_eps as f32,
        })
    }

    /// Hidden states of all positions of an example.
    ///
    /// # Errors
    /// If the example does not fit the target's context or vocabulary.
    pub fn compute(&mut self, example: &Example) -> Result<Features> {
        let hidden = self.norm.len();
        let mut features = Features {
            aux: vec![0.0; example.tokens.len() * 3 * hidden],
            last: Vec::with_capacity(example.tokens.len() * hidden),
        };
        self.session.truncate(0);
        let mut aux = features.aux.chunks_exact_mut(3 * hidden);
        for tokens in example.tokens.chunks(ROWS) {
            let start = self.session.tokens().len() as u32;
            let mut rows = Row::chain(SequenceIndex(0), start, tokens);
            rows.iter_mut().for_each(|row| row.output = true);
            let forward = &mut self.forward;
            (self.engine).forward_into(SegmentKind::Prefill, &rows, &[&self.session], forward)?;
            let tap = |layer: u32| {
                forward.tap(layer).ok_or_else(|| {
                    Error::Invalid(format!(
                        "the engine gave no hidden state after layer {layer}"
                    ))
                })
            };
            let taps = [tap(self.aux[0])?, tap(self.aux[1])?, tap(self.aux[2])?];
            for (row, out) in (0..tokens.len()).zip(&mut aux) {
                for (tap, out) in taps.iter().zip(out.chunks_exact_mut(hidden)) {
                    out.copy_from_slice(&tap[row * hidden..][..hidden]);
                }
            }
            for row in tap(self.last)?.chunks_exact(hidden) {
                let squares: f32 = row.iter().map(|x| x * x).sum();
                let scale = 1.0 / (squares / hidden as f32 + self.eps).sqrt();
                features
                    .last
                    .extend(row.iter().zip(&self.norm).map(|(x, w)| x * scale * w));
            }
            let path: Vec<u32> = (0..rows.len() as u32).collect();
            self.session.commit(&self.forward, &path)?;
        }
        Ok(features)
    }
}

/// Features as they are asked for: no disk, but the target runs over every example in every epoch.
#[derive(Debug)]
pub struct OnlineSource {
    /// What is learnt from.
    pub examples: Vec<Example>,
    /// The target.
    pub computer: FeatureComputer,
}

impl Source for OnlineSource {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn get(&mut self, index: usize) -> Result<(Example, Features)> {
        let example = self.examples[index].clone();
        let features = self.computer.compute(&example)?;
        Ok((example, features))
    }
}
