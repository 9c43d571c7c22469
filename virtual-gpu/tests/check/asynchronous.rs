//! Asynchronous copies: groups, mbarriers, the async proxy.

use virtual_gpu::check::race::{
    Access, Bar, Completion, Conflict, ConflictKind, Footprint, LaneAccess, Races, Space,
};

use crate::{Accesses, GLOBAL, SHARED, warp};

fn bar(address: u32) -> Bar {
    Bar { block: 0, address }
}

fn bulk(start: u64, bytes: u64) -> Footprint<'static> {
    Footprint::Bytes {
        lane: 0,
        start,
        bytes,
    }
}

fn cp_async(races: &mut Races, w: u32, start: u64) -> Option<Conflict> {
    let addresses = std::array::from_fn(|lane| start + 16 * lane as u64);
    let lanes = LaneAccess {
        addresses: &addresses,
        mask: u32::MAX,
        bytes: 16,
        collective: false,
        values: None,
        unchanged: false,
    };
    races.async_write(
        warp(0, w),
        SHARED,
        7,
        &Footprint::Lanes(&lanes),
        Completion::CpAsync,
    )
}

#[test]
fn copies_are_over_after_their_group_was_waited_for() {
    let who = warp(0, 0);
    for (waited, clean) in [(0, false), (1, false), (2, true)] {
        let mut races = Races::new(1, 2);
        for stage in 0..3 {
            assert_eq!(cp_async(&mut races, 0, 512 * stage), None);
            races.async_commit_group(who);
        }
        races.async_wait_group(who, waited);
        // Lane 0 copied the first 16 bytes and may read them; the others need a barrier.
        let own = races.lanes(who, SHARED, Access::Read, u32::MAX, 16, |lane| {
            512 + 16 * lane
        });
        assert_eq!(own.is_none(), clean);
        if let Some(conflict) = own {
            assert!(conflict.other_async && conflict.same_warp && conflict.other_pc == 7);
            continue;
        }
        assert!(
            races
                .one(warp(0, 1), 0, SHARED, Access::Read, 512)
                .is_some()
        );
        assert!(
            races.one(who, 1, SHARED, Access::Read, 512).is_some(),
            "copied by another lane"
        );
        races.barrier(0, &[0, 1]);
        assert_eq!(races.row(warp(0, 1), SHARED, Access::Read, 512), None);
        assert_eq!(races.row(who, SHARED, Access::Read, 512), None);
        assert!(
            races.row(warp(0, 1), SHARED, Access::Read, 1024).is_some(),
            "group 3 was not waited for"
        );
    }
}

#[test]
fn a_stage_must_not_be_overwritten_while_it_is_read() {
    for barrier in [false, true] {
        let mut races = Races::new(1, 2);
        cp_async(&mut races, 0, 0);
        races.async_commit_group(warp(0, 0));
        races.async_wait_group(warp(0, 0), 1);
        races.barrier(0, &[0, 1]);
        races.row(warp(0, 1), SHARED, Access::Read, 0);
        if barrier {
            races.barrier(0, &[0, 1]);
        }
        assert_eq!(cp_async(&mut races, 0, 0).is_none(), barrier);
    }
}

#[test]
fn an_mbarrier_can_track_cp_async() {
    for late in [false, true] {
        let mut races = Races::new(1, 2);
        let who = warp(0, 0);
        if late {
            races.cp_async_mbarrier_arrive(who, bar(0));
        }
        cp_async(&mut races, 0, 1024);
        if !late {
            races.cp_async_mbarrier_arrive(who, bar(0));
        }
        races.mbarrier_phase_complete(bar(0));
        races.mbarrier_observe(warp(0, 1), bar(0), 0, true);
        assert_eq!(
            races.row(warp(0, 1), SHARED, Access::Read, 1024).is_none(),
            !late
        );
    }
}

/// Producer warp 0 fills a ring of two stages by bulk copies, consumer warps 1 and 2 empty it.
fn ring(leave_out: &str) -> Option<Conflict> {
    let mut races = Races::new(1, 3);
    let (full, empty) = (
        |stage: u32| bar(8 * stage),
        |stage: u32| bar(16 + 8 * stage),
    );
    let producer = warp(0, 0);
    for stage in 0..2 {
        races.mbarrier_init(full(stage));
        races.mbarrier_init(empty(stage));
    }
    races.barrier(0, &[0, 1, 2]);
    let mut found = None;
    for step in 0..8u32 {
        let (stage, round) = (step % 2, step / 2);
        let buffer = 1024 + 256 * stage as u64;
        if round > 0 && leave_out != "wait for empty" {
            races.mbarrier_observe(producer, empty(stage), round - 1, true);
        }
        races.mbarrier_arrive(producer, full(stage), true);
        let completion = Completion::Mbarrier(full(stage));
        found = found.or(races.async_read(
            producer,
            GLOBAL,
            1,
            &bulk(256 * step as u64, 256),
            completion,
        ));
        found = found.or(races.async_write(producer, SHARED, 2, &bulk(buffer, 256), completion));
        races.mbarrier_phase_complete(full(stage));
        for w in 1..3 {
            let who = warp(0, w);
            if leave_out != "wait for full" {
                let seen = if leave_out == "right phase" {
                    round.saturating_sub(1)
                } else {
                    round
                };
                races.mbarrier_observe(who, full(stage), seen, true);
            }
            found = found.or(races.row(who, SHARED, Access::Read, buffer + 128 * (w as u64 - 1)));
            if leave_out != "one consumer's arrival" || w == 1 {
                races.mbarrier_arrive(who, empty(stage), true);
            }
        }
        races.mbarrier_phase_complete(empty(stage));
    }
    found
}

#[test]
fn a_ring_needs_every_wait_and_arrival() {
    assert_eq!(ring(""), None);
    for part in [
        "wait for empty",
        "wait for full",
        "right phase",
        "one consumer's arrival",
    ] {
        assert!(ring(part).is_some(), "{part}");
    }
}

#[test]
fn a_relaxed_wait_does_not_acquire_without_a_fence() {
    use virtual_gpu::check::race::Scope;
    for (acquire, fence, clean) in [
        (true, false, true),
        (false, false, false),
        (false, true, true),
    ] {
        let mut races = Races::new(1, 2);
        races.row(warp(0, 0), SHARED, Access::Write, 128);
        races.mbarrier_arrive(warp(0, 0), bar(0), true);
        races.mbarrier_phase_complete(bar(0));
        races.mbarrier_observe(warp(0, 1), bar(0), 0, acquire);
        if fence {
            races.fence(warp(0, 1), Scope::Cta);
        }
        assert_eq!(
            races.row(warp(0, 1), SHARED, Access::Read, 128).is_none(),
            clean
        );
    }
}

#[test]
fn phases_start_again_after_init() {
    let mut races = Races::new(1, 2);
    for round in 0..3 {
        races.mbarrier_init(bar(0));
        races.barrier(0, &[0, 1]);
        races.async_write(
            warp(0, 0),
            SHARED,
            1,
            &bulk(256, 128),
            Completion::Mbarrier(bar(0)),
        );
        let early = races.row(warp(0, 1), SHARED, Access::Read, 256);
        assert!(early.is_some(), "round {round}");
        races.barrier(0, &[0, 1]);
        races.mbarrier_phase_complete(bar(0));
        for w in 0..2 {
            races.mbarrier_observe(warp(0, w), bar(0), 0, true);
        }
        races.barrier(0, &[0, 1]);
        races.async_write(
            warp(0, 0),
            SHARED,
            1,
            &bulk(256, 128),
            Completion::Mbarrier(bar(8)),
        );
        races.mbarrier_phase_complete(bar(8));
        races.mbarrier_observe(warp(0, 0), bar(8), round, true);
        races.barrier(0, &[0, 1]);
        assert_eq!(races.row(warp(0, 1), SHARED, Access::Read, 256), None);
    }
}

#[test]
fn a_remote_arrival_reaches_the_block_of_the_mbarrier() {
    for arrive in [false, true] {
        let mut races = Races::new(2, 2);
        races.set_clusters(vec![0, 0]);
        races.row(warp(1, 1), SHARED, Access::Write, 256);
        if arrive {
            races.mbarrier_arrive(warp(1, 1), bar(0), true);
        }
        races.mbarrier_phase_complete(bar(0));
        races.mbarrier_observe(warp(0, 1), bar(0), 0, true);
        assert_eq!(
            races.row(warp(0, 1), SHARED, Access::Read, 256).is_none(),
            arrive
        );
    }
}

#[test]
fn a_multicast_copy_is_seen_through_the_barrier_of_each_block() {
    let mut races = Races::new(2, 1);
    let there = Bar {
        block: 1,
        address: 0,
    };
    races.async_write(
        warp(0, 0),
        Space::Shared(1),
        1,
        &bulk(256, 128),
        Completion::Mbarrier(there),
    );
    assert!(
        races
            .one(warp(1, 0), 0, Space::Shared(1), Access::Read, 300)
            .is_some()
    );
    races.mbarrier_phase_complete(there);
    races.mbarrier_observe(warp(1, 0), there, 0, true);
    assert_eq!(
        races.one(warp(1, 0), 0, Space::Shared(1), Access::Read, 260),
        None
    );
}

/// A warp fills shared memory, then a bulk copy stores it to global memory; `fence` says who fences.
fn bulk_store(fence: &str) -> Option<Conflict> {
    let mut races = Races::new(1, 3);
    races.row(warp(0, 1), SHARED, Access::Write, 0);
    match fence {
        "writer" => races.proxy_fence(warp(0, 1)),
        "other" => races.proxy_fence(warp(0, 2)),
        _ => {}
    }
    races.barrier(0, &[0, 1, 2]);
    match fence {
        "reader" => races.proxy_fence(warp(0, 0)),
        "between" => {
            races.proxy_fence(warp(0, 2));
            races.barrier(0, &[0, 1, 2]);
        }
        _ => {}
    }
    races.async_read(warp(0, 0), SHARED, 5, &bulk(0, 128), Completion::Bulk)
}

#[test]
fn generic_writes_need_a_proxy_fence_before_a_bulk_copy() {
    for fence in ["writer", "reader", "between"] {
        assert_eq!(bulk_store(fence), None, "{fence}");
    }
    for fence in ["", "other"] {
        let found = bulk_store(fence).unwrap();
        assert_eq!(
            (found.kind, found.other_warp),
            (ConflictKind::MissingProxyFence, 1),
            "{fence}"
        );
    }
}

#[test]
fn the_proxy_fence_works_across_blocks() {
    use virtual_gpu::check::race::Scope;
    for fence in [0, 1, 2] {
        let mut races = Races::new(2, 1);
        races.row(warp(0, 0), GLOBAL, Access::Write, 0);
        if fence == 1 {
            races.proxy_fence(warp(0, 0));
        }
        races.release(warp(0, 0), 9, Scope::Gpu, false);
        races.acquire(warp(1, 0), 9, Scope::Gpu);
        if fence == 2 {
            races.proxy_fence(warp(1, 0));
        }
        let mbarrier = Completion::Mbarrier(Bar {
            block: 1,
            address: 0,
        });
        let found = races.async_read(warp(1, 0), GLOBAL, 5, &bulk(0, 128), mbarrier);
        assert_eq!(
            found.map(|found| found.kind),
            (fence == 0).then_some(ConflictKind::MissingProxyFence)
        );
    }
}

#[test]
fn async_writes_need_no_proxy_fence() {
    let mut races = Races::new(1, 1);
    let who = warp(0, 0);
    races.async_write(
        who,
        SHARED,
        1,
        &bulk(0, 128),
        Completion::Mbarrier(bar(512)),
    );
    races.mbarrier_phase_complete(bar(512));
    races.mbarrier_observe(who, bar(512), 0, true);
    assert_eq!(races.row(who, SHARED, Access::Read, 0), None);
    assert_eq!(
        races.async_read(who, SHARED, 2, &bulk(0, 128), Completion::Bulk),
        None
    );
}

#[test]
fn sources_of_bulk_stores_are_free_after_the_read_and_results_after_the_rest() {
    for (read, waited) in [(true, false), (true, true), (false, true)] {
        let mut races = Races::new(1, 1);
        let who = warp(0, 0);
        races.async_read(who, SHARED, 1, &bulk(0, 128), Completion::Bulk);
        races.async_write(who, GLOBAL, 1, &bulk(0, 128), Completion::Bulk);
        races.bulk_commit_group(who);
        if waited {
            races.bulk_wait_group(who, 1, read);
            races.warp_sync(who, u32::MAX);
        }
        assert_eq!(races.row(who, SHARED, Access::Write, 0).is_none(), waited);
        assert_eq!(
            races.row(who, GLOBAL, Access::Read, 0).is_none(),
            waited && !read
        );
    }
}
