//! One loaded NVRTC and its programs, as safe types. The only file of the crate with `unsafe`.
//!
//! cudarc binds these same functions, and its handle serves wherever its own search reaches ([`Library::of_cudarc`]).
//! That search is not enough here, which is why the functions are also looked up in libraries opened by path:
//! * with a `cuda-12xxx` feature cudarc never tries `libnvrtc.so.13`, and a `cuda-13xxx` feature would make its driver
//!   layer call symbols that the 12.x drivers lack;
//! * it knows no paths, only names for the system's loader, and keeps one library for the whole process;
//! * its calls panic where a symbol is missing and return a Rust enum, which a newer NVRTC's result code would make
//!   undefined behaviour. Here a result is the integer that C returns.
//!
//! Reference: the NVRTC manual, chapters "Basic usage" and "User interface".

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use cudarc::nvrtc::sys;

use crate::error::{CallError, LoadError};

/// What every NVRTC function returns: `nvrtcResult` as an integer, because newer versions add values.
type Code = c_int;
/// `nvrtcGet*Size`.
type SizeOf = unsafe extern "C" fn(sys::nvrtcProgram, *mut usize) -> Code;
/// `nvrtcGet*`, which fills a buffer of the size that the matching [`SizeOf`] told.
type Fill = unsafe extern "C" fn(sys::nvrtcProgram, *mut c_char) -> Code;

const SUCCESS: Code = sys::nvrtcResult::NVRTC_SUCCESS as Code;
const COMPILATION: Code = sys::nvrtcResult::NVRTC_ERROR_COMPILATION as Code;
const INVALID_OPTION: Code = sys::nvrtcResult::NVRTC_ERROR_INVALID_OPTION as Code;

/// The functions of NVRTC that Stheno calls. All are there since 11.2 and none has changed its signature.
#[derive(Clone, Copy)]
struct Functions {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Code,
    error_string: unsafe extern "C" fn(Code) -> *const c_char,
    architecture_count: unsafe extern "C" fn(*mut c_int) -> Code,
    architectures: unsafe extern "C" fn(*mut c_int) -> Code,
    create: unsafe extern "C" fn(
        *mut sys::nvrtcProgram,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Code,
    destroy: unsafe extern "C" fn(*mut sys::nvrtcProgram) -> Code,
    compile: unsafe extern "C" fn(sys::nvrtcProgram, c_int, *const *const c_char) -> Code,
    add_name: unsafe extern "C" fn(sys::nvrtcProgram, *const c_char) -> Code,
    lowered_name:
        unsafe extern "C" fn(sys::nvrtcProgram, *const c_char, *mut *const c_char) -> Code,
    log: (SizeOf, Fill),
    ptx: (SizeOf, Fill),
    cubin: (SizeOf, Fill),
    /// Since 13.3: unpacks CUDA's headers into a directory.
    install_headers: Option<unsafe extern "C" fn(*const c_char, c_int, *mut c_void) -> Code>,
}

impl Functions {
    /// Looks every function up in `library`.
    fn of(library: &'static libloading::Library) -> Result<Functions, libloading::Error> {
        /// The address of `name` as a function of type `F`.
        ///
        /// # Safety
        ///
        /// `F` must be the type of that function.
        unsafe fn symbol<F: Copy>(
            library: &'static libloading::Library,
            name: &str,
        ) -> Result<F, libloading::Error> {
            // SAFETY: the caller vouches for the type; the library is never unloaded, so the address stays valid.
            unsafe { library.get::<F>(name).map(|symbol| *symbol) }
        }
        // SAFETY: the types in `Functions` are the prototypes of nvrtc.h, with the enum result as the C int it is.
        unsafe {
            Ok(Functions {
                version: symbol(library, "nvrtcVersion")?,
                error_string: symbol(library, "nvrtcGetErrorString")?,
                architecture_count: symbol(library, "nvrtcGetNumSupportedArchs")?,
                architectures: symbol(library, "nvrtcGetSupportedArchs")?,
                create: symbol(library, "nvrtcCreateProgram")?,
                destroy: symbol(library, "nvrtcDestroyProgram")?,
                compile: symbol(library, "nvrtcCompileProgram")?,
                add_name: symbol(library, "nvrtcAddNameExpression")?,
                lowered_name: symbol(library, "nvrtcGetLoweredName")?,
                log: (
                    symbol(library, "nvrtcGetProgramLogSize")?,
                    symbol(library, "nvrtcGetProgramLog")?,
                ),
                ptx: (
                    symbol(library, "nvrtcGetPTXSize")?,
                    symbol(library, "nvrtcGetPTX")?,
                ),
                cubin: (
                    symbol(library, "nvrtcGetCUBINSize")?,
                    symbol(library, "nvrtcGetCUBIN")?,
                ),
                install_headers: symbol(library, "nvrtcInstallBundledHeaders").ok(),
            })
        }
    }
}

/// A loaded NVRTC. It stays loaded until the process ends: NVRTC registers exit handlers, and unloading it under them
/// is not supported.
#[derive(Clone)]
pub(crate) struct Library {
    functions: Functions,
    path: PathBuf,
    version: (u32, u32),
    architectures: Arc<[u32]>,
}

impl Library {
    /// Opens the library at `path`, which is absolute: a bare name would mean the system's loader.
    pub(crate) fn open(path: &Path) -> Result<Library, LoadError> {
        preload_builtins(path);
        Library::load(path)
    }

    /// Opens the library that the system's loader finds by `name`; nothing if it finds none.
    pub(crate) fn of_system(name: &str) -> Option<Result<Library, LoadError>> {
        match Library::load(Path::new(name)) {
            Err(LoadError::Open { .. }) => None,
            loaded => Some(loaded),
        }
    }

    /// The library that cudarc's own search finds, if any.
    pub(crate) fn of_cudarc() -> Option<Result<Library, LoadError>> {
        // SAFETY: both load a library by a name of NVRTC through the system's loader, as `load` does; `culib` panics
        // only where none is present, which is asked first.
        let library = unsafe { sys::is_culib_present().then(|| sys::culib()) }?;
        Some(Library::new(library, Path::new("libnvrtc.so")))
    }

    fn load(path: &Path) -> Result<Library, LoadError> {
        // SAFETY: initialisers of a library that calls itself NVRTC run here. The path comes from the caller, from the
        // environment or from an installation of CUDA, all of which already decide what this process executes.
        let library = unsafe { libloading::Library::new(path) };
        let library = library.map_err(|cause| LoadError::Open {
            path: path.to_path_buf(),
            cause,
        })?;
        Library::new(Box::leak(Box::new(library)), path)
    }

    fn new(library: &'static libloading::Library, path: &Path) -> Result<Library, LoadError> {
        let functions = Functions::of(library).map_err(|cause| LoadError::Symbol {
            path: path.to_path_buf(),
            cause,
        })?;
        let mut library = Library {
            functions,
            path: path.to_path_buf(),
            version: (0, 0),
            architectures: Arc::default(),
        };
        let asked = library.ask();
        asked.map(|()| library).map_err(|cause| LoadError::Call {
            path: path.to_path_buf(),
            cause,
        })
    }

    /// Fills in what the library says of itself.
    fn ask(&mut self) -> Result<(), CallError> {
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: two valid pointers to C ints.
        let code = unsafe { (self.functions.version)(&mut major, &mut minor) };
        self.check("nvrtcVersion", code)?;
        // SAFETY: a valid pointer to a C int.
        let code = unsafe { (self.functions.architecture_count)(&mut count) };
        self.check("nvrtcGetNumSupportedArchs", code)?;
        let mut numbers: Vec<c_int> = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: the buffer holds as many C ints as NVRTC just said it writes.
        let code = unsafe { (self.functions.architectures)(numbers.as_mut_ptr()) };
        self.check("nvrtcGetSupportedArchs", code)?;
        self.version = (major.unsigned_abs(), minor.unsigned_abs());
        self.architectures = numbers.into_iter().map(c_int::unsigned_abs).collect();
        Ok(())
    }

    /// Unpacks CUDA's headers into `directory`, which exists. False if this version brings none.
    pub(crate) fn install_headers(&self, directory: &CString) -> Result<bool, CallError> {
        let Some(install) = self.functions.install_headers else {
            return Ok(false);
        };
        // SAFETY: a C string that outlives the call, no flags, and null for the error report that is not wanted.
        let code = unsafe { install(directory.as_ptr(), 0, ptr::null_mut()) };
        self.check("nvrtcInstallBundledHeaders", code)?;
        Ok(true)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The virtual architectures that this version compiles for, as 80 for compute_80, ascending.
    pub(crate) fn architectures(&self) -> &[u32] {
        &self.architectures
    }

    /// A program of `source`, which diagnostics call `name`, with `headers` as (name in `#include`, text).
    pub(crate) fn program(
        &self,
        source: &CStr,
        name: &CStr,
        headers: &[(CString, CString)],
    ) -> Result<Program<'_>, CallError> {
        let names: Vec<*const c_char> = headers.iter().map(|(name, _)| name.as_ptr()).collect();
        let texts: Vec<*const c_char> = headers.iter().map(|(_, text)| text.as_ptr()).collect();
        let mut handle = ptr::null_mut();
        // SAFETY: all pointers are to NUL-terminated strings that outlive the call, in arrays of the given length;
        // NVRTC copies them.
        let code = unsafe {
            (self.functions.create)(
                &mut handle,
                source.as_ptr(),
                name.as_ptr(),
                length(headers.len()),
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        self.check("nvrtcCreateProgram", code)?;
        Ok(Program {
            nvrtc: self,
            handle,
        })
    }

    /// `code` as a result, with the text that NVRTC has for it.
    fn check(&self, call: &'static str, code: Code) -> Result<(), CallError> {
        if code == SUCCESS {
            return Ok(());
        }
        // SAFETY: NVRTC returns a static string for every code, also for those it does not know; null is checked.
        let text = unsafe {
            let text = (self.functions.error_string)(code);
            if text.is_null() {
                None
            } else {
                Some(CStr::from_ptr(text).to_string_lossy().into_owned())
            }
        };
        Err(CallError {
            call,
            code,
            text: text.unwrap_or_else(|| "no text for this code".to_owned()),
        })
    }
}

/// How a compilation ended that NVRTC carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// The log says why.
    Rejected,
}

/// One program of a [`Library`].
pub(crate) struct Program<'a> {
    nvrtc: &'a Library,
    /// Made by nvrtcCreateProgram, destroyed once, on drop.
    handle: sys::nvrtcProgram,
}

impl Program<'_> {
    /// Asks for the lowered name of `expression`; to be called before [`Program::compile`].
    pub(crate) fn add_name(&self, expression: &CStr) -> Result<(), CallError> {
        // SAFETY: a live program and a NUL-terminated string, which NVRTC copies.
        let code = unsafe { (self.nvrtc.functions.add_name)(self.handle, expression.as_ptr()) };
        self.nvrtc.check("nvrtcAddNameExpression", code)
    }

    /// Compiles; an error is one of NVRTC itself, not one of the program.
    pub(crate) fn compile(&self, options: &[CString]) -> Result<Verdict, CallError> {
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: a live program and an array of NUL-terminated strings of the given length. Several threads may
        // compile at once as long as each has a program of its own, which `&self` on a type that is not `Sync` gives.
        let code = unsafe {
            (self.nvrtc.functions.compile)(self.handle, length(options.len()), pointers.as_ptr())
        };
        match code {
            COMPILATION | INVALID_OPTION => Ok(Verdict::Rejected),
            code => self
                .nvrtc
                .check("nvrtcCompileProgram", code)
                .map(|()| Verdict::Accepted),
        }
    }

    /// The program's log, empty before compilation.
    pub(crate) fn log(&self) -> Result<String, CallError> {
        self.read("nvrtcGetProgramLog", self.nvrtc.functions.log)
            .map(text)
    }

    /// The PTX; nothing where the compilation stopped before it.
    pub(crate) fn ptx(&self) -> Result<Option<String>, CallError> {
        let ptx = self
            .read("nvrtcGetPTX", self.nvrtc.functions.ptx)
            .map(text)?;
        Ok(Some(ptx).filter(|ptx| !ptx.is_empty()))
    }

    /// The cubin; nothing where the target is a virtual architecture.
    pub(crate) fn cubin(&self) -> Result<Option<Vec<u8>>, CallError> {
        let cubin = self.read("nvrtcGetCUBIN", self.nvrtc.functions.cubin)?;
        Ok(Some(cubin).filter(|cubin| !cubin.is_empty()))
    }

    /// What the linker calls each of `expressions`, all of which were given to [`Program::add_name`].
    pub(crate) fn lowered_names(
        &self,
        expressions: &[(String, CString)],
    ) -> Result<BTreeMap<String, String>, CallError> {
        let mut names = BTreeMap::new();
        for (expression, bytes) in expressions {
            let mut name = ptr::null();
            // SAFETY: a live, compiled program; the string that NVRTC points to lives as long as the program and is
            // copied here.
            let name = unsafe {
                let code =
                    (self.nvrtc.functions.lowered_name)(self.handle, bytes.as_ptr(), &mut name);
                self.nvrtc.check("nvrtcGetLoweredName", code)?;
                CStr::from_ptr(name).to_string_lossy().into_owned()
            };
            names.insert(expression.clone(), name);
        }
        Ok(names)
    }

    fn read(
        &self,
        call: &'static str,
        (size_of, fill): (SizeOf, Fill),
    ) -> Result<Vec<u8>, CallError> {
        let mut size = 0;
        // SAFETY: a live program and a valid pointer.
        let code = unsafe { size_of(self.handle, &mut size) };
        self.nvrtc.check(call, code)?;
        let mut bytes = vec![0u8; size];
        if size > 0 {
            // SAFETY: the buffer has the size that NVRTC just told for this program.
            self.nvrtc.check(call, unsafe {
                fill(self.handle, bytes.as_mut_ptr().cast())
            })?;
        }
        Ok(bytes)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle came from nvrtcCreateProgram and is destroyed only here. The one possible error is an
        // invalid handle, which this one is not.
        unsafe { (self.nvrtc.functions.destroy)(&mut self.handle) };
    }
}

/// A count as the C int that NVRTC takes. Nothing that fits in memory as a source has 2^31 options or headers.
fn length(count: usize) -> c_int {
    c_int::try_from(count).unwrap_or(c_int::MAX)
}

/// Bytes that end in a NUL as text.
fn text(mut bytes: Vec<u8>) -> String {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Opens the `libnvrtc-builtins` that lie beside `library`, for good.
///
/// NVRTC opens its builtins by bare name at the first compilation, and not every release (13.0 does not) is linked to
/// look beside itself. A library that is already loaded under that name satisfies the later request. A failure here is
/// not final: the system's loader may know the name.
fn preload_builtins(library: &Path) {
    // Also beside the file itself if `library` is a link: its folder need not link the builtins too.
    let real = std::fs::canonicalize(library).ok();
    for path in [Some(library), real.as_deref()].into_iter().flatten() {
        let Some(Ok(entries)) = path.parent().map(std::fs::read_dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("libnvrtc-builtins.so.") {
                open_global(&entry.path());
            }
        }
    }
}

#[cfg(unix)]
fn open_global(path: &Path) {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the builtins are a table of headers and device code without initialisers of their own, and they lie
    // beside an NVRTC that is about to be loaded.
    if let Ok(library) = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
        std::mem::forget(library);
    }
}

#[cfg(not(unix))]
fn open_global(_: &Path) {}
