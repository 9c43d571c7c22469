//! Modules: loading, and what is in them.

use crate::boundary::{Answer, In, Out, Text, exports};
use crate::directory::Kind;
use crate::driver::{Scope, enter};
use crate::error::{FILE_NOT_FOUND, INVALID_PTX, NOT_FOUND, OUT_OF_MEMORY, UNKNOWN};
use crate::function::Function;
use crate::handle::Handle;
use crate::image::{Refused, ptx, ptx_of_file};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use virtual_gpu::{DevicePointer, LaunchError, Module};

/// A loaded module or library.
#[derive(Debug)]
pub struct Loaded {
    /// Its kernels.
    pub module: Arc<Module>,
    /// Context that it belongs to.
    pub context: Handle,
    globals: BTreeMap<String, (u64, usize)>,
    functions: BTreeMap<String, Handle>,
}

/// `CUjit_option`s that ask for the text of an error, and for messages.
const INFO_LOG: u32 = 3;
const INFO_LOG_SIZE: u32 = 4;
const ERROR_LOG: u32 = 5;
const ERROR_LOG_SIZE: u32 = 6;

/// Options of a load: what a compiler would be told, of which only the logs mean something here.
pub struct JitOptions {
    options: Vec<u32>,
    values: Vec<usize>,
    places: In<usize>,
}

impl JitOptions {
    /// No options.
    pub fn none() -> Self {
        Self {
            options: Vec::new(),
            values: Vec::new(),
            places: In::new(std::ptr::null()),
        }
    }

    /// `count` options and their values.
    pub fn read(count: u32, options: In<u32>, values: In<usize>) -> Answer<Self> {
        Ok(Self {
            options: options.all(count as usize)?,
            values: values.all(count as usize)?,
            places: values,
        })
    }

    fn position(&self, option: u32) -> Option<usize> {
        self.options.iter().position(|other| *other == option)
    }

    /// Fills a log, and writes its length where its size was.
    fn log(&self, buffer: u32, size: u32, text: &str) {
        let (Some(buffer), Some(size)) = (self.position(buffer), self.position(size)) else {
            return;
        };
        let room = self.values[size] as u32 as usize;
        let target = Out::new(self.values[buffer] as *mut u8);
        let written = target
            .set_text(text, room)
            .map_or(0, |()| text.len().min(room - 1));
        Out::new(self.places.address().cast_mut())
            .at(size)
            .set_if_wanted(written);
    }
}

/// Loads PTX into a context.
fn load(scope: Scope, text: Result<String, Refused>, options: &JitOptions) -> Answer<Handle> {
    let loaded = text.and_then(|text| place(scope, &text));
    options.log(INFO_LOG, INFO_LOG_SIZE, "");
    match loaded {
        Ok(loaded) => {
            options.log(ERROR_LOG, ERROR_LOG_SIZE, "");
            Ok(scope.state().modules.insert(loaded))
        }
        Err((code, text)) => {
            eprintln!("virtual-gpu: the module was not loaded: {text}");
            options.log(ERROR_LOG, ERROR_LOG_SIZE, &text);
            Err(code)
        }
    }
}

fn place(scope: Scope, text: &str) -> Result<Loaded, Refused> {
    let module = Module::from_ptx(text).map_err(|error| (INVALID_PTX, error.to_string()))?;
    let shared = Arc::clone(&module);
    let placed = scope.queue.ask(move |device| {
        device.load(&shared)?;
        let names = shared.globals();
        let places =
            names.filter_map(|name| Some((name.to_string(), device.symbol(&shared, name)?)));
        Ok::<_, LaunchError>(places.collect::<Vec<_>>())
    });
    let placed = placed.map_err(|code| {
        (
            code,
            "the device cannot be asked from a host function".into(),
        )
    })?;
    let placed = placed.map_err(|error| {
        let code = match error {
            LaunchError::Memory(_) => OUT_OF_MEMORY,
            LaunchError::Undefined(_) => INVALID_PTX,
            _ => UNKNOWN,
        };
        (code, error.to_string())
    })?;
    let mut state = scope.state();
    let mut globals = BTreeMap::new();
    for (name, (DevicePointer(base), bytes)) in placed {
        state
            .directory
            .add(base, bytes as u64, Kind::Variable, scope.context);
        globals.insert(name, (base, bytes));
    }
    Ok(Loaded {
        module,
        context: scope.context,
        globals,
        functions: BTreeMap::new(),
    })
}

/// Loads an image in memory.
pub fn load_data(module: Out<Handle>, image: In<u8>, options: JitOptions) -> Answer {
    module.check()?;
    let scope = enter()?;
    module.set(load(scope, ptx(image.address()), &options)?)
}

/// Loads an image from a file.
pub fn load_file(module: Out<Handle>, path: Text, options: JitOptions) -> Answer {
    module.check()?;
    let scope = enter()?;
    let path = path.get()?;
    let text = match fs::read(&path) {
        Ok(bytes) => ptx_of_file(bytes),
        Err(error) => Err((FILE_NOT_FOUND, format!("{path}: {error}"))),
    };
    module.set(load(scope, text, &options)?)
}

/// Unloads a module; launches that are queued still have it.
pub fn unload(module: Handle) -> Answer {
    let scope = enter()?;
    let mut state = scope.state();
    let loaded = state.modules.remove(module)?;
    state.functions.retain(|function| function.module != module);
    for (base, _) in loaded.globals.values() {
        state
            .directory
            .remove(*base, |kind| matches!(kind, Kind::Variable));
    }
    scope.queue.upkeep(move |device| {
        // It has no place if the device was replaced.
        let _ = device.unload(&loaded.module);
    });
    Ok(())
}

/// The function of a kernel.
pub fn function(function: Out<Handle>, module: Handle, name: Text) -> Answer {
    function.check()?;
    let scope = enter()?;
    let name = name.get()?;
    let mut state = scope.state();
    let loaded = state.modules.get(module)?;
    if let Some(known) = loaded.functions.get(&name) {
        return function.set(*known);
    }
    if loaded.module.kernel(&name).is_none() {
        return Err(NOT_FOUND);
    }
    let made = Function::new(module, loaded, &name, &scope.config.profile)?;
    let handle = state.functions.insert(made);
    state
        .modules
        .get_mut(module)?
        .functions
        .insert(name, handle);
    function.set(handle)
}

/// Address and size of a variable.
pub fn global(pointer: Out<u64>, bytes: Out<usize>, module: Handle, name: Text) -> Answer {
    let scope = enter()?;
    let state = scope.state();
    let loaded = state.modules.get(module)?;
    let (base, size) = *loaded.globals.get(&name.get()?).ok_or(NOT_FOUND)?;
    pointer.set_if_wanted(base);
    bytes.set_if_wanted(size);
    Ok(())
}

/// Number of kernels.
pub fn kernel_count(count: Out<u32>, module: Handle) -> Answer {
    let kernels = enter()?
        .state()
        .modules
        .get(module)?
        .module
        .kernels()
        .count();
    count.set(kernels as u32)
}

exports! {
    /// Loads a module from memory.
    fn cuModuleLoadData(module: Out<Handle>, image: In<u8>) {
        load_data(module, image, JitOptions::none())
    }

    /// Loads a module from memory; logs are filled, other options mean nothing here.
    fn cuModuleLoadDataEx(
        module: Out<Handle>,
        image: In<u8>,
        count: u32,
        options: In<u32>,
        values: In<usize>,
    ) {
        load_data(module, image, JitOptions::read(count, options, values)?)
    }

    /// Loads a module from a fat binary.
    fn cuModuleLoadFatBinary(module: Out<Handle>, image: In<u8>) {
        load_data(module, image, JitOptions::none())
    }

    /// Loads a module from a file.
    fn cuModuleLoad(module: Out<Handle>, path: Text) {
        load_file(module, path, JitOptions::none())
    }

    /// Unloads a module.
    fn cuModuleUnload(module: Handle) {
        unload(module)
    }

    /// A kernel of a module.
    fn cuModuleGetFunction(handle: Out<Handle>, module: Handle, name: Text) {
        function(handle, module, name)
    }

    /// A variable of a module.
    fn cuModuleGetGlobal_v2(pointer: Out<u64>, bytes: Out<usize>, module: Handle, name: Text) {
        global(pointer, bytes, module, name)
    }

    /// Number of kernels in a module.
    fn cuModuleGetFunctionCount(count: Out<u32>, module: Handle) {
        kernel_count(count, module)
    }

    /// Modules are loaded at once, not lazily.
    fn cuModuleGetLoadingMode(mode: Out<u32>) {
        mode.set(1)
    }
}
