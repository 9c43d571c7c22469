//! Compiled kernels.

use super::calls::CallKind;
use super::{Context, DeviceError, Function, error};
use cudarc::driver::{result, sys};
use std::ffi::{CString, c_void};
use std::fmt;
use std::sync::Arc;
use stheno_jit::Compiled;

/// What the driver loads.
#[derive(Debug, Clone, Copy)]
pub enum Image<'a> {
    /// PTX, which the driver compiles for its device.
    Ptx(&'a str),
    /// Machine code of one architecture, a whole ELF file.
    Cubin(&'a [u8]),
}

impl<'a> Image<'a> {
    /// What NVRTC made: the cubin if there is one, else PTX; `None` if there is neither.
    pub fn of(compiled: &'a Compiled) -> Option<Image<'a>> {
        let ptx = compiled.ptx.as_deref().map(Image::Ptx);
        compiled.cubin.as_deref().map(Image::Cubin).or(ptx)
    }
}

/// Kernels that the driver has loaded. Clones share them; the last one, and the last [`Function`], unloads them once the
/// work that the stream has by then is done.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    context: Context,
    module: sys::CUmodule,
    name: String,
}

// SAFETY: the handle is a name that the driver looks up; it takes calls from any number of threads.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// Bytes of the driver's log of a load that failed.
const LOG_BYTES: usize = 8 << 10;

impl Module {
    /// Loads kernels. `name` stands for them in errors.
    ///
    /// # Errors
    /// [`DeviceError::Module`]: the image is of another architecture, too new for the driver, or broken.
    pub fn load(context: &Context, name: &str, image: Image<'_>) -> Result<Module, DeviceError> {
        let fail = |reason: String| DeviceError::Module {
            module: name.to_owned(),
            reason,
        };
        // The driver looks for a zero byte at the end of text.
        let bytes = match image {
            Image::Ptx(text) if text.contains('\0') => {
                return Err(fail("the PTX holds a zero byte".to_owned()));
            }
            Image::Ptx(text) => [text.as_bytes(), &[0]].concat(),
            Image::Cubin(bytes) if is_whole_elf(bytes) => bytes.to_vec(),
            Image::Cubin(bytes) => {
                return Err(fail(format!("{} bytes are no whole ELF file", bytes.len())));
            }
        };
        let mut log = vec![0_u8; LOG_BYTES];
        let mut options = [
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
        ];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), LOG_BYTES as *mut c_void];
        let mut module = std::ptr::null_mut();
        let loaded = context.try_call(CallKind::Setup, || {
            // SAFETY: the image is a whole ELF file or ends with a zero byte, and outlives the call, as do the options and
            // the log with the size that they tell.
            unsafe {
                sys::cuModuleLoadDataEx(
                    &raw mut module,
                    bytes.as_ptr().cast(),
                    options.len() as u32,
                    options.as_mut_ptr(),
                    values.as_mut_ptr(),
                )
            }
            .result()
        })?;
        loaded.map_err(|error| {
            let (code, text) = error::describe(error);
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            let log = String::from_utf8_lossy(&log[..end]);
            fail(
                format!("{code} ({text})\n{}", log.trim_end())
                    .trim_end()
                    .to_owned(),
            )
        })?;
        Ok(Module {
            inner: Arc::new(Inner {
                context: context.clone(),
                module,
                name: name.to_owned(),
            }),
        })
    }

    /// A kernel by its lowered name.
    ///
    /// # Errors
    /// [`DeviceError::MissingKernel`].
    pub fn function(&self, kernel: &str) -> Result<Function, DeviceError> {
        let missing = || DeviceError::MissingKernel {
            module: self.inner.name.clone(),
            kernel: kernel.to_owned(),
        };
        let name = CString::new(kernel).map_err(|_| missing())?;
        let function = self.context().try_call(CallKind::Setup, || {
            // SAFETY: the module is loaded.
            unsafe { result::module::get_function(self.inner.module, name) }
        })?;
        match function {
            Ok(function) => Ok(Function::new(self.clone(), function, kernel)),
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_FOUND => Err(missing()),
            Err(error) => Err(DeviceError::call("cuModuleGetFunction", error)),
        }
    }

    /// The context that has them.
    pub fn context(&self) -> &Context {
        &self.inner.context
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: loaded by `Module::load`, unloaded once, after all work of the stream.
        self.context
            .free(|| unsafe { result::module::unload(self.module) });
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({})", self.inner.name)
    }
}

/// Whether the header of a 64-bit ELF file names nothing beyond its end. The driver is told no length: it would read on.
fn is_whole_elf(bytes: &[u8]) -> bool {
    let number = |at: usize, size: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(size)?)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        )
    };
    let within = |offset: u64, bytes_there: u64| -> Option<()> {
        let end = offset.checked_add(bytes_there)?;
        (end <= bytes.len() as u64).then_some(())
    };
    let whole = || -> Option<()> {
        let (program, program_size, programs) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        within(program, program_size * programs)?;
        let (section, section_size, sections) = (number(40, 8)?, number(58, 2)?, number(60, 2)?);
        within(section, section_size * sections)?;
        for index in 0..sections {
            let at = usize::try_from(section + index * section_size).ok()?;
            const NO_BITS: u64 = 8;
            if number(at.checked_add(4)?, 4)? != NO_BITS {
                within(
                    number(at.checked_add(24)?, 8)?,
                    number(at.checked_add(32)?, 8)?,
                )?;
            }
        }
        Some(())
    };
    bytes.starts_with(b"\x7fELF\x02\x01") && whole().is_some()
}

#[cfg(test)]
mod tests {
    use super::is_whole_elf;

    /// A header, one section table of one entry, and eight bytes that it names.
    fn elf() -> Vec<u8> {
        let mut bytes = vec![0; 64 + 64 + 8];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[40] = 64;
        bytes[58] = 64;
        bytes[60] = 1;
        bytes[64 + 24] = 128;
        bytes[64 + 32] = 8;
        bytes
    }

    #[test]
    fn an_elf_that_was_cut_is_seen() {
        let whole = elf();
        assert!(is_whole_elf(&whole));
        assert!((0..whole.len()).all(|end| !is_whole_elf(&whole[..end])));
        assert!(!is_whole_elf(b".version 8.0"));
        let mut far = elf();
        far[64 + 31] = 0xff;
        assert!(!is_whole_elf(&far));
    }
}
