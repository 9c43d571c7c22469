//! How many blocks fit.

use crate::boundary::{Answer, Out, exports};
use crate::driver::enter;
use crate::error::{INVALID_VALUE, NOT_SUPPORTED};
use crate::function::{Facts, get};
use crate::handle::Handle;
use virtual_gpu::Profile;

/// Blocks of a kernel that a multiprocessor holds; none if a block cannot be launched.
pub fn blocks(profile: &Profile, facts: &Facts, threads: u32, dynamic: u64) -> u32 {
    let shared = u64::from(facts.static_shared) + dynamic;
    if threads == 0
        || threads > facts.max_threads
        || shared > u64::from(profile.shared_per_block_optin)
    {
        return 0;
    }
    profile.blocks_per_multiprocessor(threads, shared as u32, facts.register_limit)
}

fn active(count: Out<i32>, function: Handle, threads: i32, dynamic: usize, flags: u32) -> Answer {
    count.check()?;
    let scope = enter()?;
    let facts = get(scope, function)?.facts()?;
    let threads = u32::try_from(threads)
        .ok()
        .filter(|n| *n != 0)
        .ok_or(INVALID_VALUE)?;
    if flags > 1 {
        return Err(INVALID_VALUE);
    }
    count.set(blocks(&scope.config.profile, &facts, threads, dynamic as u64) as i32)
}

/// The shared memory that a block of a size needs, as a function of the caller.
type SharedOf = Option<extern "C" fn(i32) -> usize>;

fn best(
    grid: Out<i32>,
    block: Out<i32>,
    function: Handle,
    shared_of: SharedOf,
    dynamic: usize,
    limit: i32,
    flags: u32,
) -> Answer {
    grid.check()?;
    block.check()?;
    let scope = enter()?;
    let profile = &scope.config.profile;
    let facts = get(scope, function)?.facts()?;
    if flags > 1 || limit < 0 {
        return Err(INVALID_VALUE);
    }
    let most = if limit == 0 {
        facts.max_threads
    } else {
        facts.max_threads.min(limit as u32)
    };
    // The largest block of whole warps that keeps most threads on a multiprocessor.
    let sizes = (1..=most / 32)
        .rev()
        .map(|warps| 32 * warps)
        .chain((most < 32).then_some(most));
    let mut found = (0, 0);
    for threads in sizes {
        let dynamic = shared_of.map_or(dynamic, |shared| shared(threads as i32));
        let count = blocks(profile, &facts, threads, dynamic as u64);
        if count * threads > found.0 * found.1 {
            found = (count, threads);
        }
    }
    grid.set((found.0 * profile.multiprocessors) as i32)?;
    block.set(found.1 as i32)
}

exports! {
    /// Blocks that a multiprocessor holds.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        count: Out<i32>,
        function: Handle,
        threads: i32,
        dynamic: usize,
    ) {
        active(count, function, threads, dynamic, 0)
    }

    /// Blocks that a multiprocessor holds.
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        count: Out<i32>,
        function: Handle,
        threads: i32,
        dynamic: usize,
        flags: u32,
    ) {
        active(count, function, threads, dynamic, flags)
    }

    /// The block size that keeps the device fullest, and the smallest grid that does.
    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<i32>,
        block: Out<i32>,
        function: Handle,
        shared_of: SharedOf,
        dynamic: usize,
        limit: i32,
    ) {
        best(grid, block, function, shared_of, dynamic, limit, 0)
    }

    /// The block size that keeps the device fullest, and the smallest grid that does.
    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<i32>,
        block: Out<i32>,
        function: Handle,
        shared_of: SharedOf,
        dynamic: usize,
        limit: i32,
        flags: u32,
    ) {
        best(grid, block, function, shared_of, dynamic, limit, flags)
    }

    /// Dynamic shared memory that each of `count` blocks can have on a multiprocessor.
    fn cuOccupancyAvailableDynamicSMemPerBlock(
        bytes: Out<usize>,
        function: Handle,
        count: i32,
        threads: i32,
    ) {
        bytes.check()?;
        let scope = enter()?;
        let profile = &scope.config.profile;
        let facts = get(scope, function)?.facts()?;
        if count <= 0 || threads <= 0 || blocks(profile, &facts, threads as u32, 0) < count as u32 {
            return Err(INVALID_VALUE);
        }
        // Shared memory is handed out in units of 128 bytes.
        let share = profile.shared_per_multiprocessor / count as u32 / 128 * 128;
        let most = share.saturating_sub(profile.shared_reserved).min(profile.shared_per_block_optin);
        bytes.set(most.saturating_sub(facts.static_shared) as usize)
    }

    /// Clusters of blocks are not there yet.
    fn cuOccupancyMaxActiveClusters(_count: Out<i32>, _function: Handle, _config: usize) {
        Err(NOT_SUPPORTED)
    }

    /// Clusters of blocks are not there yet.
    fn cuOccupancyMaxPotentialClusterSize(_size: Out<i32>, _function: Handle, _config: usize) {
        Err(NOT_SUPPORTED)
    }
}
