//! Between blocks: release and acquire, scopes, fences, the patterns of cooperative grids.

use virtual_gpu::check::race::{Access, Conflict, Races, Scope, Space};

use crate::{Accesses, GLOBAL, warp};

const FLAG: u64 = 0x7000_0000_0100;
const FLAGS: Space = Space::Global(1);
const GPU: Scope = Scope::Gpu;

/// Warp 1 of block 0 writes, warp 0 publishes for it, block 1 acquires and reads.
fn handover(barrier: bool, release: Scope, acquire: Scope) -> Option<Conflict> {
    let mut races = Races::new(2, 2);
    races.row(warp(0, 1), GLOBAL, Access::Write, 0);
    if barrier {
        races.barrier(0, &[0, 1]);
    }
    races.release(warp(0, 0), FLAG, release, false);
    races.acquire(warp(1, 0), FLAG, acquire);
    races.row(warp(1, 0), GLOBAL, Access::Read, 0)
}

#[test]
fn a_release_before_the_other_warps_have_passed_the_barrier_is_too_early() {
    assert_eq!(handover(true, GPU, GPU), None);
    let found = handover(false, GPU, GPU).unwrap();
    assert_eq!((found.other_block, found.other_warp), (0, 1));
}

#[test]
fn scopes_must_include_each_other() {
    for (release, acquire, clean) in [
        (Scope::Gpu, Scope::Sys, true),
        (Scope::Cta, Scope::Gpu, false),
        (Scope::Gpu, Scope::Cta, false),
        (Scope::Cluster, Scope::Cluster, false),
    ] {
        assert_eq!(
            handover(true, release, acquire).is_none(),
            clean,
            "{release:?} {acquire:?}"
        );
    }
}

#[test]
fn cta_scope_serves_the_own_block() {
    for block in [0, 1] {
        let mut races = Races::new(2, 2);
        races.row(warp(0, 0), GLOBAL, Access::Write, 0);
        races.release(warp(0, 0), FLAG, Scope::Cta, false);
        races.acquire(warp(block, 1), FLAG, Scope::Cta);
        assert_eq!(
            races.row(warp(block, 1), GLOBAL, Access::Read, 0).is_none(),
            block == 0
        );
    }
}

#[test]
fn cluster_scope_serves_the_own_cluster() {
    for block in [1, 2] {
        let mut races = Races::new(4, 1);
        races.set_clusters(vec![0, 0, 1, 1]);
        races.row(warp(0, 0), GLOBAL, Access::Write, 0);
        races.release(warp(0, 0), FLAG, Scope::Cluster, false);
        races.acquire(warp(block, 0), FLAG, Scope::Gpu);
        assert_eq!(
            races.row(warp(block, 0), GLOBAL, Access::Read, 0).is_none(),
            block == 1
        );
    }
}

#[test]
fn scopes_of_atomics_on_the_data_itself() {
    for (scope, clean) in [(Scope::Cta, false), (Scope::Gpu, true)] {
        let mut races = Races::new(2, 1);
        assert_eq!(
            races.one(warp(0, 0), 0, GLOBAL, Access::Atomic(scope), 0),
            None
        );
        assert_eq!(
            races
                .one(warp(1, 0), 0, GLOBAL, Access::Atomic(scope), 0)
                .is_none(),
            clean
        );
    }
}

/// Relaxed flag with a fence on either side.
fn fences(writer: Option<Scope>, reader: Option<Scope>) -> bool {
    let mut races = Races::new(2, 1);
    races.row(warp(0, 0), GLOBAL, Access::Write, 0);
    if let Some(scope) = writer {
        races.fence(warp(0, 0), scope);
    }
    assert_eq!(
        races.one(warp(0, 0), 0, FLAGS, Access::StrongWrite(GPU), 0),
        None
    );
    races.relaxed_store(warp(0, 0), FLAG, GPU, false);
    assert_eq!(
        races.one(warp(1, 0), 0, FLAGS, Access::StrongRead(GPU), 0),
        None
    );
    races.relaxed_load(warp(1, 0), FLAG, GPU);
    if let Some(scope) = reader {
        races.fence(warp(1, 0), scope);
    }
    races.row(warp(1, 0), GLOBAL, Access::Read, 0).is_none()
}

#[test]
fn relaxed_flags_need_fences_on_both_sides() {
    assert!(fences(Some(GPU), Some(GPU)));
    assert!(!fences(None, Some(GPU)));
    assert!(!fences(Some(GPU), None));
    assert!(!fences(Some(Scope::Cta), Some(GPU)));
    assert!(!fences(Some(GPU), Some(Scope::Cta)));
}

#[test]
fn what_follows_the_fence_is_not_published() {
    let mut races = Races::new(2, 1);
    races.fence(warp(0, 0), GPU);
    races.row(warp(0, 0), GLOBAL, Access::Write, 0);
    races.relaxed_store(warp(0, 0), FLAG, GPU, false);
    races.acquire(warp(1, 0), FLAG, GPU);
    assert!(races.row(warp(1, 0), GLOBAL, Access::Read, 0).is_some());
}

#[test]
fn a_plain_store_by_somebody_else_ends_what_was_released() {
    for (rmw, clean) in [(true, true), (false, false)] {
        let mut races = Races::new(3, 1);
        races.row(warp(0, 0), GLOBAL, Access::Write, 0);
        races.release(warp(0, 0), FLAG, GPU, false);
        races.relaxed_store(warp(1, 0), FLAG, GPU, rmw);
        races.acquire(warp(2, 0), FLAG, GPU);
        assert_eq!(
            races.row(warp(2, 0), GLOBAL, Access::Read, 0).is_none(),
            clean
        );
    }
}

/// The reduction in which the last block to finish adds up the partial results.
fn last_block(with_barrier: bool, fences: [bool; 2]) -> Option<Conflict> {
    let mut races = Races::new(4, 4);
    for block in 0..4 {
        for w in 0..4 {
            races.row(
                warp(block, w),
                GLOBAL,
                Access::Write,
                512 * block as u64 + 128 * w as u64,
            );
        }
        if with_barrier {
            races.barrier(block, &[0, 1, 2, 3]);
        }
        if fences[0] {
            races.fence(warp(block, 0), GPU);
        }
        assert_eq!(
            races.one(warp(block, 0), 0, FLAGS, Access::Atomic(GPU), 0),
            None
        );
        races.relaxed_load(warp(block, 0), FLAG, GPU);
        races.relaxed_store(warp(block, 0), FLAG, GPU, true);
    }
    if fences[1] {
        races.fence(warp(3, 0), GPU);
    }
    races.barrier(3, &[0, 1, 2, 3]);
    (0..4).find_map(|w| races.row(warp(3, w), GLOBAL, Access::Read, 512 * w as u64 + 128))
}

#[test]
fn the_last_block_needs_barrier_and_both_fences() {
    assert_eq!(last_block(true, [true, true]), None);
    assert!(last_block(false, [true, true]).is_some());
    assert!(last_block(true, [false, true]).is_some());
    assert!(last_block(true, [true, false]).is_some());
}

#[test]
fn a_fence_by_every_warp_before_the_barrier_serves_the_store_after_it() {
    let mut races = Races::new(2, 2);
    races.row(warp(0, 1), GLOBAL, Access::Write, 0);
    races.fence(warp(0, 1), GPU);
    races.barrier(0, &[0, 1]);
    races.relaxed_store(warp(0, 0), FLAG, GPU, true);
    races.relaxed_load(warp(1, 0), FLAG, GPU);
    races.barrier(1, &[0, 1]);
    races.fence(warp(1, 1), GPU);
    assert_eq!(races.row(warp(1, 1), GLOBAL, Access::Read, 0), None);
}

/// Phases of a cooperative grid: every warp writes its row, then reads one of another block.
fn grid_barrier(leave_out: Option<&str>) -> Option<Conflict> {
    let (blocks, warps) = (4, 3);
    let mut races = Races::new(blocks, warps);
    let all: Vec<u32> = (0..warps).collect();
    let row = |block: u32, w: u32| 128 * (block * warps + w) as u64;
    let mut found = None;
    let mut meet = |races: &mut Races| {
        for block in 0..blocks {
            if leave_out != Some("first barrier") {
                races.barrier(block, &all);
            }
            found = found.or(races.one(warp(block, 0), 0, FLAGS, Access::Atomic(GPU), 0));
            races.release(warp(block, 0), FLAG, GPU, true);
        }
        for block in 0..blocks {
            found = found.or(races.one(warp(block, 0), 0, FLAGS, Access::StrongRead(GPU), 0));
            if leave_out != Some("acquire") {
                races.acquire(warp(block, 0), FLAG, GPU);
            }
            if leave_out != Some("second barrier") {
                races.barrier(block, &all);
            }
        }
    };
    let mut conflict = None;
    for _ in 0..4 {
        for block in 0..blocks {
            for w in 0..warps {
                conflict =
                    conflict.or(races.row(warp(block, w), GLOBAL, Access::Write, row(block, w)));
            }
        }
        meet(&mut races);
        for block in 0..blocks {
            for w in 0..warps {
                let from = row((block + 1) % blocks, (w + 1) % warps);
                conflict = conflict.or(races.row(warp(block, w), GLOBAL, Access::Read, from));
            }
        }
        if leave_out != Some("second meeting") {
            meet(&mut races);
        }
    }
    conflict.or(found)
}

#[test]
fn a_grid_barrier_needs_all_of_its_parts() {
    assert_eq!(grid_barrier(None), None);
    for part in [
        "first barrier",
        "acquire",
        "second barrier",
        "second meeting",
    ] {
        assert!(grid_barrier(Some(part)).is_some(), "{part}");
    }
}

#[test]
fn equal_values_do_not_excuse_two_writers() {
    let mut races = Races::new(2, 1);
    races.one(warp(0, 0), 0, GLOBAL, Access::Write, 0);
    assert!(races.one(warp(1, 0), 0, GLOBAL, Access::Write, 0).is_some());
}

#[test]
fn a_finished_block_stays_known() {
    let mut races = Races::new(2, 1);
    races.row(warp(0, 0), GLOBAL, Access::Write, 0);
    races.row(warp(0, 0), GLOBAL, Access::Write, 128);
    races.release(warp(0, 0), FLAG, GPU, false);
    races.row(warp(0, 0), GLOBAL, Access::Write, 128);
    races.finish_block(0);
    races.acquire(warp(1, 0), FLAG, GPU);
    assert_eq!(races.row(warp(1, 0), GLOBAL, Access::Read, 0), None);
    assert!(races.row(warp(1, 0), GLOBAL, Access::Read, 128).is_some());
}

#[test]
fn a_cluster_barrier_orders_distributed_shared_memory() {
    for wait in [false, true] {
        let mut races = Races::new(2, 2);
        races.set_clusters(vec![0, 0]);
        races.row(warp(0, 1), Space::Shared(0), Access::Write, 0);
        for block in 0..2 {
            for w in 0..2 {
                races.cluster_arrive(warp(block, w), 0);
            }
        }
        races.cluster_complete(0);
        if wait {
            races.cluster_wait(warp(1, 0), 0);
        }
        assert_eq!(
            races
                .row(warp(1, 0), Space::Shared(0), Access::Read, 0)
                .is_none(),
            wait
        );
    }
}
