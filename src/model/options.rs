use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;
use stheno_codegen::plan::{Dtype, InputDtype};

/// What the plan of a model is built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// Largest number of positions of one sequence.
    pub context_length: u32,
    /// Types of activations and KV cache.
    pub precision: Precision,
    /// Rows of one call of the prefill segment.
    pub max_prefill_rows: u32,
    /// Rows of one call of the target segment.
    pub max_rows: u32,
    /// Layers whose residual stream is wanted beside the logits, counted from 0: after layer `i` the output rows
    /// are gathered into a buffer `tap.{i}`.
    pub taps: Vec<u32>,
    /// What of each row's hidden states a draft wants, in a buffer `features`.
    pub features: Features,
}

/// Hidden states of the target that a draft is fed, for every row of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Features {
    /// Nothing.
    #[default]
    None,
    /// What the head multiplies: the last layer's residual stream after the final norm, [rows, hidden_size].
    Final,
    /// The residual stream after each of these layers, counted from 0, side by side, [rows, n * hidden_size].
    Layers(Vec<u32>),
}

impl Features {
    /// Columns of the buffer, for a target of that width.
    pub fn columns(&self, hidden_size: u32) -> u32 {
        match self {
            Features::None => 0,
            Features::Final => hidden_size,
            Features::Layers(layers) => hidden_size.saturating_mul(layers.len() as u32),
        }
    }
}

impl PlanOptions {
    /// Options for a context of that many positions, in that precision, with the defaults of the rest.
    pub fn new(context_length: u32, precision: Precision) -> Self {
        PlanOptions {
            context_length,
            precision,
            max_prefill_rows: 256,
            max_rows: 64,
            taps: Vec::new(),
            features: Features::None,
        }
    }
}

/// Where a plan rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Precision {
    /// Type of the activations.
    pub activation: ActivationDtype,
    /// Type of K and V in the cache.
    pub kv: Dtype,
}

impl Precision {
    /// Activations of that type with the KV cache that goes with them: f32 with f32, bf16 and mixed with bf16, q8 with
    /// f16.
    pub fn new(activation: ActivationDtype) -> Self {
        let kv = match activation {
            ActivationDtype::F32 => Dtype::F32,
            ActivationDtype::BF16 | ActivationDtype::Mixed => Dtype::BF16,
            ActivationDtype::Q8 => Dtype::F16,
        };
        Precision { activation, kv }
    }

    /// Type of the buffers between ops; logits are f32 always.
    pub(crate) fn buffer(self) -> Dtype {
        match self.activation {
            ActivationDtype::F32 | ActivationDtype::Mixed | ActivationDtype::Q8 => Dtype::F32,
            ActivationDtype::BF16 => Dtype::BF16,
        }
    }

    /// Rounding of the input of a linear op with `k` inputs. A last group that is not full has no 8-bit form, so
    /// such a matrix is multiplied in f32.
    pub(crate) fn input(self, k: u32) -> InputDtype {
        match self.activation {
            ActivationDtype::F32 => InputDtype::F32,
            ActivationDtype::BF16 | ActivationDtype::Mixed => InputDtype::BF16,
            ActivationDtype::Q8 if k.is_multiple_of(InputDtype::Q8_GROUP as u32) => InputDtype::Q8,
            ActivationDtype::Q8 => InputDtype::F32,
        }
    }
}

/// Type of the activations of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActivationDtype {
    /// Everything in f32: the reference.
    F32,
    /// Buffers and inputs of linear ops in bf16.
    BF16,
    /// Buffers in f32, inputs of linear ops in bf16: what device programs compute.
    Mixed,
    /// Buffers in f32, inputs of linear ops in 8 bits with a scale per group of 32.
    Q8,
}

impl ActivationDtype {
    /// Reads `auto`, `f32`, `bf16`, `mixed` or `q8`; `auto` is `None`, the choice of whoever knows the weights.
    ///
    /// # Errors
    /// If the text is none of them.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        match text {
            "auto" => Ok(None),
            text => text.parse().map(Some),
        }
    }
}

impl FromStr for ActivationDtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(ActivationDtype::F32),
            "bf16" => Ok(ActivationDtype::BF16),
            "mixed" => Ok(ActivationDtype::Mixed),
            "q8" => Ok(ActivationDtype::Q8),
            _ => Err(Error::Invalid(format!(
                "`{text}` is no activation dtype; there are auto, f32, bf16, mixed and q8"
            ))),
        }
    }
}

impl fmt::Display for ActivationDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ActivationDtype::F32 => "f32",
            ActivationDtype::BF16 => "bf16",
            ActivationDtype::Mixed => "mixed",
            ActivationDtype::Q8 => "q8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_the_command_line_says() {
        assert_eq!(ActivationDtype::parse("auto").unwrap(), None);
        for dtype in [
            ActivationDtype::F32,
            ActivationDtype::BF16,
            ActivationDtype::Mixed,
            ActivationDtype::Q8,
        ] {
            let parsed = ActivationDtype::parse(&dtype.to_string()).unwrap();
            assert_eq!(parsed, Some(dtype));
        }
        let error = ActivationDtype::parse("fp8").unwrap_err().to_string();
        assert!(error.contains("`fp8`") && error.contains("bf16"), "{error}");
    }

    #[test]
    fn eight_bit_inputs_need_full_groups() {
        let q8 = Precision::new(ActivationDtype::Q8);
        assert_eq!(q8.input(64), InputDtype::Q8);
        assert_eq!(q8.input(48), InputDtype::F32);
        assert_eq!(q8.kv, Dtype::F16);
    }
}
