//! Host memory that the device sees: pinned, registered and managed, at the same address for both.

use crate::boundary::{Answer, Out, exports};
use crate::directory::{HostBlock, Kind};
use crate::driver::{Scope, enter};
use crate::error::{
    HOST_MEMORY_ALREADY_REGISTERED, HOST_MEMORY_NOT_REGISTERED, INVALID_VALUE, UNKNOWN,
};
use crate::memory::{release, undisturbed};

/// `CU_MEMHOSTALLOC_DEVICEMAP`; with unified addresses all pinned memory is mapped.
const DEVICE_MAP: u32 = 2;

/// Enters host memory into the directory and shows it to the device.
pub fn map(scope: Scope, base: u64, bytes: usize, kind: Kind) -> Answer {
    let mut state = scope.state();
    if state.directory.overlaps(base, bytes as u64) {
        return Err(HOST_MEMORY_ALREADY_REGISTERED);
    }
    state.directory.add(base, bytes as u64, kind, scope.context);
    scope.queue.submit(move |device| {
        // SAFETY: the memory is in the directory, from which it is taken only by `release`: blocks of the driver
        // live until the device has let go of them, and for registered memory the program promises the same.
        let mapped = unsafe { device.map_host(base as *mut u8, bytes, format!("host {base:#x}")) };
        mapped.map(|_| ()).map_err(|error| {
            eprintln!("virtual-gpu: {error}");
            UNKNOWN
        })
    });
    Ok(())
}

fn pinned(pointer: Out<u64>, bytes: usize, flags: u32) -> Answer {
    pointer.check()?;
    let scope = undisturbed()?;
    if flags & !7 != 0 {
        return Err(INVALID_VALUE);
    }
    let block = HostBlock::new(bytes)?;
    let base = block.address();
    map(scope, base, bytes, Kind::Pinned(block, flags | DEVICE_MAP))?;
    pointer.set(base)
}

fn register(pointer: u64, bytes: usize, flags: u32) -> Answer {
    let scope = undisturbed()?;
    if pointer == 0 || bytes == 0 || flags & !15 != 0 || pointer.checked_add(bytes as u64).is_none()
    {
        return Err(INVALID_VALUE);
    }
    map(scope, pointer, bytes, Kind::Registered(flags | DEVICE_MAP))
}

exports! {
    /// Allocates pinned host memory.
    fn cuMemAllocHost_v2(pointer: Out<u64>, bytes: usize) {
        pinned(pointer, bytes, 0)
    }

    /// Allocates pinned host memory.
    fn cuMemHostAlloc(pointer: Out<u64>, bytes: usize, flags: u32) {
        pinned(pointer, bytes, flags)
    }

    /// Frees pinned host memory; waits for the device to be done with it.
    fn cuMemFreeHost(pointer: u64) {
        let scope = undisturbed()?;
        if pointer == 0 {
            return Ok(());
        }
        let range = scope
            .state()
            .directory
            .remove(pointer, |kind| matches!(kind, Kind::Pinned(..)))
            .ok_or(INVALID_VALUE)?;
        release(scope, range);
        scope.queue.finish(scope.queue.last())
    }

    /// Shows memory of the program to the device, until `cuMemHostUnregister`.
    fn cuMemHostRegister_v2(pointer: u64, bytes: usize, flags: u32) {
        register(pointer, bytes, flags)
    }

    /// The older name.
    fn cuMemHostRegister(pointer: u64, bytes: usize, flags: u32) {
        register(pointer, bytes, flags)
    }

    /// Ends what `cuMemHostRegister` began; waits for the device to be done with it.
    fn cuMemHostUnregister(pointer: u64) {
        let scope = undisturbed()?;
        if pointer == 0 {
            return Err(INVALID_VALUE);
        }
        let range = scope
            .state()
            .directory
            .remove(pointer, |kind| matches!(kind, Kind::Registered(_)))
            .ok_or(HOST_MEMORY_NOT_REGISTERED)?;
        release(scope, range);
        scope.queue.finish(scope.queue.last())
    }

    /// The address of pinned memory on the device: the same.
    fn cuMemHostGetDevicePointer_v2(pointer: Out<u64>, host: u64, flags: u32) {
        pointer.check()?;
        let scope = enter()?;
        let state = scope.state();
        let known = state.directory.find(host).is_some_and(|range| range.is_host());
        if flags != 0 || !known {
            return Err(INVALID_VALUE);
        }
        pointer.set(host)
    }

    /// Flags that pinned memory was allocated with.
    fn cuMemHostGetFlags(flags: Out<u32>, host: u64) {
        let scope = enter()?;
        let state = scope.state();
        match state.directory.find(host).map(|range| &range.kind) {
            Some(Kind::Pinned(_, given) | Kind::Registered(given)) => flags.set(*given),
            _ => Err(INVALID_VALUE),
        }
    }
}
