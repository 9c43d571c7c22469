use anyhow::Result;
use std::fmt;
use std::str::FromStr;
use stheno::Error;
use stheno::device::Guesses;
use stheno::draft::RandomDraft;
use stheno::model::{ActivationDtype, NamedModel, PlanOptions, Precision, build_plan};
use stheno::plan::{
    Dim, Dtype, Epilogue, InputDtype, KvDecl, Linear, Op, Part, Plan, PlanBuilder, Segment,
    SegmentKind,
};

/// What ops have their sizes from.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A model.
    Model(NamedModel),
    /// One matrix, N outputs of K inputs.
    Free { n: u32, k: u32 },
}

/// Largest N and K.
const LARGEST: u32 = 1 << 20;

impl FromStr for Shape {
    type Err = Error;

    fn from_str(text: &str) -> stheno::Result<Self> {
        let Some((n, k)) = text.split_once('x').filter(|(n, _)| is_number(n)) else {
            return NamedModel::find(text).map(Shape::Model);
        };
        let size = |text: &str| {
            text.parse()
                .ok()
                .filter(|size| (1..=LARGEST).contains(size))
        };
        match (size(n), size(k)) {
            (Some(n), Some(k)) => Ok(Shape::Free { n, k }),
            _ => Err(Error::Invalid(format!(
                "`{text:.100}` is no shape; N and K are 1 to {LARGEST}, as in 4096x14336"
            ))),
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Model(model) => f.write_str(model.name),
            Shape::Free { n, k } => write!(f, "{n}x{k}"),
        }
    }
}

impl Shape {
    /// Layers of it: `asked`, or all; none of a matrix.
    pub fn layers(&self, asked: Option<u32>) -> Result<u32> {
        match (self, asked) {
            (Shape::Free { .. }, _) => Ok(0),
            (Shape::Model(_), Some(layers)) => Ok(layers),
            (Shape::Model(model), None) => Ok(model.config(None)?.num_hidden_layers),
        }
    }

    /// A plan with its ops, or those of a draft, which a matrix has none of; and what the draft's logits stand for.
    pub fn plan(
        &self,
        layers: u32,
        positions: u32,
        draft: Option<RandomDraft>,
    ) -> Result<(Plan, Guesses)> {
        let model = match self {
            Shape::Model(model) => model,
            Shape::Free { n, k } => {
                return Ok((matrix_plan(*n, *k, positions)?, Guesses::default()));
            }
        };
        let config = model.config(Some(layers))?;
        let options = PlanOptions::new(positions, Precision::new(ActivationDtype::Mixed));
        match draft {
            Some(draft) => Ok(draft.plan(&config, &options)?),
            None => Ok((build_plan(&config, &options)?, Guesses::default())),
        }
    }
}

/// A plan whose one linear op is the product with a matrix [n, k], which is also the table that the rows are taken from.
fn matrix_plan(n: u32, k: u32, positions: u32) -> Result<Plan, stheno::plan::PlanError> {
    let kv = KvDecl {
        layers: 1,
        num_key_value_heads: 1,
        head_dim: 16,
        dtype: Dtype::BF16,
    };
    let mut builder = PlanBuilder::new("matrix", n, positions, kv);
    let weight = builder.matrix("matrix", n, k);
    let rows = builder.buffer("rows", Dtype::F32, Dim::Rows, k);
    let output_rows = builder.buffer("rows.output", Dtype::F32, Dim::OutputRows, k);
    let logits = builder.buffer("logits", Dtype::F32, Dim::OutputRows, n);
    let ops = [
        Op::Embed {
            table: weight,
            output: rows,
        },
        Op::Gather {
            input: rows,
            output: output_rows,
        },
        Op::Linear(Linear {
            input: output_rows,
            norm: None,
            input_dtype: InputDtype::BF16,
            parts: vec![Part { weight, bias: None }],
            epilogue: Epilogue::Store { output: logits },
        }),
    ];
    for kind in [SegmentKind::Prefill, SegmentKind::Target] {
        builder.segment(Segment {
            kind,
            max_rows: 64,
            inputs: Vec::new(),
            outputs: vec![logits],
            ops: ops.to_vec(),
        });
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_as_they_are_written() {
        for text in ["llama-3.1-8b", "tiny", "4096x14336", "1x1"] {
            assert_eq!(text.parse::<Shape>().unwrap().to_string(), text);
        }
        for text in ["", "0x5", "5x0", "4096x", "4096x9999999", "x5", "llama"] {
            let error = text.parse::<Shape>().unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{text}: {error}");
        }
    }

    #[test]
    fn a_model_has_its_layers_unless_others_are_asked() {
        let shape: Shape = "llama-3.2-1b".parse().unwrap();
        assert_eq!(shape.layers(None).unwrap(), 16);
        assert_eq!(shape.layers(Some(3)).unwrap(), 3);
        assert_eq!(shape.plan(2, 64, None).unwrap().0.kv.layers, 2);
        let free: Shape = "48x256".parse().unwrap();
        assert_eq!(free.plan(0, 64, None).unwrap().0.vocab_size, 48);
    }
}
