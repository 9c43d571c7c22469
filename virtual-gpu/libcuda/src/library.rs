//! Libraries and kernels: the newer names of modules and functions. A library here is a module of the current context.

use crate::boundary::{Answer, In, Out, Text, exports};
use crate::driver::{enter, on_device};
use crate::error::NOT_FOUND;
use crate::handle::Handle;
use crate::{function, module};
use module::JitOptions;

fn options(count: u32, options: In<u32>, values: In<usize>) -> Answer<JitOptions> {
    JitOptions::read(count, options, values)
}

exports! {
    /// Loads a library from memory.
    fn cuLibraryLoadData(
        library: Out<Handle>,
        image: In<u8>,
        names: In<u32>,
        values: In<usize>,
        count: u32,
        _library_options: usize,
        _library_values: usize,
        _library_count: u32,
    ) {
        module::load_data(library, image, options(count, names, values)?)
    }

    /// Loads a library from a file.
    fn cuLibraryLoadFromFile(
        library: Out<Handle>,
        path: Text,
        names: In<u32>,
        values: In<usize>,
        count: u32,
        _library_options: usize,
        _library_values: usize,
        _library_count: u32,
    ) {
        module::load_file(library, path, options(count, names, values)?)
    }

    /// Unloads a library.
    fn cuLibraryUnload(library: Handle) {
        module::unload(library)
    }

    /// A kernel of a library.
    fn cuLibraryGetKernel(kernel: Out<Handle>, library: Handle, name: Text) {
        module::function(kernel, library, name)
    }

    /// A variable of a library.
    fn cuLibraryGetGlobal(pointer: Out<u64>, bytes: Out<usize>, library: Handle, name: Text) {
        module::global(pointer, bytes, library, name)
    }

    /// Managed variables are not known to the virtual GPU: there is none.
    fn cuLibraryGetManaged(_pointer: Out<u64>, _bytes: Out<usize>, library: Handle, _name: Text) {
        enter()?.state().modules.get(library)?;
        Err(NOT_FOUND)
    }

    /// The module of a library.
    fn cuLibraryGetModule(module: Out<Handle>, library: Handle) {
        enter()?.state().modules.get(library)?;
        module.set(library)
    }

    /// Number of kernels in a library.
    fn cuLibraryGetKernelCount(count: Out<u32>, library: Handle) {
        module::kernel_count(count, library)
    }

    /// The function of a kernel.
    fn cuKernelGetFunction(handle: Out<Handle>, kernel: Handle) {
        function::get(enter()?, kernel)?;
        handle.set(kernel)
    }

    /// The library of a kernel.
    fn cuKernelGetLibrary(library: Out<Handle>, kernel: Handle) {
        library.set(function::get(enter()?, kernel)?.module)
    }

    /// Name of a kernel.
    fn cuKernelGetName(text: Out<*const i8>, kernel: Handle) {
        function::name(text, kernel)
    }

    /// An attribute of a kernel.
    fn cuKernelGetAttribute(value: Out<i32>, which: u32, kernel: Handle, device: i32) {
        on_device(device)?;
        function::attribute(value, which, kernel)
    }

    /// Sets an attribute of a kernel.
    fn cuKernelSetAttribute(which: u32, value: i32, kernel: Handle, device: i32) {
        on_device(device)?;
        function::set_attribute(kernel, which, value)
    }

    /// Offset and size of a parameter.
    fn cuKernelGetParamInfo(kernel: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        function::parameter(kernel, index, offset, size)
    }
}
