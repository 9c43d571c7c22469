//! A GPU through the NVIDIA driver, which is loaded at run time.

use crate::gpu::{Facts, Gpu, HostWords, Launch, Meanwhile};
use crate::image::Images;
use crate::kernels::module;
use anyhow::{Context, Result, anyhow, bail};
use cudarc::driver::{result, sys};
use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::mem::MaybeUninit;
use std::slice;
use std::sync::atomic::AtomicU32;

/// A context on one device, current to the thread that made it, which is the only one that can use it.
pub struct Driver {
    facts: Facts,
    images: Option<Images>,
    stream: sys::CUstream,
    first: sys::CUevent,
    last: sys::CUevent,
    modules: BTreeMap<&'static str, sys::CUmodule>,
}

impl Driver {
    /// Opens device `ordinal`. What is opened stays so until the process ends.
    ///
    /// # Errors
    /// There is no driver or no such device; the error says what to do.
    pub fn open(ordinal: u32) -> Result<Driver> {
        // SAFETY: loads the driver's library by its name, which runs its initialisers as any program with CUDA does.
        if !unsafe { sys::is_culib_present() } {
            bail!(
                "found no NVIDIA driver (libcuda.so.1): run this on a machine with a GPU and its driver; --write-cubins \
                 needs neither"
            );
        }
        result::init().map_err(|error| {
            anyhow!("the NVIDIA driver does not start ({error}); does nvidia-smi work?")
        })?;
        let count = result::device::get_count()?;
        let device = i32::try_from(ordinal)
            .ok()
            .filter(|ordinal| *ordinal < count);
        let device = device.ok_or_else(|| {
            anyhow!("there is no device {ordinal}: the driver shows {count}; CUDA_VISIBLE_DEVICES may hide others")
        })?;
        let device = result::device::get(device)?;
        // SAFETY: the device is one that the driver gave.
        let context = unsafe { result::primary_ctx::retain(device) }
            .context("the device gives no context")?;
        // SAFETY: the context was retained and is never released.
        unsafe { result::ctx::set_current(context) }?;
        Ok(Driver {
            facts: facts(device)?,
            images: None,
            stream: result::stream::create(result::stream::StreamKind::NonBlocking)?,
            first: result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)?,
            last: result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)?,
            modules: BTreeMap::new(),
        })
    }

    /// Takes kernels from `images`. None can be launched before.
    pub fn use_images(&mut self, images: Images) {
        self.images = Some(images);
    }

    fn module(&mut self, name: &'static str) -> Result<sys::CUmodule> {
        if let Some(module) = self.modules.get(name) {
            return Ok(*module);
        }
        let source = module(name).ok_or_else(|| anyhow!("there is no module {name}"))?;
        let images = self
            .images
            .as_ref()
            .ok_or_else(|| anyhow!("the driver was given no kernels"))?;
        let image = images.load(source, &self.facts)?;
        // SAFETY: the image is a whole cubin or PTX with a zero byte at its end, and outlives the call.
        let loaded = unsafe { result::module::load_data(image.as_ptr().cast()) };
        let loaded =
            loaded.with_context(|| format!("the driver does not load the kernels of {name}"))?;
        self.modules.insert(name, loaded);
        Ok(loaded)
    }

    /// Microseconds between the two events around `work`.
    fn timed(
        &mut self,
        work: impl FnOnce(sys::CUstream) -> Result<()>,
        meanwhile: Option<Meanwhile<'_>>,
    ) -> Result<f64> {
        // SAFETY: events and stream were created by `open` in the current context and live as long as it.
        unsafe { result::event::record(self.first, self.stream) }?;
        work(self.stream)?;
        // SAFETY: as above.
        unsafe { result::event::record(self.last, self.stream) }?;
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        // SAFETY: as above.
        unsafe { result::stream::synchronize(self.stream) }?;
        // SAFETY: as above; both events were recorded and have come to pass.
        let milliseconds = unsafe { result::event::elapsed(self.first, self.last) }?;
        Ok(f64::from(milliseconds) * 1000.0)
    }
}

fn facts(device: sys::CUdevice) -> Result<Facts> {
    use sys::CUdevice_attribute as Attribute;
    let attribute = |attribute| -> Result<u32> {
        // SAFETY: the device is one that the driver gave.
        let value = unsafe { result::device::get_attribute(device, attribute) }?;
        Ok(u32::try_from(value)?)
    };
    let name = result::device::get_name(device)?;
    let mut driver_version = 0;
    // SAFETY: the driver writes one integer.
    unsafe { sys::cuDriverGetVersion(&raw mut driver_version) }.result()?;
    Ok(Facts {
        is_virtual: name.contains("(virtual)"),
        name,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        l2_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.into(),
        shared_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        // SAFETY: the device is one that the driver gave.
        memory_bytes: unsafe { result::device::total_mem(device) }? as u64,
        clock_mhz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)? / 1000,
        driver_version: u32::try_from(driver_version)?,
    })
}

impl Gpu for Driver {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        // SAFETY: the context is current; the memory is freed by its address alone.
        unsafe { result::malloc_sync(bytes) }
            .with_context(|| format!("the device gives no {bytes} bytes"))
    }

    fn free(&mut self, at: u64) -> Result<()> {
        // SAFETY: nothing runs on the device between two calls, so nothing uses the memory.
        Ok(unsafe { result::free_sync(at) }?)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: the driver refuses addresses that it did not give; nothing runs on the device between two calls.
        Ok(unsafe { result::memcpy_htod_sync(at, bytes) }?)
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: as for `write`.
        Ok(unsafe { result::memcpy_dtoh_sync(bytes, at) }?)
    }

    fn host_words(&mut self, count: usize) -> Result<HostWords> {
        // Not write-combined, in which the host would read very slowly.
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: the context is current.
        let pointer = unsafe { result::malloc_host(count * 4, flags) }?;
        // SAFETY: the driver gave `count` words, page-aligned and never freed; nobody refers to them yet.
        unsafe { pointer.cast::<u8>().write_bytes(0, count * 4) };
        let mut at = MaybeUninit::uninit();
        // SAFETY: the pointer is one of mapped memory; the driver writes its address for kernels.
        let at = unsafe {
            sys::cuMemHostGetDevicePointer_v2(at.as_mut_ptr(), pointer, 0).result()?;
            at.assume_init()
        };
        // SAFETY: the words are initialised and never freed; host and kernels access them as atomics only.
        let words = unsafe { slice::from_raw_parts(pointer.cast::<AtomicU32>(), count) };
        Ok(HostWords { at, words })
    }

    fn launch(&mut self, launch: &Launch<'_>, meanwhile: Option<Meanwhile<'_>>) -> Result<f64> {
        let module = self.module(launch.module)?;
        // SAFETY: the module is loaded and never unloaded.
        let function =
            unsafe { result::module::get_function(module, CString::new(launch.kernel)?) }?;
        if launch.shared_bytes > 0 {
            let attribute =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is of a loaded module.
            unsafe {
                result::function::set_function_attribute(
                    function,
                    attribute,
                    i32::try_from(launch.shared_bytes)?,
                )
            }?;
        }
        // 8-byte words, because the structure is aligned so.
        let mut words: Vec<u64> = launch
            .arguments
            .as_chunks()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect();
        let mut parameters = [words.as_mut_ptr().cast::<c_void>()];
        let (grid, block) = ((launch.blocks, 1, 1), (launch.threads, 1, 1));
        let start = |stream| {
            let (shared, parameters) = (launch.shared_bytes, &mut parameters);
            // SAFETY: the driver copies the arguments, which are the structure that the kernel declares. The addresses in
            // them are of memory that lives until after `timed` has waited for the kernel.
            let started = unsafe {
                match launch.cooperative {
                    true => result::launch_cooperative_kernel(
                        function, grid, block, shared, stream, parameters,
                    ),
                    false => {
                        result::launch_kernel(function, grid, block, shared, stream, parameters)
                    }
                }
            };
            Ok(started?)
        };
        self.timed(start, meanwhile)
    }

    fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<f64> {
        // SAFETY: the driver refuses addresses that it did not give; `timed` waits for the copy.
        self.timed(
            |stream| Ok(unsafe { result::memcpy_dtod_async(to, from, bytes, stream) }?),
            None,
        )
    }
}
