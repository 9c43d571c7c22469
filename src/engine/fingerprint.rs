use crate::Result;
use crate::host::Weight;
use crate::model::RandomModel;
use stheno_codegen::plan::Plan;

/// Identifies a plan and its weights, so that saved KV is not read into another model: 64-bit FNV-1a over the plan,
/// the vectors (norms and biases) and the first and the last row of every matrix, which differ between any two trainings
/// and cost next to nothing to read.
pub(super) fn fingerprint(plan: &Plan, weights: &[Weight]) -> Result<u64> {
    let mut hash = of_plan(plan)?;
    let mut row = Vec::new();
    for weight in weights {
        match weight {
            Weight::Vector(vector) => hash.write_floats(vector),
            Weight::Matrix(matrix) => {
                row.clear();
                row.resize(matrix.k(), 0.0);
                for index in [0, matrix.n().saturating_sub(1)] {
                    if index < matrix.n() {
                        matrix.dequantize_row(index, &mut row);
                        hash.write_floats(&row);
                    }
                }
            }
        }
    }
    Ok(hash.0)
}

/// The same for weights that come from a seed.
pub(super) fn fingerprint_of_random(plan: &Plan, model: &RandomModel) -> Result<u64> {
    let mut hash = of_plan(plan)?;
    hash.write(model.format.to_string().as_bytes());
    hash.write(&model.seed.to_le_bytes());
    Ok(hash.0)
}

fn of_plan(plan: &Plan) -> Result<Fnv> {
    let mut hash = Fnv::new();
    // Who guesses at tokens leaves K and V as they are.
    let plan = Plan {
        looks_up: false,
        ..plan.clone()
    };
    let plan = serde_json::to_vec(&plan)
        .map_err(|e| crate::Error::Invalid(format!("the plan cannot be written as JSON: {e}")))?;
    hash.write(&plan);
    Ok(hash)
}

struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn write_floats(&mut self, values: &[f32]) {
        values.iter().for_each(|x| self.write(&x.to_le_bytes()));
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_published_function() {
        let mut hash = Fnv::new();
        hash.write(b"foobar");
        assert_eq!(hash.0, 0x8594_4171_f739_67e8);
    }
}
