//! Any text as PTX: parsed and lowered, and each kernel that comes through launched on a small device, with its parameters all zero.
#![no_main]

use libfuzzer_sys::fuzz_target;
use virtual_gpu::{Device, LaunchConfig, LaunchOptions, Module, Profile};

/// Warp instructions after which a kernel is ended.
const FUEL: u64 = 2000;

fuzz_target!(|text: &str| {
    let Ok(module) = Module::from_ptx(text) else {
        return;
    };
    let _ = Module::unsupported(text);
    let mut profile = Profile::h100().with_multiprocessors(1);
    profile.memory = 1 << 24;
    let options = LaunchOptions {
        fuel: FUEL,
        ..LaunchOptions::default()
    };
    let names: Vec<String> = module.kernels().map(str::to_owned).collect();
    for name in names.iter().take(2) {
        let Some(kernel) = module.kernel(name) else {
            continue;
        };
        let parameters = vec![0; kernel.parameter_bytes() as usize];
        let mut device = Device::new(profile.clone());
        let config = LaunchConfig::linear(2, 48);
        let _ = device.launch(&module, name, &config, &parameters, &options);
    }
});
