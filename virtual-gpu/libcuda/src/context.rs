//! Contexts: primary and others, the stack of each thread, limits and flags.

use crate::boundary::{Answer, Out, exports};
use crate::driver::{current, driver, enter, on_device, with_stack};
use crate::error::{INVALID_CONTEXT, INVALID_VALUE, PRIMARY_CONTEXT_ACTIVE, UNSUPPORTED_LIMIT};
use crate::handle::Handle;

/// A context. All contexts share the memory and the queue of the device.
#[derive(Debug)]
pub struct Context {
    flags: u32,
    limits: [usize; LIMITS],
    cache: u32,
}

/// Stack size, printf buffer, heap, synchronisation depth, pending launches, L2 granularity, persisting L2.
const LIMITS: usize = 7;
const DEFAULT_LIMITS: [usize; LIMITS] = [1024, 1 << 20, 8 << 20, 2, 2048, 64, 0];
/// `CU_CTX_FLAGS_MASK`.
const FLAGS: u32 = 0xff;
/// The version of the interface of contexts.
const API_VERSION: u32 = 3020;

impl Context {
    fn new(flags: u32) -> Answer<Self> {
        if flags & !FLAGS != 0 {
            return Err(INVALID_VALUE);
        }
        Ok(Self {
            flags,
            limits: DEFAULT_LIMITS,
            cache: 0,
        })
    }
}

fn create(context: Out<Handle>, flags: u32, device: i32) -> Answer {
    context.check()?;
    let driver = on_device(device)?;
    let handle = driver.state().contexts.insert(Context::new(flags)?);
    with_stack(|stack| stack.push(handle));
    context.set(handle)
}

fn live(context: Handle) -> Answer {
    driver()?
        .state()
        .contexts
        .get(context)
        .map_err(|_| INVALID_CONTEXT)?;
    Ok(())
}

fn release_primary(device: i32, all: bool) -> Answer {
    let driver = on_device(device)?;
    let context = {
        let mut state = driver.state();
        match (&mut state.primary, all) {
            (None, true) => return Ok(()),
            (None, false) => return Err(INVALID_CONTEXT),
            (Some((_, count)), false) if *count > 1 => {
                *count -= 1;
                return Ok(());
            }
            (Some((context, _)), _) => *context,
        }
    };
    driver.destroy(context)
}

fn set_primary_flags(device: i32, flags: u32) -> Answer {
    let mut state = on_device(device)?.state();
    if flags & !FLAGS != 0 {
        return Err(INVALID_VALUE);
    }
    if state.primary.is_some() && state.primary_flags != flags {
        return Err(PRIMARY_CONTEXT_ACTIVE);
    }
    state.primary_flags = flags;
    Ok(())
}

fn pop(context: Out<Handle>) -> Answer {
    driver()?;
    let popped = with_stack(Vec::pop).ok_or(INVALID_CONTEXT)?;
    context.set_if_wanted(popped);
    Ok(())
}

fn push(context: Handle) -> Answer {
    live(context)?;
    with_stack(|stack| stack.push(context));
    Ok(())
}

fn destroy(context: Handle) -> Answer {
    let driver = driver()?;
    if driver
        .state()
        .primary
        .is_some_and(|(primary, _)| primary == context)
    {
        return Err(INVALID_CONTEXT);
    }
    driver.destroy(context)?;
    with_stack(|stack| {
        if stack.last() == Some(&context) {
            stack.pop();
        }
    });
    Ok(())
}

exports! {
    /// Retains the primary context, which is made if there is none.
    fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: i32) {
        context.check()?;
        let mut state = on_device(device)?.state();
        let handle = match &mut state.primary {
            Some((handle, count)) => {
                *count += 1;
                *handle
            }
            None => {
                let made = Context::new(state.primary_flags)?;
                let handle = state.contexts.insert(made);
                state.primary = Some((handle, 1));
                handle
            }
        };
        context.set(handle)
    }

    /// Releases the primary context, which goes with its last holder.
    fn cuDevicePrimaryCtxRelease_v2(device: i32) {
        release_primary(device, false)
    }

    /// The older name.
    fn cuDevicePrimaryCtxRelease(device: i32) {
        release_primary(device, false)
    }

    /// Ends the primary context, whoever holds it.
    fn cuDevicePrimaryCtxReset_v2(device: i32) {
        release_primary(device, true)
    }

    /// The older name.
    fn cuDevicePrimaryCtxReset(device: i32) {
        release_primary(device, true)
    }

    /// Sets the flags with which the primary context will be made.
    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) {
        set_primary_flags(device, flags)
    }

    /// The older name.
    fn cuDevicePrimaryCtxSetFlags(device: i32, flags: u32) {
        set_primary_flags(device, flags)
    }

    /// Flags of the primary context, and whether there is one.
    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) {
        let state = on_device(device)?.state();
        flags.set(state.primary_flags)?;
        active.set(i32::from(state.primary.is_some()))
    }

    /// Makes a context and makes it current.
    fn cuCtxCreate_v2(context: Out<Handle>, flags: u32, device: i32) {
        create(context, flags, device)
    }

    /// The same, with an affinity for multiprocessors, which must not be asked for.
    fn cuCtxCreate_v3(context: Out<Handle>, affinity: usize, count: i32, flags: u32, device: i32) {
        if affinity != 0 || count != 0 {
            return Err(crate::error::NOT_SUPPORTED);
        }
        create(context, flags, device)
    }

    /// The same, with parameters, which must not be given.
    fn cuCtxCreate_v4(context: Out<Handle>, parameters: usize, flags: u32, device: i32) {
        if parameters != 0 {
            return Err(crate::error::NOT_SUPPORTED);
        }
        create(context, flags, device)
    }

    /// Ends a context and frees what it owns.
    fn cuCtxDestroy_v2(context: Handle) {
        destroy(context)
    }

    /// The older name.
    fn cuCtxDestroy(context: Handle) {
        destroy(context)
    }

    /// Makes a context current.
    fn cuCtxPushCurrent_v2(context: Handle) {
        push(context)
    }

    /// The older name.
    fn cuCtxPushCurrent(context: Handle) {
        push(context)
    }

    /// Makes the context before the current one current again.
    fn cuCtxPopCurrent_v2(context: Out<Handle>) {
        pop(context)
    }

    /// The older name.
    fn cuCtxPopCurrent(context: Out<Handle>) {
        pop(context)
    }

    /// Replaces the current context; null for none.
    fn cuCtxSetCurrent(context: Handle) {
        driver()?;
        if context == Handle::NULL {
            with_stack(Vec::pop);
            return Ok(());
        }
        live(context)?;
        with_stack(|stack| {
            stack.pop();
            stack.push(context);
        });
        Ok(())
    }

    /// The current context; null if there is none.
    fn cuCtxGetCurrent(context: Out<Handle>) {
        driver()?;
        context.set(current().unwrap_or(Handle::NULL))
    }

    /// The device of the current context.
    fn cuCtxGetDevice(device: Out<i32>) {
        live(current().ok_or(INVALID_CONTEXT)?)?;
        device.set(0)
    }

    /// Flags of the current context.
    fn cuCtxGetFlags(flags: Out<u32>) {
        let scope = enter()?;
        let value = scope.state().contexts.get(scope.context)?.flags;
        flags.set(value)
    }

    /// Sets flags of the current context.
    fn cuCtxSetFlags(flags: u32) {
        let scope = enter()?;
        if flags & !FLAGS != 0 {
            return Err(INVALID_VALUE);
        }
        scope.state().contexts.get_mut(scope.context)?.flags = flags;
        Ok(())
    }

    /// A number that no other context has.
    fn cuCtxGetId(context: Handle, id: Out<u64>) {
        let context = if context == Handle::NULL { enter()?.context } else { context };
        live(context)?;
        id.set(context.0 as u64)
    }

    /// Version of the interface that a context was made by.
    fn cuCtxGetApiVersion(context: Handle, version: Out<u32>) {
        if context != Handle::NULL {
            live(context)?;
        }
        version.set(API_VERSION)
    }

    /// Waits for all work of the context.
    fn cuCtxSynchronize() {
        let scope = enter()?;
        scope.state().guard_context(scope.context)?;
        scope.synchronise()
    }

    /// A limit of the current context.
    fn cuCtxGetLimit(value: Out<usize>, limit: u32) {
        let scope = enter()?;
        let state = scope.state();
        let limits = &state.contexts.get(scope.context)?.limits;
        value.set(*limits.get(limit as usize).ok_or(UNSUPPORTED_LIMIT)?)
    }

    /// Sets a limit of the current context. Kernels here have the local memory that they declare, and printf and
    /// assertions have no buffer that fills up: limits are kept but bind nobody.
    fn cuCtxSetLimit(limit: u32, value: usize) {
        let scope = enter()?;
        let mut state = scope.state();
        let limits = &mut state.contexts.get_mut(scope.context)?.limits;
        *limits.get_mut(limit as usize).ok_or(UNSUPPORTED_LIMIT)? = value;
        Ok(())
    }

    /// The preference between cache and shared memory, which changes nothing here.
    fn cuCtxGetCacheConfig(config: Out<u32>) {
        let scope = enter()?;
        let value = scope.state().contexts.get(scope.context)?.cache;
        config.set(value)
    }

    /// Sets the preference between cache and shared memory.
    fn cuCtxSetCacheConfig(config: u32) {
        let scope = enter()?;
        if config > 3 {
            return Err(INVALID_VALUE);
        }
        scope.state().contexts.get_mut(scope.context)?.cache = config;
        Ok(())
    }

    /// Width of shared memory banks: four bytes.
    fn cuCtxGetSharedMemConfig(config: Out<u32>) {
        enter()?;
        config.set(1)
    }

    /// Sets the width of shared memory banks, as far as devices since 2014 do: not at all.
    fn cuCtxSetSharedMemConfig(config: u32) {
        enter()?;
        if config > 2 {
            return Err(INVALID_VALUE);
        }
        Ok(())
    }

    /// Priorities that streams can have.
    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        enter()?;
        least.set_if_wanted(0);
        greatest.set_if_wanted(-5);
        Ok(())
    }
}
