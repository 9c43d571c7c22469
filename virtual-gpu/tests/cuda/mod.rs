//! The device of the system's CUDA driver that `STHENO_TEST_DEVICE` names, for tests that run on it what they run on the
//! virtual GPU. A virtual driver in the system's place (`LD_LIBRARY_PATH`) is taken too, so that all of it runs without a GPU.

use cudarc::driver::{result, sys};
use std::ffi::{CString, c_int, c_void};
use std::sync::{Arc, LazyLock};
use stheno_jit::{Compiled, Target};
use sys::CUdevice_attribute as Attribute;

/// Environment: `cuda:0`, `cuda:1`... Other devices are for tests that have them.
const NAMED: &str = "STHENO_TEST_DEVICE";

/// A context of a device. Calls wait for what they start.
pub struct Cuda {
    context: sys::CUcontext,
    /// Compute capability, (9, 0) for an H100.
    pub capability: (u32, u32),
    /// The major version of CUDA that the driver is for.
    pub major: u32,
    is_virtual: bool,
}

// SAFETY: the handle is a name that the driver looks up; it takes calls from any number of threads.
unsafe impl Send for Cuda {}
// SAFETY: as above.
unsafe impl Sync for Cuda {}

/// Loaded kernels; they stay loaded until the process ends.
#[derive(Clone, Copy)]
pub struct CudaModule(sys::CUmodule);

// SAFETY: the handle is a name that the driver looks up; it takes calls from any number of threads.
unsafe impl Send for CudaModule {}
// SAFETY: as above.
unsafe impl Sync for CudaModule {}

/// Blocks, threads and shared memory of a launch.
#[derive(Clone, Copy)]
pub struct CudaShape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub cooperative: bool,
}

/// The device that the environment names, opened once; none without it.
pub fn named() -> Option<Arc<Cuda>> {
    static DEVICE: LazyLock<Option<Arc<Cuda>>> = LazyLock::new(|| {
        let name = std::env::var(NAMED).ok()?;
        let ordinal = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
        let ordinal = ordinal.unwrap_or_else(|| panic!("{NAMED} is `{name}`; give cuda:0"));
        Some(Arc::new(Cuda::open(ordinal)))
    });
    DEVICE.clone()
}

impl Cuda {
    fn open(ordinal: c_int) -> Cuda {
        // SAFETY: loads the driver's library by its name, which runs its initialisers as any program with CUDA does.
        assert!(unsafe { sys::is_culib_present() }, "no CUDA driver");
        result::init().unwrap();
        let device = result::device::get(ordinal).unwrap();
        let attribute = |attribute| {
            // SAFETY: the device is one that the driver gave.
            let value = unsafe { result::device::get_attribute(device, attribute) };
            value.unwrap() as u32
        };
        let mut version = 0;
        // SAFETY: the driver writes one integer.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }
            .result()
            .unwrap();
        Cuda {
            // SAFETY: the device is one that the driver gave; the context is never released.
            context: unsafe { result::primary_ctx::retain(device) }.unwrap(),
            capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
            ),
            major: version as u32 / 1000,
            is_virtual: result::device::get_name(device)
                .unwrap()
                .contains("(virtual)"),
        }
    }

    /// Makes the context current to this thread: tests have threads of their own.
    fn enter(&self) {
        // SAFETY: the context was retained and is never released.
        unsafe { result::ctx::set_current(self.context) }.unwrap();
    }

    /// What NVRTC is to compile for: machine code, or PTX where that is all that is run.
    pub fn target(&self) -> Target {
        let (major, minor) = self.capability;
        match self.is_virtual {
            true => Target::Virtual(10 * major + minor),
            false => {
                let letter = if major >= 9 { "a" } else { "" };
                Target::Real(format!("sm_{major}{minor}{letter}"))
            }
        }
    }

    /// The highest major version of NVRTC whose output the driver takes; a virtual one takes any.
    pub fn nvrtc_limit(&self) -> Option<u32> {
        (!self.is_virtual).then_some(self.major)
    }

    pub fn load(&self, compiled: &Compiled) -> CudaModule {
        self.enter();
        let image = match (&compiled.cubin, &compiled.ptx) {
            (Some(cubin), _) => cubin.clone(),
            // The driver looks for a zero byte at the end of text.
            (None, Some(ptx)) => [ptx.as_bytes(), &[0]].concat(),
            (None, None) => panic!("NVRTC gave nothing to load"),
        };
        // SAFETY: the image is a whole cubin, or PTX with a zero byte at its end, and outlives the call.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) };
        CudaModule(module.unwrap())
    }

    /// Memory of zeros, which is how the virtual GPU shows bytes that nobody has written.
    pub fn alloc(&self, bytes: usize) -> u64 {
        self.enter();
        // SAFETY: the context is current; the memory is this call's own until it is returned.
        unsafe {
            let at = result::malloc_sync(bytes).unwrap();
            result::memset_d8_sync(at, 0, bytes).unwrap();
            at
        }
    }

    pub fn free(&self, at: u64) {
        self.enter();
        // SAFETY: nothing runs on the device between two calls. What fails here has failed before, and was told.
        let _ = unsafe { result::free_sync(at) };
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.enter();
        // SAFETY: the driver refuses addresses that it did not give; nothing runs on the device between two calls.
        unsafe { result::memcpy_htod_sync(at, bytes) }.unwrap();
    }

    pub fn read(&self, at: u64, bytes: &mut [u8]) {
        self.enter();
        // SAFETY: as for `write`.
        unsafe { result::memcpy_dtoh_sync(bytes, at) }.unwrap();
    }

    /// Launches with these parameters, one after the other as the kernel declares them, and waits.
    ///
    /// # Errors
    /// The device refuses the launch, or the kernel failed: after that everything does.
    pub fn launch(
        &self,
        module: CudaModule,
        kernel: &str,
        shape: CudaShape,
        parameters: &[&[u8]],
    ) -> Result<(), String> {
        self.enter();
        let name = CString::new(kernel).unwrap();
        let tuple = |of: [u32; 3]| (of[0], of[1], of[2]);
        let mut parameters: Vec<*mut c_void> = parameters
            .iter()
            .map(|bytes| bytes.as_ptr().cast_mut().cast())
            .collect();
        let launch = match shape.cooperative {
            true => result::launch_cooperative_kernel,
            false => result::launch_kernel,
        };
        let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the module is loaded and never unloaded; the driver only reads the parameters, which are those that the
        // kernel declares; the memory whose addresses are in them lives until the kernel has been waited for.
        let launched = unsafe {
            let function = result::module::get_function(module.0, name).unwrap();
            let (grid, block) = (tuple(shape.grid), tuple(shape.block));
            let (shared, stream) = (shape.shared, std::ptr::null_mut());
            result::function::set_function_attribute(function, most, shared as i32)
                .and_then(|()| launch(function, grid, block, shared, stream, &mut parameters))
        };
        launched.map_err(|error| format!("{kernel} is not launched: {error}"))?;
        result::ctx::synchronize().map_err(|error| format!("{kernel} failed: {error}"))
    }
}
