//! Which lane touched which address, for gathers and scatters: their addresses as they are.

use super::pattern::{LaneAccess, Lanes};

#[derive(Clone)]
struct Table {
    addresses: [u64; 32],
    mask: u32,
    bytes: u32,
    /// No two lanes have one address.
    distinct: bool,
}

impl Table {
    fn at(&self, address: u64) -> u32 {
        let mut lanes = 0;
        for (lane, start) in self.addresses.iter().enumerate() {
            lanes |= ((address.wrapping_sub(*start) < self.bytes as u64) as u32) << lane;
        }
        lanes & self.mask
    }
}

const CACHE: usize = 256;

/// The address tables that records refer to.
pub(crate) struct Tables {
    tables: Vec<Table>,
    recent: Vec<u32>,
    limit: usize,
}

impl Tables {
    pub fn new() -> Self {
        Self {
            tables: Vec::new(),
            recent: vec![0; CACHE],
            limit: 1 << 15,
        }
    }

    /// The table of an access; an equal one that was used lately is used again.
    pub fn intern(&mut self, access: &LaneAccess) -> Lanes {
        let first = access.addresses[access.mask.trailing_zeros().min(31) as usize];
        let last = access.addresses[31 - access.mask.leading_zeros().min(31) as usize];
        let key = (first.wrapping_mul(31) ^ last).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ access.mask as u64;
        let slot = &mut self.recent[(key >> 40) as usize % CACHE];
        let same = |table: &Table| {
            table.addresses == *access.addresses
                && (table.mask, table.bytes) == (access.mask, access.bytes)
        };
        if !self.tables.get(*slot as usize).is_some_and(same) {
            *slot = self.tables.len() as u32;
            let mut used: Vec<u64> = (0..32)
                .filter(|lane| access.mask >> lane & 1 == 1)
                .map(|lane| access.addresses[lane])
                .collect();
            used.sort_unstable();
            self.tables.push(Table {
                addresses: *access.addresses,
                mask: access.mask,
                bytes: access.bytes,
                distinct: used.windows(2).all(|pair| pair[0] != pair[1]),
            });
        }
        Lanes::Table(*slot)
    }

    /// The lanes that touched the byte at `address`.
    pub fn at(&self, lanes: Lanes, address: u64) -> u32 {
        match lanes {
            Lanes::Mask(mask) => mask,
            Lanes::Linear { shift, turn } => {
                1 << ((address >> shift).wrapping_sub(turn as u64) & 31)
            }
            Lanes::Table(number) => self
                .tables
                .get(number as usize)
                .map_or(0, |table| table.at(address)),
        }
    }

    /// The lanes that have touched anything, or may have.
    pub fn all(&self, lanes: Lanes) -> u32 {
        match lanes {
            Lanes::Mask(mask) => mask,
            Lanes::Linear { .. } => u32::MAX,
            Lanes::Table(number) => self
                .tables
                .get(number as usize)
                .map_or(0, |table| table.mask),
        }
    }

    /// True if no byte was touched by two lanes of an access. Of a mask that is not known.
    pub fn is_distinct(&self, lanes: Lanes) -> bool {
        match lanes {
            Lanes::Mask(_) => false,
            Lanes::Linear { .. } => true,
            Lanes::Table(number) => self
                .tables
                .get(number as usize)
                .is_some_and(|table| table.distinct),
        }
    }

    pub fn is_full(&self) -> bool {
        self.tables.len() >= self.limit
    }

    /// Keeps the tables that these lanes refer to, and renumbers them.
    pub fn compact<'a>(&mut self, used: impl Iterator<Item = &'a mut Lanes>) {
        let mut numbers = vec![u32::MAX; self.tables.len()];
        let mut kept = Vec::new();
        for lanes in used {
            if let Lanes::Table(number) = lanes {
                let new = &mut numbers[*number as usize];
                if *new == u32::MAX {
                    *new = kept.len() as u32;
                    kept.push(self.tables[*number as usize].clone());
                }
                *number = *new;
            }
        }
        self.limit = (1 << 15).max(2 * kept.len());
        self.tables = kept;
        self.recent.fill(0);
    }
}
