//! By which rule a loaded matrix becomes a device matrix.

use super::source::Matrix;
use super::{CodedRows, Codes, Group, LayoutError, SourceMatrix, WeightFormat, WeightSource};
use crate::plan::{Dtype, Epilogue, Op, Plan, WeightId};
use half::f16;
use rayon::prelude::*;

/// How one matrix maps to its device form (the rules are in [`super`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// The device form.
    pub format: WeightFormat,
    /// What is subtracted from a quantum: device code c = q - bias, offset += bias * scale.
    pub bias: u8,
    /// Device scales and offsets are f16 of the source's times 2^-exponent; a kernel multiplies its results by
    /// 2^exponent, which is exact.
    pub exponent: i32,
    /// Whether every device element equals its source. Measured on the weights, not guessed from their type.
    pub lossless: bool,
    /// Why so, for people.
    pub reason: &'static str,
}

/// The mappings of all matrices that the ops of a plan read.
#[derive(Debug, Clone, PartialEq)]
pub struct Mappings(Vec<Option<Mapping>>);

impl Mappings {
    /// Reads the scales of all matrices (and the elements of f32 ones) and decides. The gate and up projection of one
    /// op get one format.
    ///
    /// # Errors
    /// A matrix is missing, has another size, has a scale that is no finite number, or is the gate of an up projection
    /// whose format it cannot share.
    pub fn new(plan: &Plan, weights: &dyn WeightSource) -> Result<Self, LayoutError> {
        let mut used = vec![false; plan.weights.len()];
        let mut pairs = Vec::new();
        for op in plan.segments.iter().flat_map(|segment| &segment.ops) {
            match op {
                Op::Embed { table, .. } => used[table.index()] = true,
                Op::Linear(linear) => {
                    for part in &linear.parts {
                        used[part.weight.index()] = true;
                    }
                    if let (Epilogue::Gated { .. }, [gate, up]) =
                        (&linear.epilogue, linear.parts.as_slice())
                    {
                        pairs.push((gate.weight, up.weight));
                    }
                }
                Op::Attention { .. } | Op::Gather { .. } | Op::Copy { .. } => {}
            }
        }
        let fail = |weight: WeightId, reason| LayoutError::Weight {
            name: plan.weight(weight).name.clone(),
            reason,
        };
        let ids = (0..).map(WeightId).zip(used);
        let mappings = ids.map(|(weight, used)| {
            let matrix = used.then(|| Matrix::find(plan, weights, weight));
            let mapping = matrix.map(|matrix| Mapping::of(&matrix?, None));
            mapping.transpose().map_err(|reason| fail(weight, reason))
        });
        let mut mappings = Mappings(mappings.collect::<Result<_, _>>()?);
        for (gate, up) in pairs {
            let formats = mappings.formats();
            let (a, b) = (formats.of(plan, gate)?, formats.of(plan, up)?);
            if a == b {
                continue;
            }
            let joined = a.join(b).ok_or_else(|| {
                let other = &plan.weight(up).name;
                fail(
                    gate,
                    format!("it is {a} and shares tiles with `{other}`, which is {b}"),
                )
            })?;
            for weight in [gate, up] {
                let matrix = Matrix::find(plan, weights, weight);
                let mapping = matrix.and_then(|matrix| Mapping::of(&matrix, Some(joined)));
                let mapping = mapping.map_err(|reason| fail(weight, reason))?;
                mappings.0[weight.index()] = Some(mapping);
            }
        }
        Ok(mappings)
    }

    /// The mapping of a weight; `None` if no op reads it as a matrix.
    pub fn get(&self, weight: WeightId) -> Option<&Mapping> {
        self.0.get(weight.index())?.as_ref()
    }

    /// The device forms alone: what a layout depends on.
    pub fn formats(&self) -> Formats {
        let format = |mapping: &Option<Mapping>| mapping.as_ref().map(|m| m.format);
        Formats(self.0.iter().map(format).collect())
    }
}

/// The device form of each weight of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formats(Vec<Option<WeightFormat>>);

impl Formats {
    /// Forms that are known before the weights are read.
    pub fn new(plan: &Plan, format: impl Fn(WeightId) -> Option<WeightFormat>) -> Self {
        let ids = (0..plan.weights.len() as u32).map(WeightId);
        Formats(ids.map(format).collect())
    }

    /// The form of a weight; `None` if it has none.
    pub fn get(&self, weight: WeightId) -> Option<WeightFormat> {
        *self.0.get(weight.index())?
    }

    /// The form of a weight of the plan.
    ///
    /// # Errors
    /// It has none.
    pub(super) fn of(&self, plan: &Plan, weight: WeightId) -> Result<WeightFormat, LayoutError> {
        self.get(weight).ok_or_else(|| LayoutError::Weight {
            name: plan.weight(weight).name.clone(),
            reason: "it has no device form".to_owned(),
        })
    }
}

impl Mapping {
    /// Maps a matrix, to a given format if it must share one.
    pub(super) fn of(matrix: &Matrix<'_>, format: Option<WeightFormat>) -> Result<Self, String> {
        match matrix.source {
            SourceMatrix::Dense { dtype, bytes } => Ok(Self::dense(dtype, bytes)),
            SourceMatrix::Coded(rows) => Self::coded(matrix, rows, format),
        }
    }

    /// Device scale and offset of a group of the source.
    pub(super) fn group(&self, codes: Codes, scale: f32, offset: f32) -> (f16, f16) {
        let offset = rebased(codes, self.bias, scale, offset);
        let round = |x| device_f16(x, self.exponent);
        (round(scale.into()), round(offset))
    }

    /// What is added (modulo 256) to a quantum to make the stored code.
    pub(super) fn code_shift(&self) -> u8 {
        self.format.zero_code().wrapping_sub(self.bias)
    }

    fn dense(dtype: Dtype, bytes: &[u8]) -> Self {
        let (format, lossless, reason) = match dtype {
            Dtype::BF16 => (WeightFormat::Bf16, true, "bf16 as it is"),
            Dtype::F16 => (WeightFormat::F16, true, "f16 as it is"),
            Dtype::F32 => {
                let words = bytes.as_chunks::<4>().0;
                let short = |word: &[u8; 4]| word[..2] == [0, 0];
                match words.par_iter().with_min_len(1 << 16).all(short) {
                    true => (WeightFormat::Bf16, true, "f32 that holds bf16 values"),
                    false => (WeightFormat::Bf16, false, "f32 rounded to the nearest bf16"),
                }
            }
        };
        Mapping {
            format,
            bias: 0,
            exponent: 0,
            lossless,
            reason,
        }
    }

    fn coded(
        matrix: &Matrix<'_>,
        rows: &dyn CodedRows,
        format: Option<WeightFormat>,
    ) -> Result<Self, String> {
        let coding = rows.coding();
        let (plain, reason) = match coding.codes {
            Codes::E4M3 => (
                WeightFormat::Fp8E4M3 {
                    group: coding.group,
                },
                "fp8 codes as they are",
            ),
            Codes::Centred { bits, zero } if centres(bits, zero, 8) => {
                (int4(coding.group, false), "4-bit quanta around 8")
            }
            Codes::Offset { bits } if bits <= 4 => {
                (int4(coding.group, true), "4-bit quanta as they are")
            }
            Codes::Centred { bits, .. } if bits <= 4 => (
                int4(coding.group, true),
                "4-bit quanta as they are, the zero point as an offset",
            ),
            Codes::Centred { bits, zero } if centres(bits, zero, 128) => {
                (int8(coding.group, false), "quanta widened to signed bytes")
            }
            Codes::Centred { .. } => (
                int8(coding.group, true),
                "quanta widened to signed bytes, the zero point as an offset",
            ),
            Codes::Offset { bits: 8 } => (
                int8(coding.group, true),
                "8-bit quanta minus 128, 128 scales added to the offset",
            ),
            Codes::Offset { .. } => (int8(coding.group, true), "quanta widened to bytes"),
        };
        if coding.codes == Codes::E4M3 {
            refuse_nan(matrix, rows)?;
        }
        let target = format.unwrap_or(plain);
        let bias = match (coding.codes, target) {
            (Codes::Centred { zero, .. }, WeightFormat::Int4 { offset: false, .. }) => zero,
            (Codes::Centred { bits, zero }, WeightFormat::Int8 { .. })
                if centres(bits, zero, 128) =>
            {
                zero
            }
            (Codes::Centred { bits: 8, .. } | Codes::Offset { bits: 8 }, _) => 128,
            _ => 0,
        };
        let scan = Scan::of(matrix, rows, bias)?;
        let exponent = match scan.exact {
            true => 0,
            false => scan.exponent(),
        };
        // Groups that repeat are one group; a format that is shared is not ours to change.
        let group = format.map_or(scan.group, |format| format.group().unwrap_or(scan.group));
        Ok(Mapping {
            format: with_group(target, group),
            bias,
            exponent,
            lossless: scan.exact || scan.exact_at(matrix, rows, bias, exponent),
            reason,
        })
    }
}

/// The decoding by shifts reads the NaN of E4M3 as 480.
fn refuse_nan(matrix: &Matrix<'_>, rows: &dyn CodedRows) -> Result<(), String> {
    let all = (0..matrix.n).into_par_iter().with_min_len(64);
    let nan = all.map_init(
        || vec![0; matrix.k],
        |codes, row| {
            rows.codes(row, codes);
            codes.iter().any(|code| code & 0x7f == 0x7f).then_some(row)
        },
    );
    match nan.flatten().min() {
        Some(row) => Err(format!("row {row} has an element that is not a number")),
        None => Ok(()),
    }
}

fn int4(group: Group, offset: bool) -> WeightFormat {
    WeightFormat::Int4 { group, offset }
}

fn int8(group: Group, offset: bool) -> WeightFormat {
    WeightFormat::Int8 { group, offset }
}

fn with_group(format: WeightFormat, group: Group) -> WeightFormat {
    match format {
        WeightFormat::Bf16 | WeightFormat::F16 => format,
        WeightFormat::Fp8E4M3 { .. } => WeightFormat::Fp8E4M3 { group },
        WeightFormat::Int8 { offset, .. } => WeightFormat::Int8 { group, offset },
        WeightFormat::Int4 { offset, .. } => WeightFormat::Int4 { group, offset },
    }
}

/// Whether all quanta minus their zero point are in -half..half.
fn centres(bits: u32, zero: u8, half: i32) -> bool {
    let zero = i32::from(zero);
    zero <= half && (1 << bits) - 1 - zero < half
}

/// The offset of the codes c = q - bias, exact.
fn rebased(codes: Codes, bias: u8, scale: f32, offset: f32) -> f64 {
    let (scale, bias) = (f64::from(scale), f64::from(bias));
    match codes {
        Codes::Offset { .. } => bias.mul_add(scale, offset.into()),
        Codes::Centred { zero, .. } => (bias - f64::from(zero)) * scale,
        Codes::E4M3 => 0.0,
    }
}

/// What the device stores for x: x * 2^-exponent rounded to f32, then to f16, both to nearest even.
fn device_f16(x: f64, exponent: i32) -> f16 {
    f16::from_f32((x * power_of_two(-exponent)) as f32)
}

/// 2^exponent. Exponents of f32 scales are far within those of f64.
pub(super) fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

fn is_exact(x: f64, exponent: i32) -> bool {
    f64::from(device_f16(x, exponent).to_f32()) * power_of_two(exponent) == x
}

/// What a pass over all scales found.
#[derive(Clone, Copy)]
struct Scan {
    /// All scales and offsets are f16 numbers.
    exact: bool,
    /// Largest magnitude among them.
    largest: f32,
    /// Coarsest group that loses nothing.
    group: Group,
}

impl Scan {
    fn of(matrix: &Matrix<'_>, rows: &dyn CodedRows, bias: u8) -> Result<Scan, String> {
        let coding = rows.coding();
        let scan = |row: usize, buffer: &mut (Vec<f32>, Vec<f32>)| -> Result<Scan, String> {
            let (scales, offsets) = buffer;
            rows.groups(row, scales, offsets);
            let mut scan = Scan {
                exact: true,
                largest: 0.0,
                group: Group::Row,
            };
            for (scale, offset) in scales.iter_mut().zip(offsets.iter_mut()) {
                let rebased = rebased(coding.codes, bias, *scale, *offset);
                *offset = rebased as f32;
                for x in [f64::from(*scale), rebased] {
                    if !(x as f32).is_finite() {
                        return Err(format!("row {row} has a scale or offset of {x}"));
                    }
                    scan.exact &= is_exact(x, 0);
                    scan.largest = scan.largest.max(x.abs() as f32);
                }
            }
            let repeats = |group: &Group| {
                let ratio = match (group.elements(), coding.group.elements()) {
                    (Some(group), Some(source)) => group / source,
                    _ => scales.len(),
                };
                let same = |list: &[f32]| {
                    let groups = list.chunks(ratio.max(1));
                    groups
                        .into_iter()
                        .all(|group| group.iter().all(|x| *x == group[0]))
                };
                same(scales) && same(offsets)
            };
            let coarser = Group::ALL.into_iter().filter(|group| *group > coding.group);
            let coarsest = coarser.rev().find(repeats);
            scan.group = coarsest.unwrap_or(coding.group);
            Ok(scan)
        };
        let groups = coding.group.count(matrix.k);
        let buffer = || (vec![0.0; groups], vec![0.0; groups]);
        let scans = (0..matrix.n).into_par_iter().with_min_len(64);
        let scans = scans.map_init(buffer, |buffer, row| scan(row, buffer));
        let first = Scan {
            exact: true,
            largest: 0.0,
            group: Group::Row,
        };
        scans.try_reduce(
            || first,
            |a, b| {
                Ok(Scan {
                    exact: a.exact && b.exact,
                    largest: a.largest.max(b.largest),
                    group: a.group.min(b.group),
                })
            },
        )
    }

    /// Puts the largest magnitude between 2^14 and 2^15, so that 28 binades below it keep 11 bits.
    fn exponent(&self) -> i32 {
        if self.largest == 0.0 {
            return 0;
        }
        // Subnormals of f32 count as 2^-127: nothing hangs on them.
        let binade = (self.largest.to_bits() >> 23) as i32 - 127;
        binade - 14
    }

    fn exact_at(&self, matrix: &Matrix<'_>, rows: &dyn CodedRows, bias: u8, exponent: i32) -> bool {
        let coding = rows.coding();
        let groups = coding.group.count(matrix.k);
        let buffer = || (vec![0.0; groups], vec![0.0; groups]);
        let all = (0..matrix.n).into_par_iter().with_min_len(64);
        all.map_init(buffer, |(scales, offsets), row| {
            rows.groups(row, scales, offsets);
            scales.iter().zip(offsets.iter()).all(|(&scale, &offset)| {
                let offset = rebased(coding.codes, bias, scale, offset);
                is_exact(scale.into(), exponent) && is_exact(offset, exponent)
            })
        })
        .all(|exact| exact)
    }
}
