//! Functions: kernels of a module, their attributes and parameters.

use crate::boundary::{Answer, Out, exports};
use crate::driver::{Scope, enter};
use crate::error::{INVALID_VALUE, NOT_FOUND};
use crate::handle::Handle;
use crate::module::Loaded;
use std::ffi::CString;
use std::sync::Arc;
use virtual_gpu::{Module, Profile};

/// A kernel that a program has asked for.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its handle, once it has one.
    pub handle: Handle,
    /// Module that it is of.
    pub module: Handle,
    /// The module's code.
    pub code: Arc<Module>,
    /// Its name.
    pub name: Arc<CString>,
    /// Context that it belongs to.
    pub context: Handle,
    /// Dynamic shared memory that launches may ask for.
    pub max_dynamic_shared: u32,
    carveout: i32,
    /// Whether a launch that may begin early has been warned about.
    warned: bool,
    /// Whether launches may have clusters of more than 8 blocks.
    pub non_portable_cluster: bool,
}

/// What is known of a kernel, in plain numbers.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Most threads of a block.
    pub max_threads: u32,
    /// Threads that a block must have, by dimension; zeros if that is free.
    pub required: [u32; 3],
    /// Bytes of static shared memory.
    pub static_shared: u32,
    /// Registers that the kernel limits itself to, or 0.
    pub register_limit: u32,
}

impl Function {
    /// The kernel `name` of a module.
    pub fn new(module: Handle, loaded: &Loaded, name: &str, profile: &Profile) -> Answer<Self> {
        let fixed = loaded.module.kernel(name).ok_or(NOT_FOUND)?.static_shared();
        Ok(Self {
            handle: Handle::NULL,
            module,
            code: Arc::clone(&loaded.module),
            name: Arc::new(CString::new(name).map_err(|_| INVALID_VALUE)?),
            context: loaded.context,
            max_dynamic_shared: profile.shared_per_block.saturating_sub(fixed),
            carveout: -1,
            warned: false,
            non_portable_cluster: false,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    /// What is known of it.
    pub fn facts(&self) -> Answer<Facts> {
        let kernel = self.code.kernel(self.name()).ok_or(NOT_FOUND)?;
        let limits = kernel.limits();
        let required = limits.required.iter().product();
        let most = [limits.max_threads, required]
            .into_iter()
            .filter(|n| *n != 0)
            .min();
        Ok(Facts {
            max_threads: most.unwrap_or(1024).min(1024),
            required: limits.required,
            static_shared: kernel.static_shared(),
            register_limit: limits.max_registers,
        })
    }

    /// Bytes of shared memory that a block can ask for at most.
    fn shared_limit(&self, profile: &Profile) -> Answer<u32> {
        let fixed = self.facts()?.static_shared;
        Ok(profile.shared_per_block_optin.saturating_sub(fixed))
    }

    fn attribute(&self, attribute: u32) -> Answer<i32> {
        let kernel = self.code.kernel(self.name()).ok_or(NOT_FOUND)?;
        let facts = self.facts()?;
        let (major, minor) = self.code.version();
        Ok(match attribute {
            0 => facts.max_threads as i32,
            1 => facts.static_shared as i32,
            2 => 0,
            3 => kernel.local_bytes() as i32,
            // PTX has no register count. The limit of a kernel that has one, else what the executor needs.
            4 if facts.register_limit != 0 => facts.register_limit as i32,
            4 => kernel.register_rows().min(255) as i32,
            5 => (10 * major + minor) as i32,
            6 => architecture(self.code.target()),
            7 => 0,
            8 => self.max_dynamic_shared as i32,
            9 => self.carveout,
            // Who has said in the source how large clusters are need not say it again.
            10 => {
                let limits = kernel.limits();
                i32::from(limits.explicit_cluster && limits.cluster == [0; 3])
            }
            11..=13 => kernel.limits().cluster[attribute as usize - 11] as i32,
            14 => i32::from(self.non_portable_cluster),
            15 => 0,
            _ => return Err(INVALID_VALUE),
        })
    }
}

/// 90 for `sm_90a`.
fn architecture(target: &str) -> i32 {
    let digits: String = target.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// The function of a handle.
pub fn get(scope: Scope, function: Handle) -> Answer<Function> {
    let found = scope.state().functions.get(function)?.clone();
    Ok(Function {
        handle: function,
        ..found
    })
}

/// An attribute of a function.
pub fn attribute(value: Out<i32>, attribute: u32, function: Handle) -> Answer {
    value.check()?;
    value.set(get(enter()?, function)?.attribute(attribute)?)
}

/// Warns once of a kernel that is launched with leave to begin before the one before it has ended, and never waits for that.
pub fn warn_of_early_begin(scope: Scope, function: Handle) -> Answer {
    let mut state = scope.state();
    let function = state.functions.get_mut(function)?;
    let kernel = function.code.kernel(function.name()).ok_or(NOT_FOUND)?;
    let waits = kernel.waits_for_launch_before();
    if !waits && !std::mem::replace(&mut function.warned, true) {
        eprintln!(
            "virtual-gpu: warning: {} is launched with programmatic stream serialization but has no griddepcontrol.wait: a \
             GPU may begin it before the kernel before it has ended, whose results it must not use",
            function.name()
        );
    }
    Ok(())
}

/// Sets an attribute of a function.
pub fn set_attribute(function: Handle, attribute: u32, value: i32) -> Answer {
    let scope = enter()?;
    let limit = get(scope, function)?.shared_limit(&scope.config.profile)?;
    let mut state = scope.state();
    let function = state.functions.get_mut(function)?;
    match attribute {
        8 => {
            let bytes = u32::try_from(value).map_err(|_| INVALID_VALUE)?;
            if bytes > limit {
                return Err(INVALID_VALUE);
            }
            function.max_dynamic_shared = bytes;
        }
        9 if (-1..=100).contains(&value) => function.carveout = value,
        14 if matches!(value, 0 | 1) => function.non_portable_cluster = value == 1,
        _ => return Err(INVALID_VALUE),
    }
    Ok(())
}

/// Offset and size of a parameter.
pub fn parameter(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) -> Answer {
    offset.check()?;
    let function = get(enter()?, function)?;
    let kernel = function.code.kernel(function.name()).ok_or(NOT_FOUND)?;
    let layout = kernel.parameters().get(index).ok_or(INVALID_VALUE)?;
    size.set_if_wanted(layout.bytes as usize);
    offset.set(layout.offset as usize)
}

/// Name of a function, good until its module is unloaded.
pub fn name(text: Out<*const i8>, function: Handle) -> Answer {
    let scope = enter()?;
    let state = scope.state();
    text.set(state.functions.get(function)?.name.as_ptr().cast())
}

exports! {
    /// An attribute of a function.
    fn cuFuncGetAttribute(value: Out<i32>, which: u32, function: Handle) {
        attribute(value, which, function)
    }

    /// Sets an attribute of a function: dynamic shared memory, or the preferred share of shared memory.
    fn cuFuncSetAttribute(function: Handle, which: u32, value: i32) {
        set_attribute(function, which, value)
    }

    /// The preference between cache and shared memory, which changes nothing here.
    fn cuFuncSetCacheConfig(function: Handle, config: u32) {
        get(enter()?, function)?;
        if config > 3 { Err(INVALID_VALUE) } else { Ok(()) }
    }

    /// The width of shared memory banks, which is fixed.
    fn cuFuncSetSharedMemConfig(function: Handle, config: u32) {
        get(enter()?, function)?;
        if config > 2 { Err(INVALID_VALUE) } else { Ok(()) }
    }

    /// Module of a function.
    fn cuFuncGetModule(module: Out<Handle>, function: Handle) {
        module.set(get(enter()?, function)?.module)
    }

    /// Name of a function.
    fn cuFuncGetName(text: Out<*const i8>, function: Handle) {
        name(text, function)
    }

    /// Offset and size of a parameter.
    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        parameter(function, index, offset, size)
    }

    /// Functions are loaded with their module.
    fn cuFuncLoad(function: Handle) {
        get(enter()?, function).map(|_| ())
    }

    /// Functions are loaded with their module.
    fn cuFuncIsLoaded(state: Out<u32>, function: Handle) {
        get(enter()?, function)?;
        state.set(1)
    }
}
