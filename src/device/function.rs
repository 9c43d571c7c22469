use super::calls::CallKind;
use super::{Context, DeviceError, Module, error};
use bytemuck::Pod;
use cudarc::driver::{result, sys};
use std::ffi::c_void;
use std::fmt;
use sys::CUfunction_attribute as Attribute;

/// A kernel of a [`Module`], which stays loaded as long as there is one.
#[derive(Clone)]
pub struct Function {
    module: Module,
    function: sys::CUfunction,
    name: String,
}

// SAFETY: the handle is a name that the driver looks up; it takes calls from any number of threads.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

/// How many blocks and threads run a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaunchShape {
    /// Blocks, along x.
    pub grid: u32,
    /// Threads of a block, along x.
    pub block: u32,
    /// Bytes of dynamic shared memory of a block; above 48 KiB only after [`Function::set_dynamic_shared`].
    pub shared_bytes: u32,
    /// Whether all blocks must be resident together. The driver refuses a launch that they are too many for.
    pub cooperative: bool,
}

impl Function {
    pub(super) fn new(module: Module, function: sys::CUfunction, name: &str) -> Function {
        Function {
            module,
            function,
            name: name.to_owned(),
        }
    }

    /// Its lowered name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// 32-bit registers of a thread.
    ///
    /// # Errors
    /// The device failed before.
    pub fn registers(&self) -> Result<u32, DeviceError> {
        self.attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)
    }

    /// Bytes of static shared memory of a block.
    ///
    /// # Errors
    /// The device failed before.
    pub fn static_shared(&self) -> Result<u32, DeviceError> {
        self.attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
    }

    /// Threads of a block, at most: registers may allow fewer than the device does.
    ///
    /// # Errors
    /// The device failed before.
    pub fn max_threads(&self) -> Result<u32, DeviceError> {
        self.attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)
    }

    /// Allows launches with so many bytes of dynamic shared memory.
    ///
    /// # Errors
    /// With the static one they are more than [`super::DeviceFacts::shared_memory_per_block`].
    pub fn set_dynamic_shared(&self, bytes: u32) -> Result<(), DeviceError> {
        // What i32 does not hold is too much by far, and refused by the driver.
        let value = i32::try_from(bytes).unwrap_or(i32::MAX);
        self.context()
            .call(CallKind::Setup, "cuFuncSetAttribute", || {
                let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                // SAFETY: the function is of a loaded module.
                unsafe { result::function::set_function_attribute(self.function, attribute, value) }
            })
    }

    /// Blocks of `block` threads and so much dynamic shared memory that one multiprocessor holds at a time; times
    /// [`super::DeviceFacts::sm_count`] it is the largest cooperative grid.
    ///
    /// # Errors
    /// The driver takes no such block.
    pub fn blocks_per_sm(&self, block: u32, shared_bytes: u32) -> Result<u32, DeviceError> {
        let threads = i32::try_from(block).unwrap_or(i32::MAX);
        let call = "cuOccupancyMaxActiveBlocksPerMultiprocessor";
        let blocks = self.context().call(CallKind::Setup, call, || {
            // SAFETY: the function is of a loaded module.
            unsafe {
                result::occupancy::max_active_block_per_multiprocessor(
                    self.function,
                    threads,
                    shared_bytes as usize,
                )
            }
        })?;
        Ok(u32::try_from(blocks).unwrap_or(0))
    }

    /// Queues a launch with one structure as its parameter, which is copied. What the kernel does wrong is told by a call
    /// that waits for it.
    ///
    /// # Errors
    /// [`DeviceError::Launch`]: it does not fit the device, or the device failed before.
    ///
    /// # Safety
    /// The kernel takes one structure of this layout by value. The memory whose addresses are in it lives, and is used by
    /// nobody in a way that races with the kernel, until the stream has been waited for.
    pub unsafe fn launch<P: Pod>(
        &self,
        shape: LaunchShape,
        parameters: &P,
    ) -> Result<(), DeviceError> {
        let mut list = [std::ptr::from_ref(parameters).cast_mut().cast::<c_void>()];
        let (grid, block) = ((shape.grid, 1, 1), (shape.block, 1, 1));
        let stream = self.context().stream();
        let launched = self.context().try_call(CallKind::Launch, || {
            let launch = match shape.cooperative {
                true => result::launch_cooperative_kernel,
                false => result::launch_kernel,
            };
            // SAFETY: the function is of a loaded module; the driver only reads the parameters, as many bytes as the kernel
            // declares, which the caller answers for.
            unsafe {
                launch(
                    self.function,
                    grid,
                    block,
                    shape.shared_bytes,
                    stream,
                    &mut list,
                )
            }
        })?;
        launched.map_err(|error| {
            let (name, text) = error::describe(error);
            DeviceError::Launch {
                kernel: self.name.clone(),
                grid: shape.grid,
                block: shape.block,
                shared_bytes: shape.shared_bytes,
                name,
                text,
            }
        })
    }

    fn attribute(&self, attribute: Attribute) -> Result<u32, DeviceError> {
        let value = self
            .context()
            .call(CallKind::Setup, "cuFuncGetAttribute", || {
                // SAFETY: the function is of a loaded module.
                unsafe { result::function::get_function_attribute(self.function, attribute) }
            })?;
        Ok(u32::try_from(value).unwrap_or(0))
    }

    fn context(&self) -> &Context {
        self.module.context()
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Function({} of {:?})", self.name, self.module)
    }
}
