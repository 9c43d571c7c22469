//! Weights of a plan that come from a seed, so that programs of any size run without a checkpoint.

use super::ModelConfig;
use crate::device::ModelWeights;
use crate::model::NamedModel;
use crate::{Error, Result};
use half::{bf16, f16};
use rayon::prelude::*;
use std::fmt;
use std::str::FromStr;
use stheno_codegen::layout::{CodedRows, Codes, Coding, Group, SourceMatrix, WeightSource};
use stheno_codegen::plan::{Dtype, Plan, WeightId, WeightShape};

/// What all matrices of a random model are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RandomFormat {
    /// 16 bits, no scales.
    Bf16,
    /// 16 bits, no scales.
    F16,
    /// FP8 E4M3 with a scale per 128 elements.
    Fp8,
    /// Signed bytes with a scale per 128 elements.
    Int8,
    /// 4 bits around zero point 8 with a scale per 128 elements.
    Int4,
}

impl RandomFormat {
    /// All of them.
    pub const ALL: [RandomFormat; 5] = [
        RandomFormat::Bf16,
        RandomFormat::F16,
        RandomFormat::Fp8,
        RandomFormat::Int8,
        RandomFormat::Int4,
    ];

    fn dense(self) -> Option<Dtype> {
        match self {
            RandomFormat::Bf16 => Some(Dtype::BF16),
            RandomFormat::F16 => Some(Dtype::F16),
            RandomFormat::Fp8 | RandomFormat::Int8 | RandomFormat::Int4 => None,
        }
    }

    /// Bytes of a matrix [n, k], scales (of 2 bytes) included: what a step has to read of it.
    pub fn bytes(self, n: u64, k: u64) -> u64 {
        let scales = 2 * n * k.div_ceil(GROUP as u64);
        match self {
            RandomFormat::Bf16 | RandomFormat::F16 => 2 * n * k,
            RandomFormat::Fp8 | RandomFormat::Int8 => n * k + scales,
            RandomFormat::Int4 => (n * k).div_ceil(2) + scales,
        }
    }

    /// Bytes of all weights of a plan, vectors in f32.
    pub fn bytes_of(self, plan: &Plan) -> u64 {
        let bytes = plan.weights.iter().map(|weight| match weight.shape {
            WeightShape::Matrix { n, k } => self.bytes(n.into(), k.into()),
            WeightShape::Vector { n } => 4 * u64::from(n),
        });
        bytes.sum()
    }
}

impl fmt::Display for RandomFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RandomFormat::Bf16 => "bf16",
            RandomFormat::F16 => "f16",
            RandomFormat::Fp8 => "fp8",
            RandomFormat::Int8 => "int8",
            RandomFormat::Int4 => "int4",
        })
    }
}

impl FromStr for RandomFormat {
    type Err = Error;

    /// Reads `bf16`, `f16`, `fp8`, `int8` or `int4`.
    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|f| f.to_string() == text);
        found.ok_or_else(|| {
            Error::Invalid(format!(
                "`{text:.100}` is no format of weights; there are bf16, f16, fp8, int8 and int4"
            ))
        })
    }
}

/// A model without a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomModel {
    /// What it is called, for people.
    pub name: String,
    /// Its sizes.
    pub config: ModelConfig,
    /// Its matrices.
    pub format: RandomFormat,
    /// Equal seeds give equal weights.
    pub seed: u64,
}

impl RandomModel {
    /// A model known by name, with `layers` of its layers or all of them.
    ///
    /// # Errors
    /// There is no such name (the error lists them), or no model of so many layers.
    pub fn named(name: &str, layers: Option<u32>, format: RandomFormat) -> Result<Self> {
        let config = NamedModel::find(name)?.config(layers)?;
        Ok(RandomModel {
            name: name.to_owned(),
            config,
            format,
            seed: 0,
        })
    }
}

/// Elements that share a scale.
const GROUP: usize = 128;

/// Standard deviation of the elements of matrices, which initial weights of models have.
const DEVIATION: f32 = 0.02;

/// Where matrices begin in the pool differs by less than so many elements.
const SHIFTS: u64 = 1 << 15;

/// Weights of a plan, made from a seed. Elements of matrices have mean 0 (int4 a tenth of the deviation below it, since codes are
/// -8 to 7) and standard deviation 0.02, those of vectors are in 0.9 to 1.1 (0 to 0.01 where the name ends in `bias`).
///
/// Coded matrices are made row by row as they are packed, and take no memory here. Matrices of 16 bits are parts of one
/// pool as large as the largest, each beginning at another place.
#[derive(Debug)]
pub struct RandomWeights {
    format: RandomFormat,
    pool: Vec<u8>,
    weights: Vec<RandomWeight>,
}

#[derive(Debug)]
enum RandomWeight {
    /// Bytes of the pool.
    Dense(std::ops::Range<usize>),
    Coded(RandomRows),
    Vector(Vec<f32>),
}

impl RandomWeights {
    /// Weights for all declarations of a plan.
    ///
    /// # Errors
    /// A matrix is larger than what can be addressed.
    pub fn new(plan: &Plan, format: RandomFormat, seed: u64) -> Result<Self> {
        let mut largest = 0_usize;
        let weights = plan.weights.iter().zip(0_u64..).map(|(decl, index)| {
            let mut random = Random::new(seed, index, 0);
            Ok(match (decl.shape, format.dense()) {
                (WeightShape::Vector { n }, _) => {
                    let (base, range) = match decl.name.ends_with("bias") {
                        true => (0.0, 0.01),
                        false => (0.9, 0.2),
                    };
                    let values = (0..n).map(|_| base + range * random.unit());
                    RandomWeight::Vector(values.collect())
                }
                (WeightShape::Matrix { n, k }, Some(dtype)) => {
                    let bytes = (n as usize).checked_mul(k as usize);
                    let bytes = bytes.and_then(|nk| nk.checked_mul(dtype.size()));
                    let bytes = bytes.ok_or_else(|| {
                        Error::Invalid(format!("`{}` is too large: [{n}, {k}]", decl.name))
                    })?;
                    let start = (random.next() % SHIFTS) as usize * dtype.size();
                    largest = largest.max(start.saturating_add(bytes));
                    RandomWeight::Dense(start..start.saturating_add(bytes))
                }
                (WeightShape::Matrix { .. }, None) => RandomWeight::Coded(RandomRows {
                    format,
                    seed,
                    index,
                }),
            })
        });
        let weights = weights.collect::<Result<_>>()?;
        Ok(RandomWeights {
            format,
            pool: pool(format, seed, largest),
            weights,
        })
    }

    /// What its matrices are stored as.
    pub fn format(&self) -> RandomFormat {
        self.format
    }
}

/// `bytes` bytes of random elements.
fn pool(format: RandomFormat, seed: u64, bytes: usize) -> Vec<u8> {
    const PIECE: usize = 1 << 16;
    let Some(dtype) = format.dense() else {
        return Vec::new();
    };
    let mut pool = vec![0; bytes];
    let pieces = pool.par_chunks_mut(PIECE).enumerate();
    pieces.for_each(|(index, piece)| {
        let mut random = Random::new(seed, u64::MAX, index as u64);
        for element in piece.as_chunks_mut::<2>().0 {
            let x = random.symmetric() * DEVIATION;
            *element = match dtype {
                Dtype::F16 => f16::from_f32(x).to_le_bytes(),
                Dtype::BF16 | Dtype::F32 => bf16::from_f32(x).to_le_bytes(),
            };
        }
    });
    pool
}

impl WeightSource for RandomWeights {
    fn matrix(&self, weight: WeightId) -> Option<SourceMatrix<'_>> {
        match self.weights.get(weight.index())? {
            RandomWeight::Dense(range) => Some(SourceMatrix::Dense {
                dtype: self.format.dense()?,
                bytes: self.pool.get(range.clone())?,
            }),
            RandomWeight::Coded(rows) => Some(SourceMatrix::Coded(rows)),
            RandomWeight::Vector(_) => None,
        }
    }
}

impl ModelWeights for RandomWeights {
    fn vector(&self, weight: WeightId) -> Option<&[f32]> {
        match self.weights.get(weight.index())? {
            RandomWeight::Vector(vector) => Some(vector),
            RandomWeight::Dense(_) | RandomWeight::Coded(_) => None,
        }
    }
}

/// A coded matrix whose rows are made when they are asked for.
#[derive(Debug)]
struct RandomRows {
    format: RandomFormat,
    seed: u64,
    index: u64,
}

impl RandomRows {
    /// Codes and scales of a row come from two streams of numbers.
    fn random(&self, row: usize, of_scales: bool) -> Random {
        Random::new(self.seed, self.index, 2 * row as u64 + u64::from(of_scales))
    }

    /// Standard deviation of the codes' values.
    fn code_deviation(&self) -> f32 {
        match self.format {
            // Uniform in -128..=127 and in -8..=7.
            RandomFormat::Int8 => 73.9,
            RandomFormat::Int4 => 4.61,
            // Root of the mean of (2^e * m)^2 over e in -4..=-1, m in 1, 1.125, ..., 1.875.
            RandomFormat::Fp8 => 0.42,
            RandomFormat::Bf16 | RandomFormat::F16 => 1.0,
        }
    }
}

impl CodedRows for RandomRows {
    fn coding(&self) -> Coding {
        Coding {
            codes: match self.format {
                RandomFormat::Int4 => Codes::Centred { bits: 4, zero: 8 },
                RandomFormat::Fp8 => Codes::E4M3,
                RandomFormat::Int8 | RandomFormat::Bf16 | RandomFormat::F16 => {
                    Codes::Centred { bits: 8, zero: 128 }
                }
            },
            group: Group::G128,
        }
    }

    fn codes(&self, row: usize, out: &mut [u8]) {
        let mut random = self.random(row, false);
        for chunk in out.chunks_mut(8) {
            let mut word = random.next();
            match self.format {
                RandomFormat::Int4 => word &= 0x0f0f_0f0f_0f0f_0f0f,
                // Sign, exponents 3 to 6 of bias 7, mantissa: no subnormals, no NaN.
                RandomFormat::Fp8 => {
                    word = (word & 0x9f9f_9f9f_9f9f_9f9f) + 0x1818_1818_1818_1818;
                }
                RandomFormat::Int8 | RandomFormat::Bf16 | RandomFormat::F16 => {}
            }
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
    }

    fn groups(&self, row: usize, scales: &mut [f32], _offsets: &mut [f32]) {
        let mut random = self.random(row, true);
        let middle = DEVIATION / self.code_deviation();
        for scale in scales {
            // Exact in f16, as scales of checkpoints are.
            *scale = f16::from_f32(middle * (0.75 + 0.5 * random.unit())).to_f32();
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014), begun at a place of its own for each stream.
struct Random(u64);

impl Random {
    fn new(seed: u64, weight: u64, row: u64) -> Self {
        let mut random = Random(seed);
        for word in [weight, row] {
            random.0 = random.next() ^ word.wrapping_mul(0xd134_2543_de82_ef95);
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// Uniform with mean 0 and variance 1.
    fn symmetric(&mut self) -> f32 {
        (self.unit() - 0.5) * 12_f32.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ActivationDtype, PlanOptions, Precision, build_plan};
    use stheno_codegen::layout::Mappings;

    fn plan() -> Plan {
        let config = NamedModel::find("tiny").unwrap().config(None).unwrap();
        let options = PlanOptions::new(128, Precision::new(ActivationDtype::Mixed));
        build_plan(&config, &options).unwrap()
    }

    /// Values of a row as its source says them.
    fn row(weights: &RandomWeights, weight: WeightId, row: usize, k: usize) -> Vec<f32> {
        match weights.matrix(weight).unwrap() {
            SourceMatrix::Dense { dtype, bytes } => {
                let words = bytes[2 * row * k..][..2 * k].as_chunks::<2>().0;
                let value = |word: &[u8; 2]| match dtype {
                    Dtype::F16 => f16::from_le_bytes(*word).to_f32(),
                    _ => bf16::from_le_bytes(*word).to_f32(),
                };
                words.iter().map(value).collect()
            }
            SourceMatrix::Coded(rows) => {
                let groups = k.div_ceil(GROUP);
                let (mut codes, mut scales) = (vec![0; k], vec![0.0; groups]);
                rows.codes(row, &mut codes);
                rows.groups(row, &mut scales, &mut vec![0.0; groups]);
                let value = |code: u8| match rows.coding().codes {
                    Codes::Centred { zero, .. } => f32::from(code) - f32::from(zero),
                    Codes::Offset { .. } => f32::from(code),
                    Codes::E4M3 => {
                        let exponent = i32::from(code >> 3 & 15) - 7;
                        let size = (1.0 + f32::from(code & 7) / 8.0) * 2_f32.powi(exponent);
                        if code < 128 { size } else { -size }
                    }
                };
                let codes = codes.iter().enumerate();
                codes.map(|(k, c)| scales[k / GROUP] * value(*c)).collect()
            }
        }
    }

    #[test]
    fn elements_have_the_spread_that_is_promised() {
        let plan = plan();
        let embedding = WeightId(0);
        for format in RandomFormat::ALL {
            let weights = RandomWeights::new(&plan, format, 3).unwrap();
            let all: Vec<f32> = (0..512)
                .flat_map(|i| row(&weights, embedding, i, 256))
                .collect();
            let mean = all.iter().sum::<f32>() / all.len() as f32;
            let square = all.iter().map(|x| x * x).sum::<f32>() / all.len() as f32;
            let middle = if format == RandomFormat::Int4 {
                -0.5 * 0.02 / 4.61
            } else {
                0.0
            };
            assert!((mean - middle).abs() < 0.0005, "{format}: mean {mean}");
            let deviation = square.sqrt();
            assert!(
                (deviation - 0.02).abs() < 0.001,
                "{format}: deviation {deviation}"
            );
        }
    }

    #[test]
    fn the_seed_decides_and_no_two_rows_are_alike() {
        let plan = plan();
        for format in RandomFormat::ALL {
            let weights = |seed| RandomWeights::new(&plan, format, seed).unwrap();
            let (a, b, c) = (weights(1), weights(1), weights(2));
            let of = |weights: &RandomWeights, weight, i| row(weights, WeightId(weight), i, 256);
            assert_eq!(of(&a, 0, 5), of(&b, 0, 5), "{format}");
            assert_ne!(of(&a, 0, 5), of(&c, 0, 5), "{format}");
            assert_ne!(of(&a, 0, 5), of(&a, 0, 6), "{format}");
            assert_ne!(of(&a, 0, 5), of(&a, 2, 5), "{format}");
            // Vectors are of the plan's length.
            let norm = plan
                .weights
                .iter()
                .position(|w| w.name.ends_with("norm.weight"));
            let norm = WeightId(norm.unwrap() as u32);
            assert_eq!(a.vector(norm).unwrap().len(), 256);
            assert!(a.matrix(norm).is_none() && a.vector(WeightId(0)).is_none());
        }
    }

    #[test]
    fn device_forms_are_lossless_and_as_named() {
        let plan = plan();
        let names = ["bf16", "f16", "fp8-e4m3 g128", "int8 g128", "int4 g128"];
        for (format, name) in RandomFormat::ALL.into_iter().zip(names) {
            let weights = RandomWeights::new(&plan, format, 0).unwrap();
            let mappings = Mappings::new(&plan, &weights).unwrap();
            let ids = (0..plan.weights.len() as u32).map(WeightId);
            for mapping in ids.filter_map(|id| mappings.get(id)) {
                assert_eq!(mapping.format.to_string(), name);
                assert!(mapping.lossless, "{format}");
            }
        }
    }

    #[test]
    fn formats_are_read_as_they_are_written() {
        for format in RandomFormat::ALL {
            assert_eq!(format.to_string().parse::<RandomFormat>().unwrap(), format);
        }
        let error = "q4".parse::<RandomFormat>().unwrap_err().to_string();
        assert!(error.contains("`q4`") && error.contains("int4"), "{error}");
        assert_eq!(RandomFormat::Int4.bytes(16, 256), 16 * 128 + 16 * 2 * 2);
    }
}
