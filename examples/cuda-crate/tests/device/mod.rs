//! The device that tests run on: a GPU if there is one, the virtual GPU if not.

use std::path::Path;
use std::sync::{Arc, Once};

use cudarc::driver::CudaContext;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// A context on the device. With `VIRTUAL_GPU` set it is the virtual one even where there is a GPU.
pub fn context() -> Arc<CudaContext> {
    static VIRTUAL: Once = Once::new();
    let has_gpu = ["/dev/nvidia0", "/dev/dxg"]
        .iter()
        .any(|path| Path::new(path).exists());
    if !has_gpu || std::env::var_os("VIRTUAL_GPU").is_some() {
        VIRTUAL.call_once(load_virtual_driver);
    }
    CudaContext::new(0).expect("no device")
}

/// Loads the virtual driver by its path. It calls itself `libcuda.so`, so that cudarc, which asks for that name next,
/// finds it loaded.
fn load_virtual_driver() {
    let test = std::env::current_exe().expect("a test has a path");
    let path = test.with_file_name("libvirtual_cuda.so");
    // SAFETY: the library's initialisers do nothing; it is never unloaded.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
    std::mem::forget(library.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
}
