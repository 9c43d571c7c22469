use super::RunSettings;
use crate::optimizer::AdamW;
use crate::parameters::{Parameters, matrix, read};
use crate::{Error, Result};
use burn::tensor::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Checkpoints that are kept.
const KEPT: usize = 2;

/// Where a run is, besides its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Optimizer steps made.
    pub step: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Examples of the epoch that are done.
    pub position: usize,
    /// Positions of answers seen.
    pub tokens: u64,
    /// Time of training, over all sittings.
    pub seconds: f64,
    /// Updates of the optimizer: steps at which there was something to learn.
    pub updates: u64,
    /// What decided the numbers so far.
    pub run: RunSettings,
    /// The learner's.
    pub learner: Value,
    /// Examples of the source.
    pub examples: usize,
}

/// Writes parameters, moments and state below `dir`, whole or not at all, and removes all but the newest checkpoints.
pub(super) fn write(
    dir: &Path,
    state: &State,
    parameters: &Parameters,
    optimizer: &AdamW,
) -> Result<PathBuf> {
    let name = format!("step-{:08}", state.step);
    let (path, unfinished) = (dir.join(&name), dir.join(format!(".{name}.tmp")));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(Error::io(&unfinished))?;
    }
    fs::create_dir_all(&unfinished).map_err(Error::io(&unfinished))?;
    let mut tensors = Vec::new();
    for (parameter, [m, v]) in parameters.iter().zip(&optimizer.moments) {
        let parts = [("parameters", &parameter.value), ("m", m), ("v", v)];
        for (kind, tensor) in parts {
            let shape = tensor.dims().to_vec();
            let name = format!("{kind}.{}", parameter.name);
            tensors.push((name, shape, read(tensor.clone())?));
        }
    }
    let file = unfinished.join("tensors.safetensors");
    let views: Result<Vec<_>> = tensors
        .iter()
        .map(|(name, shape, values)| {
            let bytes = bytemuck::cast_slice(values);
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            let view = view.map_err(|e| Error::malformed(&file, e.to_string()))?;
            Ok((name.as_str(), view))
        })
        .collect();
    let bytes = safetensors::serialize(views?, None);
    let bytes = bytes.map_err(|e| Error::malformed(&file, e.to_string()))?;
    write_synced(&file, &bytes)?;
    let file = unfinished.join("state.json");
    let json = serde_json::to_vec_pretty(state);
    let json = json.map_err(|e| Error::malformed(&file, e.to_string()))?;
    write_synced(&file, &json)?;
    if path.exists() {
        fs::remove_dir_all(&path).map_err(Error::io(&path))?;
    }
    fs::rename(&unfinished, &path).map_err(Error::io(&path))?;
    let all = list(dir)?;
    for old in &all[..all.len().saturating_sub(KEPT)] {
        fs::remove_dir_all(old).map_err(Error::io(old))?;
    }
    Ok(path)
}

/// The newest checkpoint below `dir`, if there is one.
pub(super) fn newest(dir: &Path) -> Result<Option<PathBuf>> {
    Ok(list(dir)?.pop())
}

/// Where the run of a checkpoint was.
pub(super) fn state(path: &Path) -> Result<State> {
    let file = path.join("state.json");
    let json = fs::read(&file).map_err(Error::io(&file))?;
    serde_json::from_slice(&json).map_err(|e| Error::malformed(&file, e.to_string()))
}

/// Reads a checkpoint's tensors.
pub(super) fn read_tensors(
    path: &Path,
    state: &State,
    parameters: &mut Parameters,
    optimizer: &mut AdamW,
) -> Result<()> {
    let file = path.join("tensors.safetensors");
    let bytes = fs::read(&file).map_err(Error::io(&file))?;
    let tensors = SafeTensors::deserialize(&bytes);
    let tensors = tensors.map_err(|e| Error::malformed(&file, e.to_string()))?;
    for (parameter, [m, v]) in parameters.iter_mut().zip(&mut optimizer.moments) {
        let name = &parameter.name;
        let parts = [("parameters", &mut parameter.value), ("m", m), ("v", v)];
        for (kind, tensor) in parts {
            let name = format!("{kind}.{name}");
            let view = tensors.tensor(&name);
            let view = view.map_err(|e| Error::malformed(&file, format!("`{name}`: {e}")))?;
            *tensor = read_tensor(&view, tensor).ok_or_else(|| {
                let expected = tensor.dims();
                Error::malformed(
                    &file,
                    format!(
                        "`{name}` is {:?} of {:?}, expected {expected:?} of F32",
                        view.shape(),
                        view.dtype()
                    ),
                )
            })?;
        }
    }
    optimizer.steps = state.updates;
    Ok(())
}

fn read_tensor(view: &TensorView<'_>, like: &Tensor<2>) -> Option<Tensor<2>> {
    let shape = like.dims();
    if view.shape() != shape || view.dtype() != Dtype::F32 {
        return None;
    }
    let values = view.data().as_chunks::<4>().0;
    let values = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Some(matrix(values, shape, &like.device()))
}

/// Finished checkpoints, oldest first.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("step-")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut file = fs::File::create(path).map_err(Error::io(path))?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.sync_all().map_err(Error::io(path))
}
