use super::{CHUNK, TILE_ROWS};
use std::fmt;

/// Elements along K that share a scale. Groups start at k = 0 of each row; the last may be short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// 16 elements (Q6_K).
    G16,
    /// 32 elements (most GGUF types).
    G32,
    /// 128 elements (GPTQ, AWQ, block FP8).
    G128,
    /// A whole row (per-channel and per-tensor scales).
    Row,
}

impl Group {
    /// All of them, finest first.
    pub const ALL: [Group; 4] = [Group::G16, Group::G32, Group::G128, Group::Row];

    /// Elements of a group; `None` for a whole row.
    pub fn elements(self) -> Option<usize> {
        match self {
            Group::G16 => Some(16),
            Group::G32 => Some(32),
            Group::G128 => Some(128),
            Group::Row => None,
        }
    }

    /// Which group of its row element k is in.
    pub fn of(self, k: usize) -> usize {
        self.elements().map_or(0, |elements| k / elements)
    }

    /// Groups of a row, or of a block, of k elements. A block repeats the one scale of a [`Group::Row`].
    pub fn count(self, k: usize) -> usize {
        self.elements().map_or(1, |elements| k.div_ceil(elements))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.elements() {
            Some(elements) => write!(f, "g{elements}"),
            None => f.write_str("row"),
        }
    }
}

/// How the elements of a weight lie in device memory. What each decodes to, and with which roundings, is said in
/// [`super`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// 16 bits, the upper half of a binary32.
    Bf16,
    /// IEEE binary16.
    F16,
    /// FP8 E4M3 (finite, no infinities) as storage, with an f16 scale a group.
    Fp8E4M3 {
        /// Elements that share a scale.
        group: Group,
    },
    /// Signed bytes with an f16 scale a group.
    Int8 {
        /// Elements that share a scale.
        group: Group,
        /// Whether an f16 offset lies beside each scale; without it the offset is 0.
        offset: bool,
    },
    /// Nibbles with an f16 scale a group: 0..=15 with an offset, -8..=7 (stored plus 8) without.
    Int4 {
        /// Elements that share a scale.
        group: Group,
        /// Whether an f16 offset lies beside each scale; without it the offset is 0.
        offset: bool,
    },
}

impl WeightFormat {
    /// Bits of one element, scales apart.
    pub fn bits(self) -> usize {
        match self {
            WeightFormat::Bf16 | WeightFormat::F16 => 16,
            WeightFormat::Fp8E4M3 { .. } | WeightFormat::Int8 { .. } => 8,
            WeightFormat::Int4 { .. } => 4,
        }
    }

    /// Group of the scales; `None` for 16-bit elements, which have none.
    pub fn group(self) -> Option<Group> {
        match self {
            WeightFormat::Bf16 | WeightFormat::F16 => None,
            WeightFormat::Fp8E4M3 { group }
            | WeightFormat::Int8 { group, .. }
            | WeightFormat::Int4 { group, .. } => Some(group),
        }
    }

    /// Whether offsets lie beside the scales.
    pub fn has_offset(self) -> bool {
        match self {
            WeightFormat::Int8 { offset, .. } | WeightFormat::Int4 { offset, .. } => offset,
            WeightFormat::Bf16 | WeightFormat::F16 | WeightFormat::Fp8E4M3 { .. } => false,
        }
    }

    /// What is stored for the element 0 of a row that pads a tile.
    pub(super) fn zero_code(self) -> u8 {
        match self {
            WeightFormat::Int4 { offset: false, .. } => 8,
            _ => 0,
        }
    }

    /// K covered by one atom, the 512 bytes that a warp reads with 16 bytes a lane: 16, 32 or 64.
    pub fn atom_k(self) -> usize {
        256 / self.bits()
    }

    /// Bytes of the elements of a block of 16 rows and k columns.
    pub fn element_bytes(self, k: usize) -> usize {
        TILE_ROWS * k * self.bits() / 8
    }

    /// Bytes of the scales (and offsets) of one group of a tile: 16 rows of f16, or of f16 pairs.
    pub fn group_bytes(self) -> usize {
        match (self.group(), self.has_offset()) {
            (None, _) => 0,
            (Some(_), false) => 2 * TILE_ROWS,
            (Some(_), true) => 4 * TILE_ROWS,
        }
    }

    /// Bytes of a block, the part of a tile in a chunk of K: elements, then scales. k is a multiple of 64, at most
    /// [`CHUNK`]; the result is a multiple of 32.
    pub fn block_bytes(self, k: usize) -> usize {
        debug_assert!(k <= CHUNK);
        let groups = self.group().map_or(0, |group| group.count(k));
        self.element_bytes(k) + groups * self.group_bytes()
    }

    /// The format that holds both exactly where there is one: integers of either width meet in the wider, with the
    /// finer group. `None` if they do not meet.
    pub fn join(self, other: WeightFormat) -> Option<WeightFormat> {
        use WeightFormat::{Int4, Int8};
        if self == other {
            return Some(self);
        }
        let offset = self.has_offset() || other.has_offset();
        match (self, other) {
            (Int4 { group: a, .. }, Int4 { group: b, .. }) => {
                // Centred quanta do not fit beside uncentred ones in 4 bits, in 8 they do.
                let group = a.min(b);
                Some(if self.has_offset() == other.has_offset() {
                    Int4 { group, offset }
                } else {
                    Int8 { group, offset }
                })
            }
            (
                Int4 { group: a, .. } | Int8 { group: a, .. },
                Int4 { group: b, .. } | Int8 { group: b, .. },
            ) => Some(Int8 {
                group: a.min(b),
                offset,
            }),
            (WeightFormat::Fp8E4M3 { group: a }, WeightFormat::Fp8E4M3 { group: b }) => {
                Some(WeightFormat::Fp8E4M3 { group: a.min(b) })
            }
            _ => None,
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightFormat::Bf16 => "bf16",
            WeightFormat::F16 => "f16",
            WeightFormat::Fp8E4M3 { .. } => "fp8-e4m3",
            WeightFormat::Int8 { .. } => "int8",
            WeightFormat::Int4 { .. } => "int4",
        })?;
        if let Some(group) = self.group() {
            write!(f, " {group}")?;
        }
        f.write_str(if self.has_offset() { " + offset" } else { "" })
    }
}
