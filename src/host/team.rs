//! A team of threads that runs a whole forward pass together, op by op.
//!
//! Waking threads for every op would cost more than many ops take, so one call wakes the team once, and the
//! members meet at spinning barriers in between: the host's picture of the persistent kernel on the device.

use crate::{Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Spins before a waiting member gives its core away. About 20 microseconds: longer than the skew of two
/// members that both run, shorter than a time slice of whoever took the core of the one that is late.
const SPINS: u32 = 4000;

/// Threads that run phases of work in step.
#[derive(Debug)]
pub(super) struct Team {
    /// `None`: a team of one, on the caller's thread.
    pool: Option<ThreadPool>,
    size: usize,
}

impl Team {
    /// A team of `size` threads (at least one).
    pub fn new(size: usize) -> Result<Self> {
        let size = size.max(1);
        let pool = match size {
            1 => None,
            _ => Some(
                ThreadPoolBuilder::new()
                    .num_threads(size)
                    .thread_name(|i| format!("stheno-{i}"))
                    .build()
                    .map_err(|e| {
                        Error::Invalid(format!("{size} threads could not be started: {e}"))
                    })?,
            ),
        };
        Ok(Team { pool, size })
    }

    /// Number of members.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Runs `work` on every member and returns when all are done.
    pub fn run(&self, work: impl Fn(&Member<'_>) + Sync) {
        let shared = Shared::default();
        let member = |index| Member {
            index,
            size: self.size,
            shared: &shared,
        };
        let guarded = |index| {
            let _poison = PoisonOnPanic(&shared);
            work(&member(index));
        };
        match &self.pool {
            None => guarded(0),
            Some(pool) => {
                pool.broadcast(|context| guarded(context.index()));
            }
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// Next unclaimed unit of the phase.
    claimed: AtomicUsize,
    /// Members that wait at the barrier.
    waiting: AtomicUsize,
    /// Phases done.
    phase: AtomicUsize,
    /// A member panicked: nobody may wait for it.
    poisoned: AtomicBool,
}

struct PoisonOnPanic<'a>(&'a Shared);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poisoned.store(true, Ordering::Relaxed);
        }
    }
}

/// One thread's view of the team.
#[derive(Debug)]
pub(super) struct Member<'a> {
    /// 0 to size - 1.
    pub index: usize,
    size: usize,
    shared: &'a Shared,
}

impl Member<'_> {
    /// Runs `work` on the units `0..units` that this member gets hold of, and waits until all units are done.
    /// What the units of a phase write, every unit of the next one may read.
    pub fn phase(&self, units: usize, mut work: impl FnMut(usize)) {
        // A claim is one contended atomic, so take several units at once, but leave enough claims that a member
        // whose core was taken away holds up little.
        let chunk = (units / (self.size * 8)).max(1);
        while let Some(range) = self.claim(units, chunk) {
            range.for_each(&mut work);
        }
        self.barrier();
    }

    fn claim(&self, units: usize, chunk: usize) -> Option<Range<usize>> {
        if self.size == 1 {
            // The whole phase in one claim; `claimed` then says that it was taken.
            let taken = self.shared.claimed.swap(units, Ordering::Relaxed);
            return (taken < units).then_some(0..units);
        }
        let start = self.shared.claimed.fetch_add(chunk, Ordering::Relaxed);
        (start < units).then(|| start..(start + chunk).min(units))
    }

    fn barrier(&self) {
        let shared = self.shared;
        let phase = shared.phase.load(Ordering::Relaxed);
        // AcqRel: the last to arrive sees all that the others wrote in this phase.
        if shared.waiting.fetch_add(1, Ordering::AcqRel) + 1 == self.size {
            shared.waiting.store(0, Ordering::Relaxed);
            shared.claimed.store(0, Ordering::Relaxed);
            // Release: whoever sees the new phase sees the writes of all members, and the counters reset.
            shared.phase.store(phase + 1, Ordering::Release);
            return;
        }
        let mut spins = 0;
        while shared.phase.load(Ordering::Acquire) == phase {
            assert!(
                !shared.poisoned.load(Ordering::Relaxed),
                "another thread of the team panicked"
            );
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_runs_once_in_every_phase() {
        for size in [1, 2, 5] {
            let team = Team::new(size).unwrap();
            let counts: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
            team.run(|member| {
                for round in 0..50 {
                    member.phase(counts.len() - round, |unit| {
                        counts[unit].fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
            for (unit, count) in counts.iter().enumerate() {
                let phases = 50.min(1000 - unit);
                assert_eq!(
                    count.load(Ordering::Relaxed),
                    phases,
                    "unit {unit}, {size} threads"
                );
            }
        }
    }

    #[test]
    fn a_phase_sees_what_the_one_before_wrote() {
        let team = Team::new(3).unwrap();
        let cells: Vec<AtomicUsize> = (0..64).map(|_| AtomicUsize::new(0)).collect();
        team.run(|member| {
            for round in 1..200 {
                member.phase(64, |unit| cells[unit].store(round, Ordering::Relaxed));
                member.phase(64, |unit| {
                    assert_eq!(cells[63 - unit].load(Ordering::Relaxed), round);
                });
            }
        });
    }

    #[test]
    #[should_panic]
    fn a_panic_reaches_the_caller() {
        Team::new(2).unwrap().run(|member| {
            member.phase(2, |unit| assert_ne!(unit, 1));
        });
    }
}
