//! Tensor maps: what a kernel needs to know of a tensor to copy boxes of it.
//!
//! Programs take them as 128 opaque bytes. Ours, little-endian: a mark (4 bytes), element type, rank, swizzle and fill
//! (1 each), the address (8), each size less 1 (5 times 4), each stride but that of the innermost dimension (4 times 8),
//! each size of the box less 1 (5 times 1), each element stride (5 times 1), and zeros.

use crate::num::ScalarType;

/// Bytes of a tensor map.
pub const BYTES: usize = 128;
/// Addresses of tensor maps are multiples of this.
pub const ALIGN: u64 = 64;

const MARK: [u8; 4] = *b"Vmap";
/// A bound for boxes: no block has more shared memory.
const MAX_BOX: u64 = 1 << 20;
/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 5;

/// Where the bytes of a box lie in shared memory: chunks of 16 bytes trade places, so that those of a column fall into
/// different banks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swizzle {
    /// One after the other.
    #[default]
    None,
    /// Within 32 bytes, by bit 7 of the address.
    Bytes32,
    /// Within 64 bytes, by bits 7 and 8.
    Bytes64,
    /// Within 128 bytes, by bits 7 to 9.
    Bytes128,
}

impl Swizzle {
    const ALL: [Self; 4] = [Self::None, Self::Bytes32, Self::Bytes64, Self::Bytes128];

    /// Bytes within which chunks trade places; 16 if none do.
    pub fn span(self) -> u32 {
        16 << self as u32
    }

    /// The address at which the byte lies that would lie at `address` without a swizzle.
    #[inline(always)]
    pub fn place(self, address: u32) -> u32 {
        address ^ (address >> 3 & (self.span() - 1) & !15)
    }
}

/// What stands for elements outside of the tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Zero.
    #[default]
    Zero,
    /// A NaN, of floating-point types.
    NaN,
}

/// Why there can be no such tensor map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorMapError {
    /// The element type is none of those that tensor maps have.
    #[error("a tensor map has no elements of type {0:?}")]
    Element(ScalarType),
    /// The number of dimensions, or of what belongs to each.
    #[error("a tensor has 1 to 5 dimensions, with a stride for each but the first: {0}")]
    Rank(String),
    /// A size, a stride, an address or a box that is not possible.
    #[error("{0}")]
    Extent(String),
    /// A NaN for integers.
    #[error("elements of type {0:?} cannot be filled with NaN")]
    Fill(ScalarType),
}

/// A tensor in global memory, and the boxes in which it is copied. The innermost dimension comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Type of the elements: `U8`, `U16`, `U32`, `S32`, `U64`, `S64`, `F16`, `BF16`, `F32` or `F64`.
    pub element: ScalarType,
    /// Address of the first element, a multiple of 16.
    pub address: u64,
    /// Elements of each dimension.
    pub sizes: Vec<u64>,
    /// Bytes from one element to the next of each dimension but the innermost, where they follow each other: multiples
    /// of 16.
    pub strides: Vec<u64>,
    /// Elements of a box by dimension, at most 256.
    pub box_sizes: Vec<u32>,
    /// Of how many elements of each dimension one is copied, at most 8; of the innermost always all are.
    pub element_strides: Vec<u32>,
    /// Where the bytes of a box lie in shared memory.
    pub swizzle: Swizzle,
    /// What stands for elements outside of the tensor.
    pub fill: Fill,
}

impl TensorMap {
    /// A map of dense boxes without a swizzle, filled with zeros.
    ///
    /// # Errors
    /// What of the arguments is not possible.
    pub fn tiled(
        element: ScalarType,
        address: u64,
        sizes: &[u64],
        strides: &[u64],
        box_sizes: &[u32],
    ) -> Result<Self, TensorMapError> {
        let map = Self {
            element,
            address,
            sizes: sizes.to_vec(),
            strides: strides.to_vec(),
            box_sizes: box_sizes.to_vec(),
            element_strides: vec![1; sizes.len()],
            swizzle: Swizzle::None,
            fill: Fill::Zero,
        };
        map.check()?;
        Ok(map)
    }

    /// The same map with a swizzle.
    ///
    /// # Errors
    /// The innermost dimension of a box has more bytes than the swizzle spans.
    pub fn swizzled(mut self, swizzle: Swizzle) -> Result<Self, TensorMapError> {
        self.swizzle = swizzle;
        self.check()?;
        Ok(self)
    }

    /// Dimensions.
    pub fn rank(&self) -> usize {
        self.sizes.len()
    }

    /// Elements that a box has in a dimension, where it may leave out some.
    pub fn count(&self, dimension: usize) -> u32 {
        match dimension {
            0 => self.box_sizes[0],
            _ => self.box_sizes[dimension].div_ceil(self.element_strides[dimension]),
        }
    }

    /// Bytes of the innermost dimension of a box.
    pub fn row_bytes(&self) -> u32 {
        self.box_sizes[0] * self.element.bytes()
    }

    /// Bytes of a box in shared memory.
    pub fn box_bytes(&self) -> u32 {
        let rows: u32 = (1..self.rank()).map(|d| self.count(d)).product();
        rows * self.row_bytes()
    }

    /// Whether the map can be made, as the documentation of `cuTensorMapEncodeTiled` says.
    ///
    /// # Errors
    /// What is not possible.
    pub fn check(&self) -> Result<(), TensorMapError> {
        let extent = |message: String| Err(TensorMapError::Extent(message));
        if kind(self.element).is_none() {
            return Err(TensorMapError::Element(self.element));
        }
        let rank = self.rank();
        if rank == 0 || rank > MAX_RANK {
            return Err(TensorMapError::Rank(format!("it has {rank}")));
        }
        let given = [
            self.strides.len() + 1,
            self.box_sizes.len(),
            self.element_strides.len(),
        ];
        if given.iter().any(|n| *n != rank) {
            return Err(TensorMapError::Rank(format!(
                "{rank} sizes, {} strides, {} sizes of the box, {} element strides",
                self.strides.len(),
                given[1],
                given[2]
            )));
        }
        if !self.address.is_multiple_of(16) {
            return extent(format!(
                "the address {:#x} of the tensor is not a multiple of 16",
                self.address
            ));
        }
        if let Some(size) = self.sizes.iter().find(|n| **n == 0 || **n > 1 << 32) {
            return extent(format!(
                "a dimension of {size} elements is not of 1 to 2^32"
            ));
        }
        let bad_stride = |stride: &&u64| !stride.is_multiple_of(16) || **stride >= 1 << 40;
        if let Some(stride) = self.strides.iter().find(bad_stride) {
            return extent(format!(
                "a stride of {stride} bytes is not a multiple of 16 below 2^40"
            ));
        }
        if let Some(size) = self.box_sizes.iter().find(|n| !(1..=256).contains(*n)) {
            return extent(format!(
                "a box of {size} elements in a dimension is not of 1 to 256"
            ));
        }
        if let Some(stride) = self.element_strides.iter().find(|n| !(1..=8).contains(*n)) {
            return extent(format!("an element stride of {stride} is not of 1 to 8"));
        }
        let counts = (1..rank).map(|d| u64::from(self.count(d)));
        let bytes = counts.product::<u64>() * u64::from(self.row_bytes());
        if bytes > MAX_BOX {
            return extent(format!(
                "a box of {bytes} bytes is more than the shared memory of any block"
            ));
        }
        let row = self.row_bytes();
        if !row.is_multiple_of(16) {
            return extent(format!(
                "the innermost dimension of the box has {row} bytes, which is not a multiple of 16"
            ));
        }
        if self.swizzle != Swizzle::None && row > self.swizzle.span() {
            return extent(format!(
                "the innermost dimension of the box has {row} bytes, where the swizzle spans {}",
                self.swizzle.span()
            ));
        }
        if self.fill == Fill::NaN && !self.element.is_float() {
            return Err(TensorMapError::Fill(self.element));
        }
        Ok(())
    }

    /// The bytes that a kernel takes.
    ///
    /// # Errors
    /// As for [`TensorMap::check`].
    pub fn encode(&self) -> Result<[u8; BYTES], TensorMapError> {
        self.check()?;
        let mut bytes = MARK.to_vec();
        bytes.push(kind(self.element).unwrap_or_default());
        bytes.push(self.rank() as u8);
        bytes.push(self.swizzle as u8);
        bytes.push(self.fill as u8);
        bytes.extend(self.address.to_le_bytes());
        let each = |dimension: usize, list: &[u64]| list.get(dimension).copied().unwrap_or(1);
        for dimension in 0..MAX_RANK {
            bytes.extend(((each(dimension, &self.sizes) - 1) as u32).to_le_bytes());
        }
        for dimension in 0..MAX_RANK - 1 {
            bytes.extend(each(dimension, &self.strides).to_le_bytes());
        }
        let small = |dimension: usize, list: &[u32]| list.get(dimension).copied().unwrap_or(1);
        bytes.extend((0..MAX_RANK).map(|d| (small(d, &self.box_sizes) - 1) as u8));
        bytes.extend((0..MAX_RANK).map(|d| small(d, &self.element_strides) as u8));
        bytes.resize(BYTES, 0);
        let mut whole = [0; BYTES];
        whole.copy_from_slice(&bytes);
        Ok(whole)
    }

    /// Reads what [`TensorMap::encode`] wrote; nothing of other bytes.
    pub fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        if bytes[..4] != MARK || bytes[78..].iter().any(|byte| *byte != 0) {
            return None;
        }
        let rank = usize::from(bytes[5]);
        if rank == 0 || rank > MAX_RANK {
            return None;
        }
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let map = Self {
            element: ELEMENTS.iter().find(|(_, kind)| *kind == bytes[4])?.0,
            address: long(8),
            sizes: (0..rank)
                .map(|d| u64::from(short(16 + 4 * d)) + 1)
                .collect(),
            strides: (0..rank - 1).map(|d| long(36 + 8 * d)).collect(),
            box_sizes: (0..rank).map(|d| u32::from(bytes[68 + d]) + 1).collect(),
            element_strides: (0..rank).map(|d| u32::from(bytes[73 + d])).collect(),
            swizzle: *Swizzle::ALL.get(usize::from(bytes[6]))?,
            fill: match bytes[7] {
                0 => Fill::Zero,
                1 => Fill::NaN,
                _ => return None,
            },
        };
        map.check().is_ok().then_some(map)
    }

    /// The bytes of an element outside of the tensor; the first [`ScalarType::bytes`] count.
    pub fn filler(&self) -> [u8; 8] {
        match (self.fill, self.element) {
            (Fill::Zero, _) => [0; 8],
            // The NaN that arithmetic gives. What the hardware writes is not documented.
            (Fill::NaN, ScalarType::F64) => f64::NAN.to_bits().to_le_bytes(),
            (Fill::NaN, ScalarType::F32) => 0x7fff_ffff_u64.to_le_bytes(),
            (Fill::NaN, _) => 0x7fff_u64.to_le_bytes(),
        }
    }
}

/// Element types and how they are written down.
const ELEMENTS: [(ScalarType, u8); 10] = [
    (ScalarType::U8, 1),
    (ScalarType::U16, 2),
    (ScalarType::U32, 3),
    (ScalarType::S32, 4),
    (ScalarType::U64, 5),
    (ScalarType::S64, 6),
    (ScalarType::F16, 7),
    (ScalarType::BF16, 8),
    (ScalarType::F32, 9),
    (ScalarType::F64, 10),
];

fn kind(element: ScalarType) -> Option<u8> {
    let found = ELEMENTS.iter().find(|(ty, _)| *ty == element);
    found.map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> TensorMap {
        TensorMap {
            element: ScalarType::BF16,
            address: 0x7000_0000_0040,
            sizes: vec![100, 1 << 32, 3],
            strides: vec![208, (1 << 40) - 16],
            box_sizes: vec![64, 256, 2],
            element_strides: vec![1, 8, 1],
            swizzle: Swizzle::Bytes128,
            fill: Fill::NaN,
        }
    }

    #[test]
    fn maps_survive_their_bytes() {
        let map = example();
        let bytes = map.encode().unwrap();
        assert_eq!(TensorMap::decode(&bytes), Some(map));
        let plain = TensorMap::tiled(ScalarType::U8, 0, &[16], &[], &[16]).unwrap();
        assert_eq!(TensorMap::decode(&plain.encode().unwrap()), Some(plain));
        assert_eq!(TensorMap::decode(&[0; BYTES]), None);
        for at in [0, 4, 5, 6, 7, 8, 36, 73, 127] {
            let mut broken = bytes;
            broken[at] ^= 0x81;
            assert_eq!(TensorMap::decode(&broken), None, "byte {at}");
        }
    }

    #[test]
    fn boxes_have_the_elements_that_they_copy() {
        let map = example();
        assert_eq!((map.count(0), map.count(1), map.count(2)), (64, 32, 2));
        assert_eq!(map.box_bytes(), 64 * 32 * 2 * 2);
    }

    #[test]
    fn what_is_not_possible_is_named() {
        type Change = fn(&mut TensorMap);
        let cases: [(Change, &str); 16] = [
            (|m| m.element = ScalarType::TF32, "no elements"),
            (|m| m.sizes.clear(), "1 to 5"),
            (|m| m.strides.push(16), "strides"),
            (|m| m.address += 8, "multiple of 16"),
            (|m| m.sizes[0] = 0, "2^32"),
            (|m| m.sizes[1] += 1, "2^32"),
            (|m| m.strides[0] = 200, "2^40"),
            (|m| m.strides[1] = 1 << 40, "2^40"),
            (|m| m.box_sizes[1] = 257, "256"),
            (|m| m.box_sizes[2] = 0, "256"),
            (|m| m.element_strides[1] = 9, "1 to 8"),
            (
                |m| (m.box_sizes[2], m.element_strides[1]) = (256, 1),
                "any block",
            ),
            (|m| m.box_sizes[0] = 12, "multiple of 16"),
            (|m| m.swizzle = Swizzle::Bytes64, "spans 64"),
            (|m| m.box_sizes[0] = 72, "spans 128"),
            (|m| m.element = ScalarType::U16, "NaN"),
        ];
        for (change, word) in cases {
            let mut map = example();
            change(&mut map);
            let error = map.encode().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn swizzles_trade_chunks() {
        assert_eq!(Swizzle::None.place(0x3f0), 0x3f0);
        assert_eq!(Swizzle::Bytes32.place(0x3f0), 0x3e0);
        assert_eq!(Swizzle::Bytes64.place(0x380), 0x3b0);
        assert_eq!(Swizzle::Bytes128.place(0x384), 0x3f4);
        for swizzle in Swizzle::ALL {
            assert!((0..4096).all(|at| swizzle.place(swizzle.place(at)) == at));
        }
    }
}
