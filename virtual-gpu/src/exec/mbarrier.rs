//! The word of an mbarrier in shared memory.
//!
//! PTX leaves the format open. Ours, from bit 0: pending arrivals (20 bits), expected arrivals (20), pending bytes of
//! asynchronous copies (22, signed), the parity of the phase in progress (1), and a bit that says the word is an
//! mbarrier at all.

use super::block::Block;

const COUNT_BITS: u32 = 20;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const TX_SHIFT: u32 = 2 * COUNT_BITS;
const TX_BITS: u32 = 22;
const TX: u64 = (1 << TX_BITS) - 1;
const PHASE: u64 = 1 << 62;
const VALID: u64 = 1 << 63;

/// Largest count of arrivals (PTX ISA, "mbarrier.init").
pub const MAX_ARRIVALS: u32 = (1 << 20) - 1;
/// Largest number of bytes that may be pending.
pub const MAX_TX: i64 = (1 << 20) - 1;

/// An mbarrier, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mbarrier {
    /// Arrivals that the phase in progress still waits for.
    pub pending: u32,
    /// Arrivals that each phase waits for.
    pub expected: u32,
    /// Bytes that the phase in progress still waits for.
    pub tx: i64,
    /// Parity of the phase in progress.
    pub parity: u32,
}

/// Why an operation on an mbarrier makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misuse(pub String);

impl Mbarrier {
    /// An mbarrier that waits for `count` arrivals a phase.
    pub fn new(count: u32) -> Result<Self, Misuse> {
        if count == 0 || count > MAX_ARRIVALS {
            return Err(Misuse(format!(
                "an mbarrier cannot wait for {count} arrivals"
            )));
        }
        Ok(Self {
            pending: count,
            expected: count,
            tx: 0,
            parity: 0,
        })
    }

    /// Reads the word of an mbarrier.
    pub fn from_word(word: u64) -> Result<Self, Misuse> {
        if word & VALID == 0 {
            return Err(Misuse("no mbarrier has been initialised here".into()));
        }
        let tx = (word >> TX_SHIFT & TX) as i64;
        Ok(Self {
            pending: (word & COUNT) as u32,
            expected: (word >> COUNT_BITS & COUNT) as u32,
            tx: tx << (64 - TX_BITS) >> (64 - TX_BITS),
            parity: u32::from(word & PHASE != 0),
        })
    }

    /// The word that stands for it.
    pub fn word(self) -> u64 {
        let parity = if self.parity != 0 { PHASE } else { 0 };
        VALID
            | parity
            | (self.tx as u64 & TX) << TX_SHIFT
            | u64::from(self.expected) << COUNT_BITS
            | u64::from(self.pending)
    }

    /// `count` threads arrive; with `drop`, later phases expect as many less. True if that completed the phase.
    pub fn arrive(&mut self, count: u32, drop: bool) -> Result<bool, Misuse> {
        if count > self.pending {
            return Err(Misuse(format!(
                "{count} arrivals, but the phase waits for only {} of {}",
                self.pending, self.expected
            )));
        }
        self.pending -= count;
        if drop {
            self.expected -= count;
        }
        Ok(self.complete_phase())
    }

    /// The phase will wait for `bytes` more bytes.
    pub fn expect_tx(&mut self, bytes: u32) -> Result<(), Misuse> {
        self.tx += i64::from(bytes);
        if self.tx > MAX_TX {
            return Err(Misuse(format!(
                "{} bytes are pending, more than an mbarrier counts",
                self.tx
            )));
        }
        Ok(())
    }

    /// A copy of `bytes` bytes is done. True if that completed the phase.
    pub fn complete_tx(&mut self, bytes: u32) -> Result<bool, Misuse> {
        self.tx -= i64::from(bytes);
        if self.tx < -MAX_TX {
            return Err(Misuse(format!(
                "{} bytes came that nobody expects",
                -self.tx
            )));
        }
        Ok(self.complete_phase())
    }

    fn complete_phase(&mut self) -> bool {
        let done = self.pending == 0 && self.tx == 0;
        if done {
            self.pending = self.expected;
            self.parity ^= 1;
        }
        done
    }

    /// Whether the phase of `parity` is over.
    pub fn is_over(&self, parity: u32) -> bool {
        self.parity != parity & 1
    }
}

/// The word at `address` of a block's shared memory.
pub fn word_at(block: &Block, address: u32) -> Option<u64> {
    let bytes = block.shared.as_slice().get(address as usize..)?.get(..8)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}

/// Whether the phase of `parity` of the mbarrier at `address` is over; an mbarrier that is no more holds nobody up.
pub fn phase_is_over(block: &Block, address: u32, parity: u32) -> bool {
    word_at(block, address)
        .and_then(|word| Mbarrier::from_word(word).ok())
        .is_none_or(|barrier| barrier.is_over(parity))
}

/// What a waiter waits for, for people.
pub fn describe(block: &Block, address: u32, parity: u32) -> String {
    match word_at(block, address).and_then(|word| Mbarrier::from_word(word).ok()) {
        Some(barrier) => format!(
            "waits for phase parity {parity} of the mbarrier at shared offset {address}, which lacks {} of {} arrivals \
             and {} bytes",
            barrier.pending, barrier.expected, barrier.tx
        ),
        None => format!("waits for an mbarrier at shared offset {address}, which is none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_holds_everything() {
        for barrier in [
            Mbarrier {
                pending: 3,
                expected: 7,
                tx: -5,
                parity: 1,
            },
            Mbarrier {
                pending: MAX_ARRIVALS,
                expected: MAX_ARRIVALS,
                tx: MAX_TX,
                parity: 0,
            },
        ] {
            assert_eq!(Mbarrier::from_word(barrier.word()), Ok(barrier));
        }
        assert!(Mbarrier::from_word(0).is_err());
    }

    #[test]
    fn a_phase_needs_its_arrivals_and_its_bytes() {
        let mut barrier = Mbarrier::new(2).unwrap();
        assert!(!barrier.arrive(1, false).unwrap());
        barrier.expect_tx(64).unwrap();
        assert!(!barrier.arrive(1, false).unwrap());
        assert!(!barrier.is_over(0) && barrier.is_over(1));
        assert!(!barrier.complete_tx(32).unwrap());
        assert!(barrier.complete_tx(32).unwrap());
        assert!(barrier.is_over(0) && !barrier.is_over(1));
        assert_eq!(barrier.pending, 2);
    }

    #[test]
    fn misuse_is_named() {
        let mut barrier = Mbarrier::new(1).unwrap();
        assert!(barrier.arrive(2, false).is_err());
        assert!(barrier.expect_tx(1 << 20).is_err());
        assert!(Mbarrier::new(0).is_err() && Mbarrier::new(1 << 20).is_err());
    }
}
