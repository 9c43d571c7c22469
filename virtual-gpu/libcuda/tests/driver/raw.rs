//! The library's functions, called as C does.

use crate::harness::library;
use libloading::Library;

/// The library, loaded by its path.
pub struct Driver(Library);

impl Driver {
    /// Loads the library under test.
    pub fn load() -> Self {
        // SAFETY: the function has this prototype; wrong arguments are what is tested, and it must refuse them.
        Self(unsafe { Library::new(library()) }.unwrap())
    }

    /// Calls a function whose arguments are all integers or pointers, and gives its code.
    pub fn call<const N: usize>(&self, name: &str, arguments: [usize; N]) -> u32 {
        let mut all = [0; 11];
        all[..N].copy_from_slice(&arguments);
        let [a, b, c, d, e, f, g, h, i, j, k] = all;
        type Function = unsafe extern "C" fn(
            usize,
            usize,
            usize,
            usize,
            usize,
            usize,
            usize,
            usize,
            usize,
            usize,
            usize,
        ) -> u32;
        // SAFETY: the function has this prototype; wrong arguments are what is tested, and it must refuse them.
        unsafe {
            let function = self
                .0
                .get::<Function>(name.as_bytes())
                .unwrap_or_else(|_| panic!("{name} is missing"));
            function(a, b, c, d, e, f, g, h, i, j, k)
        }
    }

    /// Calls a function that must succeed.
    pub fn ok<const N: usize>(&self, name: &str, arguments: [usize; N]) {
        assert_eq!(self.call(name, arguments), 0, "{name}{arguments:x?}");
    }

    /// Calls a function that gives a value through its first argument.
    pub fn value<const N: usize>(&self, name: &str, arguments: [usize; N]) -> usize {
        let mut value = 0usize;
        let mut all = [0; 10];
        all[..N].copy_from_slice(&arguments);
        let [a, b, c, d, e, f, ..] = all;
        self.ok(name, [&raw mut value as usize, a, b, c, d, e, f]);
        value
    }
}

/// Who has loaded the library by its path gets it by the name that cudarc asks for first, and can tell what it is.
#[test]
#[cfg(target_os = "linux")]
fn loaded_by_path_it_is_found_by_name() {
    let address = |library: &Library| {
        // SAFETY: only the address is looked at.
        let marker = unsafe { library.get::<*const u32>(b"VIRTUAL_GPU_DRIVER") };
        *marker.unwrap()
    };
    // SAFETY: the library's initialisers do nothing.
    let by_path = unsafe { Library::new(library()) }.unwrap();
    // SAFETY: as above.
    let by_name = unsafe { Library::new("libcuda.so") }.unwrap();
    assert_eq!(address(&by_path), address(&by_name));
    // SAFETY: the variable lives as long as the library.
    assert_eq!(unsafe { *address(&by_path) }, 1);
}
