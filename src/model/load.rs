use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::host::Weight;
use std::sync::Arc;
use stheno_codegen::plan::{Plan, WeightDecl, WeightShape};

/// How far [`load_weights`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadProgress {
    /// Weights loaded.
    pub weights: usize,
    /// Weights there are.
    pub total_weights: usize,
    /// Bytes of the weights loaded, as they lie in memory.
    pub bytes: usize,
}

/// Loads the weights that a plan declares, in its order, each once however often the plan reads it.
///
/// Dense matrices are views of the mapped file. Quantized ones are repacked one after another, by all threads, so that no
/// more of the file is resident than the one at hand needs.
///
/// # Errors
/// If the checkpoint lacks a weight or holds another shape of it; the first one in the plan's order.
pub fn load_weights(
    plan: &Plan,
    checkpoint: &Checkpoint,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Vec<Weight>> {
    let mut done = LoadProgress {
        total_weights: plan.weights.len(),
        ..LoadProgress::default()
    };
    let mut weights = Vec::with_capacity(plan.weights.len());
    for declaration in &plan.weights {
        let weight = load(declaration, checkpoint)?;
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

fn load(declaration: &WeightDecl, checkpoint: &Checkpoint) -> Result<Weight> {
    let name = &declaration.name;
    Ok(match declaration.shape {
        WeightShape::Matrix { n, k } => {
            Weight::Matrix(Arc::new(checkpoint.matrix(name, n as usize, k as usize)?))
        }
        WeightShape::Vector { n } => Weight::Vector(checkpoint.vector(name, n as usize)?.into()),
    })
}
