use crate::parameters::Parameter;
use crate::{Error, Result};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputDtype {
    /// bfloat16, which published drafts have.
    #[default]
    Bf16,
    /// IEEE half precision.
    F16,
    /// As trained.
    F32,
}

impl OutputDtype {
    /// `torch_dtype` of a configuration.
    pub(super) fn torch(self) -> &'static str {
        match self {
            OutputDtype::Bf16 => "bfloat16",
            OutputDtype::F16 => "float16",
            OutputDtype::F32 => "float32",
        }
    }

    fn encode(self, values: &[f32]) -> (Dtype, Vec<u8>) {
        match self {
            OutputDtype::Bf16 => {
                let values = values.iter().map(|x| bf16::from_f32(*x).to_le_bytes());
                (Dtype::BF16, values.flatten().collect())
            }
            OutputDtype::F16 => {
                let values = values.iter().map(|x| f16::from_f32(*x).to_le_bytes());
                (Dtype::F16, values.flatten().collect())
            }
            OutputDtype::F32 => {
                let values = values.iter().map(|x| x.to_le_bytes());
                (Dtype::F32, values.flatten().collect())
            }
        }
    }
}

/// Tensors of a file to be.
#[derive(Default)]
pub(super) struct Tensors(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    /// A parameter under a name.
    pub fn parameter(&mut self, name: &str, of: &Parameter, dtype: OutputDtype) -> Result<()> {
        let (dtype, bytes) = dtype.encode(&of.values()?);
        self.0.push((name.to_owned(), dtype, of.shape(), bytes));
        Ok(())
    }

    pub fn integers(&mut self, name: &str, values: impl Iterator<Item = i64>) {
        let bytes: Vec<u8> = values.flat_map(i64::to_le_bytes).collect();
        let shape = vec![bytes.len() / 8];
        self.0.push((name.to_owned(), Dtype::I64, shape, bytes));
    }

    pub fn booleans(&mut self, name: &str, values: impl Iterator<Item = bool>) {
        let bytes: Vec<u8> = values.map(u8::from).collect();
        let shape = vec![bytes.len()];
        self.0.push((name.to_owned(), Dtype::BOOL, shape, bytes));
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let mut views = Vec::with_capacity(self.0.len());
        for (name, dtype, shape, bytes) in &self.0 {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            let view = view.map_err(|e| Error::malformed(path, format!("`{name}`: {e}")))?;
            views.push((name.as_str(), view));
        }
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let bytes = safetensors::serialize(views, Some(metadata));
        let bytes = bytes.map_err(|e| Error::malformed(path, e.to_string()))?;
        super::write(path, &bytes)
    }
}
