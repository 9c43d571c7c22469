//! The addresses of a warp-wide access, brought into the few shapes that kernels use.

/// The addresses that the lanes of a warp access in one instruction.
#[derive(Clone, Copy, Debug)]
pub struct LaneAccess<'a> {
    /// Byte offset within the space, for each lane; those of inactive lanes are ignored.
    pub addresses: &'a [u64; 32],
    /// Active lanes.
    pub mask: u32,
    /// Bytes per lane.
    pub bytes: u32,
    /// The whole warp makes the access together (`ldmatrix`), whichever lane gives the address.
    pub collective: bool,
    /// What the lanes write, or a digest of it where a value has more than 64 bits. Only looked at when lanes of one
    /// instruction write to one address, which is a race unless the values are equal. `None`: they are equal.
    pub values: Option<&'a [u64; 32]>,
    /// What the lanes write is in memory already. Stores that write one value may come in any order.
    pub unchanged: bool,
}

impl LaneAccess<'_> {
    /// True if the lanes access whole words each on their own.
    pub(crate) fn is_of_words(&self) -> bool {
        let mut low = self.bytes as u64;
        for (lane, address) in self.addresses.iter().enumerate() {
            low |= address * ((self.mask >> lane) & 1) as u64;
        }
        low & 3 == 0 && !self.collective
    }
}

/// Which lane of a warp touched a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lanes {
    /// Each of these lanes touched all the bytes in question.
    Mask(u32),
    /// Lane `(address >> shift) - turn` (modulo 32).
    Linear { shift: u8, turn: u8 },
    /// As this table says.
    Table(u32),
}

impl Lanes {
    /// True if the lanes depend on the byte within a word of four.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Linear { shift: 0 | 1, .. })
    }
}

/// Shape of a warp-wide access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Lane after lane without gaps: the bytes `start..end`.
    Row { start: u64, end: u64, lanes: Lanes },
    /// Lane `first + i` at `start + i * stride`, `count` lanes, with gaps between.
    Strided {
        start: u64,
        stride: u64,
        count: u32,
        lanes: Lanes,
    },
    /// All active lanes at one address.
    Same { start: u64 },
    /// Any addresses of whole words, with a table of them.
    Table(Lanes),
    /// Anything else.
    Scatter,
}

impl Pattern {
    pub fn of(access: &LaneAccess) -> Self {
        let first = access.mask.trailing_zeros();
        if first == 32 {
            return Self::Scatter;
        }
        let start = access.addresses[first as usize];
        let bytes = access.bytes as u64;
        let run = access.mask >> first;
        if run == 1 {
            return Self::Same { start };
        }
        if run & run.wrapping_add(1) != 0 || access.collective {
            let lanes = access
                .addresses
                .iter()
                .enumerate()
                .filter(|(lane, _)| access.mask >> lane & 1 == 1);
            let same = lanes
                .map(|(_, address)| *address)
                .all(|address| address == start);
            return if same {
                Self::Same { start }
            } else {
                Self::Scatter
            };
        }
        let count = run.trailing_ones();
        let used = &access.addresses[first as usize..(first + count) as usize];
        let stride = used[1].wrapping_sub(start);
        let mut expected = start;
        let mut odd = 0;
        for address in used {
            odd |= address ^ expected;
            expected = expected.wrapping_add(stride);
        }
        if odd != 0 {
            return Self::Scatter;
        }
        if stride == 0 {
            return Self::Same { start };
        }
        // Only then does the address alone give the lane.
        let regular = stride.is_power_of_two() && bytes.is_power_of_two() && stride >= bytes;
        if !regular || !start.is_multiple_of(bytes) || stride > 1 << 32 {
            return Self::Scatter;
        }
        let shift = stride.trailing_zeros() as u8;
        let lanes = Lanes::Linear {
            shift,
            turn: ((start >> shift).wrapping_sub(first as u64) & 31) as u8,
        };
        if stride == bytes {
            Self::Row {
                start,
                end: start.saturating_add(stride * count as u64),
                lanes,
            }
        } else {
            Self::Strided {
                start,
                stride,
                count,
                lanes,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Tables;
    use super::*;

    fn at(lanes: Lanes, address: u64) -> u32 {
        Tables::new().at(lanes, address)
    }

    fn pattern(mask: u32, bytes: u32, address: impl Fn(u64) -> u64) -> Pattern {
        let addresses = std::array::from_fn(|lane| address(lane as u64));
        Pattern::of(&LaneAccess {
            addresses: &addresses,
            mask,
            bytes,
            collective: false,
            values: None,
            unchanged: false,
        })
    }

    #[test]
    fn rows_know_their_lanes() {
        let Pattern::Row { start, end, lanes } = pattern(u32::MAX, 4, |lane| 1004 + 4 * lane)
        else {
            panic!()
        };
        assert_eq!((start, end), (1004, 1132));
        assert_eq!(
            (at(lanes, 1004), at(lanes, 1011), at(lanes, 1131)),
            (1, 2, 1 << 31)
        );
        let Pattern::Row { start, end, lanes } = pattern(0xff00, 16, |lane| 512 + 16 * lane) else {
            panic!()
        };
        assert_eq!((start, end), (640, 768));
        assert_eq!((at(lanes, 640), at(lanes, 767)), (1 << 8, 1 << 15));
    }

    #[test]
    fn strides_know_their_lanes() {
        let Pattern::Strided { lanes, count, .. } = pattern(0xf0, 4, |lane| 12 + 16 * lane) else {
            panic!()
        };
        assert_eq!(
            (count, at(lanes, 12 + 16 * 4), at(lanes, 15 + 16 * 7)),
            (4, 1 << 4, 1 << 7)
        );
    }

    #[test]
    fn the_rest_is_one_address_or_a_scatter() {
        assert_eq!(pattern(u32::MAX, 4, |_| 64), Pattern::Same { start: 64 });
        assert_eq!(pattern(0b101, 4, |_| 64), Pattern::Same { start: 64 });
        assert_eq!(pattern(0b101, 4, |lane| 4 * lane), Pattern::Scatter);
        assert_eq!(pattern(u32::MAX, 4, |lane| 12 * lane), Pattern::Scatter);
        assert_eq!(
            pattern(u32::MAX, 4, |lane| 4096 - 4 * lane),
            Pattern::Scatter
        );
        assert_eq!(pattern(0, 4, |lane| lane), Pattern::Scatter);
    }
}
