//! Named barriers of a block: who has arrived, who waits, and what can never complete.
//!
//! A barrier counts threads in whole warps (PTX ISA, "bar, barrier"). Without a count it waits for every thread of the
//! block that has not exited; with a count it waits for exactly that many, and a warp that exits is missed.

use std::fmt;

/// Number of barriers that a block has.
pub const BARRIERS: usize = 16;

/// How a use of a barrier breaks its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BarrierMisuse {
    /// There is no such barrier.
    NoSuchBarrier {
        /// The barrier that was asked for.
        id: u32,
    },
    /// A thread count that is zero, no multiple of 32, or larger than the block.
    BadCount {
        /// The barrier.
        id: u32,
        /// The count that was given.
        count: u32,
        /// Threads of the block, rounded up to whole warps.
        block: u32,
    },
    /// Two warps disagree on the thread count.
    CountMismatch {
        /// The barrier.
        id: u32,
        /// The count of the first arrival.
        expected: u32,
        /// Warp of the first arrival.
        first_warp: u32,
        /// Instruction of the first arrival.
        first_pc: u32,
        /// The count that was given now.
        count: u32,
    },
    /// A warp arrives a second time before the barrier has completed.
    ArrivedTwice {
        /// The barrier.
        id: u32,
        /// The warp.
        warp: u32,
        /// Instruction of its first arrival.
        first_pc: u32,
    },
    /// The warps that are left cannot bring the count to what is expected.
    Starved {
        /// The barrier.
        id: u32,
        /// Threads that are expected.
        expected: u32,
        /// Threads that have arrived.
        arrived: u32,
        /// Warps that have exited without arriving.
        exited: Vec<u32>,
        /// A waiting warp, if any waits.
        waiter: Option<u32>,
        /// Instruction of the first arrival.
        first_pc: u32,
    },
}

impl fmt::Display for BarrierMisuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchBarrier { id } => write!(
                f,
                "barrier {id} does not exist; a block has barriers 0 to 15"
            ),
            Self::BadCount { id, count, block } => write!(
                f,
                "barrier {id} is given {count} threads; the count must be a multiple of 32 from 32 to the {block} of \
                 the block"
            ),
            Self::CountMismatch {
                id,
                expected,
                first_warp,
                count,
                ..
            } => write!(
                f,
                "warp {first_warp} brought {expected} threads to barrier {id} as the expected count, this warp says \
                 {count}; all participants must give the same count"
            ),
            Self::ArrivedTwice { id, warp, .. } => {
                write!(
                    f,
                    "warp {warp} arrives at barrier {id} again before the other warps have completed it"
                )
            }
            Self::Starved {
                id,
                expected,
                arrived,
                exited,
                ..
            } => write!(
                f,
                "barrier {id} expects {expected} threads and {arrived} have arrived, but warps {exited:?} have exited \
                 without arriving; every counted warp must reach the barrier"
            ),
        }
    }
}

impl std::error::Error for BarrierMisuse {}

/// A barrier has completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The barrier.
    pub id: u32,
    /// Warps that wait at it and go on now.
    pub waiters: Vec<u32>,
    /// All warps that arrived, those that did not wait included.
    pub arrived: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    warp: u32,
    pc: u32,
    waits: bool,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    arrivals: Vec<Arrival>,
    /// Expected threads; `None`: all that have not exited.
    count: Option<u32>,
}

/// The barriers of one block.
#[derive(Clone, Debug)]
pub struct NamedBarriers {
    warps: u32,
    exited: Vec<u32>,
    slots: [Slot; BARRIERS],
}

impl NamedBarriers {
    /// Barriers of a block of `warps` warps, nobody there yet.
    pub fn new(warps: u32) -> Self {
        Self {
            warps,
            exited: Vec::new(),
            slots: Default::default(),
        }
    }

    /// A warp arrives at barrier `id` at instruction `pc`, to wait or not. `count`: threads to expect, if the
    /// instruction says so. Returns who goes on if that completes the barrier.
    pub fn arrive(
        &mut self,
        id: u32,
        warp: u32,
        pc: u32,
        count: Option<u32>,
        waits: bool,
    ) -> Result<Option<Completion>, BarrierMisuse> {
        let Some(slot) = self.slots.get_mut(id as usize) else {
            return Err(BarrierMisuse::NoSuchBarrier { id });
        };
        let block = self.warps * 32;
        if let Some(count) = count.filter(|count| *count == 0 || count % 32 != 0 || *count > block)
        {
            return Err(BarrierMisuse::BadCount { id, count, block });
        }
        if let Some(first) = slot.arrivals.first() {
            let (expected, given) = (slot.count.unwrap_or(block), count.unwrap_or(block));
            if expected != given {
                let (first_warp, first_pc) = (first.warp, first.pc);
                return Err(BarrierMisuse::CountMismatch {
                    id,
                    expected,
                    first_warp,
                    first_pc,
                    count: given,
                });
            }
        }
        if let Some(earlier) = slot.arrivals.iter().find(|arrival| arrival.warp == warp) {
            return Err(BarrierMisuse::ArrivedTwice {
                id,
                warp,
                first_pc: earlier.pc,
            });
        }
        if slot.arrivals.is_empty() {
            slot.count = count;
        }
        slot.arrivals.push(Arrival { warp, pc, waits });
        match self.complete(id) {
            Some(completion) => Ok(Some(completion)),
            None => self.starved(id).map_or(Ok(None), Err),
        }
    }

    /// A warp has exited. Barriers without a count that waited only for it complete; those that can no longer complete
    /// are misused.
    pub fn exit(&mut self, warp: u32) -> (Vec<Completion>, Vec<BarrierMisuse>) {
        if !self.exited.contains(&warp) {
            self.exited.push(warp);
        }
        let ids = 0..BARRIERS as u32;
        let completions = ids.clone().filter_map(|id| self.complete(id)).collect();
        let misuses = ids.filter_map(|id| self.starved(id)).collect();
        (completions, misuses)
    }

    /// Threads that have arrived at a barrier and threads that it expects, for reports.
    pub fn progress(&self, id: u32) -> (u32, u32) {
        let Some(slot) = self.slots.get(id as usize) else {
            return (0, 0);
        };
        (
            32 * slot.arrivals.len() as u32,
            slot.count.unwrap_or(self.live_or_arrived(slot) * 32),
        )
    }

    fn live_or_arrived(&self, slot: &Slot) -> u32 {
        let arrived = |warp: &u32| slot.arrivals.iter().any(|arrival| arrival.warp == *warp);
        self.warps - self.exited.iter().filter(|warp| !arrived(warp)).count() as u32
    }

    fn complete(&mut self, id: u32) -> Option<Completion> {
        let (arrived, expected) = self.progress(id);
        let slot = &mut self.slots[id as usize];
        if arrived == 0 || arrived < expected {
            return None;
        }
        let arrivals = std::mem::take(&mut slot.arrivals);
        let waiters = arrivals
            .iter()
            .filter(|arrival| arrival.waits)
            .map(|arrival| arrival.warp)
            .collect();
        Some(Completion {
            id,
            waiters,
            arrived: arrivals.iter().map(|arrival| arrival.warp).collect(),
        })
    }

    fn starved(&self, id: u32) -> Option<BarrierMisuse> {
        let slot = &self.slots[id as usize];
        let (first, expected) = (slot.arrivals.first()?, slot.count?);
        if expected <= 32 * self.live_or_arrived(slot) {
            return None;
        }
        let arrived = |warp: &u32| slot.arrivals.iter().any(|arrival| arrival.warp == *warp);
        Some(BarrierMisuse::Starved {
            id,
            expected,
            arrived: 32 * slot.arrivals.len() as u32,
            exited: self
                .exited
                .iter()
                .copied()
                .filter(|warp| !arrived(warp))
                .collect(),
            waiter: slot
                .arrivals
                .iter()
                .find(|arrival| arrival.waits)
                .map(|arrival| arrival.warp),
            first_pc: first.pc,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_warp_completes_it_and_it_can_be_used_again() {
        let mut barriers = NamedBarriers::new(2);
        for _ in 0..2 {
            assert_eq!(barriers.arrive(0, 1, 7, None, true), Ok(None));
            let done = barriers.arrive(0, 0, 7, None, true).unwrap().unwrap();
            assert_eq!((done.waiters, done.arrived), (vec![1, 0], vec![1, 0]));
        }
    }

    #[test]
    fn producers_arrive_and_consumers_wait() {
        let mut barriers = NamedBarriers::new(4);
        assert_eq!(barriers.arrive(3, 0, 1, Some(64), false), Ok(None));
        assert_eq!(barriers.progress(3), (32, 64));
        let done = barriers.arrive(3, 2, 9, Some(64), true).unwrap().unwrap();
        assert_eq!((done.waiters, done.arrived), (vec![2], vec![0, 2]));
    }

    #[test]
    fn an_exited_warp_is_not_missed_without_a_count() {
        let mut barriers = NamedBarriers::new(3);
        assert_eq!(barriers.arrive(0, 0, 1, None, true), Ok(None));
        assert_eq!(barriers.arrive(0, 1, 1, None, true), Ok(None));
        let (done, misuses) = barriers.exit(2);
        assert_eq!((done[0].waiters.clone(), misuses), (vec![0, 1], vec![]));
        assert_eq!(barriers.arrive(0, 0, 1, None, true), Ok(None));
        assert!(barriers.arrive(0, 1, 1, None, true).unwrap().is_some());
    }

    #[test]
    fn an_exited_warp_is_missed_with_a_count() {
        let mut barriers = NamedBarriers::new(2);
        assert_eq!(barriers.arrive(1, 0, 5, Some(64), true), Ok(None));
        let (done, misuses) = barriers.exit(1);
        assert!(done.is_empty());
        let starved = BarrierMisuse::Starved {
            id: 1,
            expected: 64,
            arrived: 32,
            exited: vec![1],
            waiter: Some(0),
            first_pc: 5,
        };
        assert_eq!(misuses, std::slice::from_ref(&starved));
        let mut late = NamedBarriers::new(2);
        late.exit(1);
        assert_eq!(late.arrive(1, 0, 5, Some(64), true), Err(starved));
    }

    #[test]
    fn bad_uses_have_names() {
        let mut barriers = NamedBarriers::new(2);
        assert!(matches!(
            barriers.arrive(16, 0, 0, None, true),
            Err(BarrierMisuse::NoSuchBarrier { id: 16 })
        ));
        for count in [0, 33, 96] {
            assert!(matches!(
                barriers.arrive(1, 0, 0, Some(count), true),
                Err(BarrierMisuse::BadCount { .. })
            ));
        }
        barriers.arrive(1, 0, 4, Some(64), false).unwrap();
        assert!(matches!(
            barriers.arrive(1, 0, 5, Some(64), true),
            Err(BarrierMisuse::ArrivedTwice { first_pc: 4, .. })
        ));
        let mismatch = barriers.arrive(1, 1, 5, Some(32), true).unwrap_err();
        assert!(matches!(
            mismatch,
            BarrierMisuse::CountMismatch {
                expected: 64,
                count: 32,
                ..
            }
        ));
        assert!(
            mismatch
                .to_string()
                .contains("all participants must give the same count")
        );
    }
}
