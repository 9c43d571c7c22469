//! Allocation in the order of a stream, and memory pools, which keep accounts and nothing else.

use crate::boundary::{Answer, In, Out, exports};
use crate::directory::Kind;
use crate::driver::{Scope, enter, on_device};
use crate::error::{INVALID_VALUE, NOT_SUPPORTED};
use crate::handle::Handle;
use crate::memory::{allocate, free};
use crate::stream::valid;

/// A pool that a program has made.
#[derive(Debug)]
pub struct Pool {
    /// Context that was current when it was made.
    pub context: Handle,
    attributes: Attributes,
}

/// Reuse policies and the release threshold.
type Attributes = [u64; 4];

/// The default pool of the device: a number that no table gives.
const DEFAULT_POOL: Handle = Handle(0x700);
const USED: std::ops::RangeInclusive<u32> = 5..=8;

fn known(scope: Scope, pool: Handle) -> Answer {
    if pool == DEFAULT_POOL {
        return Ok(());
    }
    scope
        .state()
        .pools
        .get(pool)
        .map(|_| ())
        .map_err(|_| INVALID_VALUE)
}

fn take(pointer: Out<u64>, bytes: usize, pool: Handle, stream: Handle) -> Answer {
    pointer.check()?;
    let scope = enter()?;
    valid(scope, stream)?;
    known(scope, pool)?;
    pointer.set(allocate(scope, bytes, Some(pool))?)
}

exports! {
    /// Allocates from the device's pool.
    fn cuMemAllocAsync(pointer: Out<u64>, bytes: usize, stream: Handle) {
        take(pointer, bytes, DEFAULT_POOL, stream)
    }

    /// Allocates from a pool.
    fn cuMemAllocFromPoolAsync(pointer: Out<u64>, bytes: usize, pool: Handle, stream: Handle) {
        take(pointer, bytes, pool, stream)
    }

    /// Frees device memory when the stream gets there.
    fn cuMemFreeAsync(pointer: u64, stream: Handle) {
        let scope = enter()?;
        valid(scope, stream)?;
        if pointer == 0 {
            return Err(INVALID_VALUE);
        }
        free(scope, pointer, |kind| matches!(kind, Kind::Device(_)))
    }

    /// Makes a pool of device memory.
    fn cuMemPoolCreate(pool: Out<Handle>, properties: In<[u32; 4]>) {
        pool.check()?;
        let scope = enter()?;
        let [kind, handles, location, device] = properties.get()?;
        if kind != 1 || location != 1 || device != 0 {
            return Err(INVALID_VALUE);
        }
        if handles != 0 {
            return Err(NOT_SUPPORTED);
        }
        let made = Pool { context: scope.context, attributes: [1, 1, 1, 0] };
        let handle = scope.state().pools.insert(made);
        pool.set(handle)
    }

    /// Ends a pool; what was allocated from it stays.
    fn cuMemPoolDestroy(pool: Handle) {
        enter()?.state().pools.remove(pool).map(|_| ()).map_err(|_| INVALID_VALUE)
    }

    /// Gives memory back that a pool keeps, which is none.
    fn cuMemPoolTrimTo(pool: Handle, _bytes: usize) {
        known(enter()?, pool)
    }

    /// Sets a policy of a pool.
    fn cuMemPoolSetAttribute(pool: Handle, attribute: u32, value: In<u32>) {
        let scope = enter()?;
        known(scope, pool)?;
        let first = value.get()?;
        let whole = match attribute {
            1..=3 => u64::from(first),
            4 => u64::from(first) | u64::from(value.at(1)?) << 32,
            6 | 8 => return Ok(()),
            _ => return Err(INVALID_VALUE),
        };
        if let Ok(pool) = scope.state().pools.get_mut(pool) {
            pool.attributes[attribute as usize - 1] = whole;
        }
        Ok(())
    }

    /// A policy of a pool, or how much it holds.
    fn cuMemPoolGetAttribute(pool: Handle, attribute: u32, value: Out<i32>) {
        let scope = enter()?;
        known(scope, pool)?;
        let state = scope.state();
        let policies = state.pools.get(pool).map_or([1, 1, 1, 0], |pool| pool.attributes);
        match attribute {
            1..=3 => value.set(policies[attribute as usize - 1] as i32),
            4 => value.cast::<u64>().set(policies[3]),
            used if USED.contains(&used) => value.cast::<u64>().set(state.directory.pool_bytes(pool)),
            _ => Err(INVALID_VALUE),
        }
    }

    /// The pool that a device starts with.
    fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: i32) {
        on_device(device)?;
        pool.set(DEFAULT_POOL)
    }

    /// The pool that allocations come from: the default one.
    fn cuDeviceGetMemPool(pool: Out<Handle>, device: i32) {
        on_device(device)?;
        pool.set(DEFAULT_POOL)
    }

    /// Changes the pool that allocations come from: only the default one can be.
    fn cuDeviceSetMemPool(device: i32, pool: Handle) {
        on_device(device)?;
        if pool == DEFAULT_POOL { Ok(()) } else { Err(NOT_SUPPORTED) }
    }
}
