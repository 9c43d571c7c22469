//! Which file the driver is, and that cudarc takes that one.
//!
//! cudarc opens the first of a list of names (`libcuda.so`, ..., `libcuda.so.1`) that the system's loader finds, at its
//! first call. The virtual driver calls itself `libcuda.so`; once it is loaded by its path, the loader gives it for that
//! name. Afterwards it is compared whether cudarc has the same library, since a process may have had another before.

use super::{DeviceError, DriverKind};
use cudarc::driver::sys;
use libloading::Library;
use std::env;
use std::ffi::{OsString, c_void};
use std::path::{Path, PathBuf};

/// Environment: the virtual driver's library, or the directory that it is in. Nothing else is looked at then.
pub const VIRTUAL_DRIVER_VARIABLE: &str = "STHENO_VIRTUAL_CUDA";

/// What only the virtual driver exports.
const MARKER: &[u8] = b"VIRTUAL_GPU_DRIVER";

/// Every function of the driver that is called. cudarc looks them up one by one, and panics where one is missing.
const FUNCTIONS: &[&str] = &[
    "cuCtxGetCurrent",
    "cuCtxGetDevice",
    "cuCtxPopCurrent_v2",
    "cuCtxPushCurrent_v2",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchCooperativeKernel",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemHostGetDevicePointer_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadDataEx",
    "cuModuleUnload",
    "cuOccupancyMaxActiveBlocksPerMultiprocessor",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamQuery",
    "cuStreamSynchronize",
];

/// Makes cudarc take the library of this kind.
pub fn load(kind: DriverKind) -> Result<(), DeviceError> {
    match kind {
        DriverKind::Cuda => {
            // SAFETY: loads the driver's library by its name, whose initialisers any program with CUDA runs.
            if !unsafe { sys::is_culib_present() } {
                return Err(DeviceError::MissingDriver);
            }
        }
        DriverKind::Virtual => load_virtual(&find_virtual_driver()?)?,
    }
    let missing = FUNCTIONS
        .iter()
        .find(|name| of_cudarc(name.as_bytes()).is_none());
    missing.map_or(Ok(()), |function| Err(DeviceError::OldDriver { function }))
}

/// Whether the library that cudarc has is the virtual GPU's.
pub fn is_virtual() -> bool {
    of_cudarc(MARKER).is_some()
}

/// The file of the virtual driver: the one that `STHENO_VIRTUAL_CUDA` names, or else the first there is beside the
/// executable and in the target folder that it lies in. Loads nothing.
///
/// # Errors
/// There is none; the error lists the places.
pub fn find_virtual_driver() -> Result<PathBuf, DeviceError> {
    let named = env::var_os(VIRTUAL_DRIVER_VARIABLE).filter(|value| !value.is_empty());
    let executable = env::current_exe().ok();
    let tried = places(named.as_ref().map(Path::new), executable.as_deref());
    let found = tried.iter().find(|path| path.is_file()).cloned();
    found.ok_or(DeviceError::MissingVirtualDriver { tried })
}

/// The name that the virtual driver's package gives it.
fn virtual_file() -> OsString {
    libloading::library_filename("virtual_cuda")
}

/// Where the virtual driver is looked for, in order. A test lies in `target/debug/deps`, an example in
/// `target/debug/examples`, a program in `target/debug`; the library in `target/debug` if it was built for itself, in
/// `deps` if only as what a test needs.
fn places(named: Option<&Path>, executable: Option<&Path>) -> Vec<PathBuf> {
    let file = virtual_file();
    if let Some(named) = named {
        return vec![match named.is_dir() {
            true => named.join(file),
            false => named.to_owned(),
        }];
    }
    let Some(folder) = executable.and_then(Path::parent) else {
        return Vec::new();
    };
    let mut folders = vec![folder.to_owned(), folder.join("deps")];
    let in_build = folder.ends_with("deps") || folder.ends_with("examples");
    let profile = if in_build {
        folder.parent()
    } else {
        Some(folder)
    };
    if let Some(profile) = profile.filter(|_| in_build) {
        folders.extend([profile.to_owned(), profile.join("deps")]);
    }
    // The library is fast enough in one profile alone, so that one is built and serves both.
    if let Some(target) = profile.and_then(Path::parent) {
        for profile in ["release", "debug"].map(|name| target.join(name)) {
            folders.extend([profile.clone(), profile.join("deps")]);
        }
    }
    let mut places: Vec<PathBuf> = Vec::new();
    for place in folders.into_iter().map(|folder| folder.join(&file)) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn load_virtual(path: &Path) -> Result<(), DeviceError> {
    let unusable = |reason: String| DeviceError::UnusableDriver {
        path: path.to_owned(),
        reason,
    };
    // A relative name without a slash would be looked for elsewhere.
    let whole = path
        .canonicalize()
        .map_err(|error| unusable(error.to_string()))?;
    // SAFETY: the user names the library, or it lies where this program does; its initialisers are trusted like it.
    let library = unsafe { Library::new(&whole) }.map_err(|error| unusable(error.to_string()))?;
    let Some(marker) = address(&library, MARKER) else {
        return Err(unusable("it is not the virtual GPU's".to_owned()));
    };
    // SAFETY: as above for the other names of the same library; if there is none, cudarc would panic.
    if !unsafe { sys::is_culib_present() } {
        return Err(unusable(
            "the system's loader does not find it by its name".to_owned(),
        ));
    }
    if of_cudarc(MARKER) != Some(marker) {
        return Err(DeviceError::OtherDriver {
            loaded: DriverKind::Cuda,
            asked: DriverKind::Virtual,
        });
    }
    // cudarc holds the library from here on.
    Ok(())
}

/// Address of a symbol of the library that cudarc has, or opens now: there must be one.
fn of_cudarc(name: &[u8]) -> Option<usize> {
    // SAFETY: opens the library as `load` says.
    address(unsafe { sys::culib() }, name)
}

fn address(library: &Library, name: &[u8]) -> Option<usize> {
    // SAFETY: only the address is looked at.
    let symbol = unsafe { library.get::<*const c_void>(name) }.ok()?;
    Some(*symbol as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_library_is_the_only_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = virtual_file();
        let program = Path::new("/x/target/release/generate");
        assert_eq!(
            places(Some(folder.path()), Some(program)),
            [folder.path().join(file)]
        );
        let named = Path::new("/y/libvirtual.so");
        assert_eq!(places(Some(named), Some(program)), [named]);
    }

    #[test]
    fn programs_tests_and_examples_find_it_in_the_target_folder() {
        let file = virtual_file();
        let of = |program: &str| places(None, Some(Path::new(program)));
        let at = |folder: &str| Path::new(folder).join(&file);
        let release = of("/x/target/release/generate");
        let order = [
            "/x/target/release",
            "/x/target/release/deps",
            "/x/target/debug",
            "/x/target/debug/deps",
        ];
        assert_eq!(release, order.map(at));
        for program in ["/x/target/debug/deps/t-1", "/x/target/debug/examples/e"] {
            let places = of(program);
            assert_eq!(
                places[0],
                at(Path::new(program).parent().unwrap().to_str().unwrap())
            );
            assert!(
                order.iter().all(|folder| places.contains(&at(folder))),
                "{places:?}"
            );
        }
        assert!(places(None, None).is_empty());
    }

    #[test]
    fn what_is_no_library_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libcuda.so");
        std::fs::write(&path, "text").unwrap();
        let error = load_virtual(&path).unwrap_err();
        assert!(
            matches!(&error, DeviceError::UnusableDriver { path: at, .. } if *at == path),
            "{error}"
        );
    }
}
