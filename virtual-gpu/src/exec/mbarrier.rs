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
        self.complete_phase()
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
        self.complete_phase()
    }

    /// The phase waits for `count` more arrivals, which only it will have.
    pub fn add_arrivals(&mut self, count: u32) -> Result<(), Misuse> {
        self.pending += count;
        if self.pending > MAX_ARRIVALS {
            return Err(Misuse(format!(
                "{} arrivals are pending, more than an mbarrier counts",
                self.pending
            )));
        }
        Ok(())
    }

    fn complete_phase(&mut self) -> Result<bool, Misuse> {
        if self.pending == 0 && self.tx < 0 {
            return Err(Misuse(format!(
                "everybody has arrived, but {} bytes more have come than were expected",
                -self.tx
            )));
        }
        let done = self.pending == 0 && self.tx == 0;
        if done {
            self.pending = self.expected;
            self.parity ^= 1;
        }
        Ok(done)
    }

    /// Whether the phase of `parity` is over.
    pub fn is_over(&self, parity: u32) -> bool {
        self.parity != parity & 1
    }
}

/// Pending arrivals in a state that an arrival returned.
pub fn pending_count(state: u64) -> u32 {
    (state & COUNT) as u32
}

/// Parity of the phase in a state that an arrival returned.
pub fn parity_of(state: u64) -> u32 {
    u32::from(state & PHASE != 0)
}

/// An mbarrier of a block, and what is known of it beyond its word.
#[derive(Clone, Copy, Debug)]
struct Known {
    address: u32,
    /// The word that the last operation left.
    word: u64,
    /// Whether it has been used since it was initialised.
    used: bool,
    /// Phases that are complete.
    phases: u32,
}

/// What an operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The word before it.
    pub before: u64,
    /// Phases that were complete before it.
    pub phases: u32,
    /// Whether it completed the phase.
    pub completed: bool,
}

/// The mbarriers of a block.
#[derive(Debug, Default)]
pub struct Mbarriers {
    known: Vec<Known>,
}

impl Mbarriers {
    /// `mbarrier.init` at `address` of `shared`, which is in bounds here and below.
    pub fn init(&mut self, shared: &mut [u8], address: u32, count: u32) -> Result<(), Misuse> {
        let barrier = Mbarrier::new(count)?;
        if let Some(known) = self.known.iter().find(|known| known.address == address)
            && known.used
        {
            return Err(Misuse(
                "an mbarrier that is in use is initialised again: mbarrier.inval must end its use first".into(),
            ));
        }
        let overlaps = |known: &&Known| known.address.abs_diff(address) < 8;
        if let Some(other) = self
            .known
            .iter()
            .find(|known| overlaps(known) && known.address != address)
        {
            return Err(Misuse(format!(
                "it overlaps the mbarrier at shared offset {}",
                other.address
            )));
        }
        self.known.retain(|known| known.address != address);
        let word = barrier.word();
        self.known.push(Known {
            address,
            word,
            used: false,
            phases: 0,
        });
        write(shared, address, word);
        Ok(())
    }

    /// `mbarrier.inval`.
    pub fn invalidate(&mut self, shared: &mut [u8], address: u32) -> Result<(), Misuse> {
        self.find(shared, address)?;
        self.known.retain(|known| known.address != address);
        write(shared, address, 0);
        Ok(())
    }

    /// Does something to the mbarrier at `address`; `operation` says whether it completed the phase.
    pub fn change(
        &mut self,
        shared: &mut [u8],
        address: u32,
        operation: impl FnOnce(&mut Mbarrier) -> Result<bool, Misuse>,
    ) -> Result<Changed, Misuse> {
        let known = self.find(shared, address)?;
        let before = known.word;
        let mut barrier = Mbarrier::from_word(before)?;
        let completed = operation(&mut barrier)?;
        let phases = known.phases;
        known.word = barrier.word();
        known.used = true;
        known.phases += u32::from(completed);
        write(shared, address, known.word);
        Ok(Changed {
            before,
            phases,
            completed,
        })
    }

    /// The mbarrier at `address`, which from now on counts as used.
    pub fn look(&mut self, shared: &[u8], address: u32) -> Result<(Mbarrier, u32), Misuse> {
        let known = self.find(shared, address)?;
        known.used = true;
        Ok((Mbarrier::from_word(known.word)?, known.phases))
    }

    /// The first mbarrier that has bytes in a range.
    pub fn in_range(&self, start: u64, end: u64) -> Option<u32> {
        let mut addresses = self.known.iter().map(|known| u64::from(known.address));
        let hit = addresses.find(|address| *address < end && start < address + 8);
        hit.map(|address| address as u32)
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn find(&mut self, shared: &[u8], address: u32) -> Result<&mut Known, Misuse> {
        let Some(known) = self.known.iter_mut().find(|known| known.address == address) else {
            return Err(Misuse("no mbarrier has been initialised here".into()));
        };
        if read(shared, address) != Some(known.word) {
            return Err(Misuse(
                "the mbarrier has been written over by something else".into(),
            ));
        }
        Ok(known)
    }
}

fn read(shared: &[u8], address: u32) -> Option<u64> {
    let bytes = shared.get(address as usize..)?.get(..8)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}

fn write(shared: &mut [u8], address: u32, word: u64) {
    shared[address as usize..][..8].copy_from_slice(&word.to_le_bytes());
}

/// The word at `address` of a block's shared memory.
pub fn word_at(block: &Block, address: u32) -> Option<u64> {
    read(block.shared.as_slice(), address)
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
    fn an_mbarrier_knows_its_word_and_its_use() {
        let mut shared = vec![0; 32];
        let mut barriers = Mbarriers::default();
        assert!(barriers.look(&shared, 8).is_err());
        barriers.init(&mut shared, 8, 1).unwrap();
        barriers.init(&mut shared, 8, 2).unwrap();
        assert!(barriers.init(&mut shared, 12, 1).is_err());
        let first = barriers
            .change(&mut shared, 8, |b| b.arrive(1, false))
            .unwrap();
        assert_eq!((pending_count(first.before), first.completed), (2, false));
        assert!(barriers.init(&mut shared, 8, 2).is_err());
        let second = barriers
            .change(&mut shared, 8, |b| b.arrive(1, false))
            .unwrap();
        assert_eq!((parity_of(second.before), second.completed), (0, true));
        assert_eq!(barriers.look(&shared, 8).unwrap().1, 1);
        assert_eq!(
            (barriers.in_range(15, 16), barriers.in_range(16, 20)),
            (Some(8), None)
        );
        shared[9] ^= 1;
        assert!(barriers.look(&shared, 8).is_err());
        shared[9] ^= 1;
        barriers.invalidate(&mut shared, 8).unwrap();
        assert!(barriers.is_empty() && barriers.look(&shared, 8).is_err());
    }

    #[test]
    fn misuse_is_named() {
        let mut barrier = Mbarrier::new(1).unwrap();
        assert!(barrier.arrive(2, false).is_err());
        assert!(barrier.expect_tx(1 << 20).is_err());
        let mut barrier = Mbarrier::new(1).unwrap();
        barrier.expect_tx(16).unwrap();
        barrier.arrive(1, false).unwrap();
        assert!(barrier.complete_tx(32).is_err());
        assert!(Mbarrier::new(0).is_err() && Mbarrier::new(1 << 20).is_err());
    }
}
