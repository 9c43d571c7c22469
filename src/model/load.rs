use crate::Result;
use crate::checkpoint::{Checkpoint, WeightDtype};
use crate::host::Weight;
use std::collections::HashMap;
use std::sync::Arc;
use stheno_codegen::plan::{DRAFT_PREFIX, Plan, WeightDecl, WeightShape};

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadProgress {
    /// Weights loaded.
    pub weights: usize,
    /// Weights there are.
    pub total_weights: usize,
    /// Bytes of the weights loaded, as they lie in memory.
    pub bytes: usize,
}

/// Where the weights of a draft come from.
#[derive(Debug, Clone, Copy)]
pub struct DraftWeights<'a> {
    /// The draft's checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// What its matrices are rounded to as they are loaded.
    pub dtype: WeightDtype,
}

/// Loads weights, each once however many plans name it.
#[derive(Debug)]
pub struct WeightLoader<'a> {
    checkpoint: &'a Checkpoint,
    draft: Option<DraftWeights<'a>>,
    loaded: HashMap<WeightDecl, Weight>,
}

/// Loads the weights that a plan declares: see [`WeightLoader::load`].
///
/// # Errors
/// Those of [`WeightLoader::load`].
pub fn load_weights(
    plan: &Plan,
    checkpoint: &Checkpoint,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Vec<Weight>> {
    WeightLoader::new(checkpoint, None).load(plan, progress)
}

impl<'a> WeightLoader<'a> {
    /// Loads from a checkpoint, and from another what a draft brings.
    pub fn new(checkpoint: &'a Checkpoint, draft: Option<DraftWeights<'a>>) -> Self {
        WeightLoader {
            checkpoint,
            draft,
            loaded: HashMap::new(),
        }
    }

    /// The weights that a plan declares, in its order, each once however often the plan reads it.
    ///
    /// Dense matrices are views of the mapped file. Quantized ones are repacked one after another, by all threads, so that
    /// no more of the file is resident than the one at hand needs.
    ///
    /// # Errors
    /// If a checkpoint lacks a weight or holds another shape of it; the first one in the plan's order.
    pub fn load(
        &mut self,
        plan: &Plan,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<Weight>> {
        let mut done = LoadProgress {
            total_weights: plan.weights.len(),
            ..LoadProgress::default()
        };
        let mut weights = Vec::with_capacity(plan.weights.len());
        for declaration in &plan.weights {
            let weight = match self.loaded.get(declaration) {
                Some(weight) => weight.clone(),
                None => {
                    let weight = self.read(declaration)?;
                    self.loaded.insert(declaration.clone(), weight.clone());
                    weight
                }
            };
            done.weights += 1;
            done.bytes += match &weight {
                Weight::Matrix(matrix) => matrix.bytes(),
                Weight::Vector(vector) => size_of_val::<[f32]>(vector),
            };
            weights.push(weight);
            progress(done);
        }
        Ok(weights)
    }

    fn read(&self, declaration: &WeightDecl) -> Result<Weight> {
        let own = declaration.name.strip_prefix(DRAFT_PREFIX).zip(self.draft);
        let (name, checkpoint, dtype) = match own {
            Some((name, draft)) => (name, draft.checkpoint, draft.dtype),
            None => (
                declaration.name.as_str(),
                self.checkpoint,
                WeightDtype::AsStored,
            ),
        };
        Ok(match declaration.shape {
            WeightShape::Matrix { n, k } => {
                let matrix = checkpoint.matrix(name, n as usize, k as usize)?;
                Weight::Matrix(Arc::new(matrix.quantized(dtype)))
            }
            WeightShape::Vector { n } => {
                Weight::Vector(checkpoint.vector(name, n as usize)?.into())
            }
        })
    }
}
