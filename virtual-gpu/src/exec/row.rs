//! Register rows: one 32-bit register of all 32 lanes of a warp.

/// Lanes of a warp.
pub const LANES: usize = 32;

/// All lanes.
pub const FULL: u32 = u32::MAX;

/// A 32-bit register in all lanes. A 64-bit register is two neighbouring rows, seen as `[u64; 32]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct Row(pub [u32; LANES]);

impl Row {
    /// Zero in all lanes.
    pub const ZERO: Row = Row([0; LANES]);
}

/// Where an operand's rows are, in bytes from the warp's first register. The constants of the program lie before the
/// registers, so that both are reached in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(i32);

impl Slot {
    const ROW: i32 = size_of::<Row>() as i32;

    /// Row `index` of the warp's registers.
    pub const fn register(index: u32) -> Self {
        Self(index as i32 * Self::ROW)
    }

    /// Constant `index` of the program, which takes `rows` rows.
    pub const fn constant(index: u32, rows: u32) -> Self {
        Self(-((index + rows) as i32) * Self::ROW)
    }

    /// Whether it holds a constant, which is the same in all lanes.
    pub const fn is_constant(self) -> bool {
        self.0 < 0
    }

    /// Bytes from the first register.
    #[inline(always)]
    pub const fn bytes(self) -> isize {
        self.0 as isize
    }

    /// The slot `rows` further.
    pub const fn offset(self, rows: u32) -> Self {
        Self(self.0 + rows as i32 * Self::ROW)
    }

    /// As a number, for an instruction's immediate.
    pub const fn to_raw(self) -> u32 {
        self.0 as u32
    }

    /// From that number.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw as i32)
    }
}
