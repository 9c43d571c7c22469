//! Allocation in the order of a stream, and memory pools. A pool keeps accounts: what it has given out, and what it holds
//! back for later as a GPU's would. Addresses are never given a second time, whatever its policies say, so that a use
//! after a free is found even where a GPU would have given the memory to somebody else.

use crate::boundary::{Answer, In, Out, exports};
use crate::directory::Kind;
use crate::driver::{State, enter, on_device};
use crate::error::{INVALID_VALUE, NOT_SUPPORTED, OUT_OF_MEMORY};
use crate::handle::{Handle, Table};
use crate::memory::{allocate, free};
use crate::operation::Operation;
use crate::stream::valid;

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Context that was current when it was made.
    context: Handle,
    /// Reuse policies and the release threshold.
    policies: [u64; 4],
    /// Most bytes that it may give out; 0 for all that there are.
    limit: u64,
    /// Bytes given out, and those held back on top of them.
    account: Account,
}

/// Bytes of a pool, and the most that they have been.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    used: u64,
    used_high: u64,
    reserved: u64,
    reserved_high: u64,
}

impl Pool {
    fn new(context: Handle, limit: u64) -> Self {
        Self {
            context,
            policies: [1, 1, 1, 0],
            limit,
            account: Account::default(),
        }
    }

    /// Gives back what is held and not used, down to `keep` bytes in all.
    fn trim(&mut self, keep: u64) {
        let account = &mut self.account;
        account.reserved = account.used.max(account.reserved.min(keep));
    }
}

/// The default pool of the device, and the one that graphs allocate from: numbers that no table gives.
pub const DEFAULT_POOL: Handle = Handle(0x700);
/// See [`DEFAULT_POOL`].
pub const GRAPH_POOL: Handle = Handle(0x710);

/// All pools.
#[derive(Debug)]
pub struct Pools {
    made: Table<Pool>,
    default: Pool,
    graphs: Pool,
    /// The pool that allocations come from that name none.
    current: Handle,
}

impl Pools {
    /// The pools that a device starts with.
    pub fn new() -> Self {
        Self {
            made: Table::new(6),
            default: Pool::new(Handle::NULL, 0),
            graphs: Pool::new(Handle::NULL, 0),
            current: DEFAULT_POOL,
        }
    }

    fn get(&self, pool: Handle) -> Answer<&Pool> {
        match pool {
            DEFAULT_POOL => Ok(&self.default),
            GRAPH_POOL => Ok(&self.graphs),
            pool => self.made.get(pool).map_err(|_| INVALID_VALUE),
        }
    }

    fn get_mut(&mut self, pool: Handle) -> Answer<&mut Pool> {
        match pool {
            DEFAULT_POOL => Ok(&mut self.default),
            GRAPH_POOL => Ok(&mut self.graphs),
            pool => self.made.get_mut(pool).map_err(|_| INVALID_VALUE),
        }
    }

    /// Notes that a pool has given out memory.
    pub fn took(&mut self, pool: Handle, bytes: u64) {
        if let Ok(pool) = self.get_mut(pool) {
            let account = &mut pool.account;
            account.used += bytes;
            account.used_high = account.used_high.max(account.used);
            account.reserved = account.reserved.max(account.used);
            account.reserved_high = account.reserved_high.max(account.reserved);
        }
    }

    /// Notes that a pool has got memory back; one that has ended does not care.
    pub fn got_back(&mut self, pool: Handle, bytes: u64) {
        if let Ok(pool) = self.get_mut(pool) {
            pool.account.used = pool.account.used.saturating_sub(bytes);
        }
    }

    /// The host has waited for the device: pools give back what is above their threshold.
    pub fn settle(&mut self) {
        self.made.each_mut(|pool| pool.trim(pool.policies[3]));
        self.default.trim(self.default.policies[3]);
    }

    /// Bytes that pools hold back.
    pub fn held(&self) -> u64 {
        let made = self.made.iter().map(|(_, pool)| pool);
        made.chain([&self.default, &self.graphs])
            .map(|pool| pool.account.reserved - pool.account.used)
            .sum()
    }

    /// A context goes, and its pools with it.
    pub fn end(&mut self, context: Handle) {
        self.made.retain(|pool| pool.context != context);
        if self.get(self.current).is_err() {
            self.current = DEFAULT_POOL;
        }
    }
}

fn take(pointer: Out<u64>, bytes: usize, pool: Option<Handle>, stream: Handle) -> Answer {
    pointer.check()?;
    let scope = enter()?;
    valid(scope, stream)?;
    let size = bytes as u64;
    let pool = {
        let mut state = scope.state();
        let handle = pool.unwrap_or(state.pools.current);
        let pool = state.pools.get(handle)?;
        if state.is_captured(stream) {
            let base = state.directory.plan(size)?;
            state.divert(scope, stream, Operation::Allocate(base, size))?;
            return pointer.set(base);
        }
        if pool.limit != 0 && size > pool.limit.saturating_sub(pool.account.used) {
            return Err(OUT_OF_MEMORY);
        }
        // The legacy stream may be forbidden.
        state.divert(scope, stream, Operation::Empty)?;
        handle
    };
    let base = allocate(scope, bytes, Some(pool))?;
    let mut state = scope.state();
    state.pools.took(pool, size);
    state.order_allocation(stream, base);
    pointer.set(base)
}

/// The pools of a state, after a check that `pool` may be asked.
fn known(state: &State, pool: Handle) -> Answer<&Pool> {
    match pool {
        GRAPH_POOL => Err(INVALID_VALUE),
        pool => state.pools.get(pool),
    }
}

fn attribute(account: &Account, attribute: u32) -> Option<u64> {
    Some(match attribute {
        5 => account.reserved,
        6 => account.reserved_high,
        7 => account.used,
        8 => account.used_high,
        _ => return None,
    })
}

/// Sets one of the highest marks to what is there now.
fn reset(account: &mut Account, attribute: u32, value: u64) -> Answer {
    match (attribute, value) {
        (6, 0) => account.reserved_high = account.reserved,
        (8, 0) => account.used_high = account.used,
        _ => return Err(INVALID_VALUE),
    }
    Ok(())
}

/// `CUgraphMem_attribute` as the attribute of a pool.
fn graph_attribute(attribute: u32) -> Answer<u32> {
    Ok(match attribute {
        0 => 7,
        1 => 8,
        2 => 5,
        3 => 6,
        _ => return Err(INVALID_VALUE),
    })
}

fn refuse(what: &str) -> Answer {
    eprintln!("virtual-gpu: {what} is not supported");
    Err(NOT_SUPPORTED)
}

exports! {
    /// Allocates from the device's pool.
    fn cuMemAllocAsync(pointer: Out<u64>, bytes: usize, stream: Handle) {
        take(pointer, bytes, None, stream)
    }

    /// Allocates from a pool.
    fn cuMemAllocFromPoolAsync(pointer: Out<u64>, bytes: usize, pool: Handle, stream: Handle) {
        take(pointer, bytes, Some(pool), stream)
    }

    /// Frees device memory when the stream gets there.
    fn cuMemFreeAsync(pointer: u64, stream: Handle) {
        let scope = enter()?;
        valid(scope, stream)?;
        if pointer == 0 {
            return Err(INVALID_VALUE);
        }
        let mut state = scope.state();
        if state.is_captured(stream) && !state.directory.is_planned(pointer) {
            return Err(INVALID_VALUE);
        }
        if state.divert(scope, stream, Operation::Free(pointer))?.is_none() {
            return Ok(());
        }
        state.order_free(stream, pointer);
        drop(state);
        free(scope, pointer, |kind| matches!(kind, Kind::Device(_)))
    }

    /// Makes a pool of device memory.
    fn cuMemPoolCreate(pool: Out<Handle>, properties: In<[u64; 4]>) {
        pool.check()?;
        let scope = enter()?;
        let [kind, location, _, limit] = properties.get()?;
        let (kind, handles) = (kind as u32, (kind >> 32) as u32);
        if kind != 1 || location != 1 {
            return Err(INVALID_VALUE);
        }
        if handles != 0 {
            return refuse("a memory pool that is shared with other processes");
        }
        let handle = scope.state().pools.made.insert(Pool::new(scope.context, limit));
        pool.set(handle)
    }

    /// Ends a pool; what was allocated from it stays until it is freed.
    fn cuMemPoolDestroy(pool: Handle) {
        let scope = enter()?;
        let mut state = scope.state();
        state.pools.made.remove(pool).map_err(|_| INVALID_VALUE)?;
        if state.pools.current == pool {
            state.pools.current = DEFAULT_POOL;
        }
        Ok(())
    }

    /// Gives memory back that a pool holds, down to so many bytes in all.
    fn cuMemPoolTrimTo(pool: Handle, bytes: usize) {
        let scope = enter()?;
        let mut state = scope.state();
        known(&state, pool)?;
        state.pools.get_mut(pool)?.trim(bytes as u64);
        Ok(())
    }

    /// Sets a policy of a pool, or a highest mark to what is there now.
    fn cuMemPoolSetAttribute(pool: Handle, attribute: u32, value: In<u32>) {
        let scope = enter()?;
        let mut state = scope.state();
        known(&state, pool)?;
        let first = value.get()?;
        let pool = state.pools.get_mut(pool)?;
        match attribute {
            1..=3 => pool.policies[attribute as usize - 1] = u64::from(first != 0),
            4 => pool.policies[3] = u64::from(first) | u64::from(value.at(1)?) << 32,
            _ => {
                let whole = u64::from(first) | u64::from(value.at(1)?) << 32;
                reset(&mut pool.account, attribute, whole)?;
            }
        }
        Ok(())
    }

    /// A policy of a pool, or how much it holds.
    fn cuMemPoolGetAttribute(pool: Handle, which: u32, value: Out<i32>) {
        let scope = enter()?;
        let state = scope.state();
        let pool = known(&state, pool)?;
        match which {
            1..=3 => value.set(pool.policies[which as usize - 1] as i32),
            4 => value.cast::<u64>().set(pool.policies[3]),
            _ => value.cast::<u64>().set(attribute(&pool.account, which).ok_or(INVALID_VALUE)?),
        }
    }

    /// Lets devices use the memory of a pool: there is one, which may always.
    fn cuMemPoolSetAccess(pool: Handle, access: In<[u32; 3]>, count: usize) {
        let scope = enter()?;
        known(&scope.state(), pool)?;
        for [kind, device, flags] in access.all(count)? {
            if kind != 1 || device != 0 || flags != 3 {
                return Err(INVALID_VALUE);
            }
        }
        Ok(())
    }

    /// Whether a device may use the memory of a pool: to read and to write.
    fn cuMemPoolGetAccess(flags: Out<u32>, pool: Handle, location: In<[u32; 2]>) {
        let scope = enter()?;
        known(&scope.state(), pool)?;
        if location.get()? != [1, 0] {
            return Err(INVALID_VALUE);
        }
        flags.set(3)
    }

    /// Pools of other processes are refused.
    fn cuMemPoolExportToShareableHandle(_handle: usize, pool: Handle, _kind: u32, _flags: u64) {
        let scope = enter()?;
        known(&scope.state(), pool)?;
        refuse("a memory pool that is shared with other processes")
    }

    /// Pools of other processes are refused.
    fn cuMemPoolImportFromShareableHandle(_pool: Out<Handle>, _handle: usize, _kind: u32, _flags: u64) {
        enter()?;
        refuse("a memory pool that is shared with other processes")
    }

    /// The pool that a device starts with.
    fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: i32) {
        on_device(device)?;
        pool.set(DEFAULT_POOL)
    }

    /// The pool that allocations come from.
    fn cuDeviceGetMemPool(pool: Out<Handle>, device: i32) {
        pool.set(on_device(device)?.state().pools.current)
    }

    /// Changes the pool that allocations come from.
    fn cuDeviceSetMemPool(device: i32, pool: Handle) {
        let mut state = on_device(device)?.state();
        known(&state, pool)?;
        state.pools.current = pool;
        Ok(())
    }

    /// How much memory graphs have allocated.
    fn cuDeviceGetGraphMemAttribute(device: i32, which: u32, value: Out<u64>) {
        let state = on_device(device)?.state();
        let found = attribute(&state.pools.graphs.account, graph_attribute(which)?);
        value.set(found.ok_or(INVALID_VALUE)?)
    }

    /// Sets a highest mark of graphs' memory to what is there now.
    fn cuDeviceSetGraphMemAttribute(device: i32, which: u32, value: In<u64>) {
        let mut state = on_device(device)?.state();
        reset(&mut state.pools.graphs.account, graph_attribute(which)?, value.get()?)
    }

    /// Gives back the memory that graphs hold and do not use.
    fn cuDeviceGraphMemTrim(device: i32) {
        on_device(device)?.state().pools.graphs.trim(0);
        Ok(())
    }
}
