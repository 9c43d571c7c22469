//! Explains a standstill: nobody can run, so who waits where, and for what?

use std::fmt;

use super::finding::{Finding, FindingKind, MemorySpace, Other, OtherWaiter, SourceLine};

/// What a warp waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// A barrier of its block.
    Barrier {
        /// The barrier.
        id: u32,
        /// Threads that have arrived.
        arrived: u32,
        /// Threads that are expected.
        expected: u32,
    },
    /// The barrier of its cluster.
    ClusterBarrier {
        /// Warps that have arrived.
        arrived: u32,
        /// Warps that are expected.
        expected: u32,
    },
    /// A phase of an mbarrier.
    Mbarrier {
        /// Byte offset in shared memory.
        address: u32,
        /// Parity of the phase that is waited for.
        parity: u32,
        /// Arrivals that are missing.
        pending: u32,
        /// Bytes that are missing.
        tx: i64,
    },
    /// Another value in memory.
    Poll {
        /// Address that is read again and again.
        address: u64,
        /// The value that was read last.
        value: u64,
    },
    /// Other lanes of its warp.
    WarpSync {
        /// Lanes that are expected.
        mask: u32,
        /// Lanes that have arrived.
        arrived: u32,
    },
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Barrier {
                id,
                arrived,
                expected,
            } => {
                write!(
                    f,
                    "barrier {id}, where {arrived} of {expected} threads have arrived"
                )
            }
            Self::ClusterBarrier { arrived, expected } => {
                write!(
                    f,
                    "the cluster barrier, where {arrived} of {expected} warps have arrived"
                )
            }
            Self::Mbarrier {
                address,
                parity,
                pending,
                tx,
            } => {
                write!(
                    f,
                    "the phase of parity {parity} of the mbarrier at shared address {address:#x}, which lacks "
                )?;
                write!(
                    f,
                    "{pending} {} and {tx} bytes",
                    if pending == 1 { "arrival" } else { "arrivals" }
                )
            }
            Self::Poll { address, value } => {
                write!(
                    f,
                    "address {address:#x} to change from {value:#x}, which nobody writes any more"
                )
            }
            Self::WarpSync { mask, arrived } => {
                write!(
                    f,
                    "lanes {:#010x} of its warp, of which {:#010x} have not arrived",
                    mask,
                    mask & !arrived
                )
            }
        }
    }
}

/// A warp, or part of one, that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Block index.
    pub block: [u32; 3],
    /// Warp within the block.
    pub warp: u32,
    /// Lanes that wait.
    pub lanes: u32,
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// Source line, if the PTX carries line information.
    pub source: Option<SourceLine>,
    /// What it waits for.
    pub waits_for: WaitsFor,
}

/// Groups that the message describes, and waiters that the finding lists.
const GROUPS: usize = 6;
const LISTED: usize = 32;

/// The finding for a launch in which everybody who is left waits; `None` if nobody is left. The waiter that the
/// finding is about belongs to the smallest group that waits for one thing at one place: where most warps wait at a
/// barrier, the few that went elsewhere show the mistake.
pub fn deadlock(kernel: &str, waiters: &[Waiter]) -> Option<Finding> {
    let mut groups: Vec<Vec<&Waiter>> = Vec::new();
    for waiter in waiters {
        let alike = |group: &&mut Vec<&Waiter>| {
            let first = group[0];
            (first.block, first.ptx_line, &first.waits_for)
                == (waiter.block, waiter.ptx_line, &waiter.waits_for)
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(waiter),
            None => groups.push(vec![waiter]),
        }
    }
    groups.sort_by_key(Vec::len);
    let subject = *groups.first()?.first()?;
    let mut message = String::from("no warp can go on: ");
    for (at, group) in groups.iter().take(GROUPS).enumerate() {
        if at > 0 {
            message += "; ";
        }
        message += &describe(group);
    }
    if groups.len() > GROUPS {
        let rest: usize = groups[GROUPS..].iter().map(Vec::len).sum();
        message += &format!("; and {rest} more wait elsewhere");
    }
    let others: Vec<_> = groups
        .iter()
        .flatten()
        .skip(1)
        .take(LISTED)
        .map(|waiter| listed(waiter))
        .collect();
    Some(Finding {
        kernel: kernel.into(),
        kind: FindingKind::Deadlock,
        space: MemorySpace::None,
        message,
        source: subject.source.clone(),
        inlined_at: None,
        ptx_line: subject.ptx_line,
        block: subject.block,
        warp: subject.warp,
        lane: subject.lanes.trailing_zeros().min(31),
        other: (!others.is_empty()).then_some(Other::Waiters { waiters: others }),
    })
}

fn listed(waiter: &Waiter) -> OtherWaiter {
    OtherWaiter {
        block: waiter.block,
        warp: waiter.warp,
        lanes: waiter.lanes,
        ptx_line: waiter.ptx_line,
        source: waiter.source.clone(),
        waits_for: waiter.waits_for.to_string(),
    }
}

fn describe(group: &[&Waiter]) -> String {
    let first = group[0];
    let [x, y, z] = first.block;
    let mut warps: Vec<u32> = group.iter().map(|waiter| waiter.warp).collect();
    warps.sort_unstable();
    warps.dedup();
    let lanes = if group.iter().any(|waiter| waiter.lanes != u32::MAX) {
        format!(" (lanes {:#010x})", first.lanes)
    } else {
        String::new()
    };
    let place = match &first.source {
        Some(source) => format!("{source}, PTX line {}", first.ptx_line),
        None => format!("PTX line {}", first.ptx_line),
    };
    let (noun, verb) = if warps.len() == 1 {
        ("warp", "waits")
    } else {
        ("warps", "wait")
    };
    format!(
        "{noun} {}{lanes} of block ({x}, {y}, {z}) {verb} at {place} for {}",
        ranges(&warps),
        first.waits_for
    )
}

/// Ascending numbers as `0-3, 7`.
fn ranges(numbers: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => parts.push((number, number)),
        }
    }
    let text = |(start, end): &(u32, u32)| {
        if start == end {
            format!("{start}")
        } else {
            format!("{start}-{end}")
        }
    };
    parts.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(warp: u32, ptx_line: u32, waits_for: WaitsFor) -> Waiter {
        Waiter {
            block: [1, 0, 0],
            warp,
            lanes: u32::MAX,
            ptx_line,
            source: None,
            waits_for,
        }
    }

    #[test]
    fn the_odd_one_out_is_the_subject() {
        let barrier = WaitsFor::Barrier {
            id: 0,
            arrived: 96,
            expected: 128,
        };
        let mut waiters: Vec<_> = (0..3)
            .map(|warp| waiter(warp, 40, barrier.clone()))
            .collect();
        let bar = WaitsFor::Mbarrier {
            address: 64,
            parity: 1,
            pending: 1,
            tx: 2048,
        };
        let source = SourceLine {
            file: "k.cu".into(),
            line: 9,
        };
        waiters.push(Waiter {
            source: Some(source),
            lanes: 8,
            ..waiter(3, 55, bar)
        });
        let finding = deadlock("ring", &waiters).unwrap();
        assert_eq!(
            (finding.kind, finding.warp, finding.lane, finding.ptx_line),
            (FindingKind::Deadlock, 3, 3, 55)
        );
        assert_eq!(
            finding.message,
            "no warp can go on: warp 3 (lanes 0x00000008) of block (1, 0, 0) waits at k.cu:9, PTX line 55 for the \
             phase of parity 1 of the mbarrier at shared address 0x40, which lacks 1 arrival and 2048 bytes; warps \
             0-2 of block (1, 0, 0) wait at PTX line 40 for barrier 0, where 96 of 128 threads have arrived"
        );
        let Some(Other::Waiters { waiters }) = finding.other else {
            panic!("no other waiters")
        };
        assert_eq!(
            waiters.iter().map(|other| other.warp).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }

    #[test]
    fn a_single_waiter_has_no_others_and_nobody_is_no_deadlock() {
        let finding = deadlock(
            "spin",
            &[waiter(
                0,
                3,
                WaitsFor::Poll {
                    address: 0x7000,
                    value: 4,
                },
            )],
        )
        .unwrap();
        assert!(finding.other.is_none() && finding.message.contains("0x7000 to change from 0x4"));
        assert_eq!(deadlock("spin", &[]), None);
    }

    #[test]
    fn many_groups_are_cut_short() {
        let waiters: Vec<_> = (0..20)
            .map(|warp| {
                waiter(
                    warp,
                    warp,
                    WaitsFor::WarpSync {
                        mask: 3,
                        arrived: 1,
                    },
                )
            })
            .collect();
        let finding = deadlock("k", &waiters).unwrap();
        assert!(
            finding.message.ends_with("and 14 more wait elsewhere"),
            "{}",
            finding.message
        );
        assert!(
            finding
                .message
                .contains("of which 0x00000002 have not arrived")
        );
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
    }
}
