//! Inside a block: barriers, lanes of a warp, atomics, sub-word accesses.

use virtual_gpu::check::race::{Access, ConflictKind, LaneAccess, Races, Scope};

use crate::{Accesses, SHARED, warp};

const ATOMIC: Access = Access::Atomic(Scope::Cta);

#[test]
fn a_barrier_between_write_and_read_is_needed() {
    for barrier in [false, true] {
        let mut races = Races::new(1, 4);
        assert_eq!(races.row(warp(0, 0), SHARED, Access::Write, 256), None);
        if barrier {
            races.barrier(0, &[0, 1, 2, 3]);
        }
        let found = races.lanes(warp(0, 1), SHARED, Access::Read, u32::MAX, 4, |lane| {
            256 + 4 * (31 - lane)
        });
        assert_eq!(found.is_none(), barrier);
        if let Some(conflict) = found {
            assert_eq!(conflict.kind, ConflictKind::Race);
            assert_eq!(
                (conflict.other_block, conflict.other_warp, conflict.other_pc),
                (0, 0, 0)
            );
            assert_eq!(
                (
                    conflict.start,
                    conflict.bytes,
                    conflict.lane,
                    conflict.other_lane
                ),
                (380, 4, 0, 31)
            );
            assert!(!conflict.same_warp && conflict.other_access == Access::Write);
        }
    }
}

#[test]
fn a_barrier_of_other_warps_does_not_help() {
    let mut races = Races::new(1, 4);
    races.row(warp(0, 0), SHARED, Access::Write, 0);
    races.barrier(0, &[0, 2]);
    races.barrier(0, &[1, 3]);
    assert!(races.row(warp(0, 1), SHARED, Access::Read, 0).is_some());
    assert!(races.row(warp(0, 2), SHARED, Access::Read, 0).is_none());
}

#[test]
fn named_barriers_order_producers_before_consumers_only() {
    let mut races = Races::new(1, 4);
    races.row(warp(0, 0), SHARED, Access::Write, 0);
    races.barrier_arrive(0, 0, 1);
    races.row(warp(0, 0), SHARED, Access::Write, 128);
    races.row(warp(0, 1), SHARED, Access::Write, 256);
    races.barrier_complete(0, 1, &[1]);
    assert_eq!(races.row(warp(0, 1), SHARED, Access::Read, 0), None);
    assert!(
        races.row(warp(0, 1), SHARED, Access::Read, 128).is_some(),
        "written after the arrival"
    );
    assert!(
        races.row(warp(0, 0), SHARED, Access::Read, 256).is_some(),
        "arriving does not wait"
    );
}

#[test]
fn double_buffering_needs_the_second_barrier_only_with_one_buffer() {
    for (buffers, barriers, clean) in [(1, 1, false), (1, 2, true), (2, 1, true)] {
        let mut races = Races::new(1, 2);
        let mut found = None;
        for step in 0..6 {
            let buffer = 128 * (step % buffers);
            for w in 0..2 {
                found =
                    found.or(
                        races.lanes(warp(0, w), SHARED, Access::Write, u32::MAX, 2, |lane| {
                            buffer + 64 * w as u64 + 2 * lane
                        }),
                    );
            }
            races.barrier(0, &[0, 1]);
            for w in 0..2 {
                found = found.or(races.row(warp(0, w), SHARED, Access::Read, buffer));
            }
            if barriers == 2 {
                races.barrier(0, &[0, 1]);
            }
        }
        assert_eq!(
            found.is_none(),
            clean,
            "{buffers} buffers, {barriers} barriers: {found:?}"
        );
    }
}

#[test]
fn several_readers_are_remembered() {
    for barrier in [false, true] {
        let mut races = Races::new(1, 8);
        for w in 0..7 {
            assert_eq!(races.row(warp(0, w), SHARED, Access::Read, 0), None);
        }
        if barrier {
            races.barrier(0, &[0, 1, 2, 3, 4, 5, 7]);
        } else {
            races.barrier(0, &[0, 1, 2, 4, 5, 6, 7]);
        }
        let found = races.row(warp(0, 7), SHARED, Access::Write, 0).unwrap();
        assert_eq!(found.other_warp, if barrier { 6 } else { 3 });
    }
}

#[test]
fn neighbouring_bytes_are_no_race() {
    let mut races = Races::new(1, 2);
    // Warp 0 takes the even bytes, warp 1 the odd ones.
    for w in 0..2u32 {
        assert_eq!(
            races.lanes(warp(0, w), SHARED, Access::Write, u32::MAX, 1, |lane| 2
                * lane
                + w as u64),
            None
        );
    }
    for w in 0..2u32 {
        assert_eq!(
            races.lanes(warp(0, w), SHARED, Access::Read, u32::MAX, 1, |lane| 2
                * lane
                + w as u64),
            None
        );
    }
    let found = races
        .lanes(warp(0, 0), SHARED, Access::Read, 1, 1, |_| 17)
        .unwrap();
    assert_eq!(
        (found.start, found.bytes, found.other_warp, found.other_lane),
        (17, 1, 1, 8)
    );
    assert!(
        races.row(warp(0, 1), SHARED, Access::Read, 0).is_some(),
        "words contain the other's bytes"
    );
    races.barrier(0, &[0, 1]);
    assert_eq!(races.row(warp(0, 1), SHARED, Access::Write, 0), None);
    assert!(
        races
            .lanes(warp(0, 0), SHARED, Access::Read, 1 << 5, 2, |_| 126)
            .is_some()
    );
}

#[test]
fn rows_of_halves_meet_at_an_odd_half() {
    let mut races = Races::new(1, 2);
    assert_eq!(
        races.lanes(warp(0, 0), SHARED, Access::Write, u32::MAX, 2, |lane| 2 + 2
            * lane),
        None
    );
    assert_eq!(
        races.lanes(warp(0, 1), SHARED, Access::Write, u32::MAX, 2, |lane| 66
            + 2 * lane),
        None
    );
    assert_eq!(
        races.lanes(warp(0, 1), SHARED, Access::Write, 1, 2, |_| 0),
        None
    );
    assert!(
        races
            .lanes(warp(0, 1), SHARED, Access::Write, 1, 2, |_| 64)
            .is_some()
    );
}

#[test]
fn a_histogram_needs_atomics() {
    let bins = |lane: u64| 4 * (lane * lane * 7 % 13);
    for (access, clean) in [(ATOMIC, true), (Access::Write, false)] {
        let mut races = Races::new(1, 4);
        let mut found = None;
        for round in 0..20 {
            for w in 0..4 {
                found = found.or(
                    races.lanes(warp(0, w), SHARED, access, u32::MAX, 4, |lane| {
                        bins(lane + round)
                    }),
                );
            }
        }
        assert_eq!(found.is_none(), clean);
        assert!(
            races.row(warp(0, 2), SHARED, Access::Read, 0).is_some(),
            "reading it needs a barrier"
        );
        races.barrier(0, &[0, 1, 2, 3]);
        assert_eq!(races.row(warp(0, 2), SHARED, Access::Read, 0), None);
    }
}

#[test]
fn atomics_do_not_hide_an_unordered_plain_write() {
    let mut races = Races::new(1, 3);
    races.one(warp(0, 0), 0, SHARED, Access::Write, 0);
    assert_eq!(races.one(warp(0, 0), 0, SHARED, ATOMIC, 0), None);
    let found = races.one(warp(0, 1), 0, SHARED, ATOMIC, 0).unwrap();
    assert_eq!(
        found.other_access,
        Access::Write,
        "the initialisation is not ordered before this atomic"
    );
}

#[test]
fn every_concurrent_atomic_counts_for_a_later_read() {
    let mut races = Races::new(1, 3);
    for w in 0..2 {
        assert_eq!(races.one(warp(0, w), 0, SHARED, ATOMIC, 8), None);
    }
    races.barrier(0, &[1, 2]);
    let found = races.one(warp(0, 2), 0, SHARED, Access::Read, 8).unwrap();
    assert_eq!((found.other_warp, found.other_access), (0, ATOMIC));
}

#[test]
fn lanes_of_a_warp_need_syncwarp() {
    for sync in [false, true] {
        let mut races = Races::new(1, 1);
        assert_eq!(races.row(warp(0, 0), SHARED, Access::Write, 0), None);
        assert_eq!(
            races.row(warp(0, 0), SHARED, Access::Read, 0),
            None,
            "every lane reads its own"
        );
        if sync {
            races.warp_sync(warp(0, 0), u32::MAX);
        }
        let found = races.lanes(warp(0, 0), SHARED, Access::Read, u32::MAX, 4, |lane| {
            4 * (lane ^ 1)
        });
        assert_eq!(found.is_none(), sync);
        if let Some(conflict) = found {
            assert!(conflict.same_warp);
            assert_eq!(
                (conflict.lane ^ 1, conflict.start),
                (conflict.other_lane, 4 * conflict.other_lane as u64)
            );
        }
    }
}

#[test]
fn a_broadcast_read_before_one_lane_writes_needs_syncwarp() {
    for sync in [false, true] {
        let mut races = Races::new(1, 1);
        assert_eq!(
            races.lanes(warp(0, 0), SHARED, Access::Read, u32::MAX, 4, |_| 12),
            None
        );
        if sync {
            races.warp_sync(warp(0, 0), u32::MAX);
        }
        let found = races.one(warp(0, 0), 0, SHARED, Access::Write, 12);
        assert_eq!(
            found.map(|conflict| conflict.other_lane),
            (!sync).then_some(1)
        );
    }
}

#[test]
fn part_of_a_warp_can_synchronise() {
    let mut races = Races::new(1, 1);
    let who = warp(0, 0);
    races.row(who, SHARED, Access::Write, 0);
    races.warp_sync(who, 0x0000_ffff);
    assert_eq!(races.one(who, 3, SHARED, Access::Read, 4 * 15), None);
    assert!(races.one(who, 3, SHARED, Access::Read, 4 * 16).is_some());
    races.warp_sync(who, 0x00ff_0000);
    races.warp_sync(who, (1 << 3) | (1 << 20));
    assert_eq!(
        races.one(who, 3, SHARED, Access::Read, 4 * 16),
        None,
        "through lane 20"
    );
    assert!(races.one(who, 3, SHARED, Access::Read, 4 * 31).is_some());
    assert!(races.one(who, 4, SHARED, Access::Read, 4 * 16).is_some());
}

#[test]
fn exited_lanes_are_not_waited_for() {
    let mut races = Races::new(1, 1);
    races.set_live(warp(0, 0), 0xff);
    races.lanes(warp(0, 0), SHARED, Access::Write, 0xff, 4, |lane| 4 * lane);
    races.warp_sync(warp(0, 0), 0xff);
    assert_eq!(
        races.lanes(warp(0, 0), SHARED, Access::Read, 0xff, 4, |lane| 4
            * (lane ^ 7)),
        None
    );
}

#[test]
fn lanes_that_store_different_values_to_one_address_race() {
    let addresses = std::array::from_fn(|lane| 4 * (lane as u64 / 2));
    let values: [u64; 32] = std::array::from_fn(|lane| if lane == 11 { 1 } else { 0 });
    for (values, clean) in [(Some(&values), false), (Some(&[5; 32]), true), (None, true)] {
        let mut races = Races::new(1, 1);
        let lanes = LaneAccess {
            addresses: &addresses,
            mask: u32::MAX,
            bytes: 4,
            collective: false,
            values,
            unchanged: false,
        };
        let found = races.access(warp(0, 0), SHARED, 9, Access::Write, &lanes);
        assert_eq!(found.is_none(), clean);
        if let Some(conflict) = found {
            assert_eq!(
                (conflict.lane, conflict.other_lane, conflict.start),
                (11, 10, 20)
            );
            assert!(conflict.same_warp && conflict.other_pc == 9);
        }
    }
}

#[test]
fn a_collective_access_belongs_to_all_lanes() {
    let mut races = Races::new(1, 1);
    races.lanes(warp(0, 0), SHARED, Access::Write, u32::MAX, 16, |lane| {
        16 * lane
    });
    races.warp_sync(warp(0, 0), u32::MAX);
    let addresses = std::array::from_fn(|lane| 16 * (lane as u64 ^ 5));
    let lanes = LaneAccess {
        addresses: &addresses,
        mask: u32::MAX,
        bytes: 16,
        collective: true,
        values: None,
        unchanged: false,
    };
    assert_eq!(
        races.access(warp(0, 0), SHARED, 1, Access::Read, &lanes),
        None
    );
    assert!(races.one(warp(0, 0), 5, SHARED, Access::Write, 0).is_some());
}

#[test]
fn stores_of_what_is_there_do_not_race_with_stores() {
    let addresses = std::array::from_fn(|lane| 4 * lane as u64);
    let write = |unchanged| LaneAccess {
        addresses: &addresses,
        mask: u32::MAX,
        bytes: 4,
        collective: false,
        values: None,
        unchanged,
    };
    for strength in [Access::Write, Access::StrongWrite(Scope::Cta)] {
        let mut races = Races::new(1, 3);
        let mut store = |who, unchanged| {
            let found = races.access(warp(0, who), SHARED, 7, strength, &write(unchanged));
            found.is_some()
        };
        assert!(!store(0, false));
        assert!(!store(1, true), "the same values");
        // The same store in a loop: what held for the last one does not hold for this.
        assert_eq!(store(0, false), strength == Access::Write, "other values");
        assert!(!store(0, true));
    }
    let mut races = Races::new(1, 2);
    assert_eq!(races.row(warp(0, 0), SHARED, Access::Read, 0), None);
    let found = races.access(warp(0, 1), SHARED, 7, Access::Write, &write(true));
    assert!(found.is_some(), "a store that changes nothing and a read");
    let mut races = Races::new(1, 2);
    races.row(warp(0, 0), SHARED, ATOMIC, 0);
    let found = races.access(warp(0, 1), SHARED, 7, Access::Write, &write(true));
    assert!(
        found.is_some(),
        "a store that changes nothing and an atomic"
    );
}

#[test]
fn volatile_polling_is_fine_and_plain_polling_is_not() {
    let volatile = Access::StrongRead(Scope::Sys);
    for (read, write, clean) in [
        (volatile, Access::StrongWrite(Scope::Sys), true),
        (Access::Read, Access::StrongWrite(Scope::Sys), false),
        (volatile, Access::Write, false),
    ] {
        let mut races = Races::new(1, 2);
        let mut found = races.one(warp(0, 1), 0, SHARED, read, 64);
        found = found.or(races.one(warp(0, 0), 0, SHARED, write, 64));
        found = found.or(races.one(warp(0, 1), 0, SHARED, read, 64));
        assert_eq!(found.is_none(), clean);
    }
}

#[test]
fn forgetting_what_is_over_changes_nothing() {
    let mut races = Races::new(1, 2);
    races.one(warp(0, 0), 3, SHARED, Access::Write, 40_000);
    races.lanes(warp(0, 0), SHARED, Access::Write, 1, 1, |_| 40_005);
    races.row(warp(0, 1), SHARED, Access::Read, 50_000);
    let gather = |step: u64| move |lane: u64| 60_000 + 4 * ((lane * 37 + step) % 512);
    races.lanes(warp(0, 0), SHARED, Access::Write, u32::MAX, 4, gather(5));
    // Enough accesses at new times to fill the log several times.
    // Enough accesses at new times to fill the log several times.
    for step in 0..1_500_000u64 {
        let found = races.row(warp(0, 0), SHARED, Access::Read, 128 * (step % 64));
        assert_eq!(found, None);
        if step % 8 == 0 {
            assert_eq!(
                races.lanes(warp(0, 0), SHARED, Access::Read, u32::MAX, 4, |lane| 4
                    * ((lane * 37 + step) % 512)),
                None
            );
        }
        races.warp_sync(warp(0, 0), u32::MAX);
    }
    let found = races
        .one(warp(0, 1), 0, SHARED, Access::Read, 40_000)
        .unwrap();
    assert_eq!((found.other_warp, found.other_lane), (0, 3));
    assert!(
        races
            .lanes(warp(0, 1), SHARED, Access::Read, 1, 1, |_| 40_005)
            .is_some()
    );
    assert!(
        races
            .lanes(warp(0, 1), SHARED, Access::Read, 1, 1, |_| 40_006)
            .is_none()
    );
    assert_eq!(
        races
            .row(warp(0, 0), SHARED, Access::Write, 50_000)
            .map(|found| found.other_warp),
        Some(1)
    );
    let found = races
        .lanes(warp(0, 1), SHARED, Access::Read, u32::MAX, 4, gather(5))
        .unwrap();
    assert_eq!(
        (found.lane, found.other_lane, found.other_access),
        (0, 0, Access::Write)
    );
}

#[test]
fn a_swizzled_row_knows_its_lanes() {
    let mut races = Races::new(1, 1);
    let who = warp(0, 0);
    let swizzled = |lane: u64| 16 * (lane ^ (lane / 8));
    assert_eq!(
        races.lanes(who, SHARED, Access::Write, u32::MAX, 16, swizzled),
        None
    );
    assert_eq!(
        races.lanes(who, SHARED, Access::Read, u32::MAX, 16, swizzled),
        None,
        "every lane its own"
    );
    assert_eq!(
        races.one(who, 9, SHARED, Access::Write, 16 * 8 + 4),
        None,
        "lane 9 holds piece 8"
    );
    let found = races.one(who, 9, SHARED, Access::Read, 16 * 9 + 4).unwrap();
    assert_eq!(
        (found.lane, found.other_lane, found.same_warp),
        (9, 8, true)
    );
    races.warp_sync(who, u32::MAX);
    assert_eq!(races.one(who, 9, SHARED, Access::Read, 16 * 9 + 4), None);
}
