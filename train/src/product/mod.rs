//! Products of matrices in the precision that a run asks for.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod extension;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use extension::RoundedProduct;
use serde::{Deserialize, Serialize};

/// What products of matrices are computed in. All else, sums of products included, is in f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As numbers are.
    #[default]
    F32,
    /// Factors are rounded to bf16 (Micikevicius et al., 2018, "mixed precision"). Processors with AMX multiply them faster; on
    /// others nothing is gained but the same numbers, up to the order of sums.
    Bf16,
}

impl Precision {
    /// What multiplies, in words for people.
    pub fn describe(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 if extension::has_amx() => "bf16, by AMX",
            Precision::Bf16 => "bf16, rounded and multiplied in f32: this processor has no AMX",
        }
    }

    /// `a b` for `a` `[.., m, k]` and `b` `[.., k, n]` whose other dimensions are the same; in the graph if they are.
    pub(crate) fn product<const D: usize>(self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        match self {
            Precision::F32 => a.matmul(b),
            Precision::Bf16 => {
                let (a, b) = (a.into_dispatch(), b.into_dispatch());
                Tensor::from_dispatch(Dispatch::rounded_product(a, b))
            }
        }
    }
}

#[cfg(test)]
mod tests;
