//! Weights of known values, in every kind of source.

use half::{bf16, f16};
use std::collections::BTreeMap;
use stheno_codegen::layout::{CodedRows, Codes, Coding, Group, SourceMatrix, WeightSource};
use stheno_codegen::plan::{Dtype, Plan, WeightId, WeightShape};

/// What a weight is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Dense(Dtype),
    /// Scales are f16 numbers.
    Coded(Codes, Group),
}

pub const BF16: Kind = Kind::Dense(Dtype::BF16);
/// Q4_0 and symmetric GPTQ.
pub const fn four_bits(group: Group) -> Kind {
    Kind::Coded(Codes::Centred { bits: 4, zero: 8 }, group)
}

/// A matrix and its values.
pub struct Weight {
    pub kind: Kind,
    pub k: usize,
    dense: Vec<u8>,
    pub codes: Vec<u8>,
    pub scales: Vec<f32>,
    pub offsets: Vec<f32>,
}

/// A small generator of the same numbers everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    fn unit(&mut self) -> f32 {
        self.next() as f32 / 2f32.powi(30) - 1.0
    }
}

impl Weight {
    pub fn random(kind: Kind, n: usize, k: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut weight = Weight {
            kind,
            k,
            dense: Vec::new(),
            codes: Vec::new(),
            scales: Vec::new(),
            offsets: Vec::new(),
        };
        match kind {
            Kind::Dense(dtype) => {
                for _ in 0..n * k {
                    let x = random.unit();
                    match dtype {
                        Dtype::F32 => weight.dense.extend(x.to_le_bytes()),
                        Dtype::F16 => weight.dense.extend(f16::from_f32(x).to_le_bytes()),
                        Dtype::BF16 => weight.dense.extend(bf16::from_f32(x).to_le_bytes()),
                    }
                }
            }
            Kind::Coded(codes, group) => {
                weight.codes = (0..n * k).map(|_| code(codes, &mut random)).collect();
                let short = |random: &mut Random| f16::from_f32(random.unit() / 64.0).to_f32();
                for _ in 0..n * group.count(k) {
                    let scale = short(&mut random);
                    weight.scales.push(scale);
                    weight.offsets.push(match codes {
                        Codes::Offset { .. } => short(&mut random),
                        Codes::Centred { zero, .. } => -f32::from(zero) * scale,
                        Codes::E4M3 => 0.0,
                    });
                }
            }
        }
        weight
    }

    /// A row as its type defines it.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let value = |i: usize| {
            let at = row * self.k + i;
            match self.kind {
                Kind::Dense(dtype) => {
                    let bytes = &self.dense[at * dtype.size()..];
                    match dtype {
                        Dtype::F32 => f32::from_le_bytes(bytes[..4].try_into().unwrap()),
                        Dtype::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                        Dtype::BF16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                    }
                }
                Kind::Coded(codes, group) => {
                    let group = row * group.count(self.k) + group.of(i);
                    let (scale, offset) = (self.scales[group], self.offsets[group]);
                    match codes {
                        Codes::E4M3 => e4m3(self.codes[at]) * scale,
                        Codes::Centred { zero, .. } => {
                            (f32::from(self.codes[at]) - f32::from(zero)) * scale
                        }
                        Codes::Offset { .. } => f32::from(self.codes[at]).mul_add(scale, offset),
                    }
                }
            }
        };
        (0..self.k).map(value).collect()
    }
}

/// By the definition: (-1)^s 2^(e - 7) (1 + m / 8), subnormal 2^-6 m / 8.
fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude = match exponent {
        0 => mantissa / 8.0 * 2f32.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if code & 128 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

fn code(codes: Codes, random: &mut Random) -> u8 {
    let byte = random.next() as u8;
    match codes {
        Codes::Offset { bits } | Codes::Centred { bits, .. } => byte >> (8 - bits),
        Codes::E4M3 if byte & 0x7f == 0x7f => 0,
        Codes::E4M3 => byte,
    }
}

impl CodedRows for Weight {
    fn coding(&self) -> Coding {
        let Kind::Coded(codes, group) = self.kind else {
            panic!("a dense weight has no codes");
        };
        Coding { codes, group }
    }

    fn codes(&self, row: usize, out: &mut [u8]) {
        out.copy_from_slice(&self.codes[row * self.k..][..self.k]);
    }

    fn groups(&self, row: usize, scales: &mut [f32], offsets: &mut [f32]) {
        let groups = scales.len();
        scales.copy_from_slice(&self.scales[row * groups..][..groups]);
        let Codes::Offset { .. } = self.coding().codes else {
            // Nobody may look at them.
            offsets.fill(f32::NAN);
            return;
        };
        offsets.copy_from_slice(&self.offsets[row * groups..][..groups]);
    }
}

/// Weights of a plan, by id.
pub struct Weights(pub BTreeMap<WeightId, Weight>);

impl Weights {
    /// Random weights for all matrices of a plan.
    pub fn random(plan: &Plan, seed: u64, kind: impl Fn(&str) -> Kind) -> Self {
        let ids = (0..).map(WeightId).zip(&plan.weights);
        let weights = ids.filter_map(|(id, decl)| match decl.shape {
            WeightShape::Matrix { n, k } => {
                let seed = seed ^ (u64::from(id.0) + 1) << 40;
                let kind = kind(&decl.name);
                Some((id, Weight::random(kind, n as usize, k as usize, seed)))
            }
            WeightShape::Vector { .. } => None,
        });
        Weights(weights.collect())
    }
}

impl WeightSource for Weights {
    fn matrix(&self, weight: WeightId) -> Option<SourceMatrix<'_>> {
        let weight = self.0.get(&weight)?;
        Some(match weight.kind {
            Kind::Dense(dtype) => SourceMatrix::Dense {
                dtype,
                bytes: &weight.dense,
            },
            Kind::Coded(..) => SourceMatrix::Coded(weight),
        })
    }
}
