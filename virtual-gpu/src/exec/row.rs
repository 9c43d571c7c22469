//! Register rows: one 32-bit register of all 32 lanes of a warp.

/// Lanes of a warp.
pub const LANES: usize = 32;

/// All lanes.
pub const FULL: u32 = u32::MAX;

/// A 32-bit register in all lanes. A 64-bit register is two neighbouring rows, seen as `[u64; 32]`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub struct Row(pub [u32; LANES]);

impl Row {
    /// Zero in all lanes.
    pub const ZERO: Row = Row([0; LANES]);
}

/// Where an operand's rows are: in the warp's registers, or among the constants of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u32);

impl Slot {
    const CONSTANT: u32 = 1 << 31;

    /// Row `index` of the warp's registers.
    pub const fn register(index: u32) -> Self {
        Self(index)
    }

    /// Row `index` of the program's constants.
    pub const fn constant(index: u32) -> Self {
        Self(index | Self::CONSTANT)
    }

    /// As a number, for an instruction's immediate.
    pub const fn to_raw(self) -> u32 {
        self.0
    }

    /// From that number.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// 0 for registers, 1 for constants.
    #[inline(always)]
    pub const fn bank(self) -> usize {
        (self.0 >> 31) as usize
    }

    /// The row within its bank.
    #[inline(always)]
    pub const fn row(self) -> usize {
        (self.0 & !Self::CONSTANT) as usize
    }

    /// The slot `rows` further.
    pub const fn offset(self, rows: u32) -> Self {
        Self(self.0 + rows)
    }
}
