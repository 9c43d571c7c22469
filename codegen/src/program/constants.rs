use super::ProgramError;
use crate::plan::{Plan, RopeId, WeightId, WeightShape};

/// What lies in the memory that kernels call `constants`: vectors of weights and tables of rotations, in f32.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Constants {
    entries: Vec<(Constant, u32)>,
    bytes: u64,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constant {
    /// A vector of the plan, `[n]`.
    Vector(WeightId),
    /// Cosines and sines of all positions of the context, `[position][pair][2]`, times the rotation's attention factor.
    Rope(RopeId),
}

/// Offsets are 32-bit.
const LIMIT: u64 = u32::MAX as u64;

impl Constants {
    /// All of them, with their offsets in bytes, ascending.
    pub fn entries(&self) -> &[(Constant, u32)] {
        &self.entries
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn vector(&mut self, plan: &Plan, weight: WeightId) -> Result<u32, ProgramError> {
        let WeightShape::Vector { n } = plan.weight(weight).shape else {
            return Err(ProgramError::Plan(format!(
                "`{}` is no vector",
                plan.weight(weight).name
            )));
        };
        self.place(Constant::Vector(weight), 4 * u64::from(n))
    }

    pub(super) fn rope(&mut self, plan: &Plan, rope: RopeId) -> Result<u32, ProgramError> {
        let pairs = plan.rope(rope).inv_freq.len() as u64;
        let bytes = u64::from(plan.context_length) * pairs * 8;
        self.place(Constant::Rope(rope), bytes)
    }

    fn place(&mut self, constant: Constant, bytes: u64) -> Result<u32, ProgramError> {
        if let Some((_, offset)) = self.entries.iter().find(|(other, _)| *other == constant) {
            return Ok(*offset);
        }
        let offset = self.bytes;
        let end = offset + bytes.next_multiple_of(128);
        if end > LIMIT {
            return Err(ProgramError::TooLarge {
                what: "vectors and rotations",
                bytes: end,
            });
        }
        self.bytes = end;
        self.entries.push((constant, offset as u32));
        Ok(offset as u32)
    }
}
