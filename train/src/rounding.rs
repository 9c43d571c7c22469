use crate::parameters::{Form, Parameter};
use burn::tensor::{FloatDType, Tensor};
use serde::{Deserialize, Serialize};

/// Elements that share a scale.
const GROUP: usize = 32;

/// What matrices are rounded to in training, so that a draft learns to live with it (Jacob et al., 2018). The arithmetic is
/// that of the engine's [`stheno::checkpoint::WeightDtype`]s of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// 8 bits, symmetric, a scale in f16 for each group of 32 inputs.
    Q8,
    /// 4 bits with a scale and a minimum in f16 for each group of 32 inputs.
    Q4,
}

impl Rounding {
    /// The value of a parameter as it will be served. Vectors, and matrices whose inputs are no multiple of 32, stay.
    pub(crate) fn apply(self, parameter: &Parameter) -> Tensor<2> {
        let value = parameter.value.clone();
        let [a, b] = value.dims();
        let groups = match parameter.form {
            Form::Linear if a.is_multiple_of(GROUP) => [a / GROUP, GROUP, b],
            Form::Rows if b.is_multiple_of(GROUP) => [a * b / GROUP, GROUP, 1],
            _ => return value,
        };
        let x: Tensor<3> = value.reshape(groups);
        let rounded = match self {
            Rounding::Q8 => {
                let scale = in_f16(x.clone().abs().max_dim(1) / 127.0);
                let quanta = (x / not_zero(&scale)).clamp(-127.0, 127.0).round();
                quanta * scale
            }
            Rounding::Q4 => {
                let min = in_f16(x.clone().min_dim(1));
                let range = x.clone().max_dim(1) - min.clone();
                let scale = in_f16(range.clamp_min(0.0) / 15.0);
                let quanta = (x - min.clone()) / not_zero(&scale);
                quanta.clamp(0.0, 15.0).round() * scale + min
            }
        };
        rounded.reshape([a, b])
    }
}

fn in_f16(x: Tensor<3>) -> Tensor<3> {
    x.cast(FloatDType::F16).cast(FloatDType::F32)
}

/// 1 in place of 0: the groups' scales multiply to 0 all the same.
fn not_zero(scale: &Tensor<3>) -> Tensor<3> {
    scale.clone().mask_fill(scale.clone().equal_elem(0.0), 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{Parameters, matrix};
    use burn::tensor::Device;
    use safetensors::tensor::{Dtype, TensorView};
    use stheno::checkpoint::{Checkpoint, WeightDtype};

    #[test]
    fn is_the_engines() {
        let (n, k) = (5, 96);
        let mut random = crate::random::Random::new(3, 1);
        let mut values = random.uniform(n * k, 0.7);
        values[64..96].fill(0.25);
        values[96..128].fill(0.0);
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![n, k], &bytes).unwrap();
        let file = safetensors::serialize([("w", view)], None).unwrap();
        let checkpoint = Checkpoint::from_safetensors(b"{}", file).unwrap();
        let device = Device::flex();
        let mut parameters = Parameters::default();
        let zeros = |shape: [usize; 2]| matrix(vec![0.0; n * k], shape, &device);
        parameters.push("linear".to_owned(), Form::Linear, zeros([k, n]));
        parameters.push("rows".to_owned(), Form::Rows, zeros([n, k]));
        for name in ["linear", "rows"] {
            parameters.set(name, values.clone()).unwrap();
        }
        let forms = [
            (Rounding::Q8, WeightDtype::Q8),
            (Rounding::Q4, WeightDtype::Q4),
        ];
        for (rounding, dtype) in forms {
            let engines = checkpoint.matrix("w", n, k).unwrap().quantized(dtype);
            let mut expected = vec![0.0; n * k];
            for (row, out) in expected.chunks_exact_mut(k).enumerate() {
                engines.dequantize_row(row, out);
            }
            assert_ne!(expected, values);
            for parameter in parameters.iter() {
                let rounded = Parameter {
                    value: rounding.apply(parameter),
                    ..parameter.clone()
                };
                let found = rounded.values().unwrap();
                for (found, expected) in found.iter().zip(&expected) {
                    // Quantum times scale plus minimum is rounded once or twice.
                    assert!((found - expected).abs() < 1e-7, "{found}, {expected}");
                }
            }
        }
    }

    #[test]
    fn gradients_pass_as_if_nothing_was_rounded() {
        let device = Device::flex();
        let mut parameters = Parameters::default();
        let value = matrix([0.3, 0.7].repeat(32), [32, 2], &device);
        parameters.push("w".to_owned(), Form::Linear, value);
        parameters.set_rounding(Some(Rounding::Q8));
        let served = parameters.constants();
        let (leaves, weights) = parameters.leaves();
        let x = matrix((0..32).map(|i| i as f32).collect(), [1, 32], &device);
        let y = x.clone().matmul(weights[0].clone());
        let read = |t: Tensor<2>| crate::parameters::read(t).unwrap();
        let (found, expected) = (
            read(y.clone().inner()),
            read(x.clone().matmul(served[0].clone())),
        );
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{found}, {expected}");
        }
        assert_ne!(
            read(served[0].clone()),
            read(parameters.iter().next().unwrap().value.clone())
        );
        let gradient = leaves[0].grad(&y.sum().backward()).unwrap();
        assert_eq!(
            read(gradient),
            (0..64).map(|i| (i / 2) as f32).collect::<Vec<_>>()
        );
    }
}
