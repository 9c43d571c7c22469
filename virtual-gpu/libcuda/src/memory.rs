//! Device memory: allocation, managed memory, how much there is.

use crate::boundary::{Answer, Out, exports};
use crate::directory::{HostBlock, Kind, Range};
use crate::driver::{Scope, enter};
use crate::error::{INVALID_VALUE, OUT_OF_MEMORY};
use crate::handle::Handle;
use virtual_gpu::DevicePointer;

/// Allocates device memory, for a pool if it is named.
pub fn allocate(scope: Scope, bytes: usize, pool: Option<Handle>) -> Answer<u64> {
    let mut state = scope.state();
    let base = state.directory.reserve(bytes as u64, pool, scope.context)?;
    let place = move |device: &mut virtual_gpu::Device| {
        device.alloc_at(DevicePointer(base), bytes, format!("{base:#x}"))
    };
    if !scope.queue.is_done(scope.queue.last()) {
        // A kernel that waits for the host must not keep the host from allocating: the device follows later.
        scope.queue.submit(move |device| {
            place(device).map_err(|error| {
                eprintln!("virtual-gpu: {error}");
                OUT_OF_MEMORY
            })
        });
        return Ok(base);
    }
    drop(state);
    if let Err(error) = scope.queue.ask(place)? {
        eprintln!("virtual-gpu: {error}");
        scope.state().directory.remove(base, |_| true);
        return Err(OUT_OF_MEMORY);
    }
    Ok(base)
}

/// Frees device or managed memory, once what was queued before is done.
pub fn free(scope: Scope, pointer: u64, wanted: impl Fn(&Kind) -> bool) -> Answer {
    if pointer == 0 {
        return Ok(());
    }
    let mut state = scope.state();
    let range = state
        .directory
        .remove(pointer, wanted)
        .ok_or(INVALID_VALUE)?;
    state.order_end(pointer);
    if let Kind::Device(Some(pool)) = range.kind {
        state.pools.got_back(pool, range.bytes);
    }
    release(scope, range);
    Ok(())
}

/// Takes a range from the device; its host memory goes when the device has done so.
pub fn release(scope: Scope, range: Range) {
    scope.queue.upkeep(move |device| {
        // The device may never have got it, if it has a fault.
        let _ = device.free(DevicePointer(range.base));
        drop(range);
    });
}

/// Begins a call that a GPU may have to wait for, which captures can forbid.
pub fn undisturbed() -> Answer<Scope> {
    let scope = enter()?;
    scope.state().guard_unsafe()?;
    Ok(scope)
}

fn address_range(base: Out<u64>, size: Out<usize>, pointer: u64) -> Answer {
    let scope = enter()?;
    let state = scope.state();
    let range = state
        .directory
        .find(pointer)
        .ok_or(crate::error::NOT_FOUND)?;
    base.set_if_wanted(range.base);
    size.set_if_wanted(range.bytes as usize);
    Ok(())
}

exports! {
    /// Allocates device memory.
    fn cuMemAlloc_v2(pointer: Out<u64>, bytes: usize) {
        pointer.check()?;
        pointer.set(allocate(undisturbed()?, bytes, None)?)
    }

    /// Allocates rows of `width` bytes, each on a multiple of 512.
    fn cuMemAllocPitch_v2(pointer: Out<u64>, pitch: Out<usize>, width: usize, height: usize, element: u32) {
        pointer.check()?;
        pitch.check()?;
        if !matches!(element, 4 | 8 | 16) {
            return Err(INVALID_VALUE);
        }
        let row = width.checked_next_multiple_of(512).ok_or(OUT_OF_MEMORY)?;
        let bytes = row.checked_mul(height).ok_or(OUT_OF_MEMORY)?;
        pointer.set(allocate(undisturbed()?, bytes, None)?)?;
        pitch.set(row)
    }

    /// Frees what `cuMemAlloc` and its kin gave.
    fn cuMemFree_v2(pointer: u64) {
        free(undisturbed()?, pointer, |kind| matches!(kind, Kind::Device(_) | Kind::Managed(_)))
    }

    /// Allocates memory that host and device use at the same address.
    fn cuMemAllocManaged(pointer: Out<u64>, bytes: usize, flags: u32) {
        pointer.check()?;
        let scope = undisturbed()?;
        if !matches!(flags, 1 | 2 | 4) {
            return Err(INVALID_VALUE);
        }
        let block = HostBlock::new(bytes)?;
        let base = block.address();
        crate::host::map(scope, base, bytes, Kind::Managed(block))?;
        pointer.set(base)
    }

    /// Free and all memory of the device.
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let scope = enter()?;
        let (left, all) = {
            let state = scope.state();
            let (left, all) = state.directory.free_and_total();
            (left.saturating_sub(state.pools.held()), all)
        };
        free.set_if_wanted(left as usize);
        total.set_if_wanted(all as usize);
        Ok(())
    }

    /// Start and size of the allocation that holds a pointer.
    fn cuMemGetAddressRange_v2(base: Out<u64>, size: Out<usize>, pointer: u64) {
        address_range(base, size, pointer)
    }

    /// Advice about managed memory, which is where it is.
    fn cuMemAdvise(pointer: u64, bytes: usize, _advice: u32, _device: i32) {
        managed(pointer, bytes)
    }

    /// The same, with a location.
    fn cuMemAdvise_v2(pointer: u64, bytes: usize, _advice: u32, _location: u64) {
        managed(pointer, bytes)
    }

    /// Prefetches managed memory, which is where it is.
    fn cuMemPrefetchAsync(pointer: u64, bytes: usize, _device: i32, stream: Handle) {
        uncaptured(stream)?;
        managed(pointer, bytes)
    }

    /// The same, with a location.
    fn cuMemPrefetchAsync_v2(pointer: u64, bytes: usize, _location: u64, _flags: u32, stream: Handle) {
        uncaptured(stream)?;
        managed(pointer, bytes)
    }

    /// Ties managed memory to a stream, which needs nothing here.
    fn cuStreamAttachMemAsync(stream: Handle, pointer: u64, _bytes: usize, flags: u32) {
        uncaptured(stream)?;
        if !matches!(flags, 1 | 2 | 4) {
            return Err(INVALID_VALUE);
        }
        managed(pointer, 1)
    }
}

/// An error unless `stream` is a stream that is not captured: graphs have no nodes for what is asked of it.
fn uncaptured(stream: Handle) -> Answer {
    let scope = enter()?;
    crate::stream::valid(scope, stream)?;
    scope.state().guard_stream(scope.context, stream)
}

/// An error unless the bytes are all of one managed allocation.
fn managed(pointer: u64, bytes: usize) -> Answer {
    let scope = enter()?;
    let state = scope.state();
    match state.directory.hold(pointer, bytes as u64)?.kind {
        Kind::Managed(_) => Ok(()),
        _ => Err(INVALID_VALUE),
    }
}
